//! One finding of the doctor: how bad it is, what it is, what to do.

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Not to be seen with this user's rights.
    Unknown,
    /// It works, and may stop working.
    Risk,
    /// It does not work.
    Wrong,
}

impl Level {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Risk => "risk",
            Self::Wrong => "wrong",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: &'static str,
}

impl Line {
    pub(crate) fn ok(what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what: what.into(),
            remedy: "",
        }
    }

    pub(crate) fn unknown(what: &str) -> Self {
        Self {
            level: Level::Unknown,
            what: format!("{what}: not allowed to ask"),
            remedy: "",
        }
    }

    pub(crate) fn unanswered(what: &str, why: &str) -> Self {
        Self {
            level: Level::Unknown,
            what: format!("{what}: {why}"),
            remedy: "",
        }
    }

    pub(crate) fn risk(what: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            level: Level::Risk,
            what: what.into(),
            remedy,
        }
    }

    pub(crate) fn wrong(what: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            level: Level::Wrong,
            what: what.into(),
            remedy,
        }
    }
}
