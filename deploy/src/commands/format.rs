//! The form of output.

use clap::ValueEnum;

/// The form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The form of the table of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeysFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For documentation.
    Markdown,
}
