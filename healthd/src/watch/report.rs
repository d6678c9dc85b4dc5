//! What of all that is watched the store has still to be told, and whether it holds what it was told.

use crate::watch::left::{LINGER, Left};
use crate::watch::list::WatchList;
use common::store::{HealthReport, Reported};
use common::time::unix_ms;
use std::time::Instant;

/// A later last_check alone is worth a write after this long.
const TOUCH_MS: u64 = 5_000;

impl WatchList {
    /// What the store has still to be told; none if nothing.
    pub(crate) fn report(&mut self, id: &str, now: Instant) -> Option<HealthReport> {
        self.checks
            .values_mut()
            .for_each(|watched| watched.judge.lapse(&watched.check, now));
        self.look_for_unchecked();
        let mut report = HealthReport {
            id: id.to_owned(),
            events: self.events.clone(),
            ..HealthReport::default()
        };
        (report.run, report.first_event) = (self.run.clone(), self.first_event);
        for (key, watched) in &self.checks {
            let finding = watched.judge.finding();
            match &watched.published {
                Some(published) if !published.differs(finding) => {
                    if finding.last_check >= published.last_check + TOUCH_MS {
                        report.touched.push((key.clone(), finding.clone()));
                    }
                }
                _ => report.changed.push((key.clone(), finding.clone())),
            }
        }
        for (key, left) in &self.left {
            if !left.told {
                report.changed.push((key.clone(), Left::finding(unix_ms())));
            } else if now.saturating_duration_since(left.since) >= LINGER {
                report.removed.push(key.clone());
            }
        }
        let nothing = report.changed.is_empty()
            && report.removed.is_empty()
            && report.events.is_empty()
            && !self.conclusive;
        if nothing {
            return None;
        }
        if self.conclusive || !report.changed.is_empty() {
            self.sequence += 1;
        }
        let idle = !self.conclusive;
        (self.conclusive, self.turned) = (false, false);
        report.sequence = self.sequence;
        report.idle = idle;
        Some(report)
    }

    /// The store has not taken a report, as far as is known.
    pub(crate) fn failed(&mut self) {
        self.unsure = true;
    }

    /// The store has taken `report`. All is told again where it may have lost some: it held another sequence than it
    /// was told last, as one that came back with an older copy does, or holds fewer findings than it was told of.
    pub(crate) fn acknowledged(&mut self, report: HealthReport, reported: Reported) {
        let Reported { before, held } = reported;
        let gone_back = self.shown.is_some() && self.shown != before;
        self.reached = Some(report.sequence);
        self.shown = if report.idle { before } else { None }.or(self.reached);
        for (key, finding) in report.changed.into_iter().chain(report.touched) {
            if let Some(watched) = self.checks.get_mut(&key) {
                watched.published = Some(finding);
            } else if let Some(left) = self.left.get_mut(&key) {
                left.told = true;
            }
        }
        for key in &report.removed {
            self.left.remove(key);
        }
        // Some of them may have been dropped for newer ones meanwhile.
        let told =
            (report.first_event + report.events.len() as u64).saturating_sub(self.first_event);
        self.drop_events(
            usize::try_from(told)
                .unwrap_or(usize::MAX)
                .min(self.events.len()),
        );
        let told = self
            .checks
            .values()
            .filter(|watched| watched.published.is_some())
            .count();
        if std::mem::take(&mut self.unsure) {
            tracing::info!("telling all findings again");
        } else if gone_back || held < told {
            tracing::warn!(held, told, "the store lost findings; telling all again");
        } else {
            return;
        }
        self.tell_all();
    }

    fn tell_all(&mut self) {
        self.turned = true;
        self.checks
            .values_mut()
            .for_each(|watched| watched.published = None);
        self.left.values_mut().for_each(|left| left.told = false);
    }
}
