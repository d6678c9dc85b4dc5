//! `rbalancer history`: the tables kept, newest first, with who, when and why.

use crate::commands::format::Format;
use common::store::{HistoryEntry, Redis, RedisSettings, Store};
use common::time::utc;
use serde_json::json;
use std::fmt::Write;

/// The tables that can be gone back to.
///
/// # Errors
/// When Redis does not answer.
pub async fn history(redis: &RedisSettings, format: Format) -> anyhow::Result<String> {
    let editions = Store::Redis(Redis::pooled(redis))
        .reader()
        .history()
        .await?;
    Ok(match format {
        Format::Table => table(&editions),
        Format::Json => {
            let of = |(back, edition): (usize, &HistoryEntry)| {
                let HistoryEntry { at, stamp, servers } = edition;
                json!({"back": back, "generation": stamp.table, "at": at, "by": stamp.by, "why": stamp.why,
                    "farms": stamp.farms, "servers": servers, "checksum": stamp.checksum, "forced": stamp.forced})
            };
            let all: Vec<_> = editions.iter().enumerate().map(of).collect();
            serde_json::to_string_pretty(&all)? + "\n"
        }
    })
}

fn table(editions: &[HistoryEntry]) -> String {
    if editions.is_empty() {
        return "no table was published: run `rbalancer apply rbalancer.conf`\n".into();
    }
    let mut out = format!(
        "{:<4} {:<14} {:<19} {:>5} {:>7}  BY, WHY\n",
        "BACK", "GENERATION", "WHEN (UTC)", "FARMS", "SERVERS"
    );
    for (back, HistoryEntry { at, stamp, servers }) in editions.iter().enumerate() {
        let (when, farms) = (utc(*at), stamp.farms.unwrap_or(0));
        let forced = if stamp.forced { " (forced)" } else { "" };
        let (checksum, by, why) = (
            stamp.checksum.get(..8).unwrap_or_default(),
            &stamp.by,
            &stamp.why,
        );
        let _ = writeln!(
            out,
            "{back:<4} {:<14} {when} {farms:>5} {servers:>7}  {by}: {why}{forced}  [{checksum}]",
            stamp.table
        );
    }
    out
}
