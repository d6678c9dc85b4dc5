//! Clients that hold on to what they get: heads that never end, answers nobody reads, more clients than descriptors.
//! Others are answered meanwhile, each slow connection ends by its deadline and holds next to no memory.
//!
//! Short by default; `RBALANCER_TESTS=full` sends the crowds whole.
#![allow(clippy::print_stdout, reason = "the figures are what the suite is for")]

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::crowd::Crowd;
use tests::process::Process;
use tests::scenario::Scale;
use tests::tls::{SecureUp, ask};
use tests::up::Up;
use tests::visitor::{Visitor, Visits};
use tests::{START, eventually};

const FARM: &str = "[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test, 127.0.0.1\n[a]\ndomain = a.test\ncheck = off\n";
const HOST: &str = "img.test";

/// A head is to end within 5 s; the sweep and the test look four times a second.
const HEAD_DEADLINE: Duration = Duration::from_secs(6);

/// An answer is to be taken within 10 s.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Between two bytes of a slow client.
const TRICKLE: Duration = Duration::from_millis(250);

/// Memory of the redirector for one slow connection.
const EACH_KIB: f64 = 16.0;

/// The same for a client that takes none of its answers: one turn of them, one read of requests.
const UNTAKEN_KIB: f64 = 64.0 + 32.0 + EACH_KIB;

/// Starts it, and asks it enough that what is made once is made; with how many descriptors it has then.
fn warm() -> (Up, usize) {
    common::net::socket::raise_file_limit();
    let up = Up::start(&format!("[global]\nadmin_bind = off\n{FARM}"));
    let warming = Visitor::start(up.address, HOST, "/", 302);
    std::thread::sleep(Duration::from_millis(500));
    let calm = warming.stop();
    println!("in peace a good client had {calm}");
    assert!(calm.failures.is_empty(), "{:?}", calm.failures);
    let descriptors = up.process.descriptors();
    (up, descriptors)
}

/// Nothing failed, and the 99th percentile is within the bound; looser where others use the machine too.
fn undisturbed(what: &str, visits: &Visits) {
    println!("{what}: a good client had {visits}");
    assert!(visits.failures.is_empty(), "{what}: {:?}", visits.failures);
    let bound = Duration::from_millis(Scale::asked().pick(250, 10));
    assert!(
        visits.count() > 50 && visits.quantile(0.99) <= bound,
        "{what}: {visits}"
    );
}

/// KiB of anonymous memory for each of `count` connections, over `before`.
fn each_kib(process: &Process, before: u64, count: usize) -> f64 {
    process.anonymous_kib().saturating_sub(before) as f64 / count as f64
}

/// Opens connections that say `opening` and then a byte now and then, until all have ended by the deadline.
fn trickle(what: &str, process: &Process, address: SocketAddr, count: usize, opening: &[u8]) {
    let before = process.anonymous_kib();
    let mut crowd = Crowd::open(address, count, opening);
    let (mut most, began) = (0.0f64, Instant::now());
    while crowd.left() > 0 {
        assert!(
            began.elapsed() < HEAD_DEADLINE * 3,
            "{} of {count} {what} are still there",
            crowd.left()
        );
        crowd.round(b"x", TRICKLE);
        most = most.max(each_kib(process, before, count));
    }
    println!(
        "{count} {what}: the longest lasted {:.2?}, {most:.2} KiB each at the most",
        crowd.longest()
    );
    assert!(
        crowd.longest() <= HEAD_DEADLINE,
        "{what}: {:?}",
        crowd.longest()
    );
    assert!(most <= EACH_KIB, "{what}: {most} KiB each");
}

#[test]
fn slow_heads_end_by_the_deadline_and_hold_nobody_up() {
    let _alone = crate::alone();
    let (up, descriptors) = warm();
    let visitor = Visitor::start(up.address, HOST, "/x", 302);
    let opening = format!(
        "GET /slow HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {}\r\nX: ",
        "Mozilla/5.0 ".repeat(20)
    );
    trickle(
        "slow heads",
        &up.process,
        up.address,
        Scale::asked().pick(500, 5000),
        opening.as_bytes(),
    );
    undisturbed("slow heads", &visitor.stop());
    // The visitor's own connections are gone as well.
    eventually!(
        START,
        up.process.descriptors() <= descriptors + 1,
        "{} descriptors, {descriptors} before",
        up.process.descriptors()
    );
    up.end();
}

#[test]
fn handshakes_that_never_end_do_by_the_deadline_and_hold_nobody_up() {
    let _alone = crate::alone();
    common::net::socket::raise_file_limit();
    let up = SecureUp::start("", "", &[("a", "a.test")]);
    assert!(ask(up.secure, "/").starts_with("HTTP/1.1 302"));
    let visitor = Visitor::start(up.plain, HOST, "/x", 302);
    // The begin of a hello of 512 bytes.
    let opening = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat();
    trickle(
        "handshakes that never end",
        &up.process,
        up.secure,
        Scale::asked().pick(500, 5000),
        &opening,
    );
    assert!(ask(up.secure, "/").starts_with("HTTP/1.1 302"));
    undisturbed("handshakes that never end", &visitor.stop());
}

/// Runs slowhttptest against `up` for `seconds`; others are served meanwhile.
fn slowhttptest(up: &Up, what: &str, count: usize, seconds: u64, more: &[&str]) {
    let before = up.process.anonymous_kib();
    let visitor = Visitor::start(up.address, HOST, "/x", 302);
    let mut attack = Command::new("slowhttptest");
    attack.args([
        "-c",
        &count.to_string(),
        "-r",
        &(count / 2).to_string(),
        "-l",
        &seconds.to_string(),
    ]);
    attack
        .args([
            "-u",
            &format!("http://{}/", up.address),
            "-p",
            "3",
            "-i",
            "1",
            "-x",
            "8",
        ])
        .args(more);
    let mut attack = Process::spawn("slowhttptest", attack);
    let mut most = 0.0f64;
    while attack.is_running() {
        std::thread::sleep(TRICKLE);
        most = most.max(each_kib(&up.process, before, count));
    }
    let said = attack.wait(START).text();
    // What it last said of its own probe.
    let available = said
        .lines()
        .rev()
        .find(|line| line.contains("service available:"))
        .map(|line| line.contains("YES"));
    undisturbed(what, &visitor.stop());
    println!(
        "{what}: {most:.2} KiB for each of {count} at the most; available by its own probe: {available:?}"
    );
    assert_eq!(available, Some(true), "{said}");
    assert!(most <= EACH_KIB, "{what}: {most} KiB each");
}

#[test]
fn slowhttptest_finds_the_service_available() {
    let _alone = crate::alone();
    let ((up, _), count, seconds) = (
        warm(),
        Scale::asked().pick(500, 5000),
        Scale::asked().pick(2, 20),
    );
    slowhttptest(&up, "slowhttptest -H", count, seconds, &["-H"]);
    slowhttptest(
        &up,
        "slowhttptest -X",
        count,
        seconds,
        &["-X", "-k", "10", "-w", "1", "-y", "2", "-n", "1", "-z", "5"],
    );
}

/// A client that asks for more and more and reads nothing.
struct Deaf {
    stream: TcpStream,
    /// Of the request that is under way.
    sent: usize,
    /// When the last of it was taken.
    since: Instant,
    /// How long after that the server ended it, once it has.
    lasted: Option<Duration>,
}

const REQUEST: &[u8] = b"GET /a/file/that/nobody/takes.jpg HTTP/1.1\r\nHost: img.test\r\n\r\n";

impl Deaf {
    fn open(address: SocketAddr) -> Self {
        let stream =
            TcpStream::connect_timeout(&address, Duration::from_secs(10)).expect("a connection");
        stream.set_nonblocking(true).expect("a socket");
        // Little room in the client's kernel, so that the server is the one that has to hold what is not taken.
        set_socket_recv_buffer_size(&stream, 16 * 1024).expect("a socket");
        set_socket_send_buffer_size(&stream, 16 * 1024).expect("a socket");
        Self {
            stream,
            sent: 0,
            since: Instant::now(),
            lasted: None,
        }
    }

    fn end(&mut self) {
        self.lasted.get_or_insert(self.since.elapsed());
    }

    /// Asks as long as there is room.
    fn push(&mut self) {
        let requests = REQUEST.repeat(64);
        while self.lasted.is_none() {
            match self.stream.write(&requests[self.sent % REQUEST.len()..]) {
                Ok(count) => (self.sent, self.since) = (self.sent + count, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.end(),
            }
        }
    }

    /// Takes up to `count` bytes of the answers; how many there were.
    fn take(&mut self, count: usize) -> usize {
        let mut scrap = vec![0; count];
        match self.stream.read(&mut scrap) {
            Ok(0) => self.end(),
            Ok(count) => return count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.end(),
        }
        0
    }
}

#[test]
fn answers_nobody_reads_end_by_the_write_deadline() {
    let _alone = crate::alone();
    let ((up, descriptors), count) = (warm(), Scale::asked().pick(30, 200));
    let before = up.process.anonymous_kib();
    let visitor = Visitor::start(up.address, HOST, "/x", 302);
    let mut deaf: Vec<Deaf> = (0..count).map(|_| Deaf::open(up.address)).collect();
    let (began, mut most) = (Instant::now(), 0.0f64);
    while deaf.iter().any(|deaf| deaf.lasted.is_none()) {
        deaf.iter_mut().for_each(Deaf::push);
        most = most.max(each_kib(&up.process, before, count));
        let left = deaf.iter().filter(|deaf| deaf.lasted.is_none()).count();
        assert!(
            began.elapsed() < START * 3,
            "{left} of {count} clients that read nothing are still there"
        );
        std::thread::sleep(TRICKLE);
    }
    let lasted = deaf
        .iter()
        .filter_map(|deaf| deaf.lasted)
        .max()
        .unwrap_or_default();
    let taken = deaf.iter().map(|deaf| deaf.sent).sum::<usize>() / count / 1024;
    println!(
        "{count} clients that read nothing: gone {lasted:.2?} after the last bytes taken ({taken} KiB each), {most:.1} KiB each"
    );
    // What the kernels still move among themselves begins the deadline anew.
    assert!(lasted <= WRITE_DEADLINE * 3 / 2, "{lasted:?}");
    undisturbed("answers nobody reads", &visitor.stop());
    assert!(most <= UNTAKEN_KIB, "{most} KiB each");
    eventually!(
        START,
        up.process.descriptors() <= descriptors + 1,
        "{} descriptors, {descriptors} before",
        up.process.descriptors()
    );
}

/// A reader that takes some of its answers every now and then goes on for as long as it likes: the write deadline
/// begins anew with each 4 KiB the kernel takes. What it holds meanwhile is what one connection may hold.
#[test]
fn a_slow_reader_loses_nothing_and_holds_little() {
    let _alone = crate::alone();
    let ((up, _), pauses) = (warm(), Scale::asked().pick(3, 12));
    let before = up.process.anonymous_kib();
    let mut reader = Deaf::open(up.address);
    let (began, pause) = (
        Instant::now(),
        Duration::from_secs(Scale::asked().pick(1, 4)),
    );
    let (mut taken, mut most) = (0, 0);
    for _ in 0..pauses {
        reader.push();
        std::thread::sleep(pause);
        taken += std::iter::from_fn(|| Some(reader.take(64 * 1024)).filter(|count| *count > 0))
            .take(4)
            .sum::<usize>();
        most = most.max(up.process.anonymous_kib().saturating_sub(before));
        assert!(
            reader.lasted.is_none(),
            "it was cut off after {:?}",
            began.elapsed()
        );
    }
    println!(
        "a slow reader was still served after {:.1?}; it took {} KiB, memory grew by {most} KiB",
        began.elapsed(),
        taken / 1024
    );
    assert!(most < 512, "memory grew by {most} KiB for one reader");
    drop(reader);
}
