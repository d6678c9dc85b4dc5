//! The redirector's connection without a socket: bytes in, in pieces, and what it answers. The only part of this crate
//! that looks inside.

use crate::corpus::End;
use arc_swap::ArcSwap;
use common::model::health::Health;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use redirector::answer::refusal::RefusalSlots;
use redirector::answer::sources::Sources;
use redirector::counters::Counters;
use redirector::protocol::context::ThreadContext;
use redirector::protocol::http1::connection::{Connection, Progress};
use redirector::protocol::transport::Transport;
use redirector::routes::Routes;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// A socket that gives what it is told to, and takes everything.
struct Script {
    reads: RefCell<VecDeque<Vec<u8>>>,
    sent: RefCell<Vec<u8>>,
}

impl Transport for Script {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut bytes) = self.reads.borrow_mut().pop_front() else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        if count < bytes.len() {
            self.reads.borrow_mut().push_front(bytes.split_off(count));
        } else if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }
    fn send(&self, bytes: &[u8], _more: bool) -> io::Result<usize> {
        self.sent.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn end(&self) {}
}

/// A context with the one farm of the corpus: `img.test`, whose server is `http://a.test`.
pub fn context() -> ThreadContext {
    let farms = serde_json::json!([{"name": "img", "domains": ["img.test"], "servers":
        [{"name": "a", "target": "http://a.test", "weight": 1, "enable": "on"}]}]);
    let farms = serde_json::from_value(farms).expect("valid farms");
    let (counters, mut rng) = (Counters::new(1), SmallRng::seed_from_u64(1));
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
    ThreadContext::new(
        Sources::new(routes, Arc::default(), counters.shard(0), refused, rng),
        None,
    )
}

/// What a connection that reads `pieces` one by one sends, and how it ends.
pub fn say(pieces: &[&[u8]], context: &mut ThreadContext) -> (Vec<u8>, End) {
    let script = Script {
        reads: RefCell::new(pieces.iter().map(|piece| piece.to_vec()).collect()),
        sent: RefCell::default(),
    };
    let mut connection = Connection::default();
    loop {
        let end = match connection.advance(&script, context) {
            Progress::Done | Progress::Linger => End::Close,
            Progress::Idle => End::Open,
            Progress::Head => End::Wait,
            Progress::Again | Progress::Write | Progress::Page(_) => continue,
        };
        if script.reads.borrow().is_empty() || end == End::Close {
            return (script.sent.into_inner(), end);
        }
    }
}
