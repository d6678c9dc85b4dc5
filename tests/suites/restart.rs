//! `rbalancer up` across a restart and a reload: what it keeps, and what a bad file must not change.

use rustix::process::Signal;
use tests::client;
use tests::up::{Up, ends_well, write};
use tests::{START, eventually};

fn configuration(target: &str) -> String {
    format!("[global]\nstate_file = state\n[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = {target}\ncheck = off\n")
}

#[test]
fn totals_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let state = folder.path().join("state");
    let configuration = configuration("http://a.test").replace("= state", &format!("= {}", state.display()));
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
    third.process.wait_for_line("state cannot be used and is now", START);
    third.end();
    assert_eq!(std::fs::read_to_string(state.with_added_extension("damaged")).expect("kept"), "nonsense");
    let fourth = Up::start(&configuration);
    eventually!(START, fourth.stats().of_farm("img") == 1);
    assert!(!fourth.process.lines().join("\n").contains("damaged"), "said again: {:?}", fourth.process.lines());
    fourth.end();
}

#[test]
fn a_good_file_is_taken_on_hup_and_a_bad_one_changes_nothing() {
    let up = Up::start(&configuration("http://a.test").replace("state_file = state\n", ""));
    let goes_to = |target: &str| client::get(up.address, "img.test", "/x").location() == format!("{target}/x");
    assert!(goes_to("http://a.test"));
    write(up.directory.path(), "rbalancer.conf", configuration("http://b.test").replace("state_file = state\n", ""));
    up.process.signal(Signal::HUP);
    eventually!(START, goes_to("http://b.test"));
    // What the process was started with stays, which is said: who closes the stats must not believe it is done.
    let changed = configuration("http://c.test").replace("state_file = state\n", "stats_allow = none\n") + "[d]\ndomain = d.test\n";
    write(up.directory.path(), "rbalancer.conf", changed);
    up.process.signal(Signal::HUP);
    up.process.wait_for_line("what [global] says of stats_allow is in force after a restart", START);
    up.process.wait_for_line("[d]", START);
    eventually!(START, goes_to("http://c.test"));
    write(up.directory.path(), "rbalancer.conf", "[farms]\nlist = gone\n");
    up.process.signal(Signal::HUP);
    up.process.wait_for_line("`gone` is listed but has no section", START);
    assert!(goes_to("http://c.test"));
    ends_well(up.process);
}
