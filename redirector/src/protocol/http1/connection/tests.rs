//! The connection against a scripted socket: every split of the bytes, pipelining, closes, short writes.

use super::*;
use crate::answer::own_paths::{StatsPages, UrlPrefix};
use crate::answer::refusal::RefusalSlots;
use crate::answer::sources::Sources;
use crate::answer::static_files::Statics;
use crate::client::TrustedProxies;
use crate::counters::Counters;
use crate::routes::Routes;
use arc_swap::{ArcSwap, Cache};
use common::model::health::Health;
use common::net::web::StatusCode;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// What a read finds.
#[derive(Clone, Debug)]
enum Read {
    Bytes(Vec<u8>),
    Nothing,
    /// Much that amounts to nothing, as TLS has it.
    Empty,
    End,
}

#[derive(Default)]
struct Script {
    reads: RefCell<VecDeque<Read>>,
    sent: RefCell<Vec<u8>>,
    /// Bytes a write takes; then it blocks once.
    room: Option<usize>,
    blocked: RefCell<bool>,
    ended: RefCell<u32>,
    coalesced: RefCell<bool>,
    reads_made: RefCell<usize>,
}

impl Transport for Script {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        *self.reads_made.borrow_mut() += 1;
        let next = self.reads.borrow_mut().pop_front();
        match next {
            Some(Read::Bytes(mut bytes)) => {
                let count = bytes.len().min(buffer.len());
                buffer[..count].copy_from_slice(&bytes[..count]);
                if count < bytes.len() {
                    self.reads
                        .borrow_mut()
                        .push_front(Read::Bytes(bytes.split_off(count)));
                }
                Ok(count)
            }
            Some(Read::Empty) => Err(ErrorKind::Interrupted.into()),
            Some(Read::End) => Ok(0),
            Some(Read::Nothing) | None => Err(ErrorKind::WouldBlock.into()),
        }
    }
    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let Some(room) = self.room else {
            self.sent.borrow_mut().extend_from_slice(bytes);
            *self.coalesced.borrow_mut() |= more;
            return Ok(bytes.len());
        };
        let mut blocked = self.blocked.borrow_mut();
        *blocked = !*blocked;
        if *blocked {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(room);
        self.sent.borrow_mut().extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    fn end(&self) {
        *self.ended.borrow_mut() += 1;
    }
    fn peer(&self) -> Option<IpAddr> {
        Some(std::net::Ipv4Addr::LOCALHOST.into())
    }
}

fn context() -> ThreadContext {
    let farms = serde_json::json!([{"name": "img", "domains": ["img.org"], "servers":
        [{"name": "a", "target": "http://a.org", "weight": 1, "enable": "on"}]}]);
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
    let (routes, refused) = (
        Arc::new(ArcSwap::from_pointee(routes)),
        RefusalSlots::new(&counters),
    );
    let stats = Some(StatsPages::here(
        "/stats",
        ["127.0.0.1".parse().expect("a network")].into(),
    ));
    ThreadContext::new(
        Sources {
            stats,
            ..Sources::new(routes, Arc::default(), counters.shard(0), refused, rng)
        },
        None,
    )
}

/// Drives a connection to its end; pages are answered with `page`.
fn drive(script: &Script, context: &mut ThreadContext) -> Vec<Progress> {
    let (mut connection, mut steps) = (Connection::default(), Vec::new());
    let page = common::net::web::text(StatusCode::OK, "page");
    for _ in 0..10_000 {
        let progress = connection.advance(script, context);
        steps.push(progress.clone());
        match progress {
            Progress::Done => break,
            Progress::Page(pending) => connection.page(Some(&page), &pending, context),
            _ if script.reads.borrow().is_empty()
                && !matches!(progress, Progress::Write | Progress::Again) =>
            {
                break;
            }
            _ => {}
        }
    }
    steps
}

fn statuses(script: &Script) -> Vec<String> {
    let sent = String::from_utf8_lossy(&script.sent.borrow()).into_owned();
    sent.split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer[..3].to_owned())
        .collect()
}

fn script(reads: impl IntoIterator<Item = Read>) -> Script {
    Script {
        reads: RefCell::new(reads.into_iter().collect()),
        ..Script::default()
    }
}

const PLAIN: &str = "GET /a HTTP/1.1\r\nHost: img.org\r\n\r\n";
const CLOSE: &str = "GET /b HTTP/1.1\r\nHost: img.org\r\nConnection: close\r\n\r\n";

#[test]
fn a_one_shot_request_costs_one_read_and_one_coalesced_write() {
    let script = script([Read::Bytes(CLOSE.into())]);
    assert_eq!(drive(&script, &mut context()), [Progress::Done]);
    assert_eq!(
        (
            statuses(&script),
            *script.coalesced.borrow(),
            *script.reads_made.borrow()
        ),
        (vec!["302".into()], true, 1)
    );
}

#[test]
fn a_kept_connection_waits_after_a_short_read_without_reading_again_and_holds_no_buffer() {
    let script = script([Read::Bytes(PLAIN.into())]);
    let mut connection = Connection::default();
    assert_eq!(connection.advance(&script, &mut context()), Progress::Idle);
    assert_eq!(*script.reads_made.borrow(), 1);
    assert!(connection.unparsed.capacity() == 0 && connection.unsent.is_none());
}

#[test]
fn a_close_over_unread_bytes_is_never_coalesced_and_lingers() {
    let script = script([
        Read::Bytes(format!("{CLOSE}\r\n").into()),
        Read::Nothing,
        Read::Bytes(b"x".into()),
        Read::End,
    ]);
    assert_eq!(
        drive(&script, &mut context()),
        [Progress::Linger, Progress::Done]
    );
    assert_eq!(
        (
            statuses(&script),
            *script.coalesced.borrow(),
            *script.ended.borrow()
        ),
        (vec!["302".into()], false, 1)
    );
}

#[test]
fn a_flood_of_nothing_after_a_refusal_yields_and_ends() {
    let script = script(
        [Read::Bytes(b"nonsense\r\n".into())]
            .into_iter()
            .chain((0..200).map(|_| Read::Empty)),
    );
    let steps = drive(&script, &mut context());
    assert!(
        steps.len() < 80
            && steps[1..steps.len() - 1]
                .iter()
                .all(|step| *step == Progress::Again),
        "{steps:?}"
    );
    assert_eq!(
        (steps.last(), *script.ended.borrow()),
        (Some(&Progress::Done), 1)
    );
}

#[test]
fn a_good_request_before_a_bad_one_gets_its_answer_and_the_bad_one_its_status() {
    let script = script([
        Read::Bytes(format!("{PLAIN}GET x HTTP/1.1\r\n\r\nmore").into()),
        Read::End,
    ]);
    drive(&script, &mut context());
    assert_eq!(statuses(&script), ["302", "400"]);
}

#[test]
fn a_body_ends_the_connection_and_is_never_taken_for_a_request() {
    let smuggled = format!(
        "POST / HTTP/1.1\r\nHost: img.org\r\nContent-Length: {}\r\n\r\n{PLAIN}",
        PLAIN.len()
    );
    let script = script([Read::Bytes(smuggled.into()), Read::End]);
    drive(&script, &mut context());
    assert_eq!(statuses(&script), ["405"]);
}

#[test]
fn a_page_is_waited_for_and_what_is_pipelined_behind_it_comes_after_it() {
    let script = script([Read::Bytes(
        format!("{PLAIN}{}{PLAIN}", PLAIN.replace("/a", "/stats")).into(),
    )]);
    let steps = drive(&script, &mut context());
    assert!(matches!(steps[0], Progress::Page(_)), "{steps:?}");
    assert_eq!(statuses(&script), ["302", "200", "302"]);
}

#[test]
fn after_a_page_the_socket_is_read_before_anybody_waits_for_it() {
    // Readiness seen while the page was made is used up: only a read that finds nothing may be waited after.
    let script = script([
        Read::Bytes(format!("{}{PLAIN}", PLAIN.replace("/a", "/stats")).into()),
        Read::Bytes(CLOSE.into()),
    ]);
    drive(&script, &mut context());
    assert_eq!(statuses(&script), ["200", "302", "302"]);
}

/// A context with a file of `size` bytes, `/favicon.ico`.
fn desk_with_file(size: usize) -> ThreadContext {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("favicon.ico"), vec![b'f'; size]).expect("written");
    let settings = crate::answer::static_files::StaticSettings {
        folder: folder.path().into(),
        names: vec!["favicon.ico".parse().expect("valid")],
    };
    let mut context = context();
    context.sources.statics =
        Cache::new(Arc::new(ArcSwap::from_pointee(Statics::load(&settings).0)));
    context
}

#[test]
fn large_files_are_sent_from_where_they_are() {
    // All at once, and a little at a time.
    for (count, room) in [(400, None), (4, Some(10_000))] {
        let mut context = desk_with_file(1 << 19);
        let all = PLAIN.replace("/a", "/favicon.ico").repeat(count) + CLOSE;
        let script = Script {
            room,
            ..script([Read::Bytes(all.into()), Read::End])
        };
        let mut connection = Connection::default();
        let mut held = 0;
        for _ in 0..2000 {
            if connection.advance(&script, &mut context) == Progress::Done {
                break;
            }
            held = held.max(
                context.output.capacity()
                    + connection.unsent.as_ref().map_or(0, |unsent| unsent.held()),
            );
        }
        let sent = script.sent.borrow();
        assert_eq!(
            sent.windows(12)
                .filter(|bytes| bytes == b"HTTP/1.1 200")
                .count(),
            count
        );
        assert_eq!(
            sent.iter().filter(|byte| **byte == b'f').count() / (1 << 19),
            count
        );
        assert!(sent.windows(12).any(|bytes| bytes == b"HTTP/1.1 302"));
        assert!(held <= 64 << 10, "{held} bytes were held");
    }
}

#[test]
fn files_end_their_connection_where_that_was_asked() {
    for size in [100, 100_000] {
        let asked = CLOSE.replace("/b", "/favicon.ico");
        let script = script([Read::Bytes(asked.into()), Read::End]);
        assert_eq!(
            drive(&script, &mut desk_with_file(size)).last(),
            Some(&Progress::Done)
        );
        assert!(script.sent.borrow().ends_with(&vec![b'f'; size]));
    }
}

#[test]
fn while_draining_every_answer_closes() {
    let mut context = context();
    context.sources.draining = true;
    let script = script([Read::Bytes(PLAIN.into()), Read::End]);
    assert_eq!(drive(&script, &mut context).last(), Some(&Progress::Done));
    assert!(String::from_utf8_lossy(&script.sent.borrow()).contains("Connection: close"));
}

proptest! {
    /// However the bytes are cut, and however little each write takes, the answers are the same.
    #[test]
    fn splits_and_short_writes_change_nothing(
        requests in proptest::collection::vec("(a|b|stats)", 1..6), cuts in proptest::collection::vec(1usize..50, 0..30), room in 1usize..80
    ) {
        let all: String = requests.iter().map(|path| PLAIN.replace("/a", &format!("/{path}"))).chain([CLOSE.to_owned()]).collect();
        let (mut reads, mut rest) = (Vec::new(), all.as_bytes());
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            if !part.is_empty() { reads.extend([Read::Bytes(part.to_vec()), Read::Nothing]); }
            rest = after;
        }
        if !rest.is_empty() { reads.push(Read::Bytes(rest.to_vec())); }
        reads.push(Read::End);
        let script = Script { room: Some(room), ..script(reads) };
        let steps = drive(&script, &mut context());
        let expected: Vec<&str> = requests.iter().map(|path| if path == "stats" { "200" } else { "302" }).chain(["302"]).collect();
        prop_assert_eq!(statuses(&script), expected);
        prop_assert_eq!(steps.last(), Some(&Progress::Done));
    }
}

/// A context that sends those who ask for stats and challenges to other hosts, and believes its proxies.
fn far_context() -> ThreadContext {
    let url = |text: &str| text.parse().expect("a target");
    let mut context = context();
    context.sources.stats = Some(StatsPages::elsewhere("/stats", &url("stats.org:9999")));
    context.sources.acme = Some(UrlPrefix::host(&url("http://acme.org:8080")));
    let trusted: Arc<[common::net::network::Network]> =
        ["127.0.0.0/8".parse().expect("a network")].into();
    let proxies = TrustedProxies::new(&trusted);
    context.clients = Some(Box::new(Clients { proxies, log: None }));
    context
}

/// Whatever a client or a proxy says.
#[test]
fn a_location_never_leaves_the_configured_origins() {
    let context = RefCell::new(far_context());
    proptest!(ProptestConfig::with_cases(20_000), |(
        before in "(|PROXY TCP4 6.6.6.6 1.1.1.1 1 2\r\n|PROXY UNKNOWN http://evil.org\r\n)",
        start in "(|/stats|/.well-known/acme-challenge/)",
        target in "(/|//|\\\\|http://|img.org|evil.org|@|:|\\.|\\?|%0d%0a|\r|\n|\t| |[a-z]|\u{e9}){0,12}",
        fields in "(Host: img.org\r\n|Host: evil.org\r\n|X-Forwarded-(Host|For|Proto): (evil.org|https|6.6.6.6)\r\n|Location: x\r\n|Connection: close\r\n){0,4}",
    )| {
        let script = script([Read::Bytes(format!("{before}GET {start}{target} HTTP/1.1\r\n{fields}\r\n").into()), Read::End]);
        drive(&script, &mut context.borrow_mut());
        let text = String::from_utf8_lossy(&script.sent.borrow()).into_owned();
        for line in text.split("\r\n").filter(|line| line.to_ascii_lowercase().starts_with("location:")) {
            let configured = ["http://a.org/", "https://a.org/", "http://stats.org:9999/", "https://stats.org:9999/", "http://acme.org:8080/"];
            prop_assert!(configured.iter().any(|url| line.strip_prefix("Location: ").is_some_and(|to| to.starts_with(url))), "{}", line);
            prop_assert_eq!(text.matches("Location: ").count(), 1);
        }
    });
}
