//! Fifty bad configuration files with one fault each: every one is refused with its line, and nothing is written.

use tests::START;
use tests::process::{Ended, Process};
use tests::redis::RedisServer;
use tests::up::write;
use tests::world::apply;

/// A good file; each case spoils one line of it.
const GOOD: &str = "[global]
port = 9998
inter = 1s
[farms]
list = img, stc
[img]
list = srv1, srv2
domain = img.test
balance = random
[srv1]
domain = http://img1.test
weight = 2
enable = on
[srv2]
domain = http://img2.test
[stc]
list = srv3
domain = stc.test
[srv3]
domain = http://img3.test
";

/// What stands in for a byte that is no UTF-8.
const LATIN1: char = '\u{1}';

/// One fault: the text it replaces, what it is replaced by, the (last) line the problem is on, and a word of the
/// message.
type Fault = (&'static str, &'static str, &'static str, &'static str);

const FAULTS: &[Fault] = &[
    // The form of the file.
    ("[global]\n", "port = 1\n[global]\n", "port = 1", "section"),
    ("[srv2]", "[srv2", "[srv2", "section"),
    ("[srv2]", "[srv1]", "[srv1]", "twice"),
    ("weight = 2", "weight 2", "weight 2", "weight 2"),
    ("weight = 2", "= 2", "= 2", "key"),
    (
        "weight = 2",
        "weight = 2\nWeight = 3",
        "Weight = 3",
        "twice",
    ),
    (
        "port = 9998",
        "static_dir = c:\\",
        "static_dir = c:\\",
        "backslash",
    ),
    ("balance = random", "# caf\u{1}", "# caf\u{1}", "UTF-8"),
    // Names nobody knows.
    ("weight = 2", "wieght = 2", "wieght = 2", "weight"),
    (
        "balance = random",
        "balanse = random",
        "balanse = random",
        "balance",
    ),
    ("port = 9998", "prot = 9998", "prot = 9998", "port"),
    ("[farms]", "[farms]\nlst = img", "lst = img", "list"),
    ("weight = 2", "port = 80", "port = 80", "port"),
    (
        "port = 9998",
        "max_field = 80",
        "max_field = 80",
        "max_fields",
    ),
    (
        "port = 9998",
        "max_fields = 0",
        "max_fields = 0",
        "1 to 256",
    ),
    (
        "port = 9998",
        "max_fields = 257",
        "max_fields = 257",
        "1 to 256",
    ),
    // Lists and sections that do not fit together.
    (
        "list = img, stc",
        "list = img, stc, vid",
        "list = img, stc, vid",
        "vid",
    ),
    (
        "list = img, stc",
        "list = img, stcc",
        "list = img, stcc",
        "stc",
    ),
    (
        "list = srv1, srv2",
        "list = srv1, srv2, srv9",
        "list = srv1, srv2, srv9",
        "srv9",
    ),
    (
        "list = srv1, srv2",
        "list = srv1, srv2, srv1",
        "list = srv1, srv2, srv1",
        "srv1",
    ),
    (
        "list = img, stc",
        "list = img, stc, img",
        "list = img, stc, img",
        "img",
    ),
    (
        "list = img, stc",
        "list = img stc",
        "list = img stc",
        "separate names by commas: img, stc",
    ),
    (
        "list = srv1, srv2",
        "list = srv1\n  srv2 srv9",
        "list = srv1",
        "separate names by commas: srv2, srv9",
    ),
    ("list = img, stc", "list =", "list =", "list"),
    ("list = srv3", "list = ,", "list = ,", "list"),
    ("list = srv3\n", "", "[stc]", "list"),
    ("list = srv3", "list = srv3, a/b", "list = srv3, a/b", "a/b"),
    (
        "list = srv3",
        "list = srv3, s\u{e9}",
        "list = srv3, s\u{e9}",
        "s\u{e9}",
    ),
    // Domains.
    ("domain = stc.test\n", "", "[stc]", "domain"),
    ("domain = http://img3.test\n", "", "[srv3]", "domain"),
    (
        "domain = stc.test",
        "domain = IMG.test.",
        "domain = IMG.test.",
        "img.test",
    ),
    (
        "port = 9998",
        "bind = 127.0.0.1, 127.0.0.1:9998",
        "bind = 127.0.0.1, 127.0.0.1:9998",
        "names 127.0.0.1:9998 twice",
    ),
    (
        "port = 9998",
        "bind = 127.0.0.1, nowhere",
        "bind = 127.0.0.1, nowhere",
        "ADDRESS:PORT",
    ),
    (
        "domain = stc.test",
        "domain = _",
        "domain = _",
        "no host that a client asks for",
    ),
    (
        "domain = stc.test",
        "domain = default",
        "domain = default",
        "no host that a client asks for",
    ),
    (
        "domain = stc.test",
        "domain = a_b c",
        "domain = a_b c",
        "domain",
    ),
    (
        "domain = http://img2.test",
        "domain = http://u:p@img2.test",
        "domain = http://u:p@img2.test",
        "user",
    ),
    (
        "domain = http://img2.test",
        "domain = http://img2.test/?q",
        "domain = http://img2.test/?q",
        "?",
    ),
    (
        "domain = http://img2.test",
        "domain = http://img2.test/#f",
        "domain = http://img2.test/#f",
        "#",
    ),
    (
        "domain = http://img2.test",
        "domain = ftp://img2.test",
        "domain = ftp://img2.test",
        "ftp",
    ),
    (
        "domain = http://img2.test",
        "domain = http://img2.test:99999",
        "domain = http://img2.test:99999",
        "99999",
    ),
    (
        "domain = http://img2.test",
        "domain = http://stc.test:9998",
        "domain = http://stc.test:9998",
        "loop",
    ),
    // Values.
    ("weight = 2", "weight = 65536", "weight = 65536", "weight"),
    ("weight = 2", "weight = -1", "weight = -1", "weight"),
    ("enable = on", "enable = maybe", "enable = maybe", "enable"),
    (
        "balance = random",
        "balance = leastconn",
        "balance = leastconn",
        "roundrobin",
    ),
    (
        "balance = random",
        "redirect_code = 301",
        "redirect_code = 301",
        "302",
    ),
    (
        "balance = random",
        "on_all_down = panic",
        "on_all_down = panic",
        "on_all_down",
    ),
    (
        "balance = random",
        "fallback = gopher://x",
        "fallback = gopher://x",
        "fallback",
    ),
    (
        "balance = random",
        "cache_control = no\u{e9}store",
        "cache_control = no\u{e9}store",
        "cache_control",
    ),
    (
        "balance = random",
        "keepalive = 65s",
        "keepalive = 65s",
        "keepalive",
    ),
    ("port = 9998", "port = 70000", "port = 70000", "port"),
    ("port = 9998", "threads = 0", "threads = 0", "threads"),
    ("port = 9998", "cluster = a b", "cluster = a b", "cluster"),
    ("inter = 1s", "inter = soon", "inter = soon", "inter"),
    (
        "inter = 1s",
        "timeout_check = 0",
        "timeout_check = 0",
        "timeout_check",
    ),
    ("weight = 2", "rise = 0", "rise = 0", "rise"),
    ("weight = 2", "fall = 0", "fall = 0", "fall"),
    ("weight = 2", "check = perhaps", "check = perhaps", "check"),
    (
        "weight = 2",
        "check_method = BREW",
        "check_method = BREW",
        "check_method",
    ),
    (
        "weight = 2",
        "check_uri = no/slash",
        "check_uri = no/slash",
        "check_uri",
    ),
    (
        "weight = 2",
        "check_expect = 300-200",
        "check_expect = 300-200",
        "check_expect",
    ),
    (
        "weight = 2",
        "check_addr = http://a/",
        "check_addr = http://a/",
        "check_addr",
    ),
];

/// The bytes of the spoilt file, and the number of the line at fault.
fn spoil((was, is, at, _): &Fault) -> (Vec<u8>, usize) {
    assert!(GOOD.contains(was), "{was:?} is not in the good file");
    let text = GOOD.replacen(was, is, 1);
    let line = text
        .lines()
        .collect::<Vec<_>>()
        .iter()
        .rposition(|line| line == at)
        .expect("the line at fault is there");
    let bytes = text.chars().flat_map(|c| {
        if c == LATIN1 {
            vec![0xe9]
        } else {
            c.to_string().into_bytes()
        }
    });
    (bytes.collect(), line + 1)
}

/// What is wrong with how a spoilt file was refused, if anything.
fn complaint(ended: &Ended, file: &str, line: usize, word: &str) -> Option<String> {
    let said = ended.lines.join("\n");
    if ended.code != Some(78) {
        return Some(format!("exit {:?}, not 78: {said}", ended.code));
    }
    let place = format!("{file}:{line}: ");
    let named = |text: &String| {
        text.split_once(&place)
            .is_some_and(|(_, message)| message.to_lowercase().contains(&word.to_lowercase()))
    };
    (!ended.lines.iter().any(named)).then(|| format!("no line with `{place}` and `{word}`: {said}"))
}

#[test]
fn each_of_fifty_faults_is_refused_with_its_line_and_writes_nothing() {
    assert!(FAULTS.len() >= 50, "{} faults", FAULTS.len());
    let (redis, directory) = (
        RedisServer::forgetful(),
        tempfile::tempdir().expect("a temporary directory"),
    );
    let check = |name: &str| {
        Process::start("rbalancer", directory.path(), &["check", name], &[]).wait(START)
    };
    let mut complaints = Vec::new();
    for fault in FAULTS {
        let (bytes, line) = spoil(fault);
        write(directory.path(), "checked.conf", &bytes);
        let checked = complaint(&check("checked.conf"), "checked.conf", line, fault.3);
        let applied = complaint(
            &apply(&redis, &directory, &bytes),
            "applied.conf",
            line,
            fault.3,
        );
        complaints.extend(checked.map(|why| format!("check of {:?}: {why}", fault.1)));
        complaints.extend(applied.map(|why| format!("apply of {:?}: {why}", fault.1)));
    }
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    assert_eq!(redis.keys(), 0, "a bad file was written");
    // And a good one is taken.
    write(directory.path(), "checked.conf", GOOD);
    assert_eq!(check("checked.conf").code, Some(0));
    assert_eq!(apply(&redis, &directory, GOOD.as_bytes()).code, Some(0));
    assert!(redis.keys() > 0);
}

#[test]
fn a_file_without_farms_is_refused_where_it_ends_and_a_missing_one_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let check = |name: &str| {
        Process::start("rbalancer", directory.path(), &["check", name], &[]).wait(START)
    };
    for (text, word) in [
        ("[global]\nport = 9998\n", "farms"),
        ("[img]\nlist = a\n", "farms"),
        ("", "farms"),
        ("[farms]\n", "list"),
    ] {
        write(directory.path(), "empty.conf", text);
        let ended = check("empty.conf");
        let said = ended.lines.join("\n");
        assert!(
            ended.code == Some(78) && said.contains("empty.conf") && said.contains(word),
            "{text:?}: {:?}: {said}",
            ended.code
        );
    }
    let ended = check("nowhere.conf");
    assert!(
        ended.code == Some(78) && ended.lines.join("\n").contains("nowhere.conf"),
        "{:?}",
        ended.lines
    );
}

#[test]
fn all_problems_are_named_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bad = GOOD
        .replace("weight = 2", "wieght = 2")
        .replace("balance = random", "balance = fair")
        .replace("enable = on", "enable = 7");
    write(directory.path(), "three.conf", bad);
    let ended =
        Process::start("rbalancer", directory.path(), &["check", "three.conf"], &[]).wait(START);
    let said = ended.lines.join("\n");
    assert_eq!(ended.code, Some(78), "{said}");
    for place in ["three.conf:9: ", "three.conf:12: ", "three.conf:13: "] {
        assert!(said.contains(place), "no word of {place}: {said}");
    }
}

/// What Kubernetes tells every container of a namespace with services called rbalancer and rbalancer-redis.
const KUBERNETES: [(&str, &str); 6] = [
    ("RBALANCER_PORT", "tcp://10.96.12.3:9998"),
    ("RBALANCER_SERVICE_HOST", "10.96.12.3"),
    ("RBALANCER_SERVICE_PORT", "9998"),
    ("RBALANCER_PORT_9998_TCP", "tcp://10.96.12.3:9998"),
    ("RBALANCER_PORT_9998_TCP_ADDR", "10.96.12.3"),
    ("RBALANCER_REDIS_PORT", "tcp://10.96.12.4:6379"),
];

/// Runs a program that only tests its settings, or a file, to its end.
fn tested(program: &str, environment: &[(&str, &str)]) -> Ended {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = write(directory.path(), "f.conf", GOOD);
    let arguments: &[&str] = if program == "rbalancer" {
        &["check", &file]
    } else {
        &["-t", "--redis", "redis://127.0.0.1"]
    };
    Process::start(program, directory.path(), arguments, environment).wait(START)
}

#[test]
fn what_a_platform_tells_of_its_services_is_no_setting() {
    for program in [
        "rbalancer",
        "rbalancer-redirector",
        "rbalancer-healthd",
        "rbalancer-statsd",
    ] {
        let ended = tested(program, &KUBERNETES);
        ended.expect(0, &["RBALANCER_PORT=tcp://10.96.12.3:9998 and 5 other variables describe a service of the platform"]);
        assert_eq!(
            ended.text().matches("RBALANCER_").count(),
            1,
            "{program}: one line: {}",
            ended.text()
        );
        // What is empty counts as absent, and what stands around a value does not count.
        tested(
            program,
            &[
                ("RBALANCER_PORT", ""),
                ("RBALANCER_GRACE", "\n"),
                ("RBALANCER_CLUSTER", " prod\n"),
                ("RUST_LOG", ""),
            ],
        )
        .expect(0, &[]);
        tested(program, &[("RBALANCER_MAXCON", "5")]).expect(
            0,
            &[
                "RBALANCER_MAXCON is no setting",
                "did you mean RBALANCER_MAXCONN?",
            ],
        );
    }
    tested("rbalancer-redirector", &[("RBALANCER_PORT", "tcp")])
        .expect(78, &["environment RBALANCER_PORT: port: `tcp`"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let show = |url: &str| {
        Process::start(
            "rbalancer",
            directory.path(),
            &["show"],
            &[("RBALANCER_REDIS_URL", url)],
        )
        .wait(START)
    };
    let redis = RedisServer::forgetful();
    assert_eq!(apply(&redis, &directory, GOOD.as_bytes()).code, Some(0));
    show(&format!(" {}\n", redis.url())).expect(0, &["img"]);
    show(" \n").expect(78, &["no redis"]);
}

/// Runs a command where `/etc` holds only `files`, and the current folder.
fn with_etc(
    files: &[(&str, &str)],
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Ended {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let etc = directory.path().join("etc");
    std::fs::create_dir_all(etc.join("rbalancer")).expect("a folder");
    files
        .iter()
        .for_each(|(name, text)| drop(write(&etc, name, text)));
    // A mount of its own, which ends with the process.
    let under = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount --bind etc /etc && exec \"$0\" \"$@\"",
    ];
    Process::start_under(&under, program, directory.path(), arguments, environment).wait(START)
}

#[test]
fn the_default_file_is_read_where_none_is_named_and_which_is_said() {
    let (ours, first) = ("rbalancer/rbalancer.conf", "rbalancer.conf");
    let check = |files: &[(&str, &str)], more: &[&str]| {
        with_etc(files, "rbalancer", &[&["check"], more].concat(), &[])
    };
    check(&[(ours, GOOD), (first, "nonsense")], &[])
        .expect(0, &["/etc/rbalancer/rbalancer.conf: good"]);
    check(&[(first, GOOD)], &[]).expect(0, &["/etc/rbalancer.conf: good"]);
    check(&[], &[]).expect(
        78,
        &[
            "no configuration file",
            "neither /etc/rbalancer/rbalancer.conf nor /etc/rbalancer.conf",
        ],
    );
    check(
        &[(ours, "nonsense"), (first, GOOD)],
        &["/etc/rbalancer.conf"],
    )
    .expect(0, &["/etc/rbalancer.conf: good"]);
    check(
        &[(ours, "nonsense"), (first, GOOD)],
        &["-c", "/etc/rbalancer.conf"],
    )
    .expect(0, &["/etc/rbalancer.conf: good"]);
    check(
        &[(ours, GOOD), (first, GOOD)],
        &["-c", "/etc/rbalancer.conf", "/etc/rbalancer/rbalancer.conf"],
    )
    .expect(78, &["name one file"]);
    let redis = RedisServer::forgetful();
    let named = format!(
        "[global]\nredis = {}\n{}",
        redis.url(),
        GOOD.split_once("[global]\n").expect("it begins so").1
    );
    for command in [
        &["plan"][..],
        &["apply", "--yes"],
        &["show"],
        &["drain", "img/srv1", "--force"],
    ] {
        with_etc(&[(ours, &named)], "rbalancer", command, &[])
            .expect(0, &["/etc/rbalancer/rbalancer.conf"]);
    }
    with_etc(&[(first, &named)], "rbalancer", &["up"], &[])
        .expect(78, &["/etc/rbalancer.conf", "up keeps state in memory"]);
    for daemon in [
        "rbalancer-redirector",
        "rbalancer-healthd",
        "rbalancer-statsd",
    ] {
        with_etc(&[(first, &named)], daemon, &["-t"], &[])
            .expect(0, &["[global] is taken from /etc/rbalancer.conf"]);
        with_etc(&[], daemon, &["-t"], &[]).expect(78, &["no redis"]);
        // Whoever says which Redis is meant is not told by a file that may lie there.
        with_etc(
            &[(ours, "nonsense")],
            daemon,
            &["-t", "--redis", "redis://h"],
            &[],
        )
        .expect(0, &[]);
        with_etc(
            &[(ours, "nonsense")],
            daemon,
            &["-t"],
            &[("RBALANCER_REDIS_URL", "redis://h")],
        )
        .expect(0, &[]);
        with_etc(
            &[(ours, "nonsense")],
            daemon,
            &["-t"],
            &[("RBALANCER_REDIS_URL", "")],
        )
        .expect(78, &["rbalancer.conf:1"]);
    }
}
