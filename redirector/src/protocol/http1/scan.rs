//! The first byte of a kind in a run of text, looked for eight bytes at a time.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where the first control byte is (below 0x20 but the tab, or DEL); the length where there is none.
#[inline]
pub(crate) fn control(bytes: &[u8]) -> usize {
    let mut from = 0;
    loop {
        from += first(
            &bytes[from..],
            |word| below(word, b' ') | equal(word, 0x7f),
            |byte| byte < b' ' || byte == 0x7f,
        );
        if bytes.get(from) != Some(&b'\t') {
            return from;
        }
        from += 1;
    }
}

/// Where the first byte is that a request target may not hold: a control byte, a space, DEL, or the `#` of a
/// fragment, which never belongs in a request (RFC 9112 section 3.2); the length where there is none.
#[inline]
pub(crate) fn target_end(bytes: &[u8]) -> usize {
    let ends = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'#';
    first(
        bytes,
        |word| below(word, b' ' + 1) | equal(word, 0x7f) | equal(word, b'#'),
        ends,
    )
}

/// Where the first byte is that `marks` finds in a word, and `ends` among the last few bytes.
#[inline]
fn first(bytes: &[u8], marks: impl Fn(u64) -> u64, ends: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let marked = marks(u64::from_le_bytes(*word));
        if marked != 0 {
            return index * 8 + marked.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8
        + rest
            .iter()
            .position(|&byte| ends(byte))
            .unwrap_or(rest.len())
}

/// Marks the first byte below `limit` (at most 128) by its highest bit; bytes behind it may be marked wrongly
/// (Anderson, "Bit Twiddling Hacks", determine if a word has a byte less than n).
#[inline]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGHS
}

/// Marks the first byte that is `byte`, as [`below`] does.
#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn words_find_what_bytes_do(bytes in proptest::collection::vec(prop_oneof![3 => b'!'..=b'~', 1 => any::<u8>()], 0..40)) {
            let position = |is: fn(u8) -> bool| bytes.iter().position(|&byte| is(byte)).unwrap_or(bytes.len());
            prop_assert_eq!(control(&bytes), position(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f));
            prop_assert_eq!(target_end(&bytes), position(|byte| byte <= 0x20 || byte == 0x7f || byte == b'#'));
        }
    }
}
