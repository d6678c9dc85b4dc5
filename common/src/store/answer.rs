//! What the store's own server says when the operator asks it: how many copies there are, and answers to raw commands.

/// How many of the store's copies hold what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replication {
    /// Those that said so in time.
    pub acknowledged: u64,
    /// Those that are connected.
    pub connected: u64,
}

/// The store's answer to a command of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Nil,
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// Several answers; a map is a list of keys and values in turn.
    List(Vec<Answer>),
}
