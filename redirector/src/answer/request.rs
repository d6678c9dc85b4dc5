//! A request as answering knows it, whatever it came in.

/// The longest head, from the first byte of the request line to the empty line.
pub const MAX_HEAD: usize = 16 * 1024;

/// Header fields a request may have unless `max_fields` says otherwise.
pub const FIELDS: usize = 100;

/// The greatest `max_fields`.
pub const MAX_FIELDS: usize = 256;

/// The longest request target.
pub const MAX_TARGET: usize = 8 * 1024;

/// The methods that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// Any other.
    Other,
}

/// A request whose head is complete and valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is to be done.
    pub method: Method,
    /// Path and query, byte for byte as they came. They begin with `/`, or with `?` where an absolute-form has no path:
    /// that is to be read as `/?` (RFC 9110 section 4.2.3).
    pub target: &'a [u8],
    /// The Host field as it came; where HTTP/1.0 sent none what an absolute-form names, or nothing.
    pub host: &'a [u8],
    /// Whether it came as HTTP/1.1; a greater minor version is to be read so (RFC 9110 section 2.5).
    pub http11: bool,
    /// Whether the client lets the connection stay open.
    pub keep_alive: bool,
    /// Whether a body follows.
    pub body: bool,
    /// If-None-Match, if sent; empty if sent more than once.
    pub if_none_match: Option<&'a [u8]>,
    /// If-Modified-Since, if sent.
    pub if_modified_since: Option<&'a [u8]>,
}
