//! Free ports that stay ours: from below the range the kernel gives to outgoing connections, so that a server that
//! is stopped finds its port still free when it starts again.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A listener on a free port of loopback.
pub fn listener() -> TcpListener {
    for _ in 0..1000 {
        // The standard library's hasher is seeded at random: other test programs look elsewhere.
        let random = RandomState::new().hash_one(());
        let port = 12_000 + u16::try_from(random % 18_000).expect("below 18,000");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
    panic!("no port from 12000 to 30000 is free on 127.0.0.1");
}

/// A port that was free a moment ago, for a program that binds it itself.
pub fn free() -> u16 {
    address(&listener()).port()
}

/// Where `listener` listens.
pub fn address(listener: &TcpListener) -> SocketAddr {
    listener
        .local_addr()
        .expect("a bound socket has an address")
}
