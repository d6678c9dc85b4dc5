//! Files, pipes and outputs that stand still: whoever serves, probes or refreshes goes on, what hangs is named, and the
//! end does not wait for it. And the signals that everybody on a host may be sent.

use rustix::process::Signal;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;
use tests::origin::Origin;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::stalled::{Freezable, Unanswering, pipe};
use tests::tls::{self, SecureUp};
use tests::traffic::load;
use tests::up::{Up, ends_well, one_farm, write};
use tests::world::Way;
use tests::{START, TURN, client, eventually, port};

/// Two origins; with them the configuration of a farm, whose `[global]` has more lines.
fn two(global: &str) -> ([Origin; 2], String) {
    let origins = ["a", "b"].map(Origin::start);
    let conf = one_farm(
        &format!("admin_bind = 127.0.0.1:0\n{global}"),
        "",
        &[("a", &origins[0], 1), ("b", &origins[1], 1)],
    );
    (origins, conf)
}

fn uses(address: SocketAddr, origin: &str) -> bool {
    load(address, "img.test", 60, 2).to(origin) > 0
}

fn admin(process: &Process) -> SocketAddr {
    let line = process.wait_for_line("admin pages on ", START);
    line.rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("an address")
}

/// The first origin dies, which is seen in the promised time.
fn the_dead_are_out(address: SocketAddr, origins: &mut [Origin; 2]) {
    let dead = origins[0].url();
    eventually!(START, uses(address, &dead));
    origins[0].stop();
    eventually!(TURN, !uses(address, &dead));
    assert!(uses(address, &origins[1].url()));
}

#[test]
fn a_frozen_disk_holds_up_neither_probes_nor_clients() {
    let Some(disk) = Freezable::mount() else {
        return;
    };
    let (mut origins, conf) = two(&format!(
        "state_file = {}\n",
        disk.path().join("state").display()
    ));
    disk.freeze();
    let up = Up::start(&conf);
    the_dead_are_out(up.address, &mut origins);
    up.process
        .wait_for_line("state: does not answer for 2 s; all else goes on", START);
    let ready = client::get(admin(&up.process), "localhost", "/readyz");
    assert!(
        ready.status == 200 && ready.text().contains("state_file"),
        "{ready:?}"
    );
    disk.thaw();
    up.process
        .wait_for_line("state: answers again after", START);
    eventually!(
        START,
        client::get(admin(&up.process), "localhost", "/readyz").text() == "ready\n"
    );
    up.end();
    assert!(disk.path().join("state").exists());
}

#[test]
fn a_redirector_on_a_frozen_disk_takes_what_is_new_and_ends() {
    let Some(disk) = Freezable::mount() else {
        return;
    };
    let (redis, directory) = (
        RedisServer::forgetful(),
        tempfile::tempdir().expect("a temporary directory"),
    );
    let way = Way::to(&redis);
    let conf = |target: &str| {
        format!(
            "[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = {target}\ncheck = off\n"
        )
    };
    way.apply(directory.path(), conf("http://a.test").as_bytes())
        .expect(0, &[]);
    disk.freeze();
    let redirector = way.redirector(&disk.path(), "redirector");
    let goes_to = |target: &str| {
        client::get(redirector.address, "img.test", "/x").location() == format!("{target}/x")
    };
    eventually!(START, goes_to("http://a.test"));
    redirector
        .process
        .wait_for_line("state: does not answer for", START);
    way.apply(directory.path(), conf("http://b.test").as_bytes())
        .expect(0, &[]);
    eventually!(TURN, goes_to("http://b.test"));
    disk.thaw();
    ends_well(redirector.process);
}

#[test]
fn a_pipe_nobody_reads_holds_up_no_start_and_no_end() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [log, state] = ["log", "state"].map(|name| pipe(directory.path(), name));
    let (mut origins, conf) = two(&format!(
        "access_log = {}\nstate_file = {}\n",
        log.display(),
        state.display()
    ));
    let up = Up::start_in(directory, &conf);
    the_dead_are_out(up.address, &mut origins);
    up.process.wait_for_line(
        "log: nobody reads it; lines are dropped and counted until somebody does",
        START,
    );
    up.process
        .wait_for_line("is a pipe: name a regular file", START);
    let metrics = || client::get(admin(&up.process), "localhost", "/metrics").text();
    eventually!(
        START,
        !metrics().contains("rbalancer_access_log_dropped_lines_total 0\n")
    );
    // Who comes to read it gets the lines from then on.
    let read = std::thread::spawn(move || {
        let lines = BufReader::new(std::fs::File::open(log).expect("a pipe")).lines();
        lines
            .map_while(Result::ok)
            .any(|line| line.contains("\"GET /read HTTP/1.1\" 302"))
    });
    eventually!(START, {
        up.get("img.test", "/read");
        read.is_finished()
    });
    assert!(read.join().expect("no panic"));
    up.end();
}

#[test]
fn a_folder_that_does_not_answer_holds_up_nobody() {
    let Some(mut gone) = Unanswering::mount() else {
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let folder = directory.path().join("www");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("favicon.ico"), "icon").expect("written");
    let by_hand = directory.path().join("by-hand");
    let (mut origins, conf) = two(&format!(
        "static_dir = {}\noverride_file = {}\n",
        folder.display(),
        by_hand.display()
    ));
    let up = Up::start_in(directory, &conf);
    assert_eq!(up.get("img.test", "/favicon.ico").text(), "icon");
    gone.take_place_of(&by_hand);
    gone.take_place_of(&folder.join("favicon.ico"));
    up.process.signal(Signal::HUP);
    up.process
        .wait_for_line("by-hand: does not answer for 2 s; all else goes on", START);
    up.process.wait_for_line("keeping what was set", START);
    up.process
        .wait_for_line("www: does not answer for 2 s; all else goes on", START);
    the_dead_are_out(up.address, &mut origins);
    assert_eq!(
        up.get("img.test", "/favicon.ico").text(),
        "icon",
        "what was read before is served on"
    );
    gone.end();
    up.process.wait_for_line("by-hand: answers again", START);
    std::fs::remove_file(&by_hand)
        .and_then(|()| std::fs::write(&by_hand, "img/b off\n"))
        .expect("written");
    up.process.signal(Signal::HUP);
    up.process.wait_for_line("sets by hand: img/b off", START);
    up.end();
}

#[test]
fn nothing_that_hangs_is_waited_for_at_the_end() {
    let Some(gone) = Unanswering::mount() else {
        return;
    };
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    gone.take_place_of(&up.directory.path().join("rbalancer.conf"));
    up.process.signal(Signal::HUP);
    up.process.wait_for_line(
        "rbalancer.conf: does not answer for 2 s; all else goes on",
        START,
    );
    gone.take_place_of(&up.directory.path().join("a.pem"));
    up.process
        .wait_for_line("a.pem: does not answer for 2 s; all else goes on", START);
    assert!(
        tls::ask(up.secure, "/x").contains("https://a.test/x"),
        "the certificate that was read is used on"
    );
    up.process.signal(Signal::TERM);
    up.process.wait_for_line("ending", START);
    // A second word ends it at once, whatever hangs.
    up.process.signal(Signal::TERM);
    assert_eq!(up.process.wait(Duration::from_secs(3)).code, Some(0));
}

#[test]
fn a_password_file_that_does_not_answer_is_tried_again() {
    let Some(mut gone) = Unanswering::mount() else {
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let password_file = directory.path().join("password");
    std::fs::write(&password_file, "secret\n").expect("written");
    let mut redis = RedisServer::breakable("secret");
    let way = Way {
        url: redis.url(),
        password_file: Some(password_file.clone()),
    };
    let conf = "[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = http://a.test\ncheck = off\n";
    way.apply(directory.path(), conf.as_bytes()).expect(0, &[]);
    let redirector = way.redirector(directory.path(), "redirector");
    eventually!(
        START,
        client::get(redirector.address, "img.test", "/").status == 302
    );
    gone.take_place_of(&password_file);
    redis.stop();
    redirector
        .process
        .wait_for_line("password: does not answer for 2 s; all else goes on", START);
    assert_eq!(client::get(redirector.address, "img.test", "/").status, 302);
    gone.end();
    std::fs::remove_file(&password_file)
        .and_then(|()| std::fs::write(&password_file, "secret\n"))
        .expect("written");
    redis.start();
    redirector
        .process
        .wait_for_line("the store answers again", START);
    ends_well(redirector.process);
}

#[test]
fn a_log_nobody_reads_holds_up_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let full = pipe(directory.path(), "log");
    // Open at both ends, so that it is there, takes what its buffer holds, and is never read.
    let held = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&full)
        .expect("a pipe");
    let port = port::free();
    let (mut origins, conf) = two("access_log = -\n");
    let file = write(directory.path(), "rbalancer.conf", conf);
    let onto_the_pipe = ["sh", "-c", "exec \"$0\" \"$@\" >log 2>&1"];
    let listen = format!("127.0.0.1:{port}");
    let arguments = ["up", "-c", &file, "--listen", &listen];
    let process = Process::start_under(
        &onto_the_pipe,
        "rbalancer",
        directory.path(),
        &arguments,
        &[],
    );
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    eventually!(START, std::net::TcpStream::connect(address).is_ok());
    // Far more than a pipe holds: in lines of the access log, and in what is wrong with a file.
    assert_eq!(load(address, "img.test", 3000, 4).total(), 3000);
    let bad: String = (0..3000)
        .map(|number| format!("unknown{number} = x\n"))
        .collect();
    write(
        directory.path(),
        "rbalancer.conf",
        format!("[global]\n{bad}"),
    );
    process.signal(Signal::HUP);
    the_dead_are_out(address, &mut origins);
    ends_well(process);
    drop(held);
}

#[test]
fn the_access_log_of_a_container_is_its_output() {
    for name in ["-", "stdout", "/dev/stdout"] {
        let conf = format!(
            "[global]\nadmin_bind = off\naccess_log = {name}\n[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = a.test\ncheck = off\n"
        );
        let up = Up::start(&conf);
        assert_eq!(up.get("img.test", "/logged").status, 302, "{name}");
        up.process
            .wait_for_line("\"GET /logged HTTP/1.1\" 302", START);
        up.process.signal(Signal::USR1);
        assert_eq!(up.get("img.test", "/again").status, 302, "{name}");
        up.process
            .wait_for_line("\"GET /again HTTP/1.1\" 302", START);
        assert!(
            !up.directory.path().join(name).exists() || name.starts_with('/'),
            "{name} became a file"
        );
        up.end();
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    for word in ["stderr", "syslog", "none"] {
        let conf = format!(
            "[global]\naccess_log = {word}\n[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = a.test\n"
        );
        let file = write(directory.path(), "f.conf", conf);
        let ended =
            Process::start("rbalancer", directory.path(), &["check", &file], &[]).wait(START);
        ended.expect(
            78,
            &[
                "f.conf:2: access_log:",
                "- for standard output",
                &format!("./{word}"),
            ],
        );
    }
}

#[test]
fn signals_to_everybody_end_nobody_and_quit_drains() {
    let (redis, directory) = (
        RedisServer::forgetful(),
        tempfile::tempdir().expect("a temporary directory"),
    );
    let way = Way::to(&redis);
    let conf = "[global]\nadmin_bind = off\n[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = http://a.test\ncheck = off\n";
    way.apply(directory.path(), conf.as_bytes()).expect(0, &[]);
    let listening = |program| way.listening(program, directory.path(), program).process;
    let healthd = way.start(
        "rbalancer-healthd",
        directory.path(),
        &["--id", "h"],
        "healthd",
    );
    healthd.wait_for_line("watching", START);
    for mut process in [
        listening("rbalancer-redirector"),
        listening("rbalancer-statsd"),
        healthd,
        Up::start(conf).process,
    ] {
        for harmless in [Signal::USR1, Signal::USR2] {
            process.signal(harmless);
        }
        process.signal(Signal::HUP);
        assert!(process.is_running(), "{:?}", process.lines());
        process.signal(Signal::QUIT);
        let ended = process.wait(START);
        ended.expect(0, &["ending"]);
    }
}
