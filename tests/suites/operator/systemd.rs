//! The units of systemd in deploy/systemd: systemd itself finds nothing wrong with them, the programs and flags they
//! name exist, and their times fit; sockets that are passed are taken in the order of the socket unit.

#![allow(clippy::panic, reason = "a test that cannot go on says why and fails")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::process::{Process, binary};
use tests::tls::{ask, certificate, configuration};
use tests::up::{ends_well, write};
use tests::{START, client, port};

const SERVICES: [&str; 4] = [
    "rbalancer",
    "rbalancer-redirector",
    "rbalancer-healthd",
    "rbalancer-statsd",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd")
}

fn unit(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The values of `key` in a unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

#[test]
fn systemd_finds_nothing_wrong() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        // Without systemd there is nobody to ask; the other tests read the units.
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let here = binary("rbalancer");
    let here = here
        .parent()
        .expect("it lies in a folder")
        .to_str()
        .expect("a path in UTF-8")
        .to_owned();
    let names = SERVICES
        .map(|name| format!("{name}.service"))
        .into_iter()
        .chain(["rbalancer-redirector.socket".to_owned()]);
    // As installed, but for where the programs are.
    let files: Vec<String> = names
        .map(|name| {
            write(
                directory.path(),
                &name,
                unit(&name).replace("/usr/bin/", &format!("{here}/")),
            )
        })
        .collect();
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(&files)
        .output()
        .expect("systemd-analyze runs");
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(
        output.status.success() && !said.contains("rbalancer"),
        "{said}"
    );
}

#[test]
fn programs_flags_and_times_exist_and_fit() {
    for name in SERVICES {
        let text = unit(&format!("{name}.service"));
        let [command] = values(&text, "ExecStart")[..] else {
            panic!("{name} starts one program")
        };
        let mut words = command.split(' ');
        let program = words
            .next()
            .and_then(|path| path.strip_prefix("/usr/bin/"))
            .expect("a program in /usr/bin");
        assert_eq!(program, name);
        // Its own parser reads the line; the file is not there, which it says.
        let directory = tempfile::tempdir().expect("a temporary directory");
        let here = |word: &str| word.replace("/etc/rbalancer/", "missing-");
        let arguments: Vec<String> = words.map(here).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::start(program, directory.path(), &arguments, &[])
            .wait(START)
            .expect(78, &["missing-rbalancer.conf"]);
        assert_eq!(values(&text, "KillSignal"), ["SIGTERM"]);
        let stop = values(&text, "TimeoutStopSec")[0]
            .trim_end_matches('s')
            .parse()
            .map(Duration::from_secs);
        assert!(
            stop.is_ok_and(|stop| stop > Duration::from_secs(15)),
            "{name}: grace is 10 s by default, and counts are written after it"
        );
        assert_eq!(values(&text, "RestartPreventExitStatus"), ["2 78"]);
        let strict = [
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "SystemCallFilter=@system-service",
            "User=rbalancer",
        ];
        strict
            .iter()
            .for_each(|line| assert!(text.lines().any(|held| held == *line), "{name}: no {line}"));
    }
    for name in ["rbalancer", "rbalancer-redirector"] {
        let text = unit(&format!("{name}.service"));
        // `up` takes farms from its file: a bad one is to fail the reload, not the next start.
        let check: &[&str] = if name == "rbalancer" {
            &["/usr/bin/rbalancer check /etc/rbalancer/rbalancer.conf"]
        } else {
            &[]
        };
        assert_eq!(
            values(&text, "ExecReload"),
            [check, &["/bin/kill -HUP $MAINPID"]].concat()
        );
        assert!(
            values(&text, "LimitNOFILE")[0]
                .parse::<u64>()
                .is_ok_and(|limit| limit >= 1 << 20)
        );
    }
    assert_eq!(
        values(&unit("rbalancer-redirector.socket"), "ListenStream"),
        ["80"]
    );
}

#[test]
fn the_first_socket_is_plain_and_the_second_for_tls() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    certificate(directory.path(), "a", &["img.test"]);
    let text = configuration(
        "admin_bind = off\ntls_cert = a.pem\ntls_key = a.key",
        "",
        &[("a", "a.test")],
    );
    let file = write(directory.path(), "rbalancer.conf", text);
    let listeners = [port::listener(), port::listener()];
    let [plain, secure] = listeners.each_ref().map(port::address);
    let copies = listeners
        .each_ref()
        .map(|listener| OwnedFd::from(listener.try_clone().expect("a descriptor")));
    // A shell puts them at descriptors 3 and 4, by way of two that nothing else has, and names itself, which exec keeps.
    let [first, second] = copies.each_ref().map(AsRawFd::as_raw_fd);
    let script = format!(
        "exec {{a}}<&{first} {{b}}<&{second}; exec 3<&$a 4<&$b; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" \"$@\""
    );
    copies.iter().for_each(|copy| {
        rustix::io::fcntl_setfd(copy, rustix::io::FdFlags::empty()).expect("inherited");
    });
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(script)
        .arg(binary("rbalancer"))
        .args(["up", "-c", &file])
        .current_dir(directory.path())
        .env("RUST_LOG", "info");
    let process = Process::spawn("rbalancer", command);
    drop(copies);
    process.wait_for_line(&format!("listening for TLS on {secure}"), START);
    assert_eq!(
        client::get(plain, "img.test", "/x").location(),
        "http://a.test/x"
    );
    assert!(ask(secure, "/x").contains("Location: https://a.test/x\r\n"));
    ends_well(process);
}
