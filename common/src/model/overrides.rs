//! What an operator sets by hand for single servers, between two publications of the table: it beats the file.

use crate::model::farm::{Intent, ServerId, Weight};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The health an operator has fixed by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Force {
    /// Counts as up, whatever probes say.
    Up,
    /// Counts as down, whatever probes say.
    Down,
}

/// What an operator has set by hand for one server; it beats the file until cleared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Override {
    /// Replaces the file's `enable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<Intent>,
    /// Replaces the file's weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// Replaces what probes say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<Force>,
    /// Who set it.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub why: String,
    /// When `force` ends, in the store's time; none: when it is cleared. The rest stays until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMs>,
}

impl Override {
    /// What is in force at `now`, in the store's time: a `force` whose end is past is not.
    pub fn at(&self, now: UnixMs) -> Self {
        match self.until {
            Some(until) if until <= now => Self {
                force: None,
                until: None,
                ..self.clone()
            },
            _ => self.clone(),
        }
    }

    /// What is set, for people: `drain, weight 5, force up`; none if nothing is.
    pub fn words(&self) -> Option<String> {
        let set = [
            self.enable.map(|enable| enable.as_str().to_owned()),
            self.weight.map(|weight| format!("weight {weight}")),
            self.force
                .map(|force| format!("force {}", if force == Force::Up { "up" } else { "down" })),
        ];
        let words: Vec<String> = set.into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// Who set it and why, for people: ` by ann (disk)`.
    fn author(&self) -> String {
        let by = if self.by.is_empty() {
            String::new()
        } else {
            format!(" by {}", self.by)
        };
        if self.why.is_empty() {
            by
        } else {
            format!("{by} ({})", self.why)
        }
    }

    /// This set over `held`: what it names replaces, the rest stays. A `force` comes with its own end.
    pub fn over(&self, held: &Self) -> Self {
        Self {
            enable: self.enable.or(held.enable),
            weight: self.weight.or(held.weight),
            force: self.force.or(held.force),
            by: self.by.clone(),
            why: self.why.clone(),
            until: if self.force.is_some() {
                self.until
            } else {
                self.until.or(held.until)
            },
        }
    }
}

/// What is set otherwise in `after` than in `before`, a sentence each, in the order of the servers' names.
pub fn turned(
    before: &HashMap<ServerId, Override>,
    after: &HashMap<ServerId, Override>,
) -> Vec<String> {
    let words = |set: Option<&Override>| set.and_then(Override::words);
    let mut turned: Vec<String> = after
        .iter()
        .filter(|(id, _)| words(before.get(id)) != words(after.get(id)))
        .map(|(id, set)| match set.words() {
            Some(words) => format!("{id} is set by hand: {words}{}", set.author()),
            None => format!("{id} is no longer set by hand"),
        })
        .collect();
    let gone = before
        .iter()
        .filter(|(id, set)| set.words().is_some() && !after.contains_key(id));
    turned.extend(gone.map(|(id, _)| format!("{id} is no longer set by hand")));
    turned.sort();
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_later_keeps_what_was_set_before() {
        let drained = Override {
            enable: Some(Intent::Drain),
            why: "disk".into(),
            ..Override::default()
        };
        let forced = Override {
            force: Some(Force::Up),
            until: Some(100),
            by: "ann".into(),
            ..Override::default()
        };
        let both = forced.over(&drained);
        assert_eq!(
            (both.enable, both.force, both.until, both.by.as_str()),
            (Some(Intent::Drain), Some(Force::Up), Some(100), "ann")
        );
        // The end is that of the force alone, and goes with it.
        assert_eq!(
            (both.at(99).force, both.at(100).force, both.at(100).enable),
            (Some(Force::Up), None, Some(Intent::Drain))
        );
        assert_eq!(drained.over(&both).until, Some(100));
        assert_eq!(
            Override {
                until: None,
                ..forced
            }
            .over(&both)
            .until,
            None
        );
    }

    #[test]
    fn what_turns_by_hand_is_told_in_words() {
        let (a, b): (ServerId, ServerId) =
            ("f/a".parse().expect("valid"), "f/b".parse().expect("valid"));
        let drained = Override {
            enable: Some(Intent::Drain),
            by: "ann".into(),
            why: "disk".into(),
            ..Override::default()
        };
        let forced = Override {
            force: Some(Force::Down),
            weight: Some(Weight(3)),
            ..Override::default()
        };
        let before = HashMap::from([(a.clone(), drained.clone())]);
        let after = HashMap::from([(a.clone(), drained.clone()), (b.clone(), forced)]);
        assert_eq!(
            turned(&HashMap::new(), &before),
            ["f/a is set by hand: drain by ann (disk)"]
        );
        assert_eq!(
            turned(&before, &after),
            ["f/b is set by hand: weight 3, force down"]
        );
        assert_eq!(
            turned(&after, &HashMap::from([(b, Override::default())])),
            [
                "f/a is no longer set by hand",
                "f/b is no longer set by hand"
            ]
        );
        assert_eq!(turned(&before, &before), Vec::<String>::new());
    }
}
