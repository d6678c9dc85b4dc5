//! `rbalancer keys`: every key of rbalancer.conf, where it may stand, its value, its default and its meaning.

use crate::commands::format::KeysFormat;
use common::config::keys::{KEYS, Key, Place};
use std::fmt::Write;

/// The table of keys.
///
/// # Errors
/// None that could happen: the table has a JSON form.
pub fn keys(format: KeysFormat) -> anyhow::Result<String> {
    Ok(match format {
        KeysFormat::Table => table(),
        KeysFormat::Json => serde_json::to_string_pretty(KEYS)? + "\n",
        KeysFormat::Markdown => markdown(),
    })
}

/// Where a key may stand, in words.
fn places(key: &Key) -> String {
    let places: Vec<&str> = key.places.iter().copied().map(Place::as_str).collect();
    places.join(", ")
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn table() -> String {
    let width = |of: fn(&Key) -> usize| KEYS.iter().map(of).max().unwrap_or_default();
    let name_width = width(|key| key.name.len());
    let value_width = width(|key| key.kind.words().chars().count());
    let default_width = width(|key| key.default.len());
    let mut out = String::new();
    let mut at = None;
    for key in KEYS {
        if at != Some(key.places) {
            at = Some(key.places);
            let _ = writeln!(
                out,
                "{}{}:",
                if out.is_empty() { "" } else { "\n" },
                places(key)
            );
        }
        let (value, default) = (key.kind.words(), or_dash(key.default));
        let _ = writeln!(
            out,
            "  {:<name_width$}  {value:<value_width$}  {default:<default_width$}  {}",
            key.name, key.meaning
        );
    }
    out
}

fn markdown() -> String {
    let mut out = "# Keys of rbalancer.conf\n\
        Made by `rbalancer keys --format markdown`. A key in the first of several places beats the next. Keys that stand in\n\
        `[global]` only come from the environment too, as `RBALANCER_<KEY>`.\n\n\
        | key | where | value | default | meaning |\n|---|---|---|---|---|\n"
        .to_owned();
    for key in KEYS {
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            key.name,
            places(key),
            cell(&key.kind.words()),
            cell(or_dash(key.default)),
            cell(key.meaning)
        );
    }
    out
}

#[cfg(test)]
mod tests;
