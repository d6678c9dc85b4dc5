//! Publishing is whole or not at all: races, kills, a Redis that hangs in the middle, copies that lag.
#![allow(clippy::panic, reason = "a test that cannot go on says why and fails")]

use common::store::{Announcement, Answer, Redis, Store};
use std::time::Duration;
use tempfile::TempDir;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::up::write;
use tests::world::command;
use tests::{START, eventually};
use tokio::runtime::{Builder, Runtime};

/// How many times an `apply` is killed, at least.
const KILLS: u32 = 28;

/// How many servers the table has that is then being written: dozens of slices.
const SERVERS: usize = 2000;

/// A farm of `servers` servers whose name says which table it is of.
fn conf(servers: usize, table: &str) -> String {
    let names: Vec<String> = (0..servers).map(|n| format!("s{n}")).collect();
    let sections: String = names
        .iter()
        .map(|name| format!("[{name}]\ndomain = http://{name}.{table}.test\n"))
        .collect();
    format!(
        "[farms]\nlist = img\n[img]\ndomain = img.test\nlist = {}\n{sections}",
        names.join(",")
    )
}

struct Desk {
    redis: RedisServer,
    directory: TempDir,
    runtime: Runtime,
    store: Store,
}

impl Desk {
    fn new() -> Self {
        let redis = RedisServer::forgetful();
        let store = Store::Redis(Redis::pooled(&redis.settings()));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        Self {
            redis,
            directory: tempfile::tempdir().expect("a temporary directory"),
            runtime,
            store,
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        write(self.directory.path(), name, text)
    }

    /// Starts `rbalancer apply` as `user`.
    fn start(&self, file: &str, user: &str) -> Process {
        Process::start(
            "rbalancer",
            self.directory.path(),
            &["apply", file, "--redis", &self.redis.url()],
            &[("USER", user)],
        )
    }

    /// The domain of each server in force, the table read and verified whole.
    fn in_force(&self) -> Vec<String> {
        let reader = self.store.reader();
        let table = self.runtime.block_on(async {
            let stamp = reader.stamp().await.expect("an answer").expect("a table");
            reader
                .table(stamp)
                .await
                .expect("an answer")
                .expect("a whole table")
        });
        table
            .farms
            .servers()
            .map(|(_, server)| server.target.to_string())
            .collect()
    }

    /// How many clients wait for an answer.
    fn waiting(&self) -> u32 {
        let answer = self
            .runtime
            .block_on(self.store.operator().ask(&["INFO", "clients"]));
        let Ok(Answer::Text(info)) = answer else {
            panic!("INFO: {answer:?}")
        };
        let found = info
            .lines()
            .find_map(|line| line.strip_prefix("blocked_clients:")?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no blocked_clients in {info}"))
    }
}

#[test]
fn of_two_applies_at_once_one_wins_and_the_other_is_told_who() {
    let desk = Desk::new();
    let (first, second) = (
        desk.file("a.conf", &conf(2, "a")),
        desk.file("b.conf", &conf(2, "b")),
    );
    desk.start(&desk.file("base.conf", &conf(2, "c")), "base")
        .wait(START)
        .expect(0, &[]);
    // Both read what is in force before either can write.
    desk.redis.order("CLIENT PAUSE 10000 WRITE");
    let racers = [desk.start(&first, "ann"), desk.start(&second, "bob")];
    eventually!(START, desk.waiting() == 2);
    desk.redis.order("CLIENT UNPAUSE");
    let [ann, bob] = racers.map(|racer| racer.wait(START));
    let (winner, loser, name) = if ann.code == Some(0) {
        (ann, bob, "ann@")
    } else {
        (bob, ann, "bob@")
    };
    winner.expect(0, &["in force"]);
    loser.expect(
        3,
        &[&format!("by {name}"), "came first", "nothing was changed"],
    );
    assert!(desk.in_force()[0].ends_with(if name == "ann@" { ".a.test" } else { ".b.test" }));
    // What was staged by the loser is gone: generation, events, what is kept of two tables.
    assert_eq!(desk.redis.keys(), 5);
}

#[test]
fn of_two_who_take_servers_out_at_once_the_second_is_judged_by_what_the_first_left() {
    let desk = Desk::new();
    desk.start(&desk.file("a.conf", &conf(2, "a")), "ann")
        .wait(START)
        .expect(0, &[]);
    let disable = |server: &str| {
        let arguments = ["disable", server, "--redis", &desk.redis.url()];
        Process::start("rbalancer", desk.directory.path(), &arguments, &[])
    };
    // Both judge what is in force before either can write.
    desk.redis.order("CLIENT PAUSE 10000 WRITE");
    let both = ["img/s0", "img/s1"].map(disable);
    eventually!(START, desk.waiting() == 2);
    desk.redis.order("CLIENT UNPAUSE");
    let mut ended = both.map(|process| process.wait(START));
    ended.sort_by_key(|ended| ended.code);
    ended[0].expect(0, &["set to off"]);
    ended[1].expect(1, &["farm img would have no live server"]);
}

#[test]
fn a_redis_that_hangs_in_the_middle_leaves_the_outcome_unknown() {
    let desk = Desk::new();
    desk.start(&desk.file("a.conf", &conf(2, "a")), "ann")
        .wait(START)
        .expect(0, &[]);
    desk.redis.order("CLIENT PAUSE 60000 WRITE");
    desk.start(&desk.file("b.conf", &conf(2, "b")), "ann")
        .wait(START)
        .expect(
            1,
            &["whether the table was taken is unknown", "rbalancer show"],
        );
    let set = command(&desk.redis, &desk.directory, &["drain", "img/s0"]);
    set.expect(1, &["whether it was set is unknown"]);
    desk.redis.order("CLIENT UNPAUSE");
    assert_eq!(desk.in_force().len(), 2);
}

#[test]
fn a_table_that_a_redirector_refuses_is_published_again_though_nothing_changed() {
    let desk = Desk::new();
    let file = desk.file("a.conf", &conf(2, "a"));
    desk.start(&file, "ann")
        .wait(START)
        .expect(0, &["in force"]);
    let announce = |alarm: &str, overrides: u64| {
        let said = serde_json::json!({"id": "r", "host": "h", "address": "127.0.0.1:1", "version": "1", "generation": 1,
            "overrides": overrides, "started": 1, "alarm": alarm});
        let said: Announcement = serde_json::from_value(said).expect("an announcement");
        desk.runtime
            .block_on(desk.store.replica().announce(&said))
            .expect("an answer");
    };
    announce("", 0);
    desk.start(&file, "ann")
        .wait(START)
        .expect(0, &["no change: generation"]);
    for (alarm, overrides) in [
        ("the store offers overrides 1, older than 2 in memory", 0),
        ("", 1 << 50),
    ] {
        announce(alarm, overrides);
        let ended = desk.start(&file, "ann").wait(START);
        assert!(
            ended.code == Some(0) && !ended.lines.concat().contains("no change"),
            "{:?}",
            ended.lines
        );
    }
}

#[test]
fn a_refusal_after_a_silence_says_nothing_of_the_try_before() {
    let desk = Desk::new();
    desk.start(&desk.file("a.conf", &conf(2, "a")), "ann")
        .wait(START)
        .expect(0, &[]);
    desk.redis.order("CLIENT PAUSE 60000 WRITE");
    let apply = desk.start(&desk.file("b.conf", &conf(2, "b")), "ann");
    eventually!(START, desk.waiting() == 1);
    // Longer than an answer is waited for.
    std::thread::sleep(Duration::from_secs(2));
    desk.redis.order("CONFIG SET min-replicas-to-write 3");
    desk.redis.order("CLIENT UNPAUSE");
    apply
        .wait(START)
        .expect(1, &["NOREPLICAS", "whether the table was taken is unknown"]);
}

#[test]
fn a_killed_apply_leaves_the_old_table_or_the_new_one() {
    let desk = Desk::new();
    let files =
        ["old", "new"].map(|table| desk.file(&format!("{table}.conf"), &conf(SERVERS, table)));
    desk.start(&files[0], "ann").wait(START).expect(0, &[]);
    let (mut now, mut kept, mut replaced, mut kills) = (0, 0, 0, 0);
    // At least KILLS, and until some came too early and some too late to stop it.
    while kills < KILLS || kept == 0 || replaced == 0 {
        assert!(
            kills < 10 * KILLS,
            "{kept} kept the old table, {replaced} had the new one"
        );
        let (next, held) = (1 - now, desk.redis.keys());
        let mut process = desk.start(&files[next], "ann");
        // Some at any moment from the start on, most of them while the table is being written.
        if !kills.is_multiple_of(4) {
            while desk.redis.keys() == held && process.is_running() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        std::thread::sleep(Duration::from_millis(u64::from(3 * kills % KILLS)));
        drop(process);
        let in_force = desk.in_force();
        let of = |table: usize| {
            in_force.len() == SERVERS
                && in_force
                    .iter()
                    .all(|domain| domain.ends_with([".old.test", ".new.test"][table]))
        };
        assert!(
            of(now) || of(next),
            "kill {kills}: a mixture of {} servers",
            in_force.len()
        );
        (now, kept, replaced) = if of(next) {
            (next, kept, replaced + 1)
        } else {
            (now, kept + 1, replaced)
        };
        kills += 1;
    }
    desk.start(&files[1 - now], "ann")
        .wait(START)
        .expect(0, &["in force: 1 farm, 2000 servers"]);
}

#[test]
fn copies_that_have_a_table_are_counted() {
    let desk = Desk::new();
    let copy = RedisServer::forgetful();
    copy.order(&format!("REPLICAOF 127.0.0.1 {}", desk.redis.port()));
    let file = desk.file("a.conf", &conf(2, "a"));
    let has_it = || {
        let info = desk
            .runtime
            .block_on(desk.store.operator().ask(&["INFO", "replication"]));
        matches!(info, Ok(Answer::Text(info)) if info.contains("state=online"))
    };
    eventually!(START, has_it());
    desk.start(&file, "ann")
        .wait(START)
        .expect(0, &["1 of 1 Redis replicas have it"]);
    copy.pause();
    desk.start(&file, "ann")
        .wait(START)
        .expect(0, &["in force", "0 of 1 Redis replicas have it"]);
    copy.resume();
}
