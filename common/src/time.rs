//! Wall-clock milliseconds, moments and spans as people read them. Decisions use monotonic clocks passed in as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch. Only ever shown or stored for showing: two hosts' values are never compared.
pub type UnixMs = u64;

/// The wall clock now.
pub fn unix_ms() -> UnixMs {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// The last second that has a date of four digits; what the store holds is not trusted to be sane.
const LATEST: u64 = 253_402_300_799;

/// A moment, to the second: `2026-01-31 23:59:59`, in UTC.
pub fn utc(at: UnixMs) -> String {
    let seconds = (at / 1000).min(LATEST);
    let moment = ::time::UtcDateTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let (date, (hour, minute, second)) = (moment.date(), moment.as_hms());
    format!("{date} {hour:02}:{minute:02}:{second:02}")
}

/// A time span in its greatest unit: `90s`, `15m`, `3h`, `2d`.
pub fn span(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms}ms"),
        seconds @ 1..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A moment as pages show it: `Sat, 31 Jan 2026 23:59:59 GMT`.
pub fn http_date(at: UnixMs) -> String {
    let since_epoch = Duration::from_millis(at).min(Duration::from_secs(LATEST));
    httpdate::fmt_http_date(UNIX_EPOCH + since_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_735_689_599_999), "2024-12-31 23:59:59");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00");
        assert_eq!(utc(u64::MAX), "9999-12-31 23:59:59");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert!(http_date(u64::MAX).contains("9999"));
    }

    #[test]
    fn spans_have_one_unit() {
        assert_eq!(
            [500, 90_000, 900_000, 10_800_000, 172_800_000].map(span),
            ["500ms", "90s", "15m", "3h", "2d"]
        );
    }
}
