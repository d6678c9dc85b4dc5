//! Keeps the latest report current: reads the store about once a second, however many look at the pages.

use crate::rate::Ring;
use crate::report::{Inputs, Report};
use arc_swap::ArcSwap;
use common::clock::{UnixMs, unix_ms};
use common::farm::{Name, Override, ServerId};
use common::generation::{Step, Table, step};
use common::health::{Health, State, Views};
use common::process::{Phase, Shutdown};
use common::store::{Reader, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The latest report; its generation is 0 until a table was read.
pub(crate) type Latest = Arc<ArcSwap<Report>>;

/// From one reading to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// The longest pause while the store does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A view that has not moved for this long has no vote, unless its checks are rarer.
const SHORTEST_WINDOW: Duration = Duration::from_secs(5);

/// How many events a report holds.
const EVENTS: usize = 50;

/// What was read so far.
pub(crate) struct Sampler {
    reader: Reader,
    cluster: Name,
    table: Option<Table>,
    overrides: HashMap<ServerId, Override>,
    /// The generation the overrides were read at.
    overrides_read: Option<u64>,
    views: Views,
    ring: Ring,
    /// What is wrong with the table the store offers.
    table_alarm: Option<String>,
}

impl Sampler {
    pub(crate) fn new(reader: Reader, cluster: Name) -> Self {
        Self {
            reader,
            cluster,
            table: None,
            overrides: HashMap::new(),
            overrides_read: None,
            views: Views::default(),
            ring: Ring::default(),
            table_alarm: None,
        }
    }

    /// A report without figures, for the time before the first reading.
    pub(crate) fn nothing_yet(cluster: &Name) -> Report {
        Report::new(Inputs {
            cluster,
            at: unix_ms(),
            table: None,
            overrides: &HashMap::new(),
            health: &Health::default(),
            totals: &Default::default(),
            rates: &Default::default(),
            replicas: Vec::new(),
            events: Vec::new(),
            alarm: Some("nothing was read from the store yet".into()),
        })
    }

    /// Keeps `latest` current until the process drains.
    pub(crate) async fn run(mut self, latest: Latest, mut shutdown: Shutdown) {
        let mut outage: Option<Outage> = None;
        loop {
            match self.read().await {
                Ok(report) => {
                    if outage.take().is_some() {
                        tracing::info!("the store answers again");
                    }
                    latest.store(Arc::new(report));
                }
                Err(error) => match &mut outage {
                    Some(outage) => outage.failures += 1,
                    none => {
                        tracing::warn!(%error, "the store does not answer; showing the last good figures");
                        *none = Some(Outage { failures: 1 });
                        let held = latest.load_full();
                        latest.store(Arc::new(Report { alarm: Some(outage_alarm(&held, &error)), ..(*held).clone() }));
                    }
                },
            }
            let pause = outage.as_ref().map_or(PERIOD, Outage::pause);
            tokio::select! {
                () = shutdown.reached(Phase::Draining) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads everything once.
    async fn read(&mut self) -> Result<Report, StoreError> {
        self.read_table().await?;
        // All findings each time, not only the changed ones: `last_check` moves without being a change.
        let changes = self.reader.health(&BTreeMap::new()).await?;
        self.views.take(changes, Instant::now());
        let totals = self.reader.totals().await?.sum();
        self.ring.push(Instant::now(), totals.clone());
        let (replicas, events) = (self.reader.replicas().await?, self.reader.events(EVENTS).await?);
        let health = self.views.merge(Instant::now(), self.window());
        let at = unix_ms();
        if self.overrides.values().any(|set| set.until.is_some()) {
            let time = self.reader.time().await?;
            self.overrides.values_mut().for_each(|set| *set = set.at(time));
        }
        Ok(Report::new(Inputs {
            cluster: &self.cluster,
            at,
            table: self.table.as_ref(),
            overrides: &self.overrides,
            health: &health,
            totals: &totals,
            rates: &self.ring.rates(),
            replicas,
            events,
            alarm: self.alarm(&health),
        }))
    }

    async fn read_table(&mut self) -> Result<(), StoreError> {
        let offered = self.reader.stamp().await?;
        let alarm = match step(&self.cluster, self.table.as_ref().map(|table| &table.stamp), offered.as_ref()) {
            Step::Alarm(alarm) => Some(alarm),
            Step::Keep => None,
            Step::Fetch => match offered.clone() {
                Some(stamp) => match self.reader.table(stamp).await? {
                    Ok(table) => {
                        tracing::debug!(generation = table.stamp.table, farms = table.farms.len(), "table read");
                        self.table = Some(table);
                        None
                    }
                    Err(alarm) => Some(alarm),
                },
                None => None,
            },
        };
        let sound = alarm.is_none();
        self.note_table_alarm(alarm.map(|alarm| alarm.to_string()));
        // Overrides that came with a table of no use to us are another cluster's, or older than ours.
        if let Some(stamp) = offered.filter(|stamp| sound && self.overrides_read != Some(stamp.overrides)) {
            self.overrides = self.reader.overrides().await?;
            self.overrides_read = Some(stamp.overrides);
        }
        Ok(())
    }

    fn note_table_alarm(&mut self, alarm: Option<String>) {
        if alarm != self.table_alarm {
            match &alarm {
                Some(alarm) => tracing::warn!("{alarm}"),
                None => tracing::info!("the store's table is sound again"),
            }
            self.table_alarm = alarm;
        }
    }

    fn checks(&self) -> impl Iterator<Item = &common::check::Check> {
        let farms = self.table.iter().flat_map(|table| table.farms.iter());
        farms.flat_map(|farm| &farm.servers).filter_map(|server| server.check.as_ref())
    }

    fn window(&self) -> Duration {
        self.checks().map(|check| check.inter * 3).min().unwrap_or_default().max(SHORTEST_WINDOW)
    }

    fn alarm(&self, health: &Health) -> Option<String> {
        if self.table_alarm.is_some() {
            return self.table_alarm.clone();
        }
        if self.table.is_none() {
            return Some("the store holds no table yet: run `rbalancer apply`".into());
        }
        let unwatched = !health.is_fresh() && self.checks().next().is_some();
        if unwatched {
            return Some("no prober is at work: health is what was seen last; is rbalancer-healthd running?".into());
        }
        self.disagreement()
    }

    /// What probers that are at work see differently: the network between them and the server, most often.
    fn disagreement(&self) -> Option<String> {
        let mut disputed = self.views.disagreements(Instant::now(), self.window()).into_iter();
        let (check, said) = disputed.next()?;
        let said = |state| said.iter().filter(|(_, said)| *said == state).map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ");
        let more = disputed.count();
        let others = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        Some(format!("probers disagree about {check}{others}: up for {}, down for {}", said(State::Up), said(State::Down)))
    }
}

/// A time without answers.
struct Outage {
    failures: u32,
}

impl Outage {
    /// Longer with every failure, and never the same for two programs.
    fn pause(&self) -> Duration {
        let longest = PERIOD.saturating_mul(1 << self.failures.min(4)).min(LONGEST_PAUSE);
        longest.mul_f64(rand::random_range(0.25..1.0))
    }
}

fn outage_alarm(held: &Report, error: &StoreError) -> String {
    let now = clock_time(unix_ms());
    if held.generation == 0 {
        return format!("the store does not answer since {now} ({error}); nothing was read yet");
    }
    format!("the store does not answer since {now} ({error}); figures are from {}", clock_time(held.at))
}

/// A moment as people write it, in UTC.
pub(crate) fn clock_time(at: UnixMs) -> String {
    // Later than year 9999 has no such form; what the store holds is not trusted to be sane.
    let latest = Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(at).min(latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_times_never_panic() {
        for failures in [1, 2, 50, u32::MAX] {
            let pause = Outage { failures }.pause();
            assert!(pause <= LONGEST_PAUSE && pause >= Duration::from_millis(250), "{pause:?}");
        }
        assert_eq!(clock_time(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert!(clock_time(u64::MAX).contains("9999"));
    }
}
