//! The totals of a cluster as a reader follows them: read on slice by slice, remembered and summed. Pure.
//!
//! Everything that is counted has a place, and each owner's totals are numbers by place: a hundred redirectors with
//! ten thousand totals each are summed in about a millisecond. Totals only grow, so one that was read a while ago is
//! at worst too small; how many [`FollowedTotals::rounds`] were made says how long ago that can be.

use crate::model::tally::{CountKey, Totals};
use std::collections::{BTreeMap, HashMap};

/// What was read of the totals so far.
#[derive(Debug, Default)]
pub struct FollowedTotals {
    keys: Vec<CountKey>,
    places: HashMap<CountKey, usize>,
    /// The same by the store's words; none for what only a newer version knows.
    words: HashMap<Box<str>, Option<usize>>,
    /// Folded totals of owners that are gone.
    base: Vec<u64>,
    /// The folds that the base, and what was folded of each owner, were read at; none while that is under way.
    pub(crate) folds: Option<u64>,
    pub(crate) owners: BTreeMap<String, Owner>,
    /// The owner that was read last.
    pub(crate) reached: Option<String>,
    pub(crate) rounds: u64,
}

/// What was read of one owner's totals.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    live: Vec<u64>,
    /// What of them is in the base.
    folded: Vec<u64>,
    /// Where the store goes on with them; 0 at their beginning and end.
    pub(crate) cursor: u64,
    /// How many the last whole reading gave.
    pub(crate) size: usize,
    /// How many this one gave so far.
    pub(crate) seen: usize,
    /// Whether they were read to the end once.
    pub(crate) whole: bool,
}

/// Whose totals a slice holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Of owners that are gone.
    Base,
    /// What of this owner's is in the base.
    Folded(&'a str),
    /// This owner's.
    Live(&'a str),
}

impl FollowedTotals {
    /// Everything counted, by place. Places are added, never taken away.
    pub fn keys(&self) -> &[CountKey] {
        &self.keys
    }

    /// How often every owner was read to the end.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// The totals of the whole cluster, by place.
    pub fn sums(&self) -> Vec<u64> {
        let mut sums = self.base.clone();
        sums.resize(self.keys.len(), 0);
        for Owner { live, folded, .. } in self.owners.values() {
            sums.iter_mut()
                .zip(live)
                .for_each(|(sum, total)| *sum += total);
            // One read longer ago than it was folded counts nothing beyond the base.
            sums.iter_mut()
                .zip(live.iter().zip(folded))
                .for_each(|(sum, (total, folded))| *sum -= total.min(folded));
        }
        sums
    }

    /// Follows exactly the owners `ids` from now on.
    pub(crate) fn list(&mut self, ids: Vec<String>) {
        let mut held = std::mem::take(&mut self.owners);
        self.owners = ids
            .into_iter()
            .map(|id| {
                held.remove(&id).map_or_else(
                    || (id.clone(), Owner::default()),
                    |owner| (id.clone(), owner),
                )
            })
            .collect();
    }

    /// Forgets what was folded: it has changed.
    pub(crate) fn forget_folds(&mut self) {
        self.folds = None;
        self.base.clear();
        self.owners
            .values_mut()
            .for_each(|owner| owner.folded.clear());
    }

    /// Takes in some totals in the store's words. One smaller than held is older.
    pub(crate) fn take(&mut self, part: Part<'_>, slice: impl IntoIterator<Item = (String, f64)>) {
        for (word, total) in slice {
            if let Some(place) = self.place_of_word(word) {
                self.raise(part, place, total as u64);
            }
        }
    }

    /// Takes in everything at once.
    pub(crate) fn take_all(&mut self, totals: &Totals) {
        self.forget_folds();
        self.list(totals.live.keys().cloned().collect());
        let live = totals
            .live
            .iter()
            .map(|(id, tally)| (Part::Live(id), tally));
        for (part, tally) in live.chain([(Part::Base, &totals.base)]) {
            for (key, total) in tally.iter() {
                let place = self.place(key.clone());
                self.raise(part, place, total);
            }
        }
        self.folds = Some(0);
        self.rounds += 1;
    }

    fn place_of_word(&mut self, word: String) -> Option<usize> {
        if let Some(known) = self.words.get(word.as_str()) {
            return *known;
        }
        let place = word.parse().ok().map(|key| self.place(key));
        self.words.insert(word.into(), place);
        place
    }

    fn place(&mut self, key: CountKey) -> usize {
        *self.places.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            self.keys.len() - 1
        })
    }

    fn raise(&mut self, part: Part<'_>, place: usize, total: u64) {
        let totals = match part {
            Part::Base => Some(&mut self.base),
            Part::Folded(id) => self.owners.get_mut(id).map(|owner| &mut owner.folded),
            Part::Live(id) => self.owners.get_mut(id).map(|owner| &mut owner.live),
        };
        let Some(totals) = totals else { return };
        if totals.len() <= place {
            totals.resize(place + 1, 0);
        }
        totals[place] = totals[place].max(total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(ids: &[&str]) -> FollowedTotals {
        let mut counted = FollowedTotals::default();
        counted.list(ids.iter().map(ToString::to_string).collect());
        counted
    }

    fn take(counted: &mut FollowedTotals, part: Part<'_>, slice: &[(&str, f64)]) {
        counted.take(
            part,
            slice
                .iter()
                .map(|(word, total)| ((*word).to_owned(), *total)),
        );
    }

    fn sum(counted: &FollowedTotals, key: &str) -> u64 {
        let place = counted
            .keys()
            .iter()
            .position(|held| held.to_string() == key)
            .expect("it was counted");
        counted.sums()[place]
    }

    #[test]
    fn the_whole_is_the_base_and_what_was_not_folded() {
        let mut counted = counted(&["a", "b"]);
        take(&mut counted, Part::Base, &[("img/s", 100.0)]);
        take(
            &mut counted,
            Part::Folded("a"),
            &[("img/s", 40.0), ("img/t", 7.0)],
        );
        take(
            &mut counted,
            Part::Live("a"),
            &[("img/s", 45.0), ("img/t", 5.0)],
        );
        take(
            &mut counted,
            Part::Live("b"),
            &[
                ("img/s", 1.0),
                ("@refused/403", 2.0),
                ("a newer version's", 9.0),
            ],
        );
        assert_eq!(
            (
                sum(&counted, "img/s"),
                sum(&counted, "img/t"),
                sum(&counted, "@refused/403")
            ),
            (106, 0, 2)
        );
        assert_eq!(counted.keys().len(), 3);
    }

    #[test]
    fn what_comes_late_takes_nothing_away_and_who_left_the_list_counts_no_more() {
        let mut counted = counted(&["a", "b"]);
        take(&mut counted, Part::Live("a"), &[("img/s", 45.0)]);
        take(&mut counted, Part::Live("a"), &[("img/s", 44.0)]);
        take(&mut counted, Part::Live("b"), &[("img/s", 1.0)]);
        assert_eq!(sum(&counted, "img/s"), 46);
        counted.list(vec!["b".into()]);
        take(&mut counted, Part::Live("a"), &[("img/s", 45.0)]);
        assert_eq!(sum(&counted, "img/s"), 1);
    }
}
