//! What a case found: a table, the targets it bears on, and notes; plain for a terminal and as Markdown.

use crate::spread::Spread;
use std::fmt::Write;

/// What one case found.
#[derive(Debug, Default)]
pub struct Report {
    /// What was measured.
    pub title: String,
    /// The heads of the columns.
    pub columns: Vec<String>,
    /// The rows, as wide as the head.
    pub rows: Vec<Vec<String>>,
    /// What was to be reached.
    pub targets: Vec<Target>,
    /// What a reader has to know.
    pub notes: Vec<String>,
}

/// Where a figure should lie.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// There or below.
    AtMost(f64),
    /// There or above.
    AtLeast(f64),
}

/// A figure and where it should lie.
#[derive(Debug)]
pub struct Target {
    /// In words.
    pub what: String,
    /// What was measured; the median decides.
    pub measured: Spread,
    /// Where it should lie.
    pub bound: Bound,
}

impl Target {
    /// A figure and its bound.
    pub fn new(what: impl Into<String>, measured: Spread, bound: Bound) -> Self {
        Self {
            what: what.into(),
            measured,
            bound,
        }
    }

    fn row(&self) -> Vec<String> {
        let (met, bound) = match self.bound {
            Bound::AtMost(bound) => (self.measured.median <= bound, format!("≤ {bound}")),
            Bound::AtLeast(bound) => (self.measured.median >= bound, format!("≥ {bound}")),
        };
        vec![
            self.what.clone(),
            self.measured.to_string(),
            bound,
            if met { "met" } else { "missed" }.into(),
        ]
    }
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            title: title.into(),
            columns: columns.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// For a terminal.
    pub fn plain(&self) -> String {
        let mut text = format!("\n{}\n", self.title);
        text += &aligned(&self.columns, &self.rows);
        if !self.targets.is_empty() {
            text += "\n";
            text += &aligned(&target_columns(), &self.target_rows());
        }
        self.notes
            .iter()
            .for_each(|note| text += &format!("  {note}\n"));
        text
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("\n### {}\n{}", self.title, table(&self.columns, &self.rows));
        if !self.targets.is_empty() {
            text += "\n";
            text += &table(&target_columns(), &self.target_rows());
        }
        if !self.notes.is_empty() {
            let _ = writeln!(text, "\n{}", self.notes.join(" "));
        }
        text
    }

    fn target_rows(&self) -> Vec<Vec<String>> {
        self.targets.iter().map(Target::row).collect()
    }
}

fn target_columns() -> Vec<String> {
    ["target", "measured", "bound", ""].map(String::from).into()
}

fn table(columns: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|{}\n", "---|".repeat(columns.len()));
    line(columns) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}

fn aligned(columns: &[String], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(columns).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| {
        all()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    all().map(line).collect()
}
