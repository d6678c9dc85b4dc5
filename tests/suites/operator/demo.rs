//! `rbalancer demo`: a newcomer's first minute, done as its own output says.

use rustix::process::Signal;
use std::net::SocketAddr;
use tests::process::Process;
use tests::stats::Stats;
use tests::traffic::load;
use tests::{START, TURN, client, eventually};

/// The authority of the first `http://` URL in `line`.
fn authority(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("http://")?;
    Some(
        rest.chars()
            .take_while(|c| !c.is_whitespace() && *c != '/')
            .collect(),
    )
}

fn loopback(authority: &str) -> SocketAddr {
    authority
        .replace("localhost", "127.0.0.1")
        .parse()
        .expect("an address on loopback")
}

#[test]
fn what_the_demo_prints_works() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let demo = Process::start(
        "rbalancer",
        directory.path(),
        &["demo", "--listen", "127.0.0.1:0"],
        &[],
    );
    demo.wait_for_line("curl", START);
    let found = demo.find(START, |line| {
        authority(line).filter(|url| url.starts_with("localhost:"))
    });
    let host = found.expect("the demo prints its own URL");
    let origin = |name: &str| {
        let line = demo.wait_for_line(&format!("origin {name} http://127.0.0.1:"), START);
        authority(&line).expect("an origin's URL")
    };
    let (address, origins) = (loopback(&host), ["o1", "o2", "o3"].map(origin));
    let to = |origin: &str| load(address, &host, 150, 3).to(&format!("http://{origin}"));
    origins
        .iter()
        .for_each(|origin| assert!(to(origin) > 0, "{origin} gets its share"));
    let location = client::get(address, &host, "/file?x=1").location();
    let followed = client::get(
        loopback(&authority(&location).expect("a URL")),
        "localhost",
        "/file?x=1",
    );
    assert!(
        followed.status == 200 && !followed.body.is_empty(),
        "{followed:?}"
    );

    assert!(client::get(loopback(&origins[0]), "localhost", "/-/stop").status < 500);
    assert_eq!(
        client::get(loopback(&origins[0]), "localhost", "/file").status,
        503
    );
    eventually!(TURN, to(&origins[0]) == 0);
    eventually!(TURN, Stats::of(address).0.to_string().contains("HTTP 503"));
    assert!(client::get(loopback(&origins[0]), "localhost", "/-/start").status < 500);
    eventually!(TURN, to(&origins[0]) > 0);

    demo.signal(Signal::TERM);
    assert_eq!(demo.wait(START).code, Some(0));
}
