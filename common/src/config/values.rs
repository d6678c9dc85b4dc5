//! The values of keys: text to a type, or the words that say what may be written.

use crate::net::network::Network;
use crate::words::list;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

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

/// Where the stats are, without a slash at the end; none: `off`.
pub fn stats_uri(text: &str) -> Result<Option<String>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let is_path = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    match text.trim_end_matches('/') {
        "" if text.starts_with('/') => {
            Err("`/` is every farm's first page: choose a path such as /stats".into())
        }
        path if path.starts_with('/') && path.bytes().all(is_path) => Ok(Some(path.to_owned())),
        _ => Err(format!(
            "`{text}` is no path for the stats: write one such as /stats, or off"
        )),
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
    fn the_stats_have_a_path_or_none() {
        for off in ["off", "OFF", "Off"] {
            assert_eq!(stats_uri(off), Ok(None));
        }
        for (text, path) in [
            ("/stats", "/stats"),
            ("/stats/", "/stats"),
            ("/a.b/c", "/a.b/c"),
        ] {
            assert_eq!(stats_uri(text), Ok(Some(path.to_owned())));
        }
        for bad in ["stats", "/", "//", "/a b", "", "/a?b", "/\u{e9}"] {
            assert!(stats_uri(bad).is_err(), "{bad:?} was accepted");
        }
    }

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
}
