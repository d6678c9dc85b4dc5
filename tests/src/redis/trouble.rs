//! What can go wrong inside a redis-server, done on purpose.

use super::RedisServer;
use crate::resp::{Reply, Resp};
use crate::{LOOK, START, eventually};
use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Keys that make loading take a while.
const FILLERS: u32 = 2000;

impl RedisServer {
    /// Forgets what is on disk; the server must be stopped.
    pub fn erase(&self) {
        assert!(self.process.is_none(), "redis-server runs");
        for entry in std::fs::read_dir(self.directory()).expect("its directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)
            } else {
                std::fs::remove_file(path)
            }
            .expect("removed");
        }
    }

    /// Changes a setting.
    pub fn set(&self, name: &str, value: &str) {
        self.call(&["CONFIG", "SET", name, value]);
    }

    /// Answers nobody for a while; returns at once.
    pub fn sleep(&self, duration: Duration) {
        self.say(&["DEBUG", "SLEEP", &duration.as_secs_f32().to_string()]);
    }

    /// Waits until it answers again.
    pub fn wait_until_awake(&self) {
        let answers = || self.connect().and_then(|mut open| open.call(&["PING"]));
        eventually!(
            START,
            answers().is_ok_and(|reply| reply == Reply::Word("PONG".into())),
            "{:?}",
            answers()
        );
    }

    /// Loads its own data anew, so slowly that it takes about `duration`; commands are refused with LOADING
    /// meanwhile. Returns when that has begun.
    pub fn load_slowly(&self, duration: Duration) {
        self.call(&["DEBUG", "POPULATE", &FILLERS.to_string(), "filler", "1024"]);
        self.set(
            "key-load-delay",
            &(duration.as_micros() / u128::from(FILLERS)).to_string(),
        );
        self.set("loading-process-events-interval-bytes", "1024");
        self.say(&["DEBUG", "RELOAD"]);
        let loading = || self.connect().and_then(|mut open| open.call(&["DBSIZE"]));
        eventually!(
            START,
            loading().is_ok_and(
                |reply| matches!(reply, Reply::Error(why) if why.starts_with("LOADING"))
            )
        );
    }

    /// Cannot save, and refuses writes for it (MISCONF). Root may write everywhere, but nobody can rename a file
    /// over a directory.
    pub fn fail_to_save(&self) {
        std::fs::create_dir_all(self.directory().join("dump.rdb/occupied")).expect("a directory");
        self.set("save", "3600 1000000");
        self.save_ends_with("err");
    }

    /// Can save again.
    pub fn save_again(&self) {
        std::fs::remove_dir_all(self.directory().join("dump.rdb")).expect("removed");
        self.save_ends_with("ok");
    }

    fn save_ends_with(&self, status: &str) {
        let wanted = format!("rdb_last_bgsave_status:{status}");
        eventually!(START, {
            // Refused while another save still runs.
            let _ = self.connect().and_then(|mut open| open.call(&["BGSAVE"]));
            self.call(&["INFO", "persistence"]).text().contains(&wanted)
        });
    }

    /// Takes no clients but the one returned, and drops those there are.
    pub fn shut_out_clients(&self) -> Resp {
        let mut kept = self.connect().expect("redis-server lets us in");
        for command in [
            &["CONFIG", "SET", "maxclients", "1"][..],
            &["CLIENT", "KILL", "TYPE", "normal"],
        ] {
            let reply = kept.call(command).expect("an answer");
            assert!(!matches!(reply, Reply::Error(_)), "{command:?}: {reply:?}");
        }
        kept
    }

    /// Asks for another password, and drops the clients there are.
    pub fn change_password(&mut self, password: &str) {
        self.set("requirepass", password);
        self.password = Some(password.to_owned());
        self.kill_clients("normal");
        self.kill_clients("pubsub");
    }

    /// Drops all clients of a type.
    pub fn kill_clients(&self, of_type: &str) {
        self.call(&["CLIENT", "KILL", "TYPE", of_type]);
    }

    /// Drops subscribers as often as they come, from now on.
    pub fn kill_subscribers_for(&self, duration: Duration) -> JoinHandle<()> {
        let (mut open, until) = (
            self.connect().expect("redis-server lets us in"),
            Instant::now() + duration,
        );
        thread::spawn(move || {
            while Instant::now() < until && open.call(&["CLIENT", "KILL", "TYPE", "pubsub"]).is_ok()
            {
                thread::sleep(LOOK / 10);
            }
        })
    }

    /// The keys that match a pattern.
    pub fn keys_like(&self, pattern: &str) -> Vec<String> {
        self.call(&["KEYS", pattern]).texts()
    }

    /// Replaces keys by ones of another type.
    pub fn replace_by_other_types(&self, patterns: &[&str]) {
        for key in patterns.iter().flat_map(|pattern| self.keys_like(pattern)) {
            let mut open = self.connect().expect("redis-server lets us in");
            let is_text = open
                .call(&["TYPE", &key])
                .is_ok_and(|reply| reply.text() == "string");
            let replaced: [&[&str]; 4] = [
                &["MULTI"],
                &["DEL", &key],
                if is_text {
                    &["RPUSH", &key, "1"]
                } else {
                    &["SET", &key, "1"]
                },
                &["EXEC"],
            ];
            replaced
                .iter()
                .for_each(|command| drop(open.call(command).expect("an answer")));
        }
    }

    /// Deletes keys.
    pub fn delete(&self, patterns: &[&str]) {
        patterns
            .iter()
            .flat_map(|pattern| self.keys_like(pattern))
            .for_each(|key| drop(self.call(&["DEL", &key])));
    }

    /// Says a command without waiting for its answer, which comes late or never.
    fn say(&self, command: &[&str]) {
        let sent = self.connect().and_then(|mut open| {
            open.send(command)?;
            // The server reads it before it sees that we are gone.
            thread::sleep(LOOK);
            io::Result::Ok(())
        });
        sent.unwrap_or_else(|error| panic!("redis-server does not take {command:?}: {error}"));
    }

    /// Follows a primary that is not there: reads are answered, writes are refused (READONLY).
    pub fn follow_nobody(&self) {
        self.call(&["REPLICAOF", "127.0.0.1", "1"]);
    }

    /// Is a primary again.
    pub fn lead_again(&self) {
        self.call(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Waits until its `INFO` says `wanted`.
    pub fn wait_for_info(&self, section: &str, wanted: &str, limit: Duration) -> Instant {
        eventually!(limit, self.call(&["INFO", section]).text().contains(wanted));
        Instant::now()
    }
}
