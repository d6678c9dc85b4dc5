//! A Redis Cluster on loopback: three primaries, and a replica of the one that holds rbalancer's slot.

use crate::fault::{Mode, Proxy};
use crate::redis::RedisServer;
use crate::resp::Reply;
use crate::scenario::{Scale, Trouble};
use crate::scene::Scene;
use crate::world::Way;
use crate::{START, eventually, port};
use std::time::Duration;

/// The first and last slot of each primary.
const RANGES: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterFault {
    /// The owner of the slot is killed, its replica takes over.
    OwnerKilled,
    /// The slot moves to another primary, key by key.
    SlotMoved,
    /// The owner does what it is told, and its replies do not come.
    ReplyLost,
}

/// A cluster with a fault.
#[derive(Debug)]
pub struct BrokenCluster {
    fault: ClusterFault,
    primaries: Vec<RedisServer>,
    replica: RedisServer,
    /// The owner's place among the primaries.
    owner: usize,
    slot: String,
    /// The owner is reached by it where replies are to be lost.
    proxy: Proxy,
}

impl BrokenCluster {
    /// Starts it, still sound.
    pub fn by(fault: ClusterFault) -> Self {
        let primaries: Vec<RedisServer> = RANGES.iter().map(|_| node()).collect();
        for (primary, (first, last)) in primaries.iter().zip(RANGES) {
            primary.call(&[
                "CLUSTER",
                "ADDSLOTSRANGE",
                &first.to_string(),
                &last.to_string(),
            ]);
        }
        let slot = primaries[0].number("CLUSTER KEYSLOT {rbalancer}");
        let owner = RANGES
            .iter()
            .position(|(_, last)| slot <= u64::from(*last))
            .expect("a slot of the cluster");
        let replica = node();
        let proxy = Proxy::to(primaries[owner].address());
        if fault == ClusterFault::ReplyLost {
            primaries[owner].set("cluster-announce-port", &proxy.address().port().to_string());
        }
        for other in primaries.iter().chain([&replica]) {
            let (port, bus) = (
                other.address().port().to_string(),
                other.setting("cluster-port"),
            );
            primaries
                .iter()
                .for_each(|node| drop(node.call(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])));
        }
        let knows_all = |node: &RedisServer| {
            let info = node.call(&["CLUSTER", "INFO"]);
            info.text().contains("cluster_state:ok")
                && info.text().contains("cluster_known_nodes:4")
        };
        primaries
            .iter()
            .chain([&replica])
            .for_each(|node| eventually!(START, knows_all(node)));
        replica.call(&[
            "CLUSTER",
            "REPLICATE",
            primaries[owner].call(&["CLUSTER", "MYID"]).text(),
        ]);
        replica.wait_for_info("replication", "master_link_status:up", START);
        for node in &primaries {
            eventually!(
                START,
                node.call(&["CLUSTER", "NODES"]).text().contains(" slave ")
            );
        }
        Self {
            fault,
            primaries,
            replica,
            owner,
            slot: slot.to_string(),
            proxy,
        }
    }

    fn way(&self) -> Way {
        let all: Vec<String> = self
            .primaries
            .iter()
            .map(|node| node.address().to_string())
            .collect();
        Way {
            url: format!("redis+cluster://{}", all.join(",")),
            password_file: None,
        }
    }

    fn owner(&self) -> &RedisServer {
        &self.primaries[self.owner]
    }

    /// Who gets the slot when it moves.
    fn heir(&self) -> &RedisServer {
        &self.primaries[(self.owner + 1) % self.primaries.len()]
    }

    fn begin_to_move(&self) {
        let (from, to) = (
            self.owner().call(&["CLUSTER", "MYID"]),
            self.heir().call(&["CLUSTER", "MYID"]),
        );
        self.heir()
            .call(&["CLUSTER", "SETSLOT", &self.slot, "IMPORTING", from.text()]);
        self.owner()
            .call(&["CLUSTER", "SETSLOT", &self.slot, "MIGRATING", to.text()]);
        self.move_keys(4);
    }

    /// Moves up to `count` keys; how many there were.
    fn move_keys(&self, count: u8) -> usize {
        let keys = self
            .owner()
            .call(&["CLUSTER", "GETKEYSINSLOT", &self.slot, &count.to_string()])
            .texts();
        if !keys.is_empty() {
            let port = self.heir().address().port().to_string();
            let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            command.extend(keys.iter().map(String::as_str));
            self.owner().call(&command);
        }
        keys.len()
    }

    fn move_the_rest(&self) {
        while self.move_keys(10) > 0 {}
        let to = self.heir().call(&["CLUSTER", "MYID"]);
        for node in [self.heir(), self.owner()]
            .into_iter()
            .chain(&self.primaries)
        {
            node.call(&["CLUSTER", "SETSLOT", &self.slot, "NODE", to.text()]);
        }
    }
}

fn node() -> RedisServer {
    let bus = port::free().to_string();
    RedisServer::with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "1000",
        "--cluster-port",
        &bus,
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
    ])
}

impl RedisServer {
    /// A setting's value.
    fn setting(&self, name: &str) -> String {
        match self.call(&["CONFIG", "GET", name]) {
            Reply::List(pair) => pair
                .get(1)
                .map(|value| value.text().to_owned())
                .expect("a setting it knows"),
            other => panic!("CONFIG GET {name}: {other:?}"),
        }
    }
}

impl Trouble for BrokenCluster {
    fn name(&self) -> String {
        format!("Cluster{:?}", self.fault)
    }

    fn daemons(&self) -> Way {
        self.way()
    }

    fn direct(&self) -> Way {
        self.way()
    }

    fn holds(&self, pattern: &str) -> bool {
        !self.owner().keys_like(pattern).is_empty()
    }

    fn is_noticed(&self) -> bool {
        self.fault != ClusterFault::SlotMoved
    }

    fn lasts(&self, scale: Scale) -> Duration {
        match self.fault {
            ClusterFault::OwnerKilled => Duration::ZERO,
            ClusterFault::SlotMoved | ClusterFault::ReplyLost => {
                scale.pick(Duration::from_secs(2), Duration::from_secs(5))
            }
        }
    }

    fn begin(&mut self, scene: &Scene, _: Scale) {
        match self.fault {
            ClusterFault::OwnerKilled => self.primaries[self.owner].stop(),
            ClusterFault::SlotMoved => self.begin_to_move(),
            ClusterFault::ReplyLost => {
                self.proxy.set(Mode::DropReplies);
                let ended = scene.try_to_apply();
                // Whether it was taken is unknown, and said so.
                assert_eq!(ended.code, Some(1), "{:?}", ended.lines);
            }
        }
    }

    fn heal(&mut self) {
        match self.fault {
            ClusterFault::OwnerKilled => {
                self.replica
                    .wait_for_info("replication", "role:master", START);
                let others = self
                    .primaries
                    .iter()
                    .enumerate()
                    .filter(|(place, _)| *place != self.owner);
                for (_, node) in others {
                    eventually!(
                        START,
                        node.call(&["CLUSTER", "INFO"])
                            .text()
                            .contains("cluster_state:ok")
                    );
                }
            }
            ClusterFault::SlotMoved => self.move_the_rest(),
            ClusterFault::ReplyLost => self.proxy.set(Mode::Pass),
        }
    }
}
