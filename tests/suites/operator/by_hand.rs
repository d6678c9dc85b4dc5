//! The operator's commands on a real redis-server: what they refuse, what they change, and how they end.
#![allow(clippy::panic, reason = "a test that cannot go on says why and fails")]

use serde_json::Value;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tests::origin::Origin;
use tests::process::{Ended, Process, binary};
use tests::redis::RedisServer;
use tests::tls::certificate;
use tests::up::{one_farm, write};
use tests::world::{World, command};
use tests::{START, eventually};

/// How soon what is set by hand must show in every redirector's answers.
const CHANGE: Duration = Duration::from_secs(2);

const TWO_FARMS: &str = "[farms]\nlist = img, stc\n[img]\ndomain = img.test\nlist = a, b, c\n[stc]\ndomain = stc.test\nlist = d\n\
    [a]\ndomain = http://a.test\n[b]\ndomain = http://b.test\n[c]\ndomain = http://c.test\n[d]\ndomain = http://d.test\n";

/// A Redis, and a directory for files.
struct Operator {
    redis: RedisServer,
    directory: TempDir,
}

impl Operator {
    fn new() -> Self {
        Self {
            redis: RedisServer::forgetful(),
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        command(&self.redis, &self.directory, arguments)
    }

    /// `command` on a file of `text`.
    fn file(&self, command: &str, text: &str, more: &[&str]) -> Ended {
        let file = write(self.directory.path(), "a.conf", text);
        self.run(&[&[command, &file], more].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--format", "json"]].concat());
        ended.expect(0, &[]);
        serde_json::from_str(&ended.text())
            .unwrap_or_else(|error| panic!("{error}: {}", ended.text()))
    }

    fn generation(&self) -> u64 {
        self.json(&["show"])["generation"]
            .as_u64()
            .expect("a generation")
    }
}

#[test]
fn every_way_to_end_has_its_code() {
    let mut operator = Operator::new();
    operator
        .file("check", TWO_FARMS, &[])
        .expect(0, &["good: 2 farms, 4 servers"]);
    operator
        .file("apply", "[farms]\nlist = img\n", &[])
        .expect(78, &["a.conf:2", "[img]"]);
    operator
        .run(&["weight", "img/a", "70000"])
        .expect(2, &["70000"]);
    operator.run(&["drain", "img"]).expect(2, &["FARM/SERVER"]);
    operator
        .run(&["drain", "img/a"])
        .expect(1, &["no table is in force", "rbalancer apply"]);
    operator
        .run(&["export"])
        .expect(1, &["no table is in force"]);
    operator
        .run(&["history"])
        .expect(0, &["no table was published"]);
    operator
        .run(&["rollback"])
        .expect(1, &["nothing to go back from"]);
    operator.file("apply", TWO_FARMS, &[]).expect(
        0,
        &["in force: 2 farms, 4 servers", "0 of 0 live redirectors"],
    );
    operator
        .run(&["drain", "img/aa"])
        .expect(1, &["no server img/aa", "did you mean `img/a`?"]);
    operator
        .file(
            "apply",
            &format!("[global]\ncluster = other\n{TWO_FARMS}"),
            &[],
        )
        .expect(1, &["cluster `rbalancer`", "`other`"]);
    operator.redis.stop();
    operator
        .file("apply", TWO_FARMS, &[])
        .expect(1, &["cannot reach redis"]);
    operator
        .run(&["drain", "img/a"])
        .expect(1, &["cannot reach redis"]);
}

#[test]
fn a_damaged_table_is_told_of_and_can_be_replaced() {
    let operator = Operator::new();
    operator.file("apply", TWO_FARMS, &[]).expect(0, &[]);
    operator.redis.order(&format!(
        "SET {{rbalancer}}:table:{} []",
        operator.generation()
    ));
    operator
        .run(&["show"])
        .expect(1, &["is damaged", "run `rbalancer apply`"]);
    operator
        .file("plan", TWO_FARMS, &[])
        .expect(0, &["nothing can be compared", "is damaged", "+ farm img"]);
    operator
        .file("apply", TWO_FARMS, &[])
        .expect(0, &["in force: 2 farms, 4 servers"]);
    operator.run(&["rollback"]).expect(1, &["is damaged"]);
}

#[test]
fn what_takes_service_away_is_refused_by_name() {
    let operator = Operator::new();
    operator.file("apply", TWO_FARMS, &[]).expect(0, &[]);
    let before = operator.generation();
    let less = TWO_FARMS
        .replace("list = img, stc", "list = img")
        .replace("list = a, b, c", "list = a");
    let reasons = [
        "farm stc would be gone",
        "2 of 3 servers of farm img would be gone: img/b, img/c",
        "3 of 4 servers in all",
    ];
    operator.file("plan", &less, &[]).expect(
        0,
        &[
            &["- farm stc", "- server img/b", "without --force"],
            &reasons[..],
        ]
        .concat(),
    );
    operator.file("apply", &less, &[]).expect(
        1,
        &[&["nothing was changed", "--force"], &reasons[..]].concat(),
    );
    let off = TWO_FARMS.replace("http://d.test", "http://d.test\nenable = off");
    operator.file("apply", &off, &[]).expect(
        1,
        &["farm stc would have no live server: its clients would get a 503"],
    );
    for arguments in [
        &["drain", "stc/d"][..],
        &["disable", "stc/d"],
        &["weight", "stc/d", "0"],
        &["force", "down", "stc/d"],
    ] {
        operator
            .run(arguments)
            .expect(1, &["farm stc would have no live server", "--force"]);
    }
    assert_eq!(
        (
            operator.generation(),
            &operator.json(&["show"])["overrides_generation"]
        ),
        (before, &Value::from(0))
    );
    // Two of img's servers may go, the third is the last.
    operator
        .run(&["drain", "img/a"])
        .expect(0, &["img/a set to drain"]);
    operator
        .run(&["force", "down", "img/b", "--for", "1h"])
        .expect(0, &["forced until"]);
    operator
        .run(&["disable", "img/c"])
        .expect(1, &["farm img would have no live server"]);
    operator
        .run(&["disable", "img/c", "--force", "--why", "maintenance"])
        .expect(0, &["img/c set to off"]);
    operator.file("apply", &less, &["--force"]).expect(
        0,
        &[
            "in force: 1 farm, 1 server",
            "3 servers keep what was set by hand",
        ],
    );
    let show = operator.json(&["show"]);
    assert_eq!(
        (
            &show["farms"][0]["servers"][0]["enable"],
            show["farms"][0]["servers"].as_array().map(Vec::len)
        ),
        (&"drain".into(), Some(1))
    );
}

#[test]
fn what_is_set_by_hand_stays_until_it_is_cleared_or_reset() {
    let operator = Operator::new();
    operator.file("apply", TWO_FARMS, &[]).expect(0, &[]);
    operator
        .run(&["drain", "img/a", "--why", "disk"])
        .expect(0, &["now by hand: drain"]);
    operator
        .run(&["weight", "img/a", "7"])
        .expect(0, &["now by hand: drain, weight 7"]);
    operator
        .run(&["force", "up", "img/b"])
        .expect(0, &["now by hand: force up"]);
    operator.file("plan", TWO_FARMS, &[]).expect(
        0,
        &[
            "no farm and no server changes",
            "set by hand and kept: img/a drain, weight 7, img/b force up",
        ],
    );
    operator
        .file("apply", TWO_FARMS, &[])
        .expect(0, &["2 servers keep what was set by hand"]);
    operator
        .run(&["clear", "img/b"])
        .expect(0, &["img/b cleared; now as the file has it"]);
    operator
        .run(&["clear", "img/b"])
        .expect(0, &["nothing is set by hand for img/b"]);
    let row = operator.json(&["show"])["farms"][0]["servers"][0].clone();
    assert_eq!(
        (&row["weight"], &row["enable"]),
        (&7.into(), &"drain".into()),
        "{row}"
    );
    operator
        .file("apply", TWO_FARMS, &["--reset"])
        .expect(0, &["in force"]);
    let row = operator.json(&["show"])["farms"][0]["servers"][0].clone();
    assert_eq!(
        (&row["weight"], &row["enable"], &row["by_hand"]),
        (&1.into(), &"on".into(), &Value::Null),
        "{row}"
    );
}

#[test]
fn an_export_means_what_is_in_force() {
    let operator = Operator::new();
    let rich = TWO_FARMS.replace(
        "domain = img.test",
        "domain = img.test, pic.test\nbalance = roundrobin\ninter = 3s\ncheck_uri = /alive",
    );
    operator
        .file("apply", &format!("[global]\ncluster = prod\n{rich}"), &[])
        .expect(0, &[]);
    operator.run(&["drain", "img/a"]).expect(0, &[]);
    operator.run(&["force", "up", "img/b"]).expect(0, &[]);
    let exported = operator.run(&["export"]);
    exported.expect(
        0,
        &[
            "cluster = prod",
            "# Set by hand and not in this file: img/b force up",
        ],
    );
    operator
        .file("check", &exported.text(), &[])
        .expect(0, &["good: 2 farms, 4 servers"]);
    // The drain is in the file now.
    operator
        .file("plan", &exported.text(), &[])
        .expect(0, &["server img/a: enable on → drain"]);
    operator
        .file("apply", &exported.text(), &["--reset"])
        .expect(0, &[]);
    let again = operator.run(&["export"]).text();
    assert!(
        again.contains("enable = drain") && !again.contains("force up"),
        "{again}"
    );
    operator
        .file("plan", &again, &[])
        .expect(0, &["no farm and no server changes"]);
}

#[test]
fn twenty_tables_are_kept_and_any_can_be_gone_back_to() {
    let operator = Operator::new();
    let with = |weight: usize| {
        TWO_FARMS.replace(
            "http://a.test",
            &format!("http://a.test\nweight = {weight}"),
        )
    };
    for n in 1..=25 {
        operator
            .file("apply", &with(n), &["--why", &format!("the {n}th")])
            .expect(0, &[]);
    }
    let history = operator.json(&["history"]);
    let whys: Vec<&str> = history
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|edition| edition["why"].as_str())
        .collect();
    assert_eq!((whys.len(), whys[0], whys[19]), (20, "the 25th", "the 6th"));
    assert_eq!(
        (
            &history[0]["servers"],
            &history[0]["farms"],
            history[0]["generation"].as_u64()
        ),
        (&4.into(), &2.into(), Some(operator.generation()))
    );
    operator
        .run(&["history"])
        .expect(0, &["the 6th", "WHEN (UTC)"]);
    let weight = || operator.json(&["show"])["farms"][0]["servers"][0]["weight"].clone();
    operator.run(&["rollback"]).expect(0, &["in force"]);
    assert_eq!(weight(), 24);
    let tenth = history[15]["generation"].to_string();
    operator
        .run(&["rollback", &tenth, "--why", "it worked"])
        .expect(0, &["in force"]);
    assert_eq!(
        (weight(), &operator.json(&["show"])["why"]),
        (10.into(), &format!("rollback to {tenth}: it worked").into())
    );
    operator
        .run(&["rollback", "20"])
        .expect(1, &["19 older ones are kept"]);
    operator
        .run(&["rollback", "12345678"])
        .expect(1, &["no table for `12345678`"]);
    // Going back takes as much care as going on.
    let stc = TWO_FARMS.replace("list = img, stc", "list = stc");
    operator.file("apply", &stc, &["--force"]).expect(0, &[]);
    operator.file("apply", TWO_FARMS, &[]).expect(0, &[]);
    operator
        .run(&["rollback"])
        .expect(1, &["farm img would be gone", "nothing was changed"]);
}

#[test]
fn a_file_applied_again_takes_no_place_in_the_history() {
    let operator = Operator::new();
    operator
        .file("apply", TWO_FARMS, &[])
        .expect(0, &["in force: 2 farms"]);
    let more = TWO_FARMS.replace("http://a.test", "http://a.test\nweight = 2");
    operator.file("apply", &more, &[]).expect(0, &[]);
    let generation = operator.generation();
    operator.file("apply", &more, &[]).expect(
        0,
        &[&format!(
            "no change: generation {generation} in force: 2 farms, 4 servers"
        )],
    );
    assert_eq!(
        (
            operator.generation(),
            operator.json(&["history"]).as_array().map(Vec::len)
        ),
        (generation, Some(2))
    );
    // A table that was put in force twice is none to go back to.
    operator.file("apply", &more, &["--reset"]).expect(0, &[]);
    operator
        .run(&["rollback"])
        .expect(1, &["holds the table in force", "rbalancer history"]);
    operator.run(&["rollback", "2"]).expect(0, &["in force"]);
    assert_eq!(
        operator.json(&["show"])["farms"][0]["servers"][0]["weight"],
        1
    );
}

#[test]
fn what_is_set_by_hand_shows_in_every_answer() {
    let [a, b, c] = ["a", "b", "c"].map(Origin::start);
    let conf = one_farm("", "", &[("a", &a, 1), ("b", &b, 1), ("c", &c, 1)]);
    let world = World::start(RedisServer::forgetful(), &conf, "img.test");
    let uses = |origin: &Origin| world.uses("img.test", &origin.url());
    assert!(uses(&a) && uses(&b) && uses(&c));
    world
        .command(&["drain", "img/a"])
        .expect(0, &["2 of 2 live redirectors use it"]);
    eventually!(CHANGE, !uses(&a));
    world.command(&["weight", "img/b", "0"]).expect(0, &[]);
    eventually!(CHANGE, !uses(&b));
    assert_eq!(world.ask("img.test", 100).to(&c.url()), 100);
    world
        .command(&["force", "down", "img/c"])
        .expect(1, &["farm img would have no live server"]);
    world.command(&["enable", "img/a"]).expect(0, &[]);
    world.command(&["force", "down", "img/c"]).expect(0, &[]);
    eventually!(CHANGE, uses(&a) && !uses(&c));
    world.command(&["clear", "img/b"]).expect(0, &[]);
    world.command(&["clear", "img/c"]).expect(0, &[]);
    eventually!(CHANGE, uses(&a) && uses(&b) && uses(&c));
}

#[test]
fn what_is_forced_for_a_time_ends_by_itself_also_with_redis_away() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let world = World::start(
        RedisServer::forgetful(),
        &one_farm("", "", &[("a", &a, 1), ("b", &b, 1)]),
        "img.test",
    );
    for away in [false, true] {
        eventually!(CHANGE * 3, world.uses("img.test", &a.url()));
        world
            .command(&["force", "down", "img/a", "--for", "3s"])
            .expect(0, &["forced until"]);
        eventually!(CHANGE, !world.uses("img.test", &a.url()));
        if away {
            world.redis.pause();
        }
        let back = |address: &std::net::SocketAddr| {
            tests::traffic::load(*address, "img.test", 50, 2).to(&a.url()) > 0
        };
        eventually!(Duration::from_secs(5), world.addresses().iter().all(back));
    }
    world.redis.resume();
}

#[test]
fn what_by_hand_contradicts_the_file_is_named_and_so_is_what_is_replaced_or_dropped() {
    let operator = Operator::new();
    operator.file("apply", TWO_FARMS, &[]).expect(0, &[]);
    operator.run(&["enable", "img/a"]).expect(
        0,
        &[
            "img/a set to on",
            "`rbalancer clear img/a` gives the word back to the file",
        ],
    );
    operator
        .run(&["weight", "img/a", "5"])
        .expect(0, &["now by hand: on, weight 5", "before by hand: on by "]);
    let off = TWO_FARMS.replace("[a]\n", "[a]\nenable = off\n");
    let words = "img/a is on by hand, off in the file and of weight 5 by hand, 1 in the file: `rbalancer clear img/a`";
    for command in [&["plan"][..], &["apply", "--yes"], &["apply", "--yes"]] {
        operator
            .file(command[0], &off, &command[1..])
            .expect(0, &[words]);
    }
    operator
        .file("apply", &off, &["--yes", "--reset"])
        .expect(0, &["dropped: img/a on, weight 5"]);
    assert!(!operator.file("plan", &off, &[]).text().contains("by hand"));
    // Nothing is set for a name that nobody has.
    operator
        .run(&["clear", "img/aa"])
        .expect(1, &["no server img/aa", "did you mean `img/a`?"]);
    operator.run(&["show"]).expect(
        0,
        &[
            "server",
            "domain",
            "weight",
            "enable",
            "health",
            "redirects",
            "reason",
        ],
    );
}

#[test]
fn a_time_is_typed_with_its_unit_and_what_is_over_counts_no_more() {
    let operator = Operator::new();
    operator.file("apply", TWO_FARMS, &[]).expect(0, &[]);
    for bad in ["10", "0", "999ms", "0s"] {
        assert_eq!(
            operator.run(&["force", "down", "img/a", "--for", bad]).code,
            Some(2),
            "{bad}"
        );
    }
    operator
        .run(&["force", "down", "img/a", "--for", "10"])
        .expect(2, &["`10` has no unit: write 10s, 10m"]);
    operator
        .run(&["force", "down", "img/a", "--for", "1s"])
        .expect(0, &["forced until"]);
    eventually!(
        Duration::from_secs(5),
        !operator.run(&["show"]).text().contains("force down")
    );
    let ended = operator.file(
        "apply",
        &TWO_FARMS.replace("http://b.test", "http://b2.test"),
        &["--yes"],
    );
    ended.expect(0, &["in force: 2 farms, 4 servers"]);
    assert!(!ended.text().contains("by hand"), "{}", ended.text());
    // In files a bare number is what it was, and is warned of; as is what says nothing.
    let bare = TWO_FARMS
        .replace("[a]\n", "[a]\ninter = 5\n")
        .replace("domain = stc.test", "domain = stc.test:81");
    operator.file("check", &bare, &[]).expect(
        0,
        &[
            "inter = 5 is 5 milliseconds: write 5ms, or 5s",
            "port 81 of stc.test:81 says nothing",
        ],
    );
}

#[test]
fn a_no_is_no_and_yes_is_yes() {
    let operator = Operator::new();
    let file = write(operator.directory.path(), "a.conf", TWO_FARMS);
    // A terminal of its own, at which somebody types.
    let typed = |words: &str| {
        let apply = format!(
            "{} apply {file} --redis {}",
            binary("rbalancer").display(),
            operator.redis.url()
        );
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("printf '{words}\\n' | script -qec '{apply}' /dev/null"),
        ]);
        Process::spawn("script", command).wait(START)
    };
    for no in ["n", "no", "", "maybe"] {
        typed(no).expect(1, &["put this in force", "declined: nothing was changed"]);
        assert_eq!(operator.redis.keys(), 0);
    }
    typed("YES").expect(0, &["in force"]);
    operator
        .run(&["apply", "--help"])
        .expect(0, &["where there is no terminal nobody is asked"]);
}

#[test]
fn a_file_is_good_only_where_what_it_names_is_there() {
    let operator = Operator::new();
    let with = |global: &str| format!("[global]\n{global}\n{TWO_FARMS}");
    operator
        .file("check", &with("access_log = /nowhere/access.log"), &[])
        .expect(78, &["access_log: there is no folder /nowhere"]);
    operator
        .file("check", &with("state_file = /nowhere/state"), &[])
        .expect(0, &["state_file: there is no folder /nowhere", "good"]);
    operator
        .file("check", &with("state_file = /dev/null"), &[])
        .expect(0, &["is a device", "good"]);
    operator
        .file("check", &with("static_dir = /nowhere"), &[])
        .expect(0, &["static_dir: /nowhere is no folder", "good"]);
    operator
        .file("check", &with("maxconn = many"), &[])
        .expect(78, &["`many` is no number"]);
    certificate(operator.directory.path(), "img", &["img.test"]);
    let covered = operator.file(
        "check",
        &with("tls_cert = img.pem\ntls_key = img.key\nallow_downgrade = on"),
        &[],
    );
    covered.expect(0, &["no certificate is for stc.test"]);
    assert!(
        !covered.text().contains("for img.test"),
        "{}",
        covered.text()
    );
    // What only says how the daemons of a host work has no farms.
    let host = format!("[global]\nredis = {}\nport = 81\n", operator.redis.url());
    operator
        .file("check", &host, &[])
        .expect(0, &["[global] alone, for a host of a cluster"]);
    operator
        .file("apply", &host, &["--yes"])
        .expect(78, &["has no section [farms]"]);
    let file = write(operator.directory.path(), "host.conf", host);
    for daemon in [
        "rbalancer-redirector",
        "rbalancer-healthd",
        "rbalancer-statsd",
    ] {
        let tested = Process::start(daemon, operator.directory.path(), &["-t", "-c", &file], &[])
            .wait(START);
        tested.expect(0, &["the settings are good; redis is 127.0.0.1"]);
    }
}
