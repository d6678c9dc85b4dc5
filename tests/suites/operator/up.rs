//! `rbalancer up` on the configuration operators already have, and the order in which servers are chosen.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use tests::client::{self, Connection};
use tests::origin::Origin;
use tests::process::Process;
use tests::traffic::{Received, load};
use tests::up::{Up, write};
use tests::{START, eventually, metrics, port, tls};

/// As operators of the first rbalancer wrote it: indented, inline comments, blanks everywhere.
const CANONICAL: &str = include_str!("../../../deploy/src/conf/canonical.conf");
const IMG: &str = "img.org.domain.cdn.com";
const STC: &str = "stc.org.domain.cdn.com";
const IMG1: &str = "http://img1.org.domain.cdn.com";
const IMG2: &str = "http://img2.org.domain.cdn.com";

#[test]
fn the_canonical_file_gives_what_a_person_reads_in_it() {
    let up = Up::start(CANONICAL);
    // 3,000 draws with p = 2/3 have a standard deviation of 25.8. One honest sample in 370 lies outside of three,
    // so a second one is drawn before that is a failure.
    let sample = || load(up.address, IMG, 3000, 8);
    let fits = |received: &Received| {
        assert_eq!(
            (received.total(), received.to(IMG1) + received.to(IMG2)),
            (3000, 3000),
            "{received:?}"
        );
        received.to(IMG1).abs_diff(2000) <= 77
    };
    let first = sample();
    assert!(fits(&first) || fits(&sample()), "{first:?}");
    let stc = load(up.address, STC, 500, 4);
    assert_eq!(
        (stc.to(IMG1), stc.to(IMG2)),
        (500, 0),
        "a server that is off was used: {stc:?}"
    );
    up.end();
}

#[test]
fn a_host_is_known_in_every_spelling() {
    let up = Up::start(CANONICAL);
    for host in [
        "IMG.ORG.domain.cdn.com",
        "img.org.domain.cdn.com:9998",
        "img.org.domain.cdn.com.",
        "Img.Org.Domain.Cdn.Com.:80",
    ] {
        assert!(
            up.get(host, "/x")
                .location()
                .ends_with(".org.domain.cdn.com/x"),
            "{host}"
        );
    }
    for host in [
        "example.org",
        "org.domain.cdn.com",
        "x.img.org.domain.cdn.com",
        "img1.org.domain.cdn.com",
    ] {
        let answer = up.get(host, "/x");
        assert_eq!(
            (answer.status, answer.header("location")),
            (403, None),
            "{host}"
        );
        assert_eq!(
            answer.header("cache-control").as_deref(),
            Some("no-store"),
            "{host}"
        );
    }
    assert_eq!(up.get(IMG, "/").status, 302);
}

#[test]
fn the_url_arrives_byte_for_byte() {
    let up = Up::start(CANONICAL);
    let mut connection = Connection::open(up.address).expect("a connection");
    let targets: &[&[u8]] = &[
        b"/",
        b"/?",
        b"/a?b?c=d&&e",
        b"//elsewhere.test/x",
        b"/a/../b/./c//d",
        b"/%2e%2e/%00?%zz&=+",
        b"/a\"b{c}|d",
        b"/~user;v=1,2:3@4!$'()*",
        b"/caf\xc3\xa9?\xff=\xfe",
        b"/http://user@elsewhere.test/",
    ];
    for target in targets {
        let answer = connection.get(STC, target).expect("an answer");
        let expected = [IMG1.as_bytes(), target].concat();
        let shown = String::from_utf8_lossy(target);
        assert_eq!(
            (answer.status, answer.bytes("location")),
            (302, Some(expected.as_slice())),
            "{shown}: {answer:?}"
        );
        assert_eq!(
            answer.header("cache-control").as_deref(),
            Some("no-store"),
            "{shown}"
        );
        assert!(answer.body.is_empty(), "{shown}");
    }
    let long = format!("/{}", "x".repeat(4000));
    assert_eq!(up.get(STC, &long).location(), format!("{IMG1}{long}"));
}

#[test]
fn get_and_head_are_redirected_and_nothing_else() {
    let up = Up::start(CANONICAL);
    let mut connection = Connection::open(up.address).expect("a connection");
    let head = connection
        .request("HEAD", STC, b"/a?b", &[])
        .expect("an answer");
    assert_eq!(head.location(), format!("{IMG1}/a?b"));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let answer = client::request(up.address, method, STC, "/a", &[("Content-Length", "0")]);
        assert_eq!(answer.status, 405, "{method}: {answer:?}");
        let allowed = answer.header("allow").expect("Allow");
        assert!(
            allowed.contains("GET") && allowed.contains("HEAD"),
            "{method}: {allowed}"
        );
    }
    assert_eq!(
        connection
            .get(STC, b"/")
            .expect("the connection is still good")
            .location(),
        format!("{IMG1}/")
    );
}

#[test]
fn the_stats_pages_answer_on_the_same_port() {
    let up = Up::start(CANONICAL);
    let received = load(up.address, IMG, 300, 2);
    tests::eventually!(
        tests::FLUSH,
        up.stats().of_farm("img") == received.total(),
        "{:?}",
        up.stats()
    );
    let stats = up.stats();
    assert_eq!(stats.server("stc", "srv4")["enable"], "off");
    assert_eq!(
        (
            &stats.server("img", "srv1")["weight"],
            &stats.server("img", "srv1")["enable"]
        ),
        (&20.into(), &"on".into())
    );
    assert_eq!(up.get("refused.test", "/").status, 403);
    let page = up.get(IMG, "/stats");
    assert!(
        page.status == 200
            && page
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("text/html")),
        "{page:?}"
    );
    let csv = up.get("localhost", "/stats.csv");
    assert!(csv.status == 200 && csv.text().contains("srv1"), "{csv:?}");
}

/// Three servers of weights 4, 2 and 1, never probed, chosen in turn by two threads.
fn round_robin() -> Up {
    let server = |name: &str, weight: u16| {
        format!("[{name}]\ndomain = http://{name}.test\nweight = {weight}\n")
    };
    let servers = [server("a", 4), server("b", 2), server("c", 1)].concat();
    let two = "[two]\nlist = d, e\ndomain = two.test\nbalance = roundrobin\n";
    let more = [server("d", 2), server("e", 1)].concat();
    Up::start(&format!(
        "[global]\nthreads = 2\ncheck = off\n[farms]\nlist = rr, two\n[rr]\nlist = a, b, c\ndomain = rr.test\nbalance = roundrobin\n{servers}{two}{more}"
    ))
}

/// The picks of `count` requests, as letters: `abacaba`.
fn picks(count: usize, mut location: impl FnMut() -> String) -> String {
    let letter = |location: String| {
        location
            .strip_prefix("http://")
            .and_then(|rest| rest.chars().next())
            .expect("a server's name")
    };
    (0..count).map(|_| letter(location())).collect()
}

/// Whether `picks` goes round `cycle`, from wherever it began.
fn goes_round(picks: &str, cycle: &str) -> bool {
    cycle.repeat(2 + picks.len() / cycle.len()).contains(picks)
}

#[test]
fn round_robin_is_smooth_over_one_connection() {
    let up = round_robin();
    let mut connection = Connection::open(up.address).expect("a connection");
    let sequence = picks(21, || {
        connection
            .get("rr.test", b"/")
            .expect("an answer")
            .location()
    });
    assert!(goes_round(&sequence, "abacaba"), "{sequence}");
    let sequence = picks(9, || {
        connection
            .get("two.test", b"/")
            .expect("an answer")
            .location()
    });
    assert!(goes_round(&sequence, "ded"), "{sequence}");
    up.end();
}

#[test]
fn round_robin_is_smooth_over_new_connections_and_two_threads() {
    let up = round_robin();
    let sequence = picks(42, || up.get("rr.test", "/").location());
    assert!(goes_round(&sequence, "abacaba"), "{sequence}");
    let sequence = picks(12, || up.get("two.test", "/").location());
    assert!(goes_round(&sequence, "ded"), "{sequence}");
}

#[test]
fn weight_zero_and_off_get_nothing() {
    let origin = Origin::start("a");
    let url = origin.url();
    let up = Up::start(&format!(
        "[farms]\nlist = img\n[img]\nlist = a, b, c\ndomain = img.test\n[a]\ndomain = {url}\n[b]\ndomain = http://b.test\nweight = 0\n[c]\ndomain = http://c.test\nenable = off\nweight = 1000\n"
    ));
    let received = load(up.address, "img.test", 500, 4);
    assert_eq!(
        received.redirects,
        BTreeMap::from([(("img.test".to_owned(), url), 500)])
    );
}

#[test]
fn two_hundred_farms_are_kept_apart() {
    let name = |n: usize| format!("farm{n}");
    let names: Vec<String> = (0..200).map(name).collect();
    let farm = |n: usize| {
        format!(
            "[farm{n}]\nlist = s{n}\ndomain = f{n}.test, www.f{n}.test\n[s{n}]\ndomain = http://s{n}.test:81/base\n"
        )
    };
    let farms: String = (0..200).map(farm).collect();
    let up = Up::start(&format!(
        "[global]\ncheck = off\n[farms]\nlist = {}\n{farms}",
        names.join(",")
    ));
    for n in 0..200 {
        assert_eq!(
            up.get(&format!("f{n}.test"), "/x").location(),
            format!("http://s{n}.test:81/base/x")
        );
        assert_eq!(
            up.get(&format!("www.f{n}.test"), "/").location(),
            format!("http://s{n}.test:81/base/")
        );
    }
}

#[test]
fn every_address_is_listened_on_with_and_without_tls() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    tls::certificate(directory.path(), "a", &["img.test"]);
    let [first, second, third] = [(); 3].map(|()| port::free());
    let file = write(
        directory.path(),
        "rbalancer.conf",
        format!(
            "[global]\nadmin_bind = off\nthreads = 2\nport = {first}\nbind = 127.0.0.1, [::1]:{second},\n  LocalHost:{third}\ntls_bind = localhost:0, [::1]:0\n\
             tls_cert = a.pem\ntls_key = a.key\n[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = a.test\ncheck = off\n"
        ),
    );
    let process = Process::start("rbalancer", directory.path(), &["up", "-c", &file], &[]);
    let secure = |before: &str| {
        let line = process.wait_for_line(&format!("listening for TLS on {before}"), START);
        line.rsplit(' ')
            .next()
            .and_then(|text| text.parse::<SocketAddr>().ok())
            .expect("an address")
    };
    let plain: [SocketAddr; 3] = [
        ([127, 0, 0, 1], first).into(),
        (Ipv6Addr::LOCALHOST, second).into(),
        ([127, 0, 0, 1], third).into(),
    ];
    for address in plain {
        process.wait_for_line(&format!("listening on {address}"), START);
        // Enough for each of the threads.
        assert_eq!(load(address, "img.test", 60, 4).total(), 60, "{address}");
    }
    for address in [secure("127.0.0.1:"), secure("[::1]:")] {
        (0..8).for_each(|_| {
            assert!(
                tls::ask(address, "/x").contains("Location: https://a.test/x\r\n"),
                "{address}"
            );
        });
    }
    // All of them hand over who has come when the process ends.
    let silent = plain.map(|address| Connection::open(address).expect("a connection"));
    process.signal(rustix::process::Signal::TERM);
    process.wait_for_line("ending", START);
    for mut connection in silent {
        assert_eq!(
            connection
                .get("img.test", b"/x")
                .expect("an answer")
                .location(),
            "http://a.test/x"
        );
    }
    let ended = process.wait(START);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    plain.iter().for_each(|address| {
        assert!(
            Connection::open(*address).is_err(),
            "{address} is still listened on"
        );
    });
}

#[test]
fn monitoring_is_told_of_the_end_and_of_what_is_lost() {
    let up = Up::start(
        "[global]\nadmin_bind = 127.0.0.1:0\naccess_log = access.log\nmaxconn_per_address = 9\n[farms]\nlist = img\n[img]\nlist = a\n\
         domain = img.test\n[a]\ndomain = a.test\ncheck = off\n",
    );
    let line = up.process.wait_for_line("admin pages on ", START);
    let admin: SocketAddr = line
        .rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    eventually!(
        START,
        client::get(admin, "localhost", "/readyz").status == 200
    );
    let text = client::get(admin, "localhost", "/metrics").text();
    for name in [
        "rbalancer_access_log_dropped_lines_total 0\n",
        "rbalancer_redirector_refused_connections_total 0\n",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    metrics::come_in_both_forms(admin);
    // Drains for two seconds at the least.
    up.process.signal(rustix::process::Signal::TERM);
    eventually!(
        START,
        client::get(admin, "localhost", "/readyz").status == 503
    );
    assert_eq!(up.process.wait(START).code, Some(0));
}
