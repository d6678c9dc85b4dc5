//! Each mode of the proxy, in front of a server that sends back what it gets.

use super::{Mode, Proxy};
use crate::{START, eventually, port};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough to be told from nothing, short enough to wait for.
const SHORT: Duration = Duration::from_millis(150);

/// A server that says `name` and then what it reads, and counts the bytes it has read; it lives as long as the tests.
fn echo(name: &'static str) -> (SocketAddr, Arc<AtomicU64>) {
    let (listener, read) = (port::listener(), Arc::new(AtomicU64::new(0)));
    let (address, counter) = (port::address(&listener), read.clone());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let counter = counter.clone();
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                let _ = stream.write_all(name.as_bytes());
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    counter.fetch_add(count as u64, Ordering::SeqCst);
                    let _ = stream.write_all(&buffer[..count]);
                }
            });
        }
    });
    (address, read)
}

/// A connection through `proxy` that has read the one-letter name of the server.
fn greeted(proxy: &Proxy) -> TcpStream {
    let mut stream = connect(proxy);
    assert_eq!(take(&mut stream, 1), b"e");
    stream
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("the proxy listens");
    stream.set_read_timeout(Some(START)).expect("a limit");
    stream
}

fn take(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("bytes come");
    bytes
}

/// Nothing comes for a while, and the connection stays open.
fn is_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SHORT)).expect("a limit");
    let error = stream.read(&mut [0]).expect_err("nothing comes");
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    stream.set_read_timeout(Some(START)).expect("a limit");
}

fn is_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0]).expect_err("the connection is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn what_passes_comes_back_whole_and_the_end_passes_too() {
    let proxy = Proxy::to(echo("e").0);
    let mut stream = greeted(&proxy);
    let sent: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let mut writer = stream.try_clone().expect("a second handle");
    let writing = {
        let sent = sent.clone();
        thread::spawn(move || writer.write_all(&sent).expect("sent"))
    };
    assert_eq!(take(&mut stream, sent.len()), sent);
    writing.join().expect("written");
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn a_cut_wire_refuses_and_resets_and_heals() {
    let proxy = Proxy::to(echo("e").0);
    let mut before = greeted(&proxy);
    proxy.set(Mode::Cut);
    is_reset(&mut before);
    eventually!(
        START,
        TcpStream::connect(proxy.address())
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    );
    proxy.set(Mode::Pass);
    eventually!(START, TcpStream::connect(proxy.address()).is_ok());
    greeted(&proxy);
}

#[test]
fn a_black_hole_swallows_and_connections_that_lost_bytes_end_with_it() {
    let (server, read) = echo("e");
    let proxy = Proxy::to(server);
    let (mut before, mut quiet) = (greeted(&proxy), greeted(&proxy));
    proxy.set(Mode::Blackhole);
    before.write_all(b"lost").expect("sent");
    is_silent(&mut before);
    let mut during = connect(&proxy);
    is_silent(&mut during);
    assert_eq!(read.load(Ordering::SeqCst), 0);
    proxy.set(Mode::Pass);
    is_reset(&mut before);
    is_reset(&mut during);
    // This one lost nothing.
    quiet.write_all(b"kept").expect("sent");
    assert_eq!(take(&mut quiet, 4), b"kept");
}

#[test]
fn replies_are_lost_and_requests_are_not() {
    let (server, read) = echo("e");
    let proxy = Proxy::to(server);
    let mut stream = greeted(&proxy);
    proxy.set(Mode::DropReplies);
    stream.write_all(b"done").expect("sent");
    eventually!(START, read.load(Ordering::SeqCst) == 4);
    is_silent(&mut stream);
    proxy.set(Mode::Pass);
    is_reset(&mut stream);
}

#[test]
fn a_reset_ends_connections_there_are_and_no_others() {
    let proxy = Proxy::to(echo("e").0);
    let mut stream = greeted(&proxy);
    proxy.reset();
    is_reset(&mut stream);
    greeted(&proxy);
}

#[test]
fn a_connection_is_reset_in_the_middle_of_a_request() {
    let (server, read) = echo("e");
    let proxy = Proxy::to(server);
    proxy.set(Mode::ResetAfter(3));
    let mut stream = greeted(&proxy);
    stream.write_all(b"12345").expect("sent");
    let mut rest = Vec::new();
    assert_eq!(
        stream.read_to_end(&mut rest).expect_err("reset").kind(),
        ErrorKind::ConnectionReset
    );
    assert!(read.load(Ordering::SeqCst) <= 3);
}

#[test]
fn bytes_are_late_both_ways_and_come_one_by_one() {
    for mode in [Mode::Delay(SHORT), Mode::Slice(SHORT)] {
        let proxy = Proxy::to(echo("e").0);
        let mut stream = greeted(&proxy);
        proxy.set(mode);
        let started = Instant::now();
        stream.write_all(b"there and back").expect("sent");
        assert_eq!(take(&mut stream, 14), b"there and back");
        assert!(
            started.elapsed() >= 2 * SHORT,
            "{mode:?}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn it_can_be_led_elsewhere() {
    let proxy = Proxy::to(echo("e").0);
    let mut before = greeted(&proxy);
    proxy.lead_to(echo("f").0);
    is_reset(&mut before);
    assert_eq!(take(&mut connect(&proxy), 1), b"f");
}
