//! Totals of what was answered, per (farm, server) and per refusal.

use crate::model::farm::{Name, ServerId};
use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CountKey {
    /// Redirects to one server: `farm/server`.
    Server(ServerId),
    /// Redirects of one farm to its fallback: `farm/@fallback`.
    Fallback(Name),
    /// Refusals by status: `@refused/403`.
    Refused(u16),
}

/// Why a text is no [`CountKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that is counted")]
pub struct BadCountKey(String);

impl CountKey {
    /// The farm whose clients were sent on, if any were.
    pub fn farm(&self) -> Option<&Name> {
        match self {
            Self::Server(id) => Some(&id.farm),
            Self::Fallback(farm) => Some(farm),
            Self::Refused(_) => None,
        }
    }
}

impl FromStr for CountKey {
    type Err = BadCountKey;
    fn from_str(text: &str) -> Result<Self, BadCountKey> {
        let bad = || BadCountKey(text.chars().take(140).collect());
        if let Some(status) = text.strip_prefix("@refused/") {
            return status.parse().map(Self::Refused).map_err(|_| bad());
        }
        if let Some(farm) = text.strip_suffix("/@fallback") {
            return farm.parse().map(Self::Fallback).map_err(|_| bad());
        }
        text.parse().map(Self::Server).map_err(|_| bad())
    }
}

impl TryFrom<String> for CountKey {
    type Error = BadCountKey;
    fn try_from(text: String) -> Result<Self, BadCountKey> {
        text.parse()
    }
}

impl From<CountKey> for String {
    fn from(key: CountKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for CountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(id) => id.fmt(f),
            Self::Fallback(farm) => write!(f, "{farm}/@fallback"),
            Self::Refused(status) => write!(f, "@refused/{status}"),
        }
    }
}

/// Totals by what is counted, in no order. They only ever grow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tally(HashMap<CountKey, u64, RandomState>);

impl Tally {
    /// The total of `key`, 0 if it was never counted.
    pub fn get(&self, key: &CountKey) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// Sets an absolute total; a smaller one than held is ignored, as in `ZADD … GT`.
    pub fn raise(&mut self, key: &CountKey, total: u64) {
        match self.0.get_mut(key) {
            Some(held) => *held = total.max(*held),
            None => drop(self.0.insert(key.clone(), total)),
        }
    }

    /// Adds every total of `other`.
    pub fn add(&mut self, other: &Self) {
        for (key, total) in &other.0 {
            *self.0.entry(key.clone()).or_default() += total;
        }
    }

    /// What is counted, with its total.
    pub fn iter(&self) -> impl Iterator<Item = (&CountKey, u64)> {
        self.0.iter().map(|(key, &total)| (key, total))
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The totals of a cluster, by who owns them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Folded totals of redirectors that are gone.
    pub base: Tally,
    /// Each redirector's own.
    pub live: BTreeMap<String, Tally>,
}

impl Totals {
    /// The totals of the whole cluster.
    pub fn sum(&self) -> Tally {
        let mut sum = self.base.clone();
        self.live.values().for_each(|tally| sum.add(tally));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_written() {
        for text in ["img/srv1", "img/@fallback", "@refused/403"] {
            assert_eq!(text.parse::<CountKey>().expect(text).to_string(), text);
        }
        for bad in ["img", "@refused/x", "/@fallback", "a/b/c", ""] {
            assert!(bad.parse::<CountKey>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn totals_are_absolute_and_never_shrink() {
        let key: CountKey = "img/srv1".parse().expect("valid");
        let mut tally = Tally::default();
        tally.raise(&key, 5);
        tally.raise(&key, 3);
        assert_eq!(tally.get(&key), 5);
        let totals = Totals {
            base: tally.clone(),
            live: [("a".into(), tally.clone()), ("b".into(), tally)].into(),
        };
        assert_eq!(totals.sum().get(&key), 15);
    }
}
