//! What was refused lately, and which hosts were asked for in vain most often: a bounded table for each thread, written
//! only where a request is refused. Hosts are counted by the space-saving algorithm (Metwally, Agrawal, El Abbadi 2005):
//! whoever is refused often is in the table however many others there are.

use crate::answer::refusal::Refusal;
use common::store::RefusedHost;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Hosts a thread counts at a time.
const HOSTS: usize = 64;

/// Hosts that are told.
pub const TOLD: usize = 10;

/// How long one table is counted into, and how many are kept: an hour.
const PART: Duration = Duration::from_secs(600);
const PARTS: usize = 6;

/// From one line in the log to the next.
const SUMMARY: Duration = Duration::from_secs(60);

/// The longest host, and the longest part of one that is none, which is kept.
const LONGEST: usize = 100;

/// What one thread refused lately. Only that thread writes; who reads holds it up for a copy of a small table.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    parts: VecDeque<TimeSlice>,
    /// Refusals since the start, by reason.
    reasons: BTreeMap<(u16, &'static str), u64>,
    hasher: RandomState,
}

#[derive(Debug)]
struct TimeSlice {
    began: Instant,
    hosts: Vec<CountedHost>,
}

/// A host and why it was refused. It was refused at least `count - over` times, and at most `count` times.
#[derive(Debug)]
struct CountedHost {
    hash: u64,
    host: String,
    refusal: Refusal,
    count: u64,
    over: u64,
}

impl Recent {
    /// A request for `host`, as it was sent, was refused at `now`.
    pub fn note(&self, host: &[u8], refusal: Refusal, now: Instant) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept
            .reasons
            .entry((refusal.status(), refusal.reason()))
            .or_default() += 1;
        if kept
            .parts
            .back()
            .is_none_or(|part| now.saturating_duration_since(part.began) >= PART)
        {
            kept.parts.push_back(TimeSlice {
                began: now,
                hosts: Vec::new(),
            });
            let surplus = kept.parts.len().saturating_sub(PARTS);
            kept.parts.drain(..surplus);
        }
        if host.is_empty() {
            return;
        }
        let host = host[..host.len().min(LONGEST)].to_ascii_lowercase();
        let hash = kept.hasher.hash_one((&host, refusal));
        if let Some(part) = kept.parts.back_mut() {
            part.count(hash, &host, refusal);
        }
    }

    /// How often each was refused within the last hour, at the least.
    fn hosts(&self, now: Instant, into: &mut BTreeMap<(String, &'static str), u64>) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = kept
            .parts
            .iter()
            .filter(|part| now.saturating_duration_since(part.began) < PART * PARTS as u32);
        for host in recent.flat_map(|part| &part.hosts) {
            *into
                .entry((host.host.clone(), host.refusal.reason()))
                .or_default() += host.count - host.over;
        }
    }
}

impl TimeSlice {
    fn count(&mut self, hash: u64, host: &[u8], refusal: Refusal) {
        if let Some(known) = self.hosts.iter_mut().find(|known| known.hash == hash) {
            known.count += 1;
            return;
        }
        let new = |over: u64| CountedHost {
            hash,
            host: String::from_utf8_lossy(host).into_owned(),
            refusal,
            count: over + 1,
            over,
        };
        if self.hosts.len() < HOSTS {
            return self.hosts.push(new(0));
        }
        // Takes the place of the rarest, and its count: it may have been counted before.
        if let Some(rarest) = self.hosts.iter_mut().min_by_key(|host| host.count) {
            *rarest = new(rarest.count);
        }
    }
}

/// What all threads of the process refused lately.
#[derive(Debug, Clone)]
pub struct Refused(Arc<[Arc<Recent>]>);

impl Refused {
    /// For so many threads.
    pub fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Arc::default()).collect())
    }

    /// What one thread writes to.
    pub fn of(&self, thread: usize) -> Arc<Recent> {
        self.0[thread].clone()
    }

    /// The hosts refused most in the last hour, the first of them most often.
    pub fn most(&self, now: Instant) -> Vec<RefusedHost> {
        let mut all = BTreeMap::new();
        self.0.iter().for_each(|recent| recent.hosts(now, &mut all));
        let told = all.into_iter().map(|((host, reason), count)| RefusedHost {
            host,
            reason: reason.into(),
            count,
        });
        let mut told: Vec<RefusedHost> = told.collect();
        told.sort_by_key(|host| std::cmp::Reverse(host.count));
        told.truncate(TOLD);
        told
    }

    /// Refusals since the start, by status and reason.
    fn reasons(&self) -> BTreeMap<(u16, &'static str), u64> {
        let mut all = BTreeMap::new();
        for recent in self.0.iter() {
            let kept = recent.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.reasons
                .iter()
                .for_each(|(reason, count)| *all.entry(*reason).or_default() += count);
        }
        all
    }

    /// Says in the log once a minute what was refused, if anything was; for ever.
    pub(crate) async fn summarise(self) {
        let mut told = BTreeMap::new();
        loop {
            tokio::time::sleep(SUMMARY).await;
            let now = self.reasons();
            if let Some(words) = words(&told, &now, &self.most(Instant::now())) {
                tracing::info!("refused in the last minute: {words}");
            }
            told = now;
        }
    }
}

/// What was refused since `before`, and for which host most of the last hour's were; none where nothing was.
fn words(
    before: &BTreeMap<(u16, &'static str), u64>,
    now: &BTreeMap<(u16, &'static str), u64>,
    most: &[RefusedHost],
) -> Option<String> {
    let mut words = String::new();
    for ((status, reason), count) in now {
        let new = count - before.get(&(*status, *reason)).copied().unwrap_or_default();
        if new > 0 {
            // A String takes everything.
            let _ = write!(
                words,
                "{}{status} {reason} {new} times",
                if words.is_empty() { "" } else { ", " }
            );
        }
    }
    if let (
        false,
        Some(RefusedHost {
            host,
            reason,
            count,
        }),
    ) = (words.is_empty(), most.first())
    {
        let _ = write!(
            words,
            "; most in the last hour: {} ({reason}, {count})",
            host.escape_debug()
        );
    }
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, count: u64) -> RefusedHost {
        RefusedHost {
            host: name.into(),
            reason: "unknown-host".into(),
            count,
        }
    }

    #[test]
    fn who_is_refused_most_is_found_among_any_number_of_others_in_bounded_memory() {
        let (refused, now) = (Refused::new(2), Instant::now());
        for number in 0..20_000 {
            let name = if number % 4 == 0 {
                "Evil.test".to_owned()
            } else {
                format!("h{number}.test")
            };
            refused
                .of(number / 4 % 2)
                .note(name.as_bytes(), Refusal::UnknownHost, now);
        }
        let most = refused.most(now);
        assert_eq!((most.len(), most[0].host.as_str()), (TOLD, "evil.test"));
        assert!(
            (4800..=5000).contains(&most[0].count) && most[1].count < 20,
            "{most:?}"
        );
        let held = |recent: &Arc<Recent>| {
            recent
                .0
                .lock()
                .expect("held")
                .parts
                .iter()
                .map(|part| part.hosts.len())
                .sum::<usize>()
        };
        assert!(refused.0.iter().all(|recent| held(recent) <= HOSTS));
    }

    #[test]
    fn an_hour_is_told_and_no_more() {
        let (refused, start) = (Refused::new(1), Instant::now());
        for minute in 0..120 {
            refused.of(0).note(
                format!("h{}.test", minute / 60).as_bytes(),
                Refusal::UnknownHost,
                start + Duration::from_secs(60 * minute),
            );
        }
        let now = start + Duration::from_secs(60 * 119);
        assert_eq!(refused.most(now), [host("h1.test", 60)]);
        assert_eq!(refused.most(now + Duration::from_secs(3600)), []);
        assert!(refused.0[0].0.lock().expect("held").parts.len() <= PARTS);
    }

    #[test]
    fn a_minute_is_told_in_one_line() {
        let (refused, now) = (Refused::new(1), Instant::now());
        let before = refused.reasons();
        assert_eq!(words(&before, &before, &[]), None);
        refused
            .of(0)
            .note(b"a\n\x1b.test\xff", Refusal::UnknownHost, now);
        refused.of(0).note(b"", Refusal::Version, now);
        let line = words(&before, &refused.reasons(), &refused.most(now)).expect("words");
        assert_eq!(
            line,
            "403 unknown-host 1 times, 505 version 1 times; most in the last hour: a\\n\\u{1b}.test\u{fffd} (unknown-host, 1)"
        );
    }
}
