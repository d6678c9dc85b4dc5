//! How a client's request came to the proxy in front, http or https, by the fields in which proxies say it. Pure.
//! Whether the peer is trusted is asked before anything here is believed.

use common::model::target::Scheme;

/// How a field says it.
#[derive(Clone, Copy)]
enum SchemeForm {
    /// The scheme's name; of a list, which each proxy on the way goes on with, the first: the client's own.
    Name,
    /// `proto` in the pairs of RFC 7239 section 5.4; the first likewise.
    Pairs,
    /// `on` is https, `off` is http.
    Switch,
}

/// The fields that say it, in the order in which they are believed where several speak. X-Forwarded-Proto comes first:
/// it is the one that nearly every proxy sets or overwrites, so that no client has put it there.
const FIELDS: [(&[u8], SchemeForm); 9] = [
    (b"x-forwarded-proto", SchemeForm::Name),
    (b"forwarded", SchemeForm::Pairs),
    (b"x-forwarded-scheme", SchemeForm::Name),
    (b"x-forwarded-protocol", SchemeForm::Name),
    (b"x-url-scheme", SchemeForm::Name),
    (b"x-scheme", SchemeForm::Name),
    (b"cloudfront-forwarded-proto", SchemeForm::Name),
    (b"x-forwarded-ssl", SchemeForm::Switch),
    (b"front-end-https", SchemeForm::Switch),
];

/// The scheme that `fields`, names and values in the order in which they came, tell of: by the first of `FIELDS` that
/// can be read. None: none can.
pub(crate) fn told<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<Scheme> {
    let read = |(name, value): (&[u8], &[u8])| {
        let rank = FIELDS
            .iter()
            .position(|(known, _)| name.eq_ignore_ascii_case(known))?;
        Some((rank, FIELDS[rank].1.read(value)?))
    };
    // Of several with the same name it takes the first: they are one list.
    fields
        .filter_map(read)
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, scheme)| scheme)
}

impl SchemeForm {
    fn read(self, value: &[u8]) -> Option<Scheme> {
        match self {
            // Empty elements of a list are none (RFC 9110 section 5.6.1).
            Self::Name => name(
                value
                    .split(|&byte| byte == b',')
                    .map(<[u8]>::trim_ascii)
                    .find(|element| !element.is_empty())?,
            ),
            Self::Pairs => pairs(value),
            Self::Switch if value.trim_ascii().eq_ignore_ascii_case(b"on") => Some(Scheme::Https),
            Self::Switch => value
                .trim_ascii()
                .eq_ignore_ascii_case(b"off")
                .then_some(Scheme::Http),
        }
    }
}

/// A scheme by its name; a WebSocket's begins with a request by the scheme below it (RFC 6455 section 3).
fn name(text: &[u8]) -> Option<Scheme> {
    match text.to_ascii_lowercase().as_slice() {
        b"https" | b"wss" => Some(Scheme::Https),
        b"http" | b"ws" => Some(Scheme::Http),
        _ => None,
    }
}

/// The first `proto` of a Forwarded field: pairs by semicolons, hops by commas, values perhaps in quotes (RFC 7239
/// section 4).
fn pairs(value: &[u8]) -> Option<Scheme> {
    let (mut quoted, mut escaped) = (false, false);
    let ends = |&byte: &u8| {
        let plain = !escaped;
        escaped = quoted && plain && byte == b'\\';
        quoted ^= plain && byte == b'"';
        !quoted && matches!(byte, b',' | b';')
    };
    value.split(ends).find_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        let bare = value
            .strip_prefix(b"\"")
            .and_then(|open| open.strip_suffix(b"\""))
            .unwrap_or(value);
        key.eq_ignore_ascii_case(b"proto")
            .then(|| name(bare))
            .flatten()
    })
}

#[cfg(test)]
mod tests;
