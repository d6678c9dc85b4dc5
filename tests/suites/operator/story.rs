//! The log as a story: what an operator reads while a farm starts, loses servers, is changed, loses its store and ends.
//! The lines are in `story/`, for people to judge; times, ports, numbers of tables and folders are masked, and lines that
//! come in one step stand in the order of the alphabet, since several threads write them.

use rustix::process::Signal;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use tests::origin::Origin;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::traffic::load;
use tests::up::{Up, write};
use tests::world::Way;
use tests::{START, TURN, client, eventually};

/// What was logged, step by step.
struct Story {
    text: String,
    folder: String,
    seen: Vec<usize>,
}

impl Story {
    fn new(folder: &Path) -> Self {
        Self {
            text: String::new(),
            folder: folder.display().to_string(),
            seen: Vec::new(),
        }
    }

    /// Adds what each of `tellers` has logged since the last step, once each of them has said the words it is waited for.
    fn step(&mut self, what: &str, tellers: &[(&str, &Process, &str)]) {
        self.seen.resize(tellers.len().max(self.seen.len()), 0);
        let _ = writeln!(self.text, "# {what}");
        for ((name, process, words), seen) in tellers.iter().zip(&mut self.seen) {
            let new = || process.lines()[*seen..].to_vec();
            if !words.is_empty() {
                eventually!(
                    START,
                    new().iter().any(|line| line.contains(words)),
                    "no `{words}` of {name}: {:#?}",
                    new()
                );
            }
            let all = process.lines();
            let mut lines: Vec<String> = all[*seen..]
                .iter()
                .map(|line| masked(line, &self.folder))
                .collect();
            *seen = all.len();
            lines.sort();
            lines.dedup();
            lines.iter().for_each(|line| {
                let _ = writeln!(self.text, "{name:<10} {line}");
            });
        }
    }

    /// Compares it with what is kept in `story/`.
    fn is(&self, kept: &str) {
        assert_eq!(
            self.text, kept,
            "\n--- this is the story now ---\n{}",
            self.text
        );
    }
}

/// A line without what differs from run to run: its time, the folder, and numbers of ports, tables and spans.
fn masked(line: &str, folder: &str) -> String {
    let line = line
        .split_once(' ')
        .map_or(line, |(_, rest)| rest)
        .trim_start()
        .replace(folder, "DIR");
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let line = line.replace(&format!("@{host}"), "@HOST");
    // Which of the two is a matter of the moment.
    let line = line
        .replace("the connection was lost", "WHY")
        .replace("Connection refused (os error 111)", "WHY");
    let mut text = String::new();
    for word in line.split(' ') {
        let text_before = text.trim_end().to_owned();
        let masked = mask(word, &text_before);
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&masked);
    }
    text
}

fn mask(word: &str, before: &str) -> String {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((head, tail)) = word.split_once("127.0.0.1:") {
        let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
        return format!("{head}127.0.0.1:PORT{rest}");
    }
    if let Some(number) = word
        .strip_prefix("generation=")
        .filter(|number| digits(number))
    {
        return word.replace(number, "N");
    }
    if ["serving with", "at most", "in", "after"]
        .iter()
        .any(|end| before.ends_with(end))
        && word.starts_with(|c: char| c.is_ascii_digit())
        && !word.contains(':')
    {
        return "N".into();
    }
    if before.ends_with("work:") && digits(word) {
        return "N".into();
    }
    if word.ends_with("ms")
        && word[..word.len() - 2]
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return "Nms".into();
    }
    word.into()
}

fn conf(global: &str, origins: &[Origin; 2], weight: u16) -> String {
    let [a, b] = origins.each_ref().map(Origin::url);
    format!(
        "[global]\nadmin_bind = 127.0.0.1:0\n{global}[farms]\nlist = img\n[img]\nlist = a, b\ndomain = img.test\ninter = 200ms\nfastinter = 100ms\n[a]\ndomain = {a}\n[b]\ndomain = {b}\nweight = {weight}\n"
    )
}

#[test]
fn one_process_tells_its_story() {
    let mut origins = ["a", "b"].map(Origin::start);
    let up = Up::start(&conf("", &origins, 1));
    let mut story = Story::new(up.directory.path());
    eventually!(
        TURN,
        ["a", "b"]
            .iter()
            .all(|name| up.stats().server("img", name)["checked"] == "ok")
    );
    story.step("start", &[("up", &up.process, "listening on")]);
    origins[0].stop();
    story.step("a dies", &[("up", &up.process, "img/a is down")]);
    origins[1].stop();
    story.step(
        "b dies too",
        &[("up", &up.process, "farm img has no live server")],
    );
    assert_eq!(client::get(up.address, "img.test", "/").status, 503);
    origins[0].restart();
    up.process.wait_for_line("img/a is up", TURN);
    story.step(
        "a comes back",
        &[("up", &up.process, "farm img has live servers again")],
    );
    origins[1].restart();
    story.step("b comes back", &[("up", &up.process, "img/b is up")]);
    write(up.directory.path(), "rbalancer.conf", conf("", &origins, 5));
    up.process.signal(Signal::HUP);
    eventually!(
        START,
        up.process
            .lines()
            .iter()
            .filter(|line| line.contains("new table"))
            .count()
            == 2
    );
    story.step(
        "a reload changes a weight",
        &[("up", &up.process, "weight 1 → 5")],
    );
    write(
        up.directory.path(),
        "rbalancer.conf",
        "[farms]\nlist = gone\n",
    );
    up.process.signal(Signal::HUP);
    story.step(
        "a reload of a bad file",
        &[("up", &up.process, "no section [gone]")],
    );
    load(up.address, "img.test", 20, 2);
    up.process.signal(Signal::TERM);
    story.step("TERM", &[("up", &up.process, "of work")]);
    assert_eq!(up.process.wait(START).code, Some(0));
    story.is(include_str!("story/up.txt"));
}

#[test]
fn a_cluster_tells_its_story() {
    let mut origins = ["a", "b"].map(Origin::start);
    let (mut redis, directory) = (
        RedisServer::persistent(),
        tempfile::tempdir().expect("a temporary directory"),
    );
    let way = Way::to(&redis);
    let redirector = way.redirector(directory.path(), "redirector");
    let statsd = way.listening("rbalancer-statsd", directory.path(), "statsd");
    let healthd = way.start(
        "rbalancer-healthd",
        directory.path(),
        &["--id", "watcher"],
        "healthd",
    );
    let mut story = Story::new(directory.path());
    fn tellers<'a>(
        processes: [&'a Process; 3],
        words: [&'a str; 3],
    ) -> [(&'a str, &'a Process, &'a str); 3] {
        let [redirector, healthd, statsd] = processes;
        [
            ("redirector", redirector, words[0]),
            ("healthd", healthd, words[1]),
            ("statsd", statsd, words[2]),
        ]
    }
    let all = [&redirector.process, &healthd, &statsd.process];
    story.step(
        "start on an empty store",
        &tellers(all, ["listening on", "watching", "listening on"]),
    );
    let run = |arguments: &[&str]| {
        Process::start(
            "rbalancer",
            directory.path(),
            &[arguments, &["--redis", &way.url]].concat(),
            &[("USER", "anna")],
        )
        .wait(START)
    };
    let file = write(directory.path(), "img.conf", conf("", &origins, 1));
    run(&["apply", &file, "--yes"]).expect(0, &[]);
    eventually!(
        START,
        client::get(redirector.address, "img.test", "/").status == 302
    );
    let stats = || tests::stats::Stats::of(statsd.address);
    eventually!(
        TURN,
        ["a", "b"]
            .iter()
            .all(|name| stats().server("img", name)["checked"] == "ok"),
        "{:?}",
        stats()
    );
    story.step("apply", &tellers(all, ["new table", "", ""]));
    origins[0].stop();
    story.step("a dies", &tellers(all, ["", "img/a is down", ""]));
    origins[0].restart();
    story.step("a comes back", &tellers(all, ["", "img/a is up", ""]));
    run(&["drain", "img/b", "--why", "disk"]).expect(0, &[]);
    story.step(
        "anna drains b",
        &tellers(all, ["img/b is set by hand", "img/b is set by hand", ""]),
    );
    run(&["clear", "img/b"]).expect(0, &[]);
    story.step(
        "and clears it",
        &tellers(all, ["img/b is no longer", "img/b is no longer", ""]),
    );
    redis.stop();
    // Each of its tasks notices it once.
    let noticed = |process: &Process| {
        process
            .lines()
            .iter()
            .filter(|line| line.contains("cannot reach redis"))
            .count()
    };
    eventually!(
        START,
        noticed(&redirector.process) == 2
            && noticed(&healthd) == 3
            && noticed(&statsd.process) == 1,
        "{:#?} {:#?}",
        redirector.process.lines(),
        healthd.lines()
    );
    story.step(
        "redis is away",
        &tellers(
            all,
            [
                "answering from the table in memory",
                "redis",
                "the last good figures",
            ],
        ),
    );
    assert_eq!(client::get(redirector.address, "img.test", "/").status, 302);
    redis.start();
    let counted = Duration::from_secs(10);
    eventually!(counted, stats().redirects() >= 2, "{:?}", stats());
    [
        "telling all findings again",
        "the table can be read again",
        "totals of gone redirectors are kept again",
    ]
    .iter()
    .for_each(|words| drop(healthd.wait_for_line(words, START)));
    redirector
        .process
        .wait_for_line("the store answers again", START);
    story.step(
        "and back",
        &tellers(all, ["counts are written again", "", "answers again"]),
    );
    for (process, words) in [
        (&healthd, "of work"),
        (&statsd.process, "of work"),
        (&redirector.process, "of work"),
    ] {
        process.signal(Signal::TERM);
        process.wait_for_line(words, START);
    }
    story.step("TERM", &tellers(all, ["of work", "of work", "of work"]));
    story.is(include_str!("story/cluster.txt"));
}
