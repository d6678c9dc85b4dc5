//! `rbalancer demo`: `up` with three toy origins on loopback, and a list of things to try.

use crate::conf::{Conf, Flags, parse};
use crate::up::origin;
use common::config::global::Problems;
use common::config::ini::Document;
use common::net::listen::ListenAddresses;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

/// Starts the origins; their addresses.
///
/// # Errors
/// When no port is free.
pub async fn start_origins() -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for number in 1..=3 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        addresses.push(listener.local_addr()?);
        tokio::spawn(origin::serve(listener, format!("o{number}")));
    }
    Ok(addresses)
}

/// The configuration of the demo: one farm on `localhost`.
///
/// # Errors
/// Never for its own text; for an unusable environment.
pub fn conf(origins: &[SocketAddr], listen: Option<ListenAddresses>) -> Result<Conf, Problems> {
    let mut text = String::from(
        "[farms]\nlist = demo\n[demo]\ndomain = localhost, 127.0.0.1\nlist = o1, o2, o3\n",
    );
    for (number, (address, weight)) in (1..).zip(origins.iter().zip([20, 10, 10])) {
        let _ = write!(
            text,
            "[o{number}]\ndomain = http://{address}\nweight = {weight}\n"
        );
    }
    let (document, problems) = Document::parse("demo", &text);
    parse(
        &document,
        problems,
        Flags {
            listen,
            ..Flags::default()
        },
    )
}

/// What to try.
pub fn things_to_try(listening: SocketAddr, origins: &[SocketAddr]) -> String {
    let port = listening.port();
    let mut text = format!(
        "\nrbalancer demo: http://localhost:{port}/ sends clients to three origins, weights 20, 10, 10.\n\n"
    );
    for (number, address) in (1..).zip(origins) {
        let _ = writeln!(text, "  origin o{number} http://{address}");
    }
    let first = origins.first().map(ToString::to_string).unwrap_or_default();
    let _ = write!(
        text,
        "\nTry, in another terminal:\n\n  \
         curl -sI http://localhost:{port}/img/a.jpg      a redirect\n  \
         curl -sL http://localhost:{port}/img/a.jpg      the file behind it; again and again\n  \
         http://localhost:{port}/stats                   the stats, in a browser\n  \
         curl http://{first}/-/stop             o1 stops working: within seconds nobody is sent there\n  \
         curl http://{first}/-/start            and back\n\nCtrl-C ends the demo.\n\n"
    );
    text
}
