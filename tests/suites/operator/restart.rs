//! `rbalancer up` across a restart and a reload: what it keeps, and what a bad file must not change.

use rustix::process::Signal;
use tests::up::{Up, ends_well, write};
use tests::{START, client, eventually};

fn configuration(target: &str) -> String {
    format!(
        "[global]\nstate_file = state\n[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = {target}\ncheck = off\n"
    )
}

#[test]
fn totals_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let state = folder.path().join("state");
    let configuration =
        configuration("http://a.test").replace("= state", &format!("= {}", state.display()));
    let first = Up::start(&configuration);
    (0..25).for_each(|_| assert_eq!(first.get("img.test", "/").status, 302));
    first.end();
    let second = Up::start(&configuration);
    eventually!(START, second.stats().of_farm("img") == 25);
    second.end();
    // A damaged file is kept under another name, which is said, and serving goes on.
    std::fs::write(&state, "nonsense").expect("written");
    let third = Up::start(&configuration);
    assert_eq!(third.get("img.test", "/").status, 302);
    third
        .process
        .wait_for_line("state cannot be used and is now", START);
    third.end();
    assert_eq!(
        std::fs::read_to_string(state.with_added_extension("damaged")).expect("kept"),
        "nonsense"
    );
    let fourth = Up::start(&configuration);
    eventually!(START, fourth.stats().of_farm("img") == 1);
    assert!(
        !fourth.process.lines().join("\n").contains("damaged"),
        "said again: {:?}",
        fourth.process.lines()
    );
    fourth.end();
}

#[test]
fn a_good_file_is_taken_on_hup_and_a_bad_one_changes_nothing() {
    let up = Up::start(&configuration("http://a.test").replace("state_file = state\n", ""));
    let goes_to = |target: &str| {
        client::get(up.address, "img.test", "/x").location() == format!("{target}/x")
    };
    assert!(goes_to("http://a.test"));
    write(
        up.directory.path(),
        "rbalancer.conf",
        configuration("http://b.test").replace("state_file = state\n", ""),
    );
    up.process.signal(Signal::HUP);
    eventually!(START, goes_to("http://b.test"));
    // What the process was started with stays, which is said: who closes the stats must not believe it is done.
    let changed = configuration("http://c.test")
        .replace("state_file = state\n", "stats_allow = none\n")
        + "[d]\ndomain = d.test\n";
    write(up.directory.path(), "rbalancer.conf", changed);
    up.process.signal(Signal::HUP);
    up.process.wait_for_line(
        "what [global] says of stats_allow is in force after a restart",
        START,
    );
    up.process.wait_for_line("[d]", START);
    eventually!(START, goes_to("http://c.test"));
    write(
        up.directory.path(),
        "rbalancer.conf",
        "[farms]\nlist = gone\n",
    );
    up.process.signal(Signal::HUP);
    up.process
        .wait_for_line("`gone` is listed but has no section", START);
    assert!(goes_to("http://c.test"));
    ends_well(up.process);
}

#[test]
fn a_reload_says_what_it_changes_and_takes_no_service_away_unasked() {
    let farms = |servers: &str, global: &str| {
        let sections: String = servers
            .split(", ")
            .map(|name| format!("[{name}]\ndomain = http://{name}.test\ncheck = off\n"))
            .collect();
        format!(
            "[global]\nadmin_bind = off\n{global}[farms]\nlist = img\n[img]\nlist = {servers}\ndomain = img.test\n{sections}"
        )
    };
    let up = Up::start(&farms("a, b, c", ""));
    let reload = |text: &str| {
        write(up.directory.path(), "rbalancer.conf", text);
        up.process.signal(Signal::HUP);
    };
    reload(&farms("a, b, c", ""));
    up.process
        .wait_for_line("reload: no farm and no server changes", START);
    reload(&farms("a, b, c, d", "").replace("http://b.test\n", "http://b.test\nweight = 5\n"));
    up.process
        .wait_for_line("reload: server img/b: weight 1 → 5", START);
    up.process
        .wait_for_line("reload: + server img/d http://d.test", START);
    reload(&farms("a", ""));
    up.process
        .wait_for_line("3 of 4 servers of farm img would be gone", START);
    up.process
        .wait_for_line("set reload_force = on in [global] if this is meant", START);
    assert_eq!(
        up.stats().0["farms"][0]["servers"].as_array().map(Vec::len),
        Some(4),
        "{:?}",
        up.stats()
    );
    let tables = || {
        up.process
            .lines()
            .iter()
            .filter(|line| line.contains("new table"))
            .count()
    };
    eventually!(START, tables() == 2, "{:?}", up.process.lines());
    let ended = up.process.lines();
    assert!(
        ended.iter().all(|line| line.starts_with("20")),
        "each line has its time: {ended:?}"
    );
    reload(&farms("a", "reload_force = on\n"));
    up.process.wait_for_line("reload: - server img/d", START);
    eventually!(
        START,
        up.stats().0["farms"][0]["servers"].as_array().map(Vec::len) == Some(1)
    );
    up.end();
}
