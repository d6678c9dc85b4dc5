//! Keeps the latest report current: reads the store about once a second while anybody looks at the pages, however
//! many do, and seldom while nobody does.

use crate::live::latest::Latest;
use crate::live::rendered::Rendered;
use crate::report::rates::Rates;
use crate::report::table_index::TableIndex;
use crate::report::{Inputs, Report};
use common::model::farm::Name;
use common::model::followed_totals::FollowedTotals;
use common::model::health::{Health, State};
use common::process::signals::{Phase, Shutdown};
use common::store::{Follower, Following, Reader, StoreError};
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
    follower: Follower,
    cluster: Name,
    /// What is worked out of the table that is followed.
    index: Option<TableIndex>,
    /// How many of the checks were read again since the first of them was.
    refreshed: usize,
    counted: FollowedTotals,
    ring: Rates,
    /// What is wrong with the table the store offers.
    table_alarm: Option<String>,
}

impl Sampler {
    pub(crate) fn new(reader: Reader, cluster: Name) -> Self {
        Self {
            follower: Follower::new(reader, Following::Cluster(cluster.clone())),
            cluster,
            index: None,
            refreshed: 0,
            counted: FollowedTotals::default(),
            ring: Rates::default(),
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
    pub(crate) async fn run(mut self, viewers: Latest, mut shutdown: Shutdown) {
        let mut outage: Option<Outage> = None;
        loop {
            match self.read().await {
                Ok(report) => {
                    if outage.take().is_some() {
                        tracing::info!("the store answers again");
                    }
                    viewers.show(Rendered::new(report));
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
                        viewers.show(Rendered::new(Report {
                            alarm: Some(outage_alarm(&held, &error)),
                            ..held
                        }));
                    }
                },
            }
            let pause = async {
                match &outage {
                    Some(outage) => tokio::time::sleep(outage.pause()).await,
                    None if viewers.look_on(Instant::now()) || self.index.is_none() => {
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
        let reader = self.follower.reader().clone();
        reader.follow(&mut self.counted).await?;
        self.ring.push(Instant::now(), &self.counted);
        let (replicas, events) = (reader.replicas().await?, reader.events(EVENTS).await?);
        let now = Instant::now();
        self.follower.end_overrides(now);
        let health = self.follower.health(now);
        Ok(Report::new(Inputs {
            cluster: &self.cluster,
            at: unix_ms(),
            table: self.follower.table().zip(self.index.as_ref()),
            overrides: self.follower.overrides(),
            health: &health,
            counts: &self.ring.counts(&self.counted),
            replicas,
            events,
            alarm: self.alarm(&health),
        }))
    }

    /// What has changed, and some of what may only be newer: `last_check` moves without being a change.
    async fn read_health(&mut self) -> Result<(), StoreError> {
        let (_, probers) = self.follower.take_health().await?;
        let reader = self.follower.reader().clone();
        let checks = self.index.as_ref().map(TableIndex::checks);
        let checks = checks.unwrap_or_default();
        let from = if self.refreshed < checks.len() {
            self.refreshed
        } else {
            0
        };
        let until = checks.len().min(from + FINDINGS);
        for prober in probers {
            let findings = reader.findings(&prober, &checks[from..until]).await?;
            self.follower.renew(&prober, findings);
        }
        self.refreshed = until;
        Ok(())
    }

    async fn read_table(&mut self) -> Result<(), StoreError> {
        let news = self.follower.take_table().await?;
        if let Some(table) = self.follower.table().filter(|_| news.table) {
            let (generation, farms) = (table.stamp.table, table.farms.len());
            tracing::debug!(generation, farms, "table read");
            self.index = Some(TableIndex::new(table));
        }
        self.note_table_alarm(news.alarm.map(|alarm| alarm.to_string()));
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
        let Some(index) = &self.index else {
            return Some("the store holds no table yet: run `rbalancer apply`".into());
        };
        let doubtful = self
            .follower
            .views()
            .doubtful(Instant::now(), self.follower.window());
        if !doubtful.is_empty() {
            let names = doubtful.join(", ");
            return Some(format!(
                "prober suspect: all that {names} probes fails at once and is held in service; look at its network, and whether it still runs"
            ));
        }
        if !health.is_fresh() && !index.checks().is_empty() {
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
            .follower
            .views()
            .disagreements(Instant::now(), self.follower.window())
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
