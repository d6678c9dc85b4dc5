//! From a request's bytes to an answer's: what is written, and what becomes of the connection.

use super::*;
use crate::answer::own_paths::{StatsPages, UrlPrefix};
use crate::answer::refusal::RefusalSlots;
use crate::answer::refused_hosts::Recent;
use crate::answer::request::FIELDS;
use crate::answer::sources::AnswerView;
use crate::answer::static_files::Statics;
use crate::answer::{answer, refuse};
use crate::counters::Counters;
use crate::protocol::http1::head::{Parsed, parse};
use crate::routes::Routes;
use common::model::health::Health;
use common::model::target::Scheme;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::HashMap;

fn ask(request: &[u8]) -> (Option<Ending>, String) {
    ask_with(request, None)
}

fn ask_with(request: &[u8], elsewhere: Option<&str>) -> (Option<Ending>, String) {
    ask_by(Scheme::Http, request, elsewhere)
}

fn ask_by(scheme: Scheme, request: &[u8], elsewhere: Option<&str>) -> (Option<Ending>, String) {
    let farms = serde_json::json!([{"name": "img", "domains": ["img.org"], "servers":
        [{"name": "a", "target": "http://a.org:81/base", "weight": 1, "enable": "on"}]}]);
    let farms = serde_json::from_value(farms).expect("valid farms");
    let counters = Counters::new(1);
    let mut rng = SmallRng::seed_from_u64(1);
    let routes = Routes::build(
        &farms,
        &HashMap::new(),
        &Health::default(),
        &counters,
        &Routes::default(),
        &mut rng,
    );
    let stats = match elsewhere {
        Some(url) => StatsPages::elsewhere("/stats", &url.parse().expect("a target")),
        None => StatsPages::here("/stats", ["127.0.0.1".parse().expect("a network")].into()),
    };
    let mut view = AnswerView {
        routes: &routes,
        statics: &Statics::default(),
        stats: Some(&stats),
        acme: Some(&UrlPrefix::host(
            &"http://acme.org:8080".parse().expect("a target"),
        )),
        allow_downgrade: false,
        scheme,
        draining: false,
        shard: &counters.shard(0),
        refused: &RefusalSlots::new(&counters),
        rng: &mut rng,
        recent: &Recent::default(),
    };
    let mut out = Vec::new();
    let client = || Some(std::net::Ipv4Addr::LOCALHOST.into());
    let ending = match parse(request, FIELDS) {
        Parsed::Complete(request, _) => match answer(&request, &mut view, client) {
            Answer::Page => None,
            answer => Some(write(&answer, &request, b"", false, &mut out)),
        },
        Parsed::Refused(refusal) => {
            write_refusal(&refuse(refusal, b"", &view), b"", &mut out);
            Some(Ending::Linger)
        }
        Parsed::Partial => Some(Ending::Open),
    };
    (ending, String::from_utf8_lossy(&out).into_owned())
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("none")
}

#[test]
fn a_redirect_keeps_the_path_and_says_no_store() {
    let (outcome, text) = ask(b"GET /x/%2e?y HTTP/1.1\r\nHost: IMG.org.:9998\r\n\r\n");
    assert_eq!(outcome, Some(Ending::Open));
    assert_eq!(
        text,
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nCache-Control: no-store\r\nLocation: http://a.org:81/base/x/%2e?y\r\n\r\n"
    );
}

#[test]
fn every_answer_leaves_the_connection_defined() {
    let close = "Connection: close\r\n";
    for (request, expected, outcome, closes) in [
        (
            "GET / HTTP/1.1\r\nHost: img.org\r\nConnection: close\r\n\r\n",
            "302",
            Ending::Close,
            true,
        ),
        (
            "GET / HTTP/1.0\r\nHost: img.org\r\n\r\n",
            "302",
            Ending::Close,
            true,
        ),
        (
            "GET / HTTP/1.1\r\nHost: img.org\r\nContent-Length: 4\r\n\r\n",
            "302",
            Ending::Linger,
            true,
        ),
        (
            "GET / HTTP/1.1\r\nHost: other.org\r\n\r\n",
            "403",
            Ending::Open,
            false,
        ),
        ("GET /healthz HTTP/1.0\r\n\r\n", "200", Ending::Close, true),
        (
            "GET /readyz HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
            "200",
            Ending::Open,
            false,
        ),
        (
            "POST / HTTP/1.1\r\nHost: img.org\r\n\r\n",
            "405",
            Ending::Open,
            false,
        ),
        (
            "POST / HTTP/1.1\r\nHost: img.org\r\nTransfer-Encoding: chunked\r\n\r\n",
            "405",
            Ending::Linger,
            true,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "400",
            Ending::Linger,
            true,
        ),
        ("GET / HTTP/1.1\r\n\r\n", "400", Ending::Linger, true),
        (
            "POST / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "400",
            Ending::Linger,
            true,
        ),
        (
            "GET /stats HTTP/1.1\r\nHost: u@x\r\n\r\n",
            "400",
            Ending::Linger,
            true,
        ),
    ] {
        let (got, text) = ask(request.as_bytes());
        assert_eq!(
            (status(&text), got, text.contains(close)),
            (expected, Some(outcome), closes),
            "{request:?} gave {text}"
        );
    }
}

#[test]
fn stats_pages_are_set_aside_and_nothing_beside_them() {
    for (path, aside) in [
        ("/stats", true),
        ("/stats.json", true),
        ("/stats?x", true),
        ("/statsx", false),
        ("/st", false),
    ] {
        let (outcome, _) = ask(format!("GET {path} HTTP/1.1\r\nHost: img.org\r\n\r\n").as_bytes());
        assert_eq!(outcome.is_none(), aside, "{path}");
    }
    let (outcome, text) = ask_with(
        b"GET /stats.json?x HTTP/1.1\r\nHost: img.org\r\n\r\n",
        Some("http://stats.org/stats"),
    );
    assert!(
        outcome == Some(Ending::Open)
            && text.contains("Location: http://stats.org/stats.json?x\r\n"),
        "{text}"
    );
    let (_, text) = ask_by(
        Scheme::Https,
        b"GET /stats.@evil.org/ HTTP/1.1\r\nHost: img.org\r\n\r\n",
        Some("stats.org:9999"),
    );
    assert!(
        text.contains("Location: https://stats.org:9999/stats.@evil.org/\r\n"),
        "{text}"
    );
}

#[test]
fn https_is_not_sent_to_http_and_challenges_go_where_they_are_answered() {
    let (outcome, text) = ask_by(
        Scheme::Https,
        b"GET / HTTP/1.1\r\nHost: img.org\r\n\r\n",
        None,
    );
    assert!(
        outcome == Some(Ending::Open)
            && status(&text) == "503"
            && text.contains("that takes https"),
        "{text}"
    );
    let challenge = |path: &str| {
        ask(
            format!("GET /.well-known/acme-challenge{path} HTTP/1.1\r\nHost: img.org\r\n\r\n")
                .as_bytes(),
        )
        .1
    };
    assert!(
        challenge("/To-k_1")
            .contains("Location: http://acme.org:8080/.well-known/acme-challenge/To-k_1\r\n")
    );
    for other in ["", "/", "/a?b", "/a/../b", "/%2e", "x/a"] {
        assert!(
            challenge(other).contains(&format!(
                "Location: http://a.org:81/base/.well-known/acme-challenge{other}\r\n"
            )),
            "{other}"
        );
    }
}

#[test]
fn the_head_of_a_redirect_that_lies_ready_has_the_fields_of_the_answer() {
    let (_, text) = ask(b"GET /x HTTP/1.1\r\nHost: img.org\r\n\r\n");
    let slot = Counters::new(1).slot(&common::model::tally::CountKey::Refused(400));
    let head = crate::routes::farm::ResponseHead::new(
        common::model::farm::RedirectCode::Found,
        "no-store",
    );
    let answer = Answer::Redirect(Redirect {
        head: &head,
        origin: [b"http://", b"a.org:81/base"],
        target: b"/x",
        slot,
        keepalive: true,
    });
    let mut written = Vec::new();
    fields(&answer, &mut written);
    written.extend_from_slice(b"\r\n");
    assert_eq!(String::from_utf8_lossy(&written), text);
}
