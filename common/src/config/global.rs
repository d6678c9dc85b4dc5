//! What a process is told: flag before environment (`RBALANCER_<KEY>`) before `[global]` of a file before default.
//! Here is the typed reading of one value.

use crate::config::environment;
use crate::config::ini::{Document, Problem, Section};
pub use crate::config::keys::{CHECK_KEYS, FARM_KEYS, PROCESS_KEYS};
pub use crate::config::suggest::did_you_mean;
use crate::store::{RedisAddress, RedisSettings};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Where a configuration file is looked for when none is named; the second is the first rbalancer's place.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/rbalancer/rbalancer.conf", "/etc/rbalancer.conf"];

/// The first of [`DEFAULT_FILES`] that is there. One that may not be looked at is there too: reading it says why not.
pub fn default_file() -> Option<&'static Path> {
    DEFAULT_FILES
        .iter()
        .map(Path::new)
        .find(|path| path.try_exists().unwrap_or(true))
}

/// Everything wrong with a configuration, all at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort();
        for (index, problem) in sorted.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// `[global]` and the environment, read key by key.
#[derive(Debug)]
pub struct Global {
    /// The file's name, empty where there is none.
    file: String,
    section: Option<Section>,
    has_farms: bool,
    environment: fn(&str) -> Option<String>,
    problems: Vec<Problem>,
}

impl Global {
    /// Reads the file given by `-c`, if any. Its farms are not looked at.
    pub fn load(config: Option<&Path>) -> Result<Self, Problems> {
        let (document, problems) = match config {
            Some(path) => read_document(path)?,
            None => Default::default(),
        };
        Ok(Self::new(&document, problems, environment::setting))
    }

    /// Reads from a document already parsed, with the problems found so far; `environment` has the value of a variable.
    pub fn new(
        document: &Document,
        problems: Vec<Problem>,
        environment: fn(&str) -> Option<String>,
    ) -> Self {
        let (file, section) = (document.file.clone(), document.section("global").cloned());
        let mut global = Self {
            file,
            section,
            has_farms: document.section("farms").is_some(),
            environment,
            problems,
        };
        global.check_keys();
        global
    }

    /// Whether the file has farms, which only the command line reads.
    pub fn has_farms(&self) -> bool {
        self.has_farms
    }

    fn check_keys(&mut self) {
        let known: Vec<&str> = [PROCESS_KEYS, FARM_KEYS, CHECK_KEYS].concat();
        let Some(section) = &self.section else { return };
        for entry in section
            .entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.as_str()))
        {
            let message = format!(
                "unknown key `{}` in [global]{}",
                entry.key,
                did_you_mean(&entry.key, &known)
            );
            self.problems.push(Problem {
                file: self.file.clone(),
                line: Some(entry.line),
                message,
            });
        }
    }

    /// The value of `key` from environment or file; an unusable one is noted for [`Global::finish`].
    pub fn get<T, E: fmt::Display>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let variable = format!("RBALANCER_{}", key.to_ascii_uppercase());
        let entry = self.section.as_ref().and_then(|section| section.get(key));
        let (file, line, text) = match ((self.environment)(&variable), entry) {
            (Some(text), _) => (format!("environment {variable}"), None, text),
            (None, Some(entry)) => (self.file.clone(), Some(entry.line), entry.value.clone()),
            (None, None) => return None,
        };
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(Problem {
                    file,
                    line,
                    message: format!("{key}: {error}"),
                });
                None
            }
        }
    }

    /// The Redis this process is told to use, if any; `flag` is `--redis`.
    pub fn redis(&mut self, flag: Option<RedisAddress>) -> Option<RedisSettings> {
        let address = flag.or_else(|| {
            // The environment is the documented place for a password; its usual name is RBALANCER_REDIS_URL.
            let from_url =
                (self.environment)(environment::REDIS_URL).map(|url| url.parse::<RedisAddress>());
            match from_url {
                Some(Ok(address)) => Some(address),
                Some(Err(error)) => {
                    let file = format!("environment {}", environment::REDIS_URL);
                    self.problems.push(Problem {
                        file,
                        line: None,
                        message: error.to_string(),
                    });
                    None
                }
                None => self.get("redis", str::parse::<RedisAddress>),
            }
        });
        let password_file = self.get("redis_password_file", path);
        let sentinel_password_file = self.get("redis_sentinel_password_file", path);
        let prefix = self
            .get("redis_prefix", non_empty)
            .unwrap_or_else(|| RedisSettings::PREFIX.into());
        let ca_file = self.get("redis_ca_file", path);
        let client_pair = self.client_pair();
        let address = address?;
        if address.has_user() && !address.has_password() && password_file.is_none() {
            self.problem(format!("redis: the URL names a user and no password, who would be asked for as the default user: add redis_password_file, or write {address} without a user"));
        }
        if !address.is_tls() {
            let keys = ["redis_ca_file", "redis_cert_file", "redis_key_file"];
            for key in keys
                .into_iter()
                .filter(|key| self.get(key, non_empty).is_some())
            {
                tracing::warn!(
                    "{key} is of no use where redis is asked without TLS: write rediss://, or remove the key"
                );
            }
        }
        Some(RedisSettings {
            address,
            password_file,
            sentinel_password_file,
            client_pair,
            ca_file,
            prefix,
        })
    }

    /// A certificate for servers that want one of their clients, and its key: both, or neither.
    fn client_pair(&mut self) -> Option<(PathBuf, PathBuf)> {
        match (
            self.get("redis_cert_file", path),
            self.get("redis_key_file", path),
        ) {
            (Some(certificate), Some(key)) => return Some((certificate, key)),
            (Some(_), None) => self.refuse(
                "redis_cert_file",
                "is of no use without its key: add redis_key_file",
            ),
            (None, Some(_)) => self.refuse(
                "redis_key_file",
                "is of no use without its certificate: add redis_cert_file",
            ),
            (None, None) => {}
        }
        None
    }

    /// The Redis a daemon cannot do without: its absence is a problem.
    pub fn redis_needed(&mut self, flag: Option<RedisAddress>) -> Option<RedisSettings> {
        let redis = self.redis(flag);
        if redis.is_none() && self.problems.is_empty() {
            self.problem(
                "no redis: give --redis URL, RBALANCER_REDIS_URL or redis in [global]".into(),
            );
        }
        redis
    }

    /// Notes that the value of `key`, good by itself, does not fit the others.
    pub fn refuse(&mut self, key: &str, message: &str) {
        let refused = self.get(key, |_| Err::<(), _>(message.to_owned()));
        debug_assert!(refused.is_none(), "a refused value is no value");
    }

    /// Notes a problem found outside a single value.
    pub fn problem(&mut self, message: String) {
        let file = if self.file.is_empty() {
            "settings".to_owned()
        } else {
            self.file.clone()
        };
        self.problems.push(Problem {
            file,
            line: None,
            message,
        });
    }

    /// Ends the reading: every problem at once, or `settings`.
    pub fn finish<T>(self, settings: T) -> Result<T, Problems> {
        if self.problems.is_empty() {
            Ok(settings)
        } else {
            Err(Problems(self.problems))
        }
    }
}

/// Reads and parses a file; one that cannot be read is the only problem then.
pub fn read_document(path: &Path) -> Result<(Document, Vec<Problem>), Problems> {
    let file = path.display().to_string();
    let bad = |message: String| {
        Problems(vec![Problem {
            file: file.clone(),
            line: None,
            message,
        }])
    };
    let bytes = std::fs::read(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        Problems(vec![Problem {
            file: file.clone(),
            line: Some(line),
            message: "is not UTF-8 text: save it as UTF-8".into(),
        }])
    })?;
    Ok(Document::parse(&file, &text))
}

/// `1500`, `300ms`, `5s`, `10m`, `2h`, `7d`; a bare number is milliseconds, as HAProxy reads it. Up to ten years.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!("`{text}` is no time: write a number with ms, s, m, h or d, such as 300ms or 5s")
    };
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    let ms = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(bad)?;
    if ms > 10 * 365 * 86_400_000 {
        Err(bad())
    } else {
        Ok(Duration::from_millis(ms))
    }
}

/// A time as somebody types it: with its unit, since a bare number could be meant as any, and at least a second.
///
/// # Errors
/// Says what may be written.
pub fn typed_duration(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "`{text}` has no unit: write {text}s, {text}m, {text}h or {text}d"
        ));
    }
    duration(text).and_then(|time| {
        if time < Duration::from_secs(1) {
            Err("must be at least 1s".into())
        } else {
            Ok(time)
        }
    })
}

/// A [`duration`] that is not zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| {
        if time.is_zero() {
            Err("must be more than 0".into())
        } else {
            Ok(time)
        }
    })
}

/// `on`, `true`, `yes`, `1` or `off`, `false`, `no`, `0`, in any case.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither on nor off")),
    }
}

/// A comma-separated list; blanks and empty places are skipped.
pub fn list(text: &str) -> Vec<&str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}

/// A whole number within `low` and `high`.
pub fn number<T: FromStr + PartialOrd + fmt::Display>(
    low: T,
    high: T,
) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let number = text
            .parse::<T>()
            .ok()
            .filter(|number| (&low..=&high).contains(&number));
        let is_number = text
            .strip_prefix('-')
            .unwrap_or(text)
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            && !text.is_empty();
        let wrong = if is_number {
            "is out of range"
        } else {
            "is no number"
        };
        number.ok_or_else(|| format!("`{text}` {wrong}: write a whole number from {low} to {high}"))
    }
}

/// A path; never empty.
pub fn path(text: &str) -> Result<PathBuf, String> {
    non_empty(text).map(PathBuf::from)
}

/// Any text but the empty one.
pub fn non_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("is empty: write a value or remove the key".into())
    } else {
        Ok(text.to_owned())
    }
}

/// A network such as `10.0.0.0/8` or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether `address` belongs to it. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                (net.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                (net.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }

    /// Loopback and private addresses: who may see the stats unless the file says otherwise (RFC 1918, RFC 4193,
    /// RFC 4291 section 2.5.6, RFC 3927).
    pub fn private() -> Vec<Self> {
        let known = [
            "127.0.0.0/8",
            "::1/128",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "fc00::/7",
            "fe80::/10",
        ];
        known.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad =
            || format!("`{text}` is no network: write ADDRESS or ADDRESS/BITS, such as 10.0.0.0/8");
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), |bits| bits.parse().map_err(|_| bad()))?;
        if bits > all {
            Err(bad())
        } else {
            Ok(Self { address, bits })
        }
    }
}

/// Networks by commas; `all` is everybody, `none` nobody.
pub fn networks(text: &str) -> Result<Vec<Network>, String> {
    match text {
        "all" => Ok(vec!["0.0.0.0/0".parse()?, "::/0".parse()?]),
        "none" => Ok(Vec::new()),
        _ => list(text).into_iter().map(str::parse).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(duration("1500"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in [
            "",
            "s",
            "1.5s",
            "-1",
            "5 weeks",
            "99999999999999999999d",
            "9999999d",
        ] {
            assert!(duration(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(positive_duration("0").is_err());
        assert_eq!(typed_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(
            typed_duration("10"),
            Err("`10` has no unit: write 10s, 10m, 10h or 10d".into())
        );
        assert!(
            ["", "999ms", "0s", "x"]
                .iter()
                .all(|bad| typed_duration(bad).is_err())
        );
    }

    #[test]
    fn networks_hold_their_addresses() {
        let private = Network::private();
        let inside = |text: &str| {
            private
                .iter()
                .any(|network| network.contains(text.parse().expect("address")))
        };
        assert!(
            inside("127.0.0.1")
                && inside("::ffff:10.1.2.3")
                && inside("172.31.0.1")
                && inside("fd00::1")
        );
        assert!(!inside("8.8.8.8") && !inside("172.32.0.1") && !inside("2001:db8::1"));
        assert!("10.0.0.0/33".parse::<Network>().is_err() && "x".parse::<Network>().is_err());
    }

    #[test]
    fn the_environment_comes_before_the_file_and_all_problems_at_once() {
        let (document, problems) = Document::parse("f", "[global]\nport=x\nthraeds=2\nmaxconn=5\n");
        let mut global = Global::new(&document, problems, |key| {
            (key == "RBALANCER_MAXCONN").then(|| "7".to_owned())
        });
        assert_eq!(global.get("maxconn", number(1u32, 9)), Some(7));
        assert_eq!(global.get("port", number(1u16, 65535)), None);
        let text = global.finish(()).expect_err("two problems").to_string();
        assert!(
            text.contains("f:2: port: `x`")
                && text.contains("f:3: unknown key `thraeds` in [global]; did you mean `threads`?"),
            "{text}"
        );
    }
}
