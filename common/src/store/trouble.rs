//! What is wrong between us and a Redis, told apart by what it answers, with the remedy in words.

use redis::{ErrorKind, RedisError, ServerError};
use std::fmt;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It wants a password and was given none; the key that names the file for it.
    NoPassword(&'static str),
    /// It does not know the user, or not with this password; the key.
    WrongPassword(&'static str),
    /// The user may not do this; its words.
    NoRight(String),
    /// It is in protected mode: without a password it takes clients of its own host only.
    Protected,
    /// It is a member of a Cluster, and was not asked as one.
    InACluster,
    /// It is no member of a Cluster, and was asked as one.
    NotInACluster,
    /// It is a Sentinel, and was asked as a server.
    Sentinel,
    /// It is no Sentinel, and was asked as one.
    NotASentinel,
    /// It is a replica.
    Replica,
    /// It reads its data; its words.
    Loading(String),
    /// It has no memory left.
    Full,
    /// It cannot save; its words.
    CannotSave(String),
    /// It has too few replicas.
    FewReplicas,
    /// A key holds a value of another type; its words.
    WrongType(String),
    /// It has no such command; its words.
    NoCommand(String),
    /// What answers is no Redis; how it begins.
    NotRedis(String),
    /// It ends connections without a word.
    HangsUp,
    /// A connection that worked is gone.
    Lost,
    /// The connection cannot be made secure; why.
    Tls(TlsTrouble),
    /// Something else; in its words.
    Other(String),
}

/// Why a connection cannot be made secure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsTrouble {
    /// The other side does not speak TLS.
    Plain,
    /// The handshake does not end.
    Silent,
    /// It ends connections after the handshake; whether it was given a certificate of ours.
    HangsUp(bool),
    /// Its certificate is signed by nobody we trust.
    UnknownIssuer,
    /// Its certificate is for another name.
    OtherName,
    /// Its certificate is not valid now.
    NotNow,
    /// It wants a certificate of ours.
    WantsCertificate,
    /// It does not take the certificate of ours; its alert.
    RefusesCertificate(String),
    /// Something else.
    Other(String),
}

impl Trouble {
    /// What `error` of the client means, where a single server was asked.
    pub(super) fn of(error: &RedisError) -> Self {
        if let Some(errors) = error.clone().into_server_errors()
            && let Some((_, first)) = errors.first()
        {
            return Self::answered(first);
        }
        let words = error.to_string();
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::WrongPassword(PASSWORD_FILE),
            ErrorKind::Parse => Self::NotRedis(words),
            _ => {
                TlsTrouble::of(&words).map_or_else(|| Self::of_connection(error, words), Self::Tls)
            }
        }
    }

    fn of_connection(error: &RedisError, words: String) -> Self {
        if error.is_io_error()
            && error.is_connection_dropped()
            && !error.is_connection_refusal()
            && !words.contains("o such file")
        {
            Self::HangsUp
        } else {
            Self::Other(words)
        }
    }

    fn answered(error: &ServerError) -> Self {
        Self::answer(error.code(), error.details().unwrap_or_default())
    }

    /// What an answer means that begins with `code`.
    pub fn answer(code: &str, details: &str) -> Self {
        let said = || {
            if details.is_empty() {
                code.to_owned()
            } else {
                format!("{code} {details}")
            }
        };
        match code.trim_matches('"') {
            "NOAUTH" => Self::NoPassword(PASSWORD_FILE),
            "WRONGPASS" => Self::WrongPassword(PASSWORD_FILE),
            "NOPERM" => Self::NoRight(details.to_owned()),
            "DENIED" => Self::Protected,
            "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => Self::InACluster,
            "READONLY" => Self::Replica,
            "LOADING" | "MASTERDOWN" => Self::Loading(details.to_owned()),
            "OOM" => Self::Full,
            "MISCONF" => Self::CannotSave(details.to_owned()),
            "NOREPLICAS" => Self::FewReplicas,
            "WRONGTYPE" => Self::WrongType(said()),
            // Before a password is given, commands with more than ten parts are not even read.
            _ if details.contains("unauthenticated") => Self::NoPassword(PASSWORD_FILE),
            _ if lacks_data(details) => Self::Sentinel,
            _ if details.contains("cluster support disabled") => Self::NotInACluster,
            _ if details.contains("unknown command") || details.contains("nknown subcommand") => {
                Self::NoCommand(details.to_owned())
            }
            "ERR" if details.contains("called without any password configured") => {
                Self::WrongPassword(PASSWORD_FILE)
            }
            _ => Self::Other(said()),
        }
    }

    /// The same on a connection that has worked: that it is gone says nothing of how to reach the server.
    pub(super) fn underway(self) -> Self {
        match self {
            Self::HangsUp | Self::Tls(TlsTrouble::HangsUp(_)) => Self::Lost,
            other => other,
        }
    }

    /// The same said by a Sentinel that was asked for a primary.
    pub(super) fn of_sentinel(self) -> Self {
        match self {
            Self::NoPassword(_) => Self::NoPassword(SENTINEL_PASSWORD_FILE),
            Self::WrongPassword(_) => Self::WrongPassword(SENTINEL_PASSWORD_FILE),
            Self::NoCommand(_) => Self::NotASentinel,
            other => other,
        }
    }
}

/// Whether a command on data is unknown that every server has had for ten years.
fn lacks_data(details: &str) -> bool {
    let command = details.to_ascii_lowercase();
    let command = command
        .strip_prefix("unknown command '")
        .and_then(|rest| rest.split('\'').next())
        .unwrap_or_default();
    matches!(
        command,
        "hget"
            | "hmget"
            | "hgetall"
            | "hvals"
            | "hscan"
            | "zrange"
            | "zrangebyscore"
            | "zscore"
            | "zcard"
            | "zscan"
            | "getrange"
            | "evalsha"
    )
}

/// The key that names the file with the password.
const PASSWORD_FILE: &str = "redis_password_file";

/// The same for Sentinels.
const SENTINEL_PASSWORD_FILE: &str = "redis_sentinel_password_file";

impl TlsTrouble {
    /// What the words of a TLS library's error mean; none where they are not of TLS.
    fn of(words: &str) -> Option<Self> {
        let has = |part: &str| words.contains(part);
        Some(match () {
            () if has("InvalidContentType") => Self::Plain,
            () if has("UnknownIssuer") || has("BadSignature") || has("CaUsedAsEndEntity") => {
                Self::UnknownIssuer
            }
            () if has("NotValidForName") => Self::OtherName,
            () if has("certificate: Expired")
                || has("certificate expired")
                || has("NotValidYet")
                || has("not valid yet") =>
            {
                Self::NotNow
            }
            () if has("CertificateRequired") => Self::WantsCertificate,
            () if has("fatal alert: UnknownCA") => {
                Self::RefusesCertificate("it does not trust who signed it".into())
            }
            () if has("fatal alert: CertificateExpired") => {
                Self::RefusesCertificate("it is not valid now".into())
            }
            () if has("fatal alert: BadCertificate")
                || has("fatal alert: UnsupportedCertificate")
                || has("fatal alert: CertificateUnknown") =>
            {
                Self::RefusesCertificate("it is no good for a client".into())
            }
            // TLS 1.2 has no alert of its own for a certificate that is missing (RFC 5246 section 7.4.6).
            () if has("fatal alert: HandshakeFailure") => Self::WantsCertificate,
            () if has("fatal alert: ")
                || has("invalid peer certificate")
                || has("corrupt message")
                || has("handshake") =>
            {
                Self::Other(plain(words))
            }
            () => return None,
        })
    }
}

/// A library's `SomeAlert` as `some alert`.
fn plain(words: &str) -> String {
    let mut text = String::with_capacity(words.len() + 8);
    let mut before = ' ';
    for c in words.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
        before = c;
    }
    text
}

/// The remedy, and last the server's own word for it, which is what its documentation and others' questions have.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPassword(key) => write!(f, "it asks for a password: name a file with it as {key} (NOAUTH)"),
            Self::WrongPassword(key) => {
                write!(f, "it does not take this user and password: look into the {key}, and at the user in the URL (WRONGPASS)")
            }
            Self::NoRight(words) => write!(f, "its user may not do that ({words}): deploy/redis has the rights each role needs (NOPERM)"),
            Self::Protected => f.write_str(
                "it is in protected mode and takes clients of its own host only: give it a password, by requirepass or users (DENIED)",
            ),
            Self::InACluster => f.write_str("it is a member of a Cluster: write redis+cluster://HOST"),
            Self::NotInACluster => f.write_str("it is no member of a Cluster: write redis://HOST"),
            Self::Sentinel => f.write_str("it is a Sentinel: write redis+sentinel://HOST/PRIMARY"),
            Self::NotASentinel => f.write_str("it is no Sentinel: write redis://HOST, or the port of a Sentinel (26379)"),
            Self::Replica => f.write_str("it is a replica and takes no writes: name the primary, or the Sentinels (READONLY)"),
            Self::Loading(words) => write!(f, "it is not ready yet ({words}): it will be when its data is read"),
            Self::Full => f.write_str("it has no memory left: raise its maxmemory (OOM)"),
            Self::CannotSave(words) => write!(f, "it cannot save ({words}): look into its log (MISCONF)"),
            Self::FewReplicas => f.write_str("it has too few replicas: start them, or lower its min-replicas-to-write (NOREPLICAS)"),
            Self::WrongType(words) | Self::Other(words) => f.write_str(words),
            Self::NoCommand(words) => write!(f, "it has no such command ({words}): Redis 7 or Valkey is wanted"),
            Self::NotRedis(words) => write!(f, "what answers there is no redis ({words}): look at the port"),
            Self::HangsUp => f.write_str("it ends connections without a word: where TLS is spoken write rediss://, and look at the port"),
            Self::Lost => f.write_str("the connection was lost"),
            Self::Tls(trouble) => trouble.fmt(f),
        }
    }
}

impl fmt::Display for TlsTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("it speaks no TLS: write redis://, or the port where it does"),
            Self::Silent => f.write_str("the TLS handshake does not end: where no TLS is spoken write redis://"),
            Self::HangsUp(false) => f.write_str(
                "it ends TLS connections without a word: if it wants a certificate of its clients name one as redis_cert_file and redis_key_file",
            ),
            Self::HangsUp(true) => f.write_str("it ends TLS connections without a word, as if it does not take the certificate in redis_cert_file"),
            Self::UnknownIssuer => f.write_str("nobody we trust has signed its certificate: name who did as redis_ca_file"),
            Self::OtherName => f.write_str("its certificate is for another name: write the name it is for"),
            Self::NotNow => f.write_str("its certificate is not valid now: renew it, or set the clock"),
            Self::WantsCertificate => f.write_str("it wants a certificate of its clients: name one as redis_cert_file and redis_key_file"),
            Self::RefusesCertificate(why) => write!(f, "it does not take the certificate in redis_cert_file: {why}"),
            Self::Other(words) => write!(f, "no TLS connection can be made: {words}"),
        }
    }
}

#[cfg(test)]
mod tests;
