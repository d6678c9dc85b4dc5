//! Writing text for people into one growing string: escaped words, grouped numbers, ages.

use std::fmt::{Display, Write};

/// Appends what formats; a string never refuses.
pub(super) fn put(out: &mut String, what: impl Display) {
    let _ = write!(out, "{what}");
}

/// Appends `text` as HTML text or as an attribute in double quotes. The only way by which words that came from
/// the store get into a page.
pub(super) fn escape(out: &mut String, text: &str) {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && !b"&<>\"'".contains(&byte);
    if text.bytes().all(is_plain) {
        out.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\r' | '\t' => out.push(' '),
            // Controls and what turns the direction of writing could make one line look like another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
}

/// Appends a whole number with its thousands apart.
pub(super) fn number(out: &mut String, value: u64) {
    let (mut digits, mut at, mut rest) = ([0; 26], 26, value);
    // Digit by digit from the right: a large page holds tens of thousands of numbers.
    loop {
        at -= 1;
        // Every fourth character from the right is a comma.
        if (26 - at) % 4 == 0 {
            digits[at] = b',';
            at -= 1;
        }
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Appends a rate per second: tenths while they matter.
pub(super) fn rate(out: &mut String, value: f64) {
    let tenths = (value * 10.0).round() as u64;
    number(
        out,
        if tenths < 1000 {
            tenths / 10
        } else {
            value.round() as u64
        },
    );
    if (1..1000).contains(&tenths) {
        put(out, format_args!(".{}", tenths % 10));
    }
}

/// Appends a part of a whole in per cent.
pub(super) fn percent(out: &mut String, part: f64) {
    let tenths = (part * 1000.0).round() as u64;
    number(out, tenths / 10);
    out.push('.');
    number(out, tenths % 10);
    out.push('%');
}

/// Appends a time span in its two greatest units: `3m 12s`.
pub(super) fn span(out: &mut String, ms: u64) {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => put(out, format_args!("{seconds}s")),
        (0, 0, _) => put(out, format_args!("{minutes}m {}s", seconds % 60)),
        (0, _, _) => put(out, format_args!("{hours}h {}m", minutes % 60)),
        _ => put(out, format_args!("{days}d {}h", hours % 24)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let hostile = "<script>alert(\"1\")</script>&'\u{202e}\u{0}\n";
        let safe = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;\u{fffd}\u{fffd} ";
        assert_eq!(written(|out| escape(out, hostile)), safe);
    }

    #[test]
    fn numbers_and_times_are_easy_to_read() {
        assert_eq!(written(|out| number(out, 1_234_567)), "1,234,567");
        assert_eq!(
            written(|out| number(out, 0)) + &written(|out| number(out, 999)),
            "0999"
        );
        assert_eq!(
            written(|out| number(out, u64::MAX)),
            "18,446,744,073,709,551,615"
        );
        assert_eq!(
            written(|out| percent(out, 0.0625)) + &written(|out| percent(out, 1.0)),
            "6.3%100.0%"
        );
        assert_eq!(written(|out| number(out, 1_000_005)), "1,000,005");
        assert_eq!(written(|out| rate(out, 12.34)), "12.3");
        assert_eq!(written(|out| rate(out, 99.97)), "100");
        assert_eq!(written(|out| rate(out, 12_345.6)), "12,346");
        assert_eq!(written(|out| rate(out, 0.0)), "0");
        assert_eq!(written(|out| span(out, 192_000)), "3m 12s");
        assert_eq!(written(|out| span(out, 90_000_000)), "1d 1h");
    }
}
