//! Everything that goes wrong with one redis-server, or with the wire to it.

use crate::fault::{Mode, Proxy};
use crate::redis::RedisServer;
use crate::resp::Resp;
use crate::scenario::{Scale, Trouble};
use crate::scene::Scene;
use crate::world::Way;
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The latency of a slow wire, each way.
const SLOW: Duration = Duration::from_millis(150);

/// Bytes of requests until a connection is reset: from the middle of the greeting to a few flushes later.
const FEW_BYTES: RangeInclusive<u64> = 100..=1500;

/// How long subscriptions are dropped again and again: longer than an apply takes to publish.
const HINTLESS: Duration = Duration::from_secs(1);

/// The keys that get values of another type.
const RETYPED: [&str; 4] = [
    "{rbalancer}:count:*",
    "{rbalancer}:health:*",
    "{rbalancer}:table:*",
    "{rbalancer}:generation",
];

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Redis is killed, and comes back with its data.
    Killed,
    /// Redis is killed, and comes back empty.
    KilledAndErased,
    /// Redis stands still (SIGSTOP).
    Stopped,
    /// Redis stands still for a moment.
    StoppedBriefly,
    /// Redis is busy with one command.
    Asleep,
    /// Redis lets writes wait.
    WritesPaused,
    /// Redis lets everything wait.
    AllPaused,
    /// Nothing comes through.
    Blackhole,
    /// Commands are carried out, their replies do not come.
    RepliesLost,
    /// Connections are reset again and again in the middle of a request.
    ResetMidRequest,
    /// Everything is late and comes byte by byte.
    SlowSlices,
    /// Everything is deleted.
    Flushed,
    /// Keys have another type.
    WrongTypes,
    /// The newest table's text is cut short.
    Truncated,
    /// Redis loads its data.
    Loading,
    /// Redis cannot save and refuses writes.
    CannotSave,
    /// Redis has no memory left for writes.
    OutOfMemory,
    /// Redis takes no more clients.
    ClientsShutOut,
    /// Redis wants another password than the file holds.
    PasswordChanged,
    /// Redis is a replica, on connections that are kept.
    ReadOnly,
    /// Subscriptions are dropped just before something is published.
    HintLost,
}

/// A redis-server with a fault, a wire to it, and the file with its password.
#[derive(Debug)]
pub struct Broken {
    fault: Fault,
    proxy: Proxy,
    redis: RedisServer,
    /// The one client that is let in.
    kept: Option<Resp>,
}

impl Broken {
    /// Starts the server, still sound.
    pub fn by(fault: Fault) -> Self {
        let redis = RedisServer::breakable("first");
        let broken = Self {
            fault,
            proxy: Proxy::to(redis.address()),
            redis,
            kept: None,
        };
        broken.write_password("first");
        broken
    }

    fn password_file(&self) -> PathBuf {
        self.redis.directory().join("password")
    }

    fn write_password(&self, password: &str) {
        std::fs::write(self.password_file(), format!("{password}\n"))
            .expect("a file in a temporary directory");
    }

    fn way(&self, url: String) -> Way {
        Way {
            url,
            password_file: Some(self.password_file()),
        }
    }
}

impl Trouble for Broken {
    fn name(&self) -> String {
        format!("{:?}", self.fault)
    }

    fn daemons(&self) -> Way {
        self.way(format!("redis://{}", self.proxy.address()))
    }

    fn direct(&self) -> Way {
        self.way(self.redis.url())
    }

    fn holds(&self, pattern: &str) -> bool {
        !self.redis.keys_like(pattern).is_empty()
    }

    fn lasts(&self, scale: Scale) -> Duration {
        let seconds = match self.fault {
            Fault::Stopped => scale.pick(4, 30),
            Fault::StoppedBriefly => scale.pick(2, 5),
            Fault::Flushed | Fault::KilledAndErased => scale.pick(1, 5),
            Fault::HintLost => 0,
            Fault::Blackhole | Fault::RepliesLost => scale.pick(3, 10),
            _ => scale.pick(2, 10),
        };
        Duration::from_secs(seconds)
    }

    fn is_noticed(&self) -> bool {
        !matches!(
            self.fault,
            Fault::HintLost | Fault::SlowSlices | Fault::StoppedBriefly
        )
    }

    fn takes_tables(&self) -> bool {
        matches!(
            self.fault,
            Fault::Blackhole | Fault::RepliesLost | Fault::ResetMidRequest | Fault::SlowSlices
        )
    }

    fn begin(&mut self, scene: &Scene, scale: Scale) {
        let lasts = self.lasts(scale);
        let ms = lasts.as_millis().to_string();
        match self.fault {
            Fault::Killed => self.redis.stop(),
            Fault::KilledAndErased => {
                self.redis.stop();
                self.redis.erase();
                self.write_password("first");
            }
            Fault::Stopped | Fault::StoppedBriefly => self.redis.pause(),
            Fault::Asleep => self.redis.sleep(lasts),
            Fault::WritesPaused => drop(self.redis.call(&["CLIENT", "PAUSE", &ms, "WRITE"])),
            Fault::AllPaused => drop(self.redis.call(&["CLIENT", "PAUSE", &ms, "ALL"])),
            Fault::Blackhole => self.proxy.set(Mode::Blackhole),
            Fault::RepliesLost => self.proxy.set(Mode::DropReplies),
            Fault::ResetMidRequest => {
                let bytes = FEW_BYTES.start()
                    + RandomState::new().hash_one(()) % (FEW_BYTES.end() - FEW_BYTES.start());
                self.proxy
                    .set(Mode::ResetAfter(usize::try_from(bytes).expect("a few")));
                self.proxy.reset();
            }
            Fault::SlowSlices => self.proxy.set(Mode::Slice(SLOW)),
            Fault::Flushed => drop(self.redis.flush()),
            Fault::WrongTypes => self.redis.replace_by_other_types(&RETYPED),
            Fault::Truncated => self.truncate(scene),
            Fault::Loading => self.redis.load_slowly(lasts),
            Fault::CannotSave => self.redis.fail_to_save(),
            Fault::OutOfMemory => self.redis.set("maxmemory", "1"),
            Fault::ClientsShutOut => self.kept = Some(self.redis.shut_out_clients()),
            Fault::PasswordChanged => self.redis.change_password("second"),
            Fault::ReadOnly => self.redis.follow_nobody(),
            Fault::HintLost => drop(self.redis.kill_subscribers_for(HINTLESS)),
        }
    }

    fn heal(&mut self) {
        match self.fault {
            Fault::Killed | Fault::KilledAndErased => self.redis.start(),
            Fault::Stopped | Fault::StoppedBriefly => self.redis.resume(),
            Fault::Asleep | Fault::WritesPaused | Fault::AllPaused | Fault::Loading => {
                self.redis.wait_until_awake();
            }
            Fault::Blackhole | Fault::RepliesLost | Fault::ResetMidRequest | Fault::SlowSlices => {
                self.proxy.set(Mode::Pass);
            }
            Fault::WrongTypes => self.redis.delete(&RETYPED),
            Fault::CannotSave => self.redis.save_again(),
            Fault::OutOfMemory => self.redis.set("maxmemory", "0"),
            Fault::ClientsShutOut => {
                let let_in = self
                    .kept
                    .take()
                    .map(|mut kept| kept.call(&["CONFIG", "SET", "maxclients", "1000"]));
                assert!(
                    let_in.is_some_and(|reply| reply.is_ok()),
                    "redis-server lets clients in again"
                );
            }
            Fault::PasswordChanged => self.write_password("second"),
            Fault::ReadOnly => self.redis.lead_again(),
            // The operator's next apply is what heals these.
            Fault::Flushed | Fault::Truncated | Fault::HintLost => {}
        }
    }
}

impl Broken {
    /// The redirectors see a new table only when its text is cut short already.
    fn truncate(&self, scene: &Scene) {
        self.proxy.set(Mode::Blackhole);
        scene.apply_weights();
        let generation = self
            .redis
            .call(&["HGET", "{rbalancer}:generation", "table"]);
        let key = format!("{{rbalancer}}:table:{}", generation.text());
        let text = self.redis.call(&["GET", &key]);
        let half = &text.text()[..text.text().len() / 2];
        assert!(!half.is_empty(), "{key} holds the table");
        self.redis.call(&["SET", &key, half]);
        self.proxy.set(Mode::Pass);
    }
}
