//! Tests of [`super`].

use super::*;

#[test]
fn addresses_read_as_in_other_programs() {
    let parse = |text: &str| {
        text.parse::<ListenAddress>()
            .map(|address| address.to_string())
            .ok()
    };
    assert_eq!(parse("127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
    assert_eq!(parse("[::1]:80").as_deref(), Some("[::1]:80"));
    assert_eq!(parse("*:80").as_deref(), Some("*:80"));
    assert_eq!(parse(":80").as_deref(), Some("*:80"));
    assert_eq!(parse("LocalHost:80").as_deref(), Some("127.0.0.1:80"));
    for bad in ["80", "::1:80", "host:80", "1.2.3.4:x", "1.2.3.4:70000", ""] {
        assert_eq!(parse(bad), None, "{bad:?}");
    }
}

#[test]
fn several_addresses_are_read_with_and_without_ports_and_none_twice() {
    let read = |text: &str| {
        let addresses = ListenAddresses::with_port(text, 80).map(|all| {
            all.iter()
                .map(|address| address.to_string())
                .collect::<Vec<_>>()
        });
        addresses.map(|all| all.join(" "))
    };
    assert_eq!(
        read("10.0.0.1, [::1]:81 , ::1, *, localhost, LOCALHOST:82"),
        Ok("10.0.0.1:80 [::1]:81 [::1]:80 *:80 127.0.0.1:80 127.0.0.1:82".into())
    );
    assert_eq!(
        read("10.0.0.1, 10.0.0.1:80"),
        Err("names 10.0.0.1:80 twice: remove one".into())
    );
    assert!(
        read("127.0.0.1:0, 127.0.0.1:0").is_ok(),
        "any two free ports"
    );
    assert!(
        ["", ",", "nowhere", "10.0.0.1, x:y"]
            .iter()
            .all(|bad| read(bad).is_err())
    );
}

#[test]
fn every_address_of_both_families_may_be_named() {
    let free = socket::listen(
        (Ipv4Addr::LOCALHOST, 0).into(),
        false,
        Sharing::Exclusive,
        1,
    )
    .and_then(|socket| socket.local_addr());
    let port = free.expect("a free port").port();
    let addresses = ListenAddresses::with_port("0.0.0.0, [::]", port).expect("valid");
    let bound = InheritedSockets {
        listeners: Vec::new().into_iter(),
    }
    .or_bind(&addresses, 2, Sharing::Exclusive)
    .expect("both");
    assert_eq!(words(&bound), format!("0.0.0.0:{port}, [::]:{port}"));
    assert!(by_thread(bound).iter().all(|own| own.len() == 2));
}

#[test]
fn an_exclusive_port_is_shared_by_threads_but_with_no_second_program() {
    let free = ListenAddress {
        ip: Some(Ipv4Addr::LOCALHOST.into()),
        port: 0,
    };
    let first = bind(free, 2, Sharing::Exclusive).expect("free port");
    assert_eq!(first.sockets.len(), 2);
    let taken = ListenAddress {
        port: first.address.port(),
        ..free
    };
    let error = bind(taken, 2, Sharing::Exclusive)
        .expect_err("taken")
        .to_string();
    assert!(error.contains("another program listens there"), "{error}");
    assert!(bind(taken, 1, Sharing::Shared).is_ok());
}

#[test]
fn a_passed_socket_sends_without_delay_like_one_bound_here() {
    let passed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
    let anywhere = ListenAddress { ip: None, port: 0 };
    let listeners = InheritedSockets {
        listeners: vec![passed].into_iter(),
    }
    .or_bind(&anywhere.into(), 2, Sharing::Exclusive)
    .expect("adopted");
    let listeners = &listeners[0];
    assert!(listeners.passed && listeners.sockets.len() == 2);
    assert!(listeners.sockets.iter().all(|socket| {
        socket2::SockRef::from(socket)
            .tcp_nodelay()
            .expect("an option")
    }));
}
