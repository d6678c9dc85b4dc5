//! The store on Redis: each verb as a pipeline or a script over a [`Link`].

mod operate;
mod read;
mod write;

use super::StoreError;
use super::keys::Keys;
use super::link::{Link, RedisSettings};
use std::sync::Arc;

/// Members one command may touch: no command of ours holds Redis up for long.
const SLICE: usize = 1000;

/// Bytes of a table read or written by one command.
const TEXT_SLICE: usize = 64 * 1024;

/// The store on Redis. Reading and writing have links of their own, so that a slow table does not hold back counts.
#[derive(Debug, Clone)]
pub struct Redis {
    keys: Keys,
    reading: Arc<Link>,
    writing: Arc<Link>,
}

impl Redis {
    /// A store with two connections of its own, as a redirector wants it. Nothing is dialled yet.
    pub fn dedicated(settings: &RedisSettings) -> Self {
        Self {
            keys: Keys::new(&settings.prefix),
            reading: Arc::new(Link::dedicated(settings.clone())),
            writing: Arc::new(Link::dedicated(settings.clone())),
        }
    }

    /// A store over a small pool, as the other programs want it. Nothing is dialled yet.
    pub fn pooled(settings: &RedisSettings) -> Self {
        let link = Arc::new(Link::pooled(settings.clone()));
        Self { keys: Keys::new(&settings.prefix), reading: link.clone(), writing: link }
    }
}

fn content(error: impl std::fmt::Display) -> StoreError {
    StoreError::Content(error.to_string())
}
