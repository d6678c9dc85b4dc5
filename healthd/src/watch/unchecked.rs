//! Servers that no probe says anything about: said once in the log, counted for monitoring. They stay in service, for the
//! trouble may be a resolver's, or another of this machine's own; only nobody is to think that they were found good.

use crate::watch::list::WatchList;
use crate::watch::watched::{CautionCounts, Watched};
use common::model::farm::{Name, ServerId};
use common::model::health::{Caution, Checked};

/// Servers named in one line.
const NAMED: usize = 5;

impl WatchList {
    /// What is to be known of all checks, as of the last report.
    pub(crate) fn tally(&self) -> CautionCounts {
        self.tally
    }

    /// Counts, and says what is news, in a line for each kind and not for each server: without a resolver it is news of
    /// all.
    pub(super) fn look_for_unchecked(&mut self) {
        self.tally = CautionCounts::default();
        let (mut never, mut no_longer, mut again) = (
            UncheckedNews::default(),
            UncheckedNews::default(),
            UncheckedNews::default(),
        );
        for watched in self.checks.values_mut() {
            let finding = watched.judge.finding();
            self.tally.never += u64::from(finding.checked == Checked::Never);
            self.tally.held += u64::from(finding.caution() == Some(Caution::Held));
            let unchecked = watched.judge.is_unchecked();
            // As many probes as it takes to take a server out: a resolver may be starting.
            if unchecked && !watched.warned && watched.judge.silent() >= watched.check.fall {
                watched.warned = true;
                if finding.checked == Checked::Never {
                    &mut never
                } else {
                    &mut no_longer
                }
                .add(watched);
            } else if !unchecked && watched.warned {
                watched.warned = false;
                again.add(watched);
            }
        }
        let farm = never.named.first().map(|id| id.farm.clone());
        if let (Some(farm), Some((names, why))) = (farm, never.words()) {
            let (ever, all) = self.ever_checked(&farm);
            tracing::warn!(
                "never checked: {names}: {why}; clients are sent there while no mate is known to work (farm {farm}: {ever} of {all} ever checked)"
            );
        }
        if let Some((names, why)) = no_longer.words() {
            tracing::warn!("no longer checked: {names}: {why}; what was found last stays");
        }
        if let Some((names, why)) = again.words() {
            tracing::info!("checked now: {names}: {why}");
        }
    }

    /// Of how many servers of `farm` any probe has ever said something, and how many are probed.
    fn ever_checked(&self, farm: &Name) -> (usize, usize) {
        self.checks.values().fold((0, 0), |(ever, all), watched| {
            let servers = watched
                .servers
                .iter()
                .filter(|seat| seat.id.farm == *farm)
                .count();
            (
                ever + if watched.judge.finding().checked == Checked::Never {
                    0
                } else {
                    servers
                },
                all + servers,
            )
        })
    }
}

/// Servers to name in one line, and the reason of the first.
#[derive(Default)]
struct UncheckedNews {
    named: Vec<ServerId>,
    more: usize,
    why: String,
}

impl UncheckedNews {
    fn add(&mut self, watched: &Watched) {
        if self.named.is_empty() {
            self.why.clone_from(&watched.judge.finding().why);
        }
        for seat in &watched.servers {
            if self.named.len() < NAMED {
                self.named.push(seat.id.clone());
            } else {
                self.more += 1;
            }
        }
    }

    fn words(self) -> Option<(String, String)> {
        let mut names = self
            .named
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        if self.more > 0 {
            names += &format!(" and {} more", self.more);
        }
        (!self.named.is_empty()).then_some((names, self.why))
    }
}
