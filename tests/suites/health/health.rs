//! Dead servers out, living ones back, with nobody doing anything.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tests::origin::Origin;
use tests::process::Process;
use tests::traffic::load;
use tests::up::{self, Up, one_farm};
use tests::{START, TURN, client, eventually, port, stats::Stats};

#[test]
fn a_stopped_origin_is_out_and_a_started_one_back() {
    let [mut a, b, c] = ["a", "b", "c"].map(Origin::start);
    let up = Up::start(&one_farm(
        "",
        "",
        &[("a", &a, 1), ("b", &b, 1), ("c", &c, 1)],
    ));
    let to_a = || load(up.address, "img.test", 150, 3).to(&a.url());
    eventually!(
        TURN,
        up.stats().server("img", "a")["checked"] == "ok",
        "{:?}",
        up.stats()
    );
    assert!(to_a() > 0);
    let url = a.url();
    a.stop();
    eventually!(TURN, load(up.address, "img.test", 150, 3).to(&url) == 0);
    eventually!(
        TURN,
        up.stats().server("img", "a")["health"] == "down",
        "{:?}",
        up.stats()
    );
    let stats = up.stats();
    let (down, fine) = (stats.server("img", "a"), stats.server("img", "b"));
    assert_eq!(
        (&down["reason"], &down["checked"]),
        (&"connection refused".into(), &"failing".into()),
        "{down}"
    );
    assert_eq!(
        (&fine["health"], &fine["checked"]),
        (&"up".into(), &"ok".into()),
        "{fine}"
    );
    assert!(
        down["since"]
            .as_u64()
            .or(down["since"].as_str().map(|_| 1))
            .is_some(),
        "{down}"
    );
    let all = load(up.address, "img.test", 300, 3);
    assert_eq!(
        (all.total(), all.to(&b.url()) + all.to(&c.url())),
        (300, 300),
        "{all:?}"
    );
    a.restart();
    eventually!(
        TURN,
        load(up.address, "img.test", 150, 3).to(&url) > 0,
        "{:?}",
        up.stats()
    );
    eventually!(
        TURN,
        up.stats().server("img", "a")["health"] == "up",
        "{:?}",
        up.stats()
    );
    up.end();
}

#[test]
fn a_server_that_answers_with_an_error_is_out() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let up = Up::start(&one_farm("", "", &[("a", &a, 1), ("b", &b, 1)]));
    eventually!(
        TURN,
        up.stats().server("img", "a")["checked"] == "ok",
        "{:?}",
        up.stats()
    );
    a.answer_with(503);
    eventually!(TURN, load(up.address, "img.test", 150, 3).to(&a.url()) == 0);
    eventually!(
        TURN,
        up.stats().server("img", "a")["reason"] == "HTTP 503",
        "{:?}",
        up.stats()
    );
    // Alive is anything below 500 while nobody has chosen a path.
    a.answer_with(404);
    eventually!(TURN, load(up.address, "img.test", 150, 3).to(&a.url()) > 0);
}

#[test]
fn with_no_live_server_clients_are_asked_to_come_back() {
    let mut a = Origin::start("a");
    let up = Up::start(&one_farm("", "", &[("a", &a, 1)]));
    eventually!(TURN, up.get("img.test", "/").status == 302);
    a.stop();
    eventually!(TURN, up.get("img.test", "/").status == 503);
    let answer = up.get("img.test", "/");
    assert_eq!(
        (
            answer.header("retry-after").as_deref(),
            answer.header("cache-control").as_deref()
        ),
        (Some("5"), Some("no-store"))
    );
    a.restart();
    eventually!(TURN, up.get("img.test", "/").status == 302);
}

#[test]
fn with_no_live_server_the_farms_own_wish_counts() {
    let [mut a, mut b] = ["a", "b"].map(Origin::start);
    let urls = [a.url(), b.url()];
    let any = Up::start(&one_farm(
        "",
        "on_all_down = any",
        &[("a", &a, 1), ("b", &b, 1)],
    ));
    let fallback = Up::start(&one_farm(
        "",
        "fallback = http://spare.test/base",
        &[("a", &a, 1), ("b", &b, 1)],
    ));
    a.stop();
    b.stop();
    eventually!(
        TURN,
        any.stats().server("img", "a")["health"] == "down"
            && any.stats().server("img", "b")["health"] == "down"
    );
    assert!(
        urls.iter()
            .all(|url| load(any.address, "img.test", 100, 2).to(url) > 0)
    );
    eventually!(
        TURN,
        fallback.get("img.test", "/x?y").location() == "http://spare.test/base/x?y"
    );
}

#[test]
fn probes_come_on_their_own_schedule_and_never_to_a_server_that_is_off() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let conf = one_farm("inter = 200ms", "", &[("a", &a, 1), ("b", &b, 1)]) + "enable = off\n";
    let up = Up::start(&conf);
    eventually!(TURN, a.requests() >= 5);
    assert_eq!(
        (b.requests(), &up.stats().server("img", "b")["checked"]),
        (0, &"off".into())
    );
}

/// What a server answers to a request in lower case.
type Answer = fn(&str) -> String;

/// A server that answers each request, given as text, with exactly the bytes of `answer`, for as long as this program
/// runs; where it listens.
fn answering(answer: Answer) -> SocketAddr {
    let listener = port::listener();
    let address = port::address(&listener);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let Ok(copy) = stream.try_clone() else {
                continue;
            };
            let lines = BufReader::new(copy)
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty());
            let request: String = lines.map(|line| line.to_ascii_lowercase() + "\n").collect();
            // A client that goes away is its own affair.
            let _ = stream.write_all(answer(&request).as_bytes());
        }
    });
    address
}

#[test]
fn what_every_client_can_read_is_no_reason_to_send_nobody() {
    let servers: [(&str, Answer); 6] = [
        ("folded", |_| {
            "HTTP/1.1 200 OK\r\nX-Long: one\r\n two\r\n\r\n".into()
        }),
        ("cookie", |_| {
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=\u{1}\r\n\r\n".into()
        }),
        ("fields", |_| {
            format!(
                "HTTP/1.1 200 OK\r\n{}\r\n",
                "X-Field: value\r\n".repeat(102)
            )
        }),
        ("hints", |_| {
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".into()
        }),
        ("part", |request| {
            let part = request.contains("range: bytes=0-0");
            if part {
                "HTTP/1.1 206 Partial Content\r\n\r\n"
            } else {
                "HTTP/1.1 500 Whole\r\n\r\n"
            }
            .into()
        }),
        ("empty", |request| {
            let part = request.contains("range:");
            if part {
                "HTTP/1.1 416 Range Not Satisfiable\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\n\r\n"
            }
            .into()
        }),
    ];
    let list: Vec<&str> = servers.iter().map(|(name, _)| *name).collect();
    let mut conf = format!(
        "[global]\ncheck_method = GET\ncheck_expect = 200\n[farms]\nlist = img\n[img]\ndomain = img.test\nlist = {}\n",
        list.join(", ")
    );
    conf.extend(
        servers
            .iter()
            .map(|(name, answer)| format!("[{name}]\ndomain = http://{}\n", answering(*answer))),
    );
    let up = Up::start(&conf);
    for name in list {
        eventually!(
            TURN,
            up.stats().server("img", name)["checked"] == "ok",
            "{name}: {:?}",
            up.stats()
        );
        assert_eq!(up.stats().server("img", name)["health"], "up", "{name}");
    }
    assert_eq!(up.get("img.test", "/").status, 302);
    up.end();
}

/// An address that swallows every packet that would begin a connection: its queue is full, and nobody accepts.
struct Swallowing {
    _listener: TcpListener,
    _taken: Vec<TcpStream>,
}

impl Swallowing {
    fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        rustix::net::listen(&listener, 0)?;
        let taken = std::iter::from_fn(|| {
            TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok()
        })
        .collect();
        Ok(Self {
            _listener: listener,
            _taken: taken,
        })
    }
}

#[test]
fn a_name_is_up_whichever_of_its_addresses_answers() {
    let [silent, also_silent, good] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        .map(|text| text.parse::<IpAddr>().expect("an address"));
    // A port that is free on all three.
    let (origin, _swallowing) = (0..100)
        .find_map(|_| {
            let origin = Origin::start_at("good", good);
            let swallow =
                |at: IpAddr| Swallowing::start(SocketAddr::new(at, origin.address().port())).ok();
            Some(([swallow(silent)?, swallow(also_silent)?], origin))
                .map(|(swallowing, origin)| (origin, swallowing))
        })
        .expect("a port that is free on three addresses");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let port = origin.address().port();
    up::write(
        directory.path(),
        "hosts",
        format!("{silent} several.test\n{also_silent} several.test\n{good} several.test\n"),
    );
    let conf = format!(
        "[farms]\nlist = img\n[img]\ndomain = img.test\nlist = a\n[a]\ndomain = http://several.test:{port}\n"
    );
    let file = up::write(directory.path(), "rbalancer.conf", conf);
    let own_hosts = "mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"";
    let arguments = ["up", "-c", &file, "--listen", "127.0.0.1:0"];
    let process = Process::start_under(
        &["unshare", "-m", "sh", "-c", own_hosts],
        "rbalancer",
        directory.path(),
        &arguments,
        &[],
    );
    let address = process.wait_for_address(START);
    eventually!(
        TURN,
        Stats::of(address).server("img", "a")["checked"] == "ok",
        "{:?}",
        Stats::of(address)
    );
    assert_eq!(
        client::get(address, "img.test", "/x").location(),
        format!("http://several.test:{port}/x")
    );
    up::ends_well(process);
}

#[test]
fn one_machine_that_dies_as_a_whole_is_out_within_ten_seconds() {
    let mut origins = ["a", "b", "c", "d"].map(Origin::start);
    let [a, b, c, d] = &origins;
    let up = Up::start(&one_farm(
        "",
        "",
        &[("a", a, 1), ("b", b, 1), ("c", c, 1), ("d", d, 1)],
    ));
    eventually!(
        TURN,
        ["a", "b", "c", "d"]
            .iter()
            .all(|name| up.stats().server("img", name)["checked"] == "ok")
    );
    let died = Instant::now();
    origins.iter_mut().for_each(Origin::stop);
    // Until then it is held, and everybody can see why.
    eventually!(
        TURN,
        up.stats().server("img", "a")["caution"] == "held",
        "{:?}",
        up.stats()
    );
    assert_eq!(up.stats().server("img", "a")["health"], "up");
    let page = client::get(up.address, "img.test", "/stats").text();
    assert!(
        page.contains("<tr class=caution>") && page.contains("held: the prober suspects itself"),
        "{page}"
    );
    let warning = up.process.wait_for_line("prober suspect", START);
    assert!(warning.contains("WARN"), "{warning}");
    eventually!(
        Duration::from_secs(10),
        up.get("img.test", "/").status == 503,
        "{:?}",
        up.stats()
    );
    assert!(
        died.elapsed() < Duration::from_secs(10),
        "{:?}",
        died.elapsed()
    );
    eventually!(
        TURN,
        up.stats().server("img", "a")["health"] == "down"
            && up.stats().server("img", "a")["caution"].is_null()
    );
    origins.iter_mut().for_each(Origin::restart);
    eventually!(
        TURN,
        up.get("img.test", "/").status == 302,
        "{:?}",
        up.stats()
    );
    up.end();
}

#[test]
fn a_restart_of_everything_takes_nothing_out() {
    let mut origins = ["a", "b", "c"].map(Origin::start);
    let [a, b, c] = &origins;
    let up = Up::start(&one_farm("", "", &[("a", a, 1), ("b", b, 1), ("c", c, 1)]));
    eventually!(
        TURN,
        ["a", "b", "c"]
            .iter()
            .all(|name| up.stats().server("img", name)["checked"] == "ok")
    );
    origins.iter_mut().for_each(Origin::stop);
    eventually!(
        TURN,
        up.stats().server("img", "a")["caution"] == "held",
        "{:?}",
        up.stats()
    );
    origins.iter_mut().for_each(Origin::restart);
    eventually!(
        TURN,
        up.stats().server("img", "a")["checked"] == "ok",
        "{:?}",
        up.stats()
    );
    assert!(
        !up.process
            .lines()
            .iter()
            .any(|line| line.contains("is down")),
        "{}",
        up.process.lines().join("\n")
    );
}

const UNKNOWN: &str = "[farms]\nlist = img\n[img]\ndomain = img.test\nlist = a, b\n[a]\ndomain = http://no-such-name.invalid\n[b]\ndomain = http://neither.invalid\n";

#[test]
fn a_name_that_never_resolved_is_served_and_shown_as_never_checked() {
    let up = Up::start(UNKNOWN);
    let warning = up.process.wait_for_line("never checked", START);
    assert!(
        warning.contains("WARN")
            && warning.contains("does not resolve")
            && warning.contains("0 of 2 ever checked"),
        "{warning}"
    );
    eventually!(
        TURN,
        up.stats().server("img", "a")["caution"] == "never_checked",
        "{:?}",
        up.stats()
    );
    let stats = up.stats();
    let server = stats.server("img", "a");
    assert_eq!(
        (&server["health"], &server["checked"], &server["in_service"]),
        (&"up".into(), &"never".into(), &true.into())
    );
    assert!(
        server["reason"]
            .as_str()
            .is_some_and(|reason| reason.starts_with("name does not resolve")),
        "{server}"
    );
    let page = up.get("img.test", "/stats").text();
    assert!(
        page.contains("<tr class=caution>")
            && page.contains("▲ never checked")
            && page.contains("0 of 2 ever checked"),
        "{page}"
    );
    assert_eq!(
        up.get("img.test", "/").status,
        302,
        "a resolver may be broken here, and no server"
    );
    // Each is named once, however long it lasts.
    std::thread::sleep(Duration::from_secs(3));
    let lines = up.process.lines();
    let naming = |name: &str| {
        lines
            .iter()
            .filter(|line| line.contains("never checked") && line.contains(name))
            .count()
    };
    assert_eq!(
        (naming("img/a"), naming("img/b")),
        (1, 1),
        "{}",
        lines.join("\n")
    );
    up.end();
}

#[test]
fn check_tries_the_names_where_it_is_asked_to() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let check = |configuration: &str, more: &[&str]| {
        let file = up::write(directory.path(), "rbalancer.conf", configuration);
        Process::start(
            "rbalancer",
            directory.path(),
            &[&["check", file.as_str()], more].concat(),
            &[],
        )
        .wait(START)
    };
    check(UNKNOWN, &[]).expect(0, &["good: 1 farm, 2 servers"]);
    let words = [
        "good: ",
        "img/a: `no-such-name.invalid` does not resolve: ",
        "img/b: `neither.invalid`",
        "2 of 2 names do not resolve",
    ];
    check(UNKNOWN, &["--resolve"]).expect(1, &words);
    let elsewhere = UNKNOWN.replace(".invalid", ".invalid\ncheck_addr = 127.0.0.1")
        + "[global]\nfallback = http://third.invalid\n";
    check(&elsewhere, &["--resolve"]).expect(1, &["fallback of img: `third.invalid`", "3 of 3"]);
    let good = UNKNOWN
        .replace("no-such-name.invalid", "localhost")
        .replace("neither.invalid", "127.0.0.1");
    check(&good, &["--resolve"]).expect(0, &["1 name resolves"]);
}
