//! Who is probed when: every check on its own schedule, never driven by traffic, a bounded number at once.

use crate::probe::{Evidence, Prober as ProbeClient};
use crate::table::Checks;
use crate::watched::WatchList;
use common::check::CheckKey;
use common::clock::unix_ms;
use common::store::{HealthReport, Prober, StoreError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Probes at once.
const CONCURRENCY: usize = 512;

/// From one look at the clock to the next, at the most.
const TICK: Duration = Duration::from_millis(250);

/// From one report to the next while nothing urgent has happened.
const REPORT: Duration = Duration::from_secs(1);

/// A turn later than this (or than two intervals) means that this process was stopped.
const FROZEN: Duration = Duration::from_secs(2);

/// What the schedule has done so far, for monitoring.
#[derive(Debug, Default)]
pub struct Done {
    /// Probes that succeeded.
    pub succeeded: AtomicU64,
    /// Probes that failed.
    pub failed: AtomicU64,
    /// Probes that said nothing.
    pub inconclusive: AtomicU64,
    /// Checks watched.
    pub checks: AtomicU64,
}

type Outcome = (CheckKey, Instant, Evidence);
type Told = (HealthReport, Result<usize, StoreError>);

/// The schedule's state.
pub struct Schedule {
    id: String,
    store: Prober,
    checks: watch::Receiver<Checks>,
    prober: ProbeClient,
    done: Arc<Done>,
    list: WatchList,
    probes: JoinSet<Outcome>,
    telling: JoinSet<Told>,
    next_report: Instant,
    reachable: bool,
    adopted: bool,
    rng: SmallRng,
}

impl Schedule {
    /// A schedule that watches what `checks` says.
    pub fn new(id: String, store: Prober, checks: watch::Receiver<Checks>, done: Arc<Done>) -> Self {
        Self {
            id,
            store,
            checks,
            prober: ProbeClient::new(),
            done,
            list: WatchList::default(),
            probes: JoinSet::new(),
            telling: JoinSet::new(),
            next_report: Instant::now(),
            reachable: true,
            adopted: false,
            rng: SmallRng::from_rng(&mut rand::rng()),
        }
    }

    /// Probes and reports for ever.
    pub async fn run(mut self) {
        let mut last_turn = Instant::now();
        loop {
            self.adopt().await;
            let now = Instant::now();
            let limit = self.list.shortest().map_or(FROZEN, |inter| (2 * inter).max(FROZEN));
            if now.duration_since(last_turn) > limit {
                tracing::warn!("this process stood still for {:?}; probes in flight are dropped", now.duration_since(last_turn));
                self.probes.abort_all();
                while self.probes.join_next().await.is_some() {}
                self.list.forget_flights(now);
            }
            last_turn = now;
            self.start_probes(now);
            self.start_report(now);
            let wake = self.list.next_due().filter(|_| self.probes.len() < CONCURRENCY).map_or(now + TICK, |due| due.min(now + TICK));
            tokio::select! {
                () = tokio::time::sleep_until(wake.into()) => {}
                Some(Ok(outcome)) = self.probes.join_next() => self.take(outcome),
                Some(Ok(told)) = self.telling.join_next() => self.told(told),
                Ok(()) = self.checks.changed() => {
                    let checks = self.checks.borrow_and_update().clone();
                    self.done.checks.store(checks.len() as u64, Ordering::Relaxed);
                    self.list.set(checks, Instant::now());
                }
            }
        }
    }

    /// Reads what an earlier run under this id left, before anything is probed under it. A store that does not
    /// answer does not hold probing up: the state it keeps is adopted when it does.
    async fn adopt(&mut self) {
        if !self.adopted
            && let Ok(view) = self.store.own_view(&self.id).await
        {
            self.list.adopt(view);
            self.adopted = true;
        }
    }

    fn start_probes(&mut self, now: Instant) {
        let room = CONCURRENCY.saturating_sub(self.probes.len());
        for (key, check) in self.list.take_due(now, room) {
            let prober = self.prober.clone();
            self.probes.spawn(async move {
                let started = Instant::now();
                (key, started, prober.probe(&check).await)
            });
        }
    }

    fn take(&mut self, (key, started, evidence): Outcome) {
        let counter = match &evidence {
            Evidence::Success(_) => &self.done.succeeded,
            Evidence::Hard(_) | Evidence::Soft(_) => &self.done.failed,
            Evidence::Nothing(_) => &self.done.inconclusive,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.list.take(&key, &evidence, started, unix_ms(), &self.id, &mut self.rng);
    }

    /// One report at a time, on its own: a store that does not answer delays no probe.
    fn start_report(&mut self, now: Instant) {
        let urgent = self.reachable && self.list.is_urgent();
        if !self.adopted || !self.telling.is_empty() || (now < self.next_report && !urgent) {
            return;
        }
        self.next_report = now + REPORT.mul_f64(self.rng.random_range(0.8..1.0));
        if let Some(report) = self.list.report(&self.id) {
            let store = self.store.clone();
            self.telling.spawn(async move {
                let held = store.report(&report).await;
                (report, held)
            });
        }
    }

    fn told(&mut self, (report, outcome): Told) {
        match (&outcome, self.reachable) {
            (Err(error), true) => tracing::warn!("{error}; probing goes on, findings are told later"),
            (Ok(_), false) => tracing::info!("findings are told again"),
            _ => {}
        }
        self.reachable = outcome.is_ok();
        if let Ok(held) = outcome {
            self.list.told(report, held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::health::State;
    use common::store::{Memory, Store};
    use tokio::io::AsyncWriteExt;

    async fn until(mut holds: impl AsyncFnMut() -> bool) {
        let all = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.expect("did not come to hold within 10 s");
    }

    async fn origin(port: u16) -> (u16, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("port");
        let port = listener.local_addr().expect("bound").port();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut scrap = [0; 1024];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut scrap).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        });
        (port, serving)
    }

    #[tokio::test]
    async fn a_server_goes_down_and_comes_back_and_a_restart_turns_nothing() {
        let (port, serving) = origin(0).await;
        let check: common::check::Check = serde_json::from_value(serde_json::json!({"scheme": "http", "host": "127.0.0.1", "port": port,
            "method": "HEAD", "uri": "/", "expect": "200-399", "tls_verify": true, "inter": 50, "fastinter": 20, "downinter": 50,
            "timeout": 1000, "rise": 2, "fall": 2}))
        .expect("valid check");
        let key = check.key();
        let checks: Checks = [(key.clone(), (check, vec!["img/a".parse().expect("valid")]))].into();
        let store = Store::Memory(Memory::default());
        let (_keep, receiver) = watch::channel(Checks::new());
        let start = || {
            let (sender, receiver) = watch::channel(Checks::new());
            sender.send_replace(checks.clone());
            let schedule = Schedule::new(
                "h".into(),
                store.prober(),
                {
                    let mut receiver = receiver;
                    receiver.mark_changed();
                    receiver
                },
                Arc::default(),
            );
            (tokio::spawn(schedule.run()), sender)
        };
        drop(receiver);
        let state = async || store.prober().own_view("h").await.expect("memory").findings.get(&key).map(|finding| finding.state);
        let (running, _sender) = start();
        until(async || state().await == Some(State::Up)).await;
        serving.abort();
        until(async || state().await == Some(State::Down)).await;
        let (_, _serving) = origin(port).await;
        until(async || state().await == Some(State::Up)).await;
        running.abort();
        let before = store.reader().events(100).await.expect("memory");
        assert_eq!(before.iter().rev().map(|event| event.what.as_str()).collect::<Vec<_>>(), ["img/a is down", "img/a is up"]);
        let sequence = store.prober().own_view("h").await.expect("memory").sequence;
        let (_running, _sender) = start();
        until(async || store.prober().own_view("h").await.expect("memory").sequence > sequence + 1).await;
        assert_eq!(store.reader().events(100).await.expect("memory"), before);
    }
}
