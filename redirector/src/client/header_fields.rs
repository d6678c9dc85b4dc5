//! Fields of an HTTP/1 head that is known to be well formed.

/// The value of the last field `name` (in small letters) in a head that is known to be well formed.
pub(crate) fn field<'a>(head: &'a [u8], name: &'static [u8]) -> Option<&'a [u8]> {
    fields(head, name).next()
}

/// The lines of a head; nothing of what follows it.
fn lines(head: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    // Empty lines before a request are not its end.
    let head = head.trim_ascii_start();
    let end = memchr::memmem::find(head, b"\r\n\r\n").unwrap_or(head.len());
    head[..end].split(|&byte| byte == b'\n')
}

/// All fields, names and values.
pub(crate) fn all_fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(head).skip(1).filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// The values of all fields `name`, the last one first.
pub(crate) fn fields<'a>(head: &'a [u8], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    lines(head).rev().filter_map(move |line| {
        let named =
            line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name);
        named.then(|| line[name.len() + 1..].trim_ascii())
    })
}
