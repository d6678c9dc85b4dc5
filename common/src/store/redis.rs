//! The store on Redis: each verb as a pipeline or a script over a [`Link`].

mod follow;
mod keep;
mod operate;
mod read;
mod write;

use super::dial::RedisSettings;
use super::hints::Hints;
use super::keys::Keys;
use super::link::Link;
use crate::store::error::StoreError;
use std::sync::{Arc, Mutex};

/// Members one command may touch: no command of ours holds Redis up for long.
const SLICE: usize = 1000;

/// Members a scan is asked for: it gives some more.
const SCAN: usize = SLICE - SLICE / 10;

/// Bytes of a table read or written by one command.
const TEXT_SLICE: usize = 64 * 1024;

/// The store on Redis. Reading and writing have links of their own, so that a slow table does not hold back counts.
#[derive(Debug, Clone)]
pub struct Redis {
    settings: Arc<RedisSettings>,
    keys: Keys,
    reading: Arc<Link>,
    writing: Arc<Link>,
    /// A table read in part when the connection broke: the next try goes on where it stood.
    partial: Arc<Mutex<Option<Partial>>>,
}

/// The beginning of a table's text.
#[derive(Debug)]
struct Partial {
    generation: u64,
    json: Vec<u8>,
}

impl Redis {
    /// A store with two connections of its own, as a redirector wants it. Nothing is dialled yet.
    pub fn dedicated(settings: &RedisSettings) -> Self {
        let writing = Arc::new(Link::dedicated(settings.clone()));
        Self::over(
            settings,
            Arc::new(Link::beside(settings.clone(), writing.clone())),
            writing,
        )
    }

    /// A store over a small pool, as the other programs want it. Nothing is dialled yet.
    pub fn pooled(settings: &RedisSettings) -> Self {
        let link = Arc::new(Link::pooled(settings.clone()));
        Self::over(settings, link.clone(), link)
    }

    fn over(settings: &RedisSettings, reading: Arc<Link>, writing: Arc<Link>) -> Self {
        Self {
            settings: Arc::new(settings.clone()),
            keys: Keys::new(&settings.prefix),
            reading,
            writing,
            partial: Arc::default(),
        }
    }

    pub(super) fn hints(&self) -> Hints {
        Hints::listen(RedisSettings::clone(&self.settings), self.keys.hint())
    }
}

fn content(error: impl std::fmt::Display) -> StoreError {
    StoreError::Content(error.to_string())
}
