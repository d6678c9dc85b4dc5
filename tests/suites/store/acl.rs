//! The users of deploy/redis/users.acl on a real redis-server: each role works under its own, and is refused what is
//! not its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tests::origin::Origin;
use tests::process::Process;
use tests::resp::{Reply, Resp};
use tests::stats::Stats;
use tests::up::{one_farm, write};
use tests::{START, TURN, client, eventually, port};

const ROLES: [&str; 4] = ["redirector", "healthd", "statsd", "operator"];

/// A redis-server with the shipped users, each with its role's name as its password, and an administrator.
struct Guarded {
    directory: TempDir,
    port: u16,
    _process: Process,
}

impl Guarded {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let shipped = std::fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/redis/users.acl"),
        )
        .expect("the file");
        let users = ROLES.iter().fold(shipped, |users, role| {
            users.replace(
                &format!("#SHA256-OF-THE-PASSWORD-OF-{role}"),
                &format!(">{role}"),
            )
        });
        assert!(
            !users.contains("SHA256-OF"),
            "a role has no password: {users}"
        );
        let users = users + "user default off\nuser admin on >admin ~* &* +@all\n";
        let (file, port) = (write(directory.path(), "users.acl", users), port::free());
        let mut command = Command::new("redis-server");
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--port",
                &port.to_string(),
                "--aclfile",
                &file,
            ])
            .arg("--dir")
            .arg(directory.path());
        let process = Process::spawn("redis-server", command);
        process.wait_for_line("eady to accept connections", START);
        ROLES
            .iter()
            .for_each(|role| drop(write(directory.path(), role, format!("{role}\n"))));
        Self {
            directory,
            port,
            _process: process,
        }
    }

    /// The replies to commands given as `user`.
    fn ask(&self, user: &str, password: &str, commands: &[&str]) -> Vec<Reply> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut open = Resp::open(address, None).expect("redis-server listens");
        let mut say = |words: &[&str]| open.call(words).expect("an answer");
        assert_eq!(
            say(&["AUTH", user, password]),
            Reply::Word("OK".into()),
            "{user} cannot log in"
        );
        commands
            .iter()
            .map(|command| say(&command.split_whitespace().collect::<Vec<_>>()))
            .collect()
    }

    fn run(&self, role: &str, program: &str, arguments: &[&str]) -> Process {
        let (url, password) = (
            format!("redis://rbalancer-{role}@127.0.0.1:{}", self.port),
            self.directory.path().join(role),
        );
        let environment = [
            ("RBALANCER_ADMIN_BIND", "127.0.0.1:0"),
            ("RBALANCER_HEALTHD_BIND", "127.0.0.1:0"),
            (
                "RBALANCER_REDIS_PASSWORD_FILE",
                password.to_str().expect("a path in UTF-8"),
            ),
        ];
        Process::start(
            program,
            self.directory.path(),
            &[&["--redis", &url], arguments].concat(),
            &environment,
        )
    }

    fn apply(&self, configuration: &str) {
        let file = write(self.directory.path(), "applied.conf", configuration);
        let ended = self
            .run("operator", "rbalancer", &["apply", &file, "--yes"])
            .wait(START);
        assert_eq!(ended.code, Some(0), "{}", ended.lines.join("\n"));
    }
}

fn is_refused(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(why) if why.contains("NOPERM"))
}

#[test]
fn each_role_works_under_its_own_user_and_passwords_change_without_a_restart() {
    let redis = Guarded::start();
    let [mut a, b] = ["a", "b"].map(Origin::start);
    let conf = |weight| one_farm("", "", &[("a", &a, weight), ("b", &b, 1)]);
    redis.apply(&conf(1));
    let redirectors = [(); 2].map(|()| {
        redis.run(
            "redirector",
            "rbalancer-redirector",
            &["--listen", "127.0.0.1:0"],
        )
    });
    let healthd = redis.run("healthd", "rbalancer-healthd", &["--id", "watcher"]);
    let statsd = redis.run("statsd", "rbalancer-statsd", &["--listen", "127.0.0.1:0"]);
    let addresses = redirectors
        .each_ref()
        .map(|process| process.wait_for_address(START));
    let stats = statsd.wait_for_address(START);
    addresses.iter().for_each(|address| {
        eventually!(START, client::get(*address, "img.test", "/").status == 302);
    });
    eventually!(
        TURN,
        Stats::of(stats).server("img", "a")["checked"] == "ok",
        "{:?}",
        Stats::of(stats)
    );
    let before = Stats::of(stats).redirects();
    (0..100).for_each(|_| assert_eq!(client::get(addresses[0], "img.test", "/").status, 302));
    eventually!(TURN, Stats::of(stats).redirects() >= before + 100);
    // One leaves: healthd may fold what it counted.
    let [first, second] = redirectors;
    tests::up::ends_well(first);
    eventually!(
        TURN,
        Stats::of(stats).replicas() == 1,
        "{:?}",
        Stats::of(stats)
    );
    assert!(Stats::of(stats).redirects() >= before + 100);
    // New passwords: the files first, then Redis, then every connection is closed.
    for role in ROLES {
        write(redis.directory.path(), role, format!("new-{role}"));
        let changed = redis.ask(
            "admin",
            "admin",
            &[&format!(
                "ACL SETUSER rbalancer-{role} resetpass >new-{role}"
            )],
        );
        assert_eq!(changed, [Reply::Word("OK".into())]);
    }
    redis.ask(
        "admin",
        "admin",
        &[
            "CLIENT KILL TYPE normal SKIPME yes",
            "CLIENT KILL TYPE pubsub",
        ],
    );
    redis.apply(&conf(0));
    eventually!(
        TURN,
        (0..20).all(|_| client::get(addresses[1], "img.test", "/")
            .location()
            .starts_with(&b.url()))
    );
    redis.apply(&conf(1));
    a.stop();
    eventually!(
        TURN,
        Stats::of(stats).server("img", "a")["health"] == "down",
        "{:?}",
        Stats::of(stats)
    );
    for process in [second, healthd, statsd] {
        let refused: Vec<String> = process
            .lines()
            .into_iter()
            .filter(|line| line.contains("NOPERM"))
            .collect();
        assert!(refused.is_empty(), "{refused:?}");
    }
}

#[test]
fn each_role_is_refused_what_is_not_its_own() {
    let redis = Guarded::start();
    redis.ask(
        "admin",
        "admin",
        &[
            "HSET {rbalancer}:generation table 1",
            "SET {rbalancer}:table:1 x",
            "ZADD {rbalancer}:count:base 1 img/a",
        ],
    );
    let id = "0123456789abcdef0123456789abcdef";
    let (table, overrides) = (
        "SETRANGE {rbalancer}:table:1 0 y",
        "HSET {rbalancer}:overrides img/a x",
    );
    let (publish, health) = (
        "HSET {rbalancer}:generation table 2",
        "HSET {rbalancer}:health:watcher x y",
    );
    let (beat, base) = (
        "ZADD {rbalancer}:healthd 9 watcher",
        "ZADD {rbalancer}:count:base 9 img/a",
    );
    let (own, foreign) = (
        format!("ZADD {{rbalancer}}:count:{id} GT 9 img/a"),
        "SET other x",
    );
    let every = [
        table,
        overrides,
        publish,
        health,
        beat,
        base,
        &own,
        foreign,
        "FLUSHALL",
        "CONFIG SET maxmemory 1",
        "KEYS *",
    ];
    let allowed = |role: &str| {
        let answers = redis.ask(&format!("rbalancer-{role}"), role, &every);
        let pairs = every.iter().zip(answers);
        let may = pairs.filter(|(command, answer)| {
            let refused = is_refused(answer);
            assert!(
                refused || !matches!(answer, Reply::Error(_)),
                "{command}: {answer:?}"
            );
            !refused
        });
        may.map(|(command, _)| *command).collect::<Vec<_>>()
    };
    assert_eq!(allowed("redirector"), [own.as_str()]);
    assert_eq!(allowed("statsd"), [""; 0]);
    assert_eq!(allowed("healthd"), [health, beat, base, &own]);
    assert_eq!(allowed("operator"), [table, overrides, publish]);
    // What the keeper does seldom.
    let keeps = [
        "ZREM {rbalancer}:healthd gone",
        "EXPIRE {rbalancer}:health:gone 0",
        "ZADD {rbalancer}:folded:index GT 1 gone",
        "ZSCAN {rbalancer}:folded:index 0",
        "ZREM {rbalancer}:folded:index gone",
    ];
    for (command, answer) in keeps
        .iter()
        .zip(redis.ask("rbalancer-healthd", "healthd", &keeps))
    {
        assert!(!matches!(answer, Reply::Error(_)), "{command}: {answer:?}");
    }
    // Nobody but the administrator sees what others keep in this Redis.
    for role in ROLES {
        assert!(
            is_refused(&redis.ask(&format!("rbalancer-{role}"), role, &["GET other"])[0]),
            "{role}"
        );
    }
}
