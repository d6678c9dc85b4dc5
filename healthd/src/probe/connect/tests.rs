//! Tests of [`super`].

use super::*;
use std::net::Ipv4Addr;
use std::time::Instant;
use tokio::net::{TcpListener, TcpSocket};

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), port)
}

/// An address that swallows every packet that would begin a connection: its queue is full and nobody accepts.
async fn swallowing(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(address).expect("a free port");
    let listener = socket.listen(0).expect("a listener");
    let mut taken = Vec::new();
    let limit = Duration::from_millis(100);
    while let Ok(Ok(stream)) = tokio::time::timeout(limit, TcpStream::connect(address)).await {
        taken.push(stream);
    }
    (listener, taken)
}

/// A port that is free on all the addresses used here, and who listens there on 127.0.0.1.
async fn good() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

#[tokio::test]
async fn each_address_that_swallows_packets_costs_one_head_start() {
    let (_listener, port) = good().await;
    let _swallowing = [swallowing(at(2, port)).await, swallowing(at(3, port)).await];
    for silent in [1, 2] {
        let addresses = [&[at(2, port), at(3, port)][..silent], &[at(1, port)]].concat();
        let started = Instant::now();
        let stream =
            tokio::time::timeout(Duration::from_secs(5), connect_any(&addresses, HEAD_START))
                .await
                .expect("in time");
        assert_eq!(
            stream
                .expect("the last takes it")
                .peer_addr()
                .expect("connected"),
            at(1, port)
        );
        assert!(
            started.elapsed() >= HEAD_START * u32::try_from(silent).expect("small"),
            "{:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn an_address_that_refuses_costs_nothing() {
    let (_listener, port) = good().await;
    let addresses = [at(2, port), at(3, port), at(1, port)];
    let connected = connect_any(&addresses, Duration::from_secs(3600));
    let stream = tokio::time::timeout(Duration::from_secs(5), connected)
        .await
        .expect("at once")
        .expect("one takes it");
    assert_eq!(stream.peer_addr().expect("connected"), at(1, port));
}

#[tokio::test]
async fn where_all_fail_the_refusal_is_told() {
    let (listener, port) = good().await;
    drop(listener);
    // Port 0 of no host: the system itself says that there is no way there.
    let nowhere = SocketAddr::new(Ipv4Addr::BROADCAST.into(), port);
    for addresses in [[at(1, port), nowhere], [nowhere, at(1, port)]] {
        let failed = connect_any(&addresses, HEAD_START)
            .await
            .expect_err("nobody listens");
        assert_eq!(failed.kind(), io::ErrorKind::ConnectionRefused, "{failed}");
    }
}

#[test]
fn families_take_turns_and_each_address_comes_once() {
    let all = |texts: &[&str]| -> Vec<SocketAddr> {
        texts
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    };
    let given = all(&[
        "1.1.1.1:80",
        "1.1.1.2:80",
        "1.1.1.1:80",
        "[::1]:80",
        "1.1.1.3:80",
        "[::2]:80",
    ]);
    let order = all(&[
        "1.1.1.1:80",
        "[::1]:80",
        "1.1.1.2:80",
        "[::2]:80",
        "1.1.1.3:80",
    ]);
    assert_eq!(interleaved(given.into_iter()), order);
    assert_eq!(
        interleaved(all(&["[::1]:1", "1.1.1.1:1"]).into_iter()),
        all(&["[::1]:1", "1.1.1.1:1"])
    );
    assert!(interleaved(std::iter::empty()).is_empty());
}

#[test]
fn the_last_of_many_addresses_is_tried_within_the_time_too() {
    let ms = Duration::from_millis;
    assert_eq!(
        (head_start(2, ms(1200)), head_start(3, ms(1200))),
        (ms(250), ms(250))
    );
    assert_eq!(
        (head_start(9, ms(1200)), head_start(2, ms(200))),
        (ms(100), ms(75))
    );
    assert_eq!(
        (head_start(1000, ms(1200)), head_start(0, ms(1200))),
        (SHORTEST, HEAD_START)
    );
}
