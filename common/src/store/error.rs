//! Why a verb failed.

use super::trouble::Trouble;

/// Why a verb failed. Every caller keeps its last good state and tries again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No connection.
    #[error("cannot reach redis at {at}: {why}")]
    Unreachable {
        /// The address, without a password.
        at: String,
        /// The cause.
        why: Trouble,
    },
    /// No answer within the limit. What was sent may still be carried out.
    #[error("redis at {0} did not answer in time")]
    TimedOut(String),
    /// Redis answered with an error.
    #[error("redis at {at} refused: {why}")]
    Refused {
        /// The address, without a password.
        at: String,
        /// The cause.
        why: Trouble,
    },
    /// What the store holds is not what its key promises.
    #[error("the store holds something else than expected: {0}")]
    Content(String),
}

impl StoreError {
    /// Whether nobody answered: another question now would only take as long again.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut(_))
    }

    /// Whether the answer was that the store holds something it should not: that heals by what an operator does.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Content(_) => true,
            Self::Refused { why, .. } => matches!(why, Trouble::WrongType(_)),
            Self::Unreachable { .. } | Self::TimedOut(_) => false,
        }
    }
}
