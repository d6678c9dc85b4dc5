//! Keeps the latest report current: reads the store about once a second while anybody looks at the pages, however
//! many do, and seldom while nobody does.

use crate::live::latest::Viewers;
use crate::live::rendered::Shown;
use crate::report::rates::Ring;
use crate::report::table_index::Known;
use crate::report::{Inputs, Report};
use common::model::farm::{Name, ServerId};
use common::model::followed_totals::Counted;
use common::model::generation::{Step, step};
use common::model::health::{FRESH, Health, State, Views, view_window};
use common::model::overrides::{Override, probed};
use common::process::{Phase, Shutdown};
use common::store::{Reader, StoreError};
use common::time::{http_date, unix_ms};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// From one reading to the next while somebody looks.
const PERIOD: Duration = Duration::from_secs(1);

/// The same while nobody does: rates begin at the last reading.
const SELDOM: Duration = Duration::from_secs(10);

/// The longest pause while the store does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Findings read again at one time: with so many checks each is as old as the prober writes it down.
const FINDINGS: usize = 2_000;

/// How many events a report holds.
const EVENTS: usize = 50;

/// What was read so far.
pub(crate) struct Sampler {
    reader: Reader,
    cluster: Name,
    table: Option<Known>,
    overrides: HashMap<ServerId, Override>,
    /// The generation the overrides were read at.
    overrides_read: Option<u64>,
    views: Views,
    /// How long a view stays fresh.
    window: Duration,
    /// How many of the checks were read again since the first of them was.
    refreshed: usize,
    counted: Counted,
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
            window: FRESH,
            refreshed: 0,
            counted: Counted::default(),
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
            counts: &Default::default(),
            replicas: Vec::new(),
            events: Vec::new(),
            alarm: Some("nothing was read from the store yet".into()),
        })
    }

    /// Keeps what viewers are shown current until the process drains.
    pub(crate) async fn run(mut self, viewers: Viewers, mut shutdown: Shutdown) {
        let mut outage: Option<Outage> = None;
        loop {
            match self.read().await {
                Ok(report) => {
                    if outage.take().is_some() {
                        tracing::info!("the store answers again");
                    }
                    viewers.show(Shown::new(report));
                }
                Err(error) => match &mut outage {
                    Some(outage) => outage.failures += 1,
                    none => {
                        let held = viewers.latest().report().clone();
                        let shown = if held.generation > 0 {
                            "the last good figures are shown"
                        } else {
                            "there are no figures yet"
                        };
                        tracing::warn!("{error}; {shown}");
                        *none = Some(Outage { failures: 1 });
                        viewers.show(Shown::new(Report {
                            alarm: Some(outage_alarm(&held, &error)),
                            ..held
                        }));
                    }
                },
            }
            let pause = async {
                match &outage {
                    Some(outage) => tokio::time::sleep(outage.pause()).await,
                    None if viewers.look_on(Instant::now()) || self.table.is_none() => {
                        tokio::time::sleep(PERIOD).await;
                    }
                    None => viewers.rest(SELDOM).await,
                }
            };
            tokio::select! {
                () = shutdown.reached(Phase::Draining) => return,
                () = pause => {}
            }
        }
    }

    /// Reads what is new.
    async fn read(&mut self) -> Result<Report, StoreError> {
        self.read_table().await?;
        self.read_health().await?;
        self.reader.follow(&mut self.counted).await?;
        self.ring.push(Instant::now(), &self.counted);
        let (replicas, events) = (
            self.reader.replicas().await?,
            self.reader.events(EVENTS).await?,
        );
        let health = self.views.merge(Instant::now(), self.window);
        let at = unix_ms();
        if self.overrides.values().any(|set| set.until.is_some()) {
            let time = self.reader.time().await?;
            self.overrides
                .values_mut()
                .for_each(|set| *set = set.at(time));
        }
        Ok(Report::new(Inputs {
            cluster: &self.cluster,
            at,
            table: self.table.as_ref(),
            overrides: &self.overrides,
            health: &health,
            counts: &self.ring.counts(&self.counted),
            replicas,
            events,
            alarm: self.alarm(&health),
        }))
    }

    /// What has changed, and some of what may only be newer: `last_check` moves without being a change.
    async fn read_health(&mut self) -> Result<(), StoreError> {
        let changes = self.reader.health(&self.views.read_to()).await?;
        let probers: Vec<String> = changes.sequences.keys().cloned().collect();
        self.views.take(changes, Instant::now());
        let checks = self.table.as_ref().map(Known::checks).unwrap_or_default();
        let from = if self.refreshed < checks.len() {
            self.refreshed
        } else {
            0
        };
        let until = checks.len().min(from + FINDINGS);
        for prober in probers {
            let findings = self.reader.findings(&prober, &checks[from..until]).await?;
            self.views.renew(&prober, findings);
        }
        self.refreshed = until;
        Ok(())
    }

    async fn read_table(&mut self) -> Result<(), StoreError> {
        let mut is_new = false;
        let offered = self.reader.stamp().await?;
        let alarm = match step(
            &self.cluster,
            self.table.as_ref().map(|known| &known.table().stamp),
            offered.as_ref(),
        ) {
            Step::Alarm(alarm) => Some(alarm),
            Step::Keep => None,
            Step::Fetch => match offered.clone() {
                Some(stamp) => match self.reader.table(stamp).await? {
                    Ok(table) => {
                        tracing::debug!(
                            generation = table.stamp.table,
                            farms = table.farms.len(),
                            "table read"
                        );
                        self.table = Some(Known::new(table));
                        is_new = true;
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
        if let Some(stamp) =
            offered.filter(|stamp| sound && self.overrides_read != Some(stamp.overrides))
        {
            self.overrides = self.reader.overrides().await?;
            self.overrides_read = Some(stamp.overrides);
            is_new = true;
        }
        if let Some(known) = self.table.as_ref().filter(|_| is_new) {
            self.window = view_window(probed(&known.table().farms, &self.overrides));
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

    fn alarm(&self, health: &Health) -> Option<String> {
        if self.table_alarm.is_some() {
            return self.table_alarm.clone();
        }
        let Some(known) = &self.table else {
            return Some("the store holds no table yet: run `rbalancer apply`".into());
        };
        let doubtful = self.views.doubtful(Instant::now(), self.window);
        if !doubtful.is_empty() {
            let names = doubtful.join(", ");
            return Some(format!(
                "prober suspect: all that {names} probes fails at once and is held in service; look at its network, and whether it still runs"
            ));
        }
        if !health.is_fresh() && !known.checks().is_empty() {
            return Some(
                "no prober is at work: health is what was seen last; is rbalancer-healthd running?"
                    .into(),
            );
        }
        self.disagreement()
    }

    /// What probers that are at work see differently: the network between them and the server, most often.
    fn disagreement(&self) -> Option<String> {
        let mut disputed = self
            .views
            .disagreements(Instant::now(), self.window)
            .into_iter();
        let (check, said) = disputed.next()?;
        let said = |state| {
            said.iter()
                .filter(|(_, said)| *said == state)
                .map(|(id, _)| id.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let more = disputed.count();
        let others = if more == 0 {
            String::new()
        } else {
            format!(" (and {more} more)")
        };
        Some(format!(
            "probers disagree about {check}{others}: up for {}, down for {}",
            said(State::Up),
            said(State::Down)
        ))
    }
}

/// A time without answers.
struct Outage {
    failures: u32,
}

impl Outage {
    /// Longer with every failure, and never the same for two programs.
    fn pause(&self) -> Duration {
        let longest = PERIOD
            .saturating_mul(1 << self.failures.min(4))
            .min(LONGEST_PAUSE);
        longest.mul_f64(rand::random_range(0.25..1.0))
    }
}

fn outage_alarm(held: &Report, error: &StoreError) -> String {
    let now = http_date(unix_ms());
    if held.generation == 0 {
        return format!("the store does not answer since {now} ({error}); nothing was read yet");
    }
    format!(
        "the store does not answer since {now} ({error}); figures are from {}",
        http_date(held.at)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        for failures in [1, 2, 50, u32::MAX] {
            let pause = Outage { failures }.pause();
            assert!(
                pause <= LONGEST_PAUSE && pause >= Duration::from_millis(250),
                "{pause:?}"
            );
        }
    }
}
