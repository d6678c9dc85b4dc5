//! The Redis server itself: version, memory, persistence, clients, replicas. Pure: it judges what INFO and CONFIG say.

use super::finding::Line;
use common::store::RedisAddress;
use common::time::span;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// A call that takes longer makes the operator's commands slow and redirectors late.
const SLOW: Duration = Duration::from_millis(20);

/// A copy further behind than this many bytes would lose them at a failover.
const BEHIND: u64 = 1_000_000;

/// A copy that was silent for longer, in seconds, is as good as gone.
const SILENT: u64 = 10;

/// What INFO says, and those of the settings that could be asked for.
pub(super) struct Info {
    fields: HashMap<String, String>,
    settings: BTreeMap<&'static str, String>,
}

impl Info {
    pub(super) fn parse(info: &str, settings: BTreeMap<&'static str, String>) -> Self {
        let field = |line: &str| {
            line.trim_end()
                .split_once(':')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        Self {
            fields: info.lines().filter_map(field).collect(),
            settings,
        }
    }

    fn text(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name)?.parse().ok()
    }
}

pub(super) fn latency(at: &RedisAddress, median: Duration) -> Line {
    let what = format!(
        "redis at {at} answers in {:.1} ms",
        median.as_secs_f64() * 1000.0
    );
    if median > SLOW {
        Line::risk(what, "use one that is nearer, or less busy")
    } else {
        Line::ok(what)
    }
}

/// Everything INFO tells.
pub(super) fn judge(info: &Info) -> Vec<Line> {
    let mut lines = vec![version(info)];
    lines.extend(persistence(info));
    lines.push(memory(info));
    lines.push(clients(info));
    lines.extend(replication(info));
    lines
}

fn version(info: &Info) -> Line {
    // Valkey goes on reporting the Redis version it is compatible with.
    if info.text("server_name") == "valkey" {
        return Line::ok(format!("Valkey {}", info.text("valkey_version")));
    }
    let version = info.text("redis_version");
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match (major, minor) {
        (7.., _) => Line::ok(format!("Redis {version}")),
        (6, 2..) => Line::risk(format!("Redis {version} is old"), "upgrade to 7 or later"),
        _ => Line::wrong(
            format!("Redis {version} is too old: it lacks commands rbalancer needs"),
            "upgrade to 7 or later",
        ),
    }
}

fn persistence(info: &Info) -> Vec<Line> {
    let (aof, save) = (info.text("aof_enabled") == "1", info.settings.get("save"));
    let mut lines = vec![match (aof, save.map(String::as_str)) {
        (true, _) => Line::ok("what is written is kept on disk (AOF)"),
        (false, Some("")) => Line::risk(
            "nothing is kept on disk: a restart of Redis loses the table, its history and what redirectors that left have counted",
            "set `appendonly yes`",
        ),
        (false, Some(_)) => Line::risk(
            "the disk has snapshots only: a restart of Redis goes back to the last one",
            "set `appendonly yes`",
        ),
        (false, None) => Line::unknown("whether snapshots are kept on disk"),
    }];
    let refuses = info
        .settings
        .get("stop-writes-on-bgsave-error")
        .is_none_or(|value| value == "yes");
    if info.text("rdb_last_bgsave_status") == "err" {
        let what = "the last snapshot failed";
        let remedy = "look into Redis's log: disk full, no right to write, or no memory to fork?";
        let refused = format!("{what}: Redis refuses every write (MISCONF)");
        lines.push(if refuses && save.is_none_or(|save| !save.is_empty()) {
            Line::wrong(refused, remedy)
        } else {
            Line::risk(what, remedy)
        });
    }
    if info.text("aof_last_write_status") == "err" {
        lines.push(Line::wrong(
            "the last write to the append-only file failed: Redis refuses every write",
            "make room on its disk",
        ));
    }
    if info.text("loading") == "1" {
        lines.push(Line::wrong(
            "Redis is still loading its data",
            "wait, then ask again",
        ));
    }
    lines
}

fn memory(info: &Info) -> Line {
    let (limit, used) = (
        info.number("maxmemory").unwrap_or(0),
        info.number("used_memory").unwrap_or(0),
    );
    let policy = info.text("maxmemory_policy");
    let evicts = format!("maxmemory-policy is {policy}: a full Redis throws keys away");
    let remedy = "set `maxmemory-policy noeviction`, and give rbalancer a Redis of its own";
    if policy.starts_with("allkeys") {
        let what = format!("{evicts}, the table and the counts among them");
        return if limit > 0 {
            Line::wrong(what, remedy)
        } else {
            Line::risk(format!("{what}, as soon as maxmemory is set"), remedy)
        };
    }
    if policy.starts_with("volatile") && limit > 0 {
        return Line::risk(
            format!("{evicts}, the history for the graphs among them"),
            remedy,
        );
    }
    if limit > 0 && used.saturating_mul(10) > limit.saturating_mul(9) {
        return Line::risk(
            format!("{used} of {limit} bytes of memory are used: a full Redis refuses writes"),
            "raise maxmemory",
        );
    }
    Line::ok(format!(
        "{} MB of memory used, nothing is evicted",
        used / 1_000_000
    ))
}

fn clients(info: &Info) -> Line {
    let connected = info.number("connected_clients").unwrap_or(0);
    let Some(limit) = info.number("maxclients") else {
        return Line::ok(format!("{connected} clients"));
    };
    let what = format!("{connected} of {limit} clients are connected");
    if connected.saturating_mul(10) >= limit.saturating_mul(9) {
        Line::risk(what, "raise maxclients")
    } else {
        Line::ok(what)
    }
}

fn replication(info: &Info) -> Vec<Line> {
    if info.text("role") == "slave" {
        let what = format!(
            "this is a replica of {}:{} and cannot be written to",
            info.text("master_host"),
            info.text("master_port")
        );
        return vec![Line::wrong(what, "point --redis at the primary")];
    }
    let offset = info.number("master_repl_offset").unwrap_or(0);
    let count = info.number("connected_slaves").unwrap_or(0);
    let mut lines: Vec<Line> = (0..count)
        .filter_map(|n| replica(info.fields.get(&format!("slave{n}"))?, offset))
        .collect();
    if count > 0 && lines.is_empty() {
        lines.push(Line::ok(format!(
            "{count} Redis replicas, none of them behind"
        )));
    }
    let needed = info
        .settings
        .get("min-replicas-to-write")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    if needed > info.number("min_slaves_good_slaves").unwrap_or(count) {
        let what = format!(
            "min-replicas-to-write is {needed}, and {count} replicas are connected: Redis refuses every write"
        );
        lines.push(Line::wrong(what, "start the replicas, or lower it"));
    }
    lines
}

/// A replica's line, where something is to be said: `ip=…,port=…,state=online,offset=…,lag=…`.
fn replica(fields: &str, written: u64) -> Option<Line> {
    let fields: HashMap<&str, &str> = fields
        .split(',')
        .filter_map(|field| field.split_once('='))
        .collect();
    let text = |name: &str| fields.get(name).copied().unwrap_or_default();
    let number = |name: &str| text(name).parse::<u64>().unwrap_or(0);
    let name = format!("Redis replica {}:{}", text("ip"), text("port"));
    if text("state") != "online" {
        return Some(Line::risk(
            format!("{name} is not in step yet ({})", text("state")),
            "wait until it has caught up",
        ));
    }
    let remedy = "a failover now would lose what it lacks: look at its load and its network";
    if number("lag") > SILENT {
        return Some(Line::risk(
            format!("{name} has been silent for {}", span(number("lag") * 1000)),
            remedy,
        ));
    }
    let behind = written.saturating_sub(number("offset"));
    (behind > BEHIND).then(|| Line::risk(format!("{name} is {behind} bytes behind"), remedy))
}

#[cfg(test)]
mod tests;
