//! The environment of a process: which `RBALANCER_…` variables are settings, and which are somebody else's.
//!
//! Kubernetes describes each service to every container of its namespace in variables that begin with the service's
//! name: one called `rbalancer` makes `RBALANCER_PORT=tcp://10.96.12.3:9998`. Docker does so for `--link`.

use crate::config::keys::{self, Place};
use crate::config::suggest::nearest;

/// What all variables of ours begin with.
const PREFIX: &str = "RBALANCER_";

/// The usual name of the Redis URL, beside that of its key.
pub const REDIS_URL: &str = "RBALANCER_REDIS_URL";

/// The setting in the variable `name` of this process, trimmed; none where it is not set, empty, or the platform's.
pub fn setting(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    usable(name, &value.to_string_lossy()).map(str::to_owned)
}

fn usable<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    Some(value.trim()).filter(|value| !value.is_empty() && !is_platforms(name, value))
}

/// Whether the environment says which Redis is meant.
pub fn names_a_redis() -> bool {
    [REDIS_URL, "RBALANCER_REDIS"]
        .into_iter()
        .any(|name| setting(name).is_some())
}

/// The variables that make settings here, by name.
pub fn in_use() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut set: Vec<String> = names
        .filter(|name| key_of(name).is_some() && setting(name).is_some())
        .collect();
    set.sort();
    set
}

/// Says what of the environment is passed over: once, when a program starts.
pub fn tell() {
    let all = || {
        std::env::vars_os().map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
    };
    if let Some(line) = platforms(all()) {
        tracing::info!("{line}");
    }
    unused(all())
        .iter()
        .for_each(|line| tracing::warn!("{line}"));
}

/// Whether a variable cannot be a setting of ours: a URL where a port belongs, or a name as only a platform makes it.
fn is_platforms(name: &str, value: &str) -> bool {
    let (is_ports, is_url) = (name.ends_with("_PORT"), value.contains("://"));
    (is_ports && is_url)
        || (key_of(name).is_none()
            && ["_SERVICE_", "_PORT_", "_ENV_"]
                .iter()
                .any(|part| name.contains(part)))
}

/// The key that the variable `name` sets, if there is one.
fn key_of(name: &str) -> Option<&'static str> {
    let name = if name == REDIS_URL {
        "RBALANCER_REDIS"
    } else {
        name
    };
    let key = name.strip_prefix(PREFIX)?;
    let is_it = |known: &&str| {
        key.bytes()
            .eq(known.bytes().map(|byte| byte.to_ascii_uppercase()))
    };
    keys::of_process().find(is_it)
}

/// One line on what the platform has set, if it has; what hides a setting comes first.
fn platforms(variables: impl Iterator<Item = (String, String)>) -> Option<String> {
    let of_platform =
        |(name, value): &(String, String)| name.starts_with(PREFIX) && is_platforms(name, value);
    let mut found: Vec<_> = variables.filter(of_platform).collect();
    found.sort_by_key(|(name, _)| (key_of(name).is_none(), name.clone()));
    let (name, value) = found.first()?;
    let (others, verb) = match found.len() - 1 {
        0 => (String::new(), "describes"),
        1 => (" and 1 other variable".to_owned(), "describe"),
        more => (format!(" and {more} other variables"), "describe"),
    };
    let value: String = value.trim().chars().take(60).collect();
    Some(format!(
        "environment: {name}={value}{others} {verb} a service of the platform, and no setting: passed over \
         (`enableServiceLinks: false` in a pod ends that)"
    ))
}

/// A line for each variable that looks like a setting and is none.
fn unused(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let known: Vec<String> = keys::of_process()
        .map(|key| format!("{PREFIX}{}", key.to_ascii_uppercase()))
        .collect();
    let known: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .chain([REDIS_URL])
        .collect();
    let mut lines: Vec<String> = variables
        .filter(|(name, value)| {
            name.starts_with(PREFIX) && key_of(name).is_none() && usable(name, value).is_some()
        })
        .map(|(name, _)| {
            let key = name[PREFIX.len()..].to_ascii_lowercase();
            let remedy = match nearest(&name, &known) {
                _ if keys::find(&key, Place::Farm).is_some() => {
                    format!("; write {key} in the file: farms and health checks are set there only")
                }
                Some(near) => format!("; did you mean {near}?"),
                None => String::new(),
            };
            format!("environment: {name} is no setting and is not used{remedy}")
        })
        .collect();
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(list: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn what_a_platform_sets_is_no_setting_and_all_of_it_is_one_line() {
        let kubernetes = [
            ("RBALANCER_SERVICE_HOST", "10.96.12.3"),
            ("RBALANCER_SERVICE_PORT_HTTP", "9998"),
            ("RBALANCER_PORT_9998_TCP_ADDR", "10.96.12.3"),
            ("RBALANCER_PORT", "tcp://10.96.12.3:9998"),
            ("RBALANCER_REDIS_PORT", "tcp://10.96.12.4:6379"),
            ("RBALANCER_TLS_PORT", " udp://10.96.12.5:443\n"),
        ];
        assert!(
            kubernetes
                .iter()
                .all(|(name, value)| usable(name, value).is_none())
        );
        let line = platforms(variables(&kubernetes)).expect("a line");
        assert!(
            line.starts_with(
                "environment: RBALANCER_PORT=tcp://10.96.12.3:9998 and 5 other variables describe"
            ),
            "{line}"
        );
        assert_eq!(unused(variables(&kubernetes)), Vec::<String>::new());
        let ours = [
            ("RBALANCER_PORT", "9998"),
            ("RBALANCER_REDIS_URL", "redis://h"),
            ("RBALANCER_STATS_URL", "http://h"),
            ("PORT", "tcp://h:1"),
        ];
        assert_eq!(
            (platforms(variables(&ours)), unused(variables(&ours))),
            (None, vec![])
        );
        assert_eq!(usable("RBALANCER_PORT", " 81\r\n"), Some("81"));
        assert_eq!(usable("RBALANCER_STATS_URL", "http://h"), Some("http://h"));
        assert_eq!(usable("RBALANCER_GRACE", " \n"), None);
    }

    #[test]
    fn what_is_nearly_a_setting_is_named_with_the_right_name() {
        let slips = [
            ("RBALANCER_INTER", "5s"),
            ("RBALANCER_MAXCON", "5"),
            ("RBALANCER_REDIS_URI", "x"),
            ("RBALANCER_ROOT", "/"),
            ("RBALANCER_EMPTY", ""),
        ];
        let expected = [
            "environment: RBALANCER_INTER is no setting and is not used; write inter in the file: farms and health checks are set there only",
            "environment: RBALANCER_MAXCON is no setting and is not used; did you mean RBALANCER_MAXCONN?",
            "environment: RBALANCER_REDIS_URI is no setting and is not used; did you mean RBALANCER_REDIS_URL?",
            "environment: RBALANCER_ROOT is no setting and is not used; did you mean RBALANCER_PORT?",
        ];
        assert_eq!(unused(variables(&slips)), expected);
    }
}
