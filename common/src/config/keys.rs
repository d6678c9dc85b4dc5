//! Every key of rbalancer.conf: its name, where it may stand, what its value is, its default and its meaning. The readers
//! know no other keys; hints, `rbalancer keys` and the reference in the documentation come from here.

use serde::Serialize;

/// A section that a key may stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// `[global]`.
    Global,
    /// `[farms]`.
    Farms,
    /// The section of a farm.
    Farm,
    /// The section of a server.
    Server,
}

impl Place {
    /// As the documentation writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "[global]",
            Self::Farms => "[farms]",
            Self::Farm => "farm",
            Self::Server => "server",
        }
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A switch: on, true, yes, 1 or off, false, no, 0.
    Switch,
    /// A time: `300ms`, `5s`, `10m`, `2h`, `7d`.
    Time,
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// A path.
    Path,
    /// Several of something, by commas.
    List(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Text of this form.
    Text(&'static str),
}

impl Kind {
    /// In words, with units and ranges.
    pub fn words(self) -> String {
        match self {
            Self::Switch => "on or off".into(),
            Self::Time => "time".into(),
            Self::Number(low, high) => format!("{low} to {high}"),
            Self::Path => "path".into(),
            Self::List(what) => format!("{what}, …"),
            Self::Word(words) => words.join(", "),
            Self::Text(form) => form.into(),
        }
    }
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Its name; in files in any case.
    pub name: &'static str,
    /// Where it may stand; what stands in the first of them beats the next.
    pub places: &'static [Place],
    /// What its value is.
    pub kind: Kind,
    /// The value where it is absent; empty: see the meaning.
    pub default: &'static str,
    /// What it is for.
    pub meaning: &'static str,
}

impl Key {
    /// Whether it sets a process, and so may come from the environment too.
    pub fn is_process(&self) -> bool {
        self.places == GLOBAL
    }
}

const GLOBAL: &[Place] = &[Place::Global];
const FARM: &[Place] = &[Place::Farm, Place::Global];
const CHECK: &[Place] = &[Place::Server, Place::Farm, Place::Global];

/// The greatest number of threads, connections and probes in a row that are taken.
const THREADS: u64 = 1024;
const CONNECTIONS: u64 = 100_000_000;
const IN_A_ROW: u64 = 1000;

const fn key(
    places: &'static [Place],
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        places,
        kind,
        default,
        meaning,
    }
}

use Kind::{List, Number, Path, Switch, Text, Time, Word};

/// Every key, in the order of the documentation.
pub const KEYS: &[Key] = &[
    key(
        GLOBAL,
        "port",
        Number(1, 65_535),
        "9998",
        "where clients ask, where `bind` names no port",
    ),
    key(
        GLOBAL,
        "bind",
        List("ADDRESS[:PORT]"),
        "*",
        "where clients ask; `--listen`",
    ),
    key(
        GLOBAL,
        "tls_port",
        Number(1, 65_535),
        "443",
        "where clients ask over TLS, where `tls_bind` names no port",
    ),
    key(
        GLOBAL,
        "tls_bind",
        List("ADDRESS[:PORT]"),
        "",
        "where clients ask over TLS, beside the plain port; as `bind`",
    ),
    key(
        GLOBAL,
        "tls_cert",
        List("path"),
        "",
        "certificates (PEM, with the chain): TLS 1.2 and 1.3 with HTTP/1.1 and HTTP/2, chosen by the name the client asks for, the first for all others; read again on HUP and when they change; none: no TLS",
    ),
    key(
        GLOBAL,
        "tls_key",
        List("path"),
        "",
        "their keys (PEM), in the same order",
    ),
    key(
        GLOBAL,
        "allow_downgrade",
        Switch,
        "off",
        "whether https may be redirected to servers written with `http://`",
    ),
    key(
        GLOBAL,
        "trusted_proxies",
        List("NETWORK"),
        "",
        "networks whose peers may speak for their clients: PROXY protocol v1 and v2 (before the handshake on the TLS port), X-Forwarded-For, and the client's scheme: the first that can be read of X-Forwarded-Proto (its list's first), Forwarded (`proto`), X-Forwarded-Scheme, -Protocol, X-Url-Scheme, X-Scheme, CloudFront-Forwarded-Proto, X-Forwarded-Ssl and Front-End-Https (`on`, `off`), else what PROXY v2 says of TLS; over HTTP/2 too. Whoever the PROXY protocol names is believed only as a trusted proxy itself; a client that X-Forwarded-For does not name readably, or the PROXY protocol not at all, sees no stats and is logged as `-`",
    ),
    key(
        GLOBAL,
        "access_log",
        Text("path, - or off"),
        "off",
        "a file, or `-` for standard output; host, farm, server, Location and why it was refused (`unknown-host`, `field`, …; `-`: it was not) follow what combined has; or json. Lines of a connection come in their order, those of several threads within about a second. USR1 opens a file anew. What a full disk or pipe does not take is dropped and counted",
    ),
    key(
        GLOBAL,
        "access_log_format",
        Word(&["combined", "json"]),
        "combined",
        "the form of its lines",
    ),
    key(
        GLOBAL,
        "log_query",
        Switch,
        "on",
        "off leaves query strings out",
    ),
    key(
        GLOBAL,
        "log_ip",
        Word(&["full", "truncated", "off"]),
        "full",
        "how much of a client's address is logged",
    ),
    key(
        GLOBAL,
        "acme_url",
        Text("http://HOST[:PORT]"),
        "",
        "where `/.well-known/acme-challenge/TOKEN` of every farm's host is redirected",
    ),
    key(
        GLOBAL,
        "cluster",
        Text("name"),
        "rbalancer",
        "tables of another cluster are refused: name staging and production apart",
    ),
    key(
        GLOBAL,
        "threads",
        Number(1, THREADS),
        "",
        "threads that serve clients; one for each core",
    ),
    key(
        GLOBAL,
        "static_dir",
        Path,
        "",
        "a folder with files that every host gets",
    ),
    key(
        GLOBAL,
        "static_files",
        List("name"),
        "favicon.ico",
        "the names served from it, nothing else",
    ),
    key(
        GLOBAL,
        "stats_uri",
        Text("path or off"),
        "/stats",
        "where the stats are under `up`, and on a redirector with `stats_url`",
    ),
    key(
        GLOBAL,
        "stats_allow",
        List("NETWORK"),
        "",
        "who may see the stats under `up`: networks, `all` or `none`; loopback and private ones",
    ),
    key(
        GLOBAL,
        "stats_url",
        Text("[http[s]://]HOST[:PORT][/PATH]"),
        "",
        "where a redirector of a cluster sends those who ask for `stats_uri`; without scheme the request's, without path `stats_uri`",
    ),
    key(
        GLOBAL,
        "admin_bind",
        Text("ADDRESS:PORT or off"),
        "127.0.0.1:9997",
        "`/healthz`, `/readyz` and `/metrics` of a redirector or `up`",
    ),
    key(
        GLOBAL,
        "healthd_bind",
        Text("ADDRESS:PORT or off"),
        "127.0.0.1:9996",
        "the same of a healthd",
    ),
    key(
        GLOBAL,
        "stats_bind",
        Text("ADDRESS:PORT"),
        "127.0.0.1:9999",
        "the same of a statsd, with the stats",
    ),
    key(
        GLOBAL,
        "max_fields",
        Number(1, 256),
        "100",
        "header fields of a request; all of the head is at most 16 KB",
    ),
    key(
        GLOBAL,
        "client_timeout",
        Time,
        "5s",
        "for a request's head, from its first byte",
    ),
    key(
        GLOBAL,
        "keepalive_timeout",
        Time,
        "65s",
        "for the next request",
    ),
    key(
        GLOBAL,
        "maxconn",
        Number(1, CONNECTIONS),
        "",
        "connections at once; as many as descriptors allow",
    ),
    key(
        GLOBAL,
        "maxconn_per_address",
        Text("number or off"),
        "off",
        "waiting connections of one client address (of IPv6: one /64); trusted proxies are exempt",
    ),
    key(
        GLOBAL,
        "grace",
        Time,
        "10s",
        "for requests under way, pages and bodies after TERM; idle connections end at once, those active within the last second may ask once more for a second",
    ),
    key(
        GLOBAL,
        "state_file",
        Path,
        "",
        "what survives a restart: totals and health (`up`); the last good table and counts not yet written (redirector). A file that is damaged is kept as `.damaged`",
    ),
    key(
        GLOBAL,
        "state_max_age",
        Time,
        "7d",
        "how old its table may be at a start",
    ),
    key(
        GLOBAL,
        "override_file",
        Path,
        "",
        "this host's own word, whatever the store says: lines such as `img/srv2 off`; HUP reads it again",
    ),
    key(
        GLOBAL,
        "reload_force",
        Switch,
        "off",
        "whether a HUP of `up` may take service away; without it that is refused as `apply` refuses it",
    ),
    key(
        GLOBAL,
        "redis",
        Text("URL"),
        "",
        "the cluster's Redis; `--redis`, `RBALANCER_REDIS_URL`",
    ),
    key(
        GLOBAL,
        "redis_password_file",
        Path,
        "",
        "a file with its password, read at every dial: it is changed without a restart",
    ),
    key(
        GLOBAL,
        "redis_sentinel_password_file",
        Path,
        "",
        "a file with the password of the Sentinels, if they ask for one",
    ),
    key(
        GLOBAL,
        "redis_ca_file",
        Path,
        "",
        "certificates (PEM) to trust over TLS instead of the system's",
    ),
    key(
        GLOBAL,
        "redis_cert_file",
        Path,
        "",
        "a certificate of our own (PEM, with its chain), for a Redis that wants one of its clients; read at every dial",
    ),
    key(GLOBAL, "redis_key_file", Path, "", "its key"),
    key(
        GLOBAL,
        "redis_prefix",
        Text("text"),
        "{rbalancer}",
        "what every key in Redis begins with",
    ),
    key(&[Place::Farms], "list", List("farm"), "", "the farms"),
    key(&[Place::Farm], "list", List("server"), "", "its servers"),
    key(
        &[Place::Farm],
        "domain",
        List("HOST"),
        "",
        "the hosts it answers for",
    ),
    key(
        FARM,
        "balance",
        Word(&["random", "roundrobin"]),
        "random",
        "how a server is chosen, by weight; roundrobin is smooth",
    ),
    key(
        FARM,
        "redirect_code",
        Word(&["302", "303", "307"]),
        "302",
        "never a permanent one",
    ),
    key(
        FARM,
        "cache_control",
        Text("text"),
        "no-store",
        "the field of that name on a redirect",
    ),
    key(
        FARM,
        "on_all_down",
        Word(&["error", "any"]),
        "error",
        "with no live server: 503 (or `fallback`), or any enabled one, whatever its health",
    ),
    key(
        FARM,
        "fallback",
        Text("[http[s]://]HOST[:PORT][/BASE]"),
        "",
        "where clients go when no server is live",
    ),
    key(
        FARM,
        "keepalive",
        Switch,
        "on",
        "off closes after each redirect",
    ),
    key(
        &[Place::Server],
        "domain",
        Text("[http[s]://]HOST[:PORT][/BASE]"),
        "",
        "where clients are sent; without scheme: the request's",
    ),
    key(
        &[Place::Server],
        "weight",
        Number(0, 65_535),
        "1",
        "its share of the clients; 0: no new ones",
    ),
    key(
        &[Place::Server],
        "enable",
        Word(&["on", "off", "drain"]),
        "on",
        "off: out; drain: no new clients, still probed",
    ),
    key(
        CHECK,
        "check",
        Switch,
        "on",
        "whether it is probed; what is not counts as up",
    ),
    key(
        CHECK,
        "check_method",
        Word(&["HEAD", "GET"]),
        "HEAD",
        "GET asks for one byte, and takes 206 for 200",
    ),
    key(CHECK, "check_uri", Text("path"), "/", "what is asked for"),
    key(
        CHECK,
        "check_addr",
        Text("HOST[:PORT]"),
        "",
        "connect here instead",
    ),
    key(
        CHECK,
        "check_scheme",
        Word(&["http", "https"]),
        "http",
        "for a server without a scheme",
    ),
    key(
        CHECK,
        "check_expect",
        Text("statuses"),
        "200-499",
        "what is alive; 200-399 once `check_uri` is set",
    ),
    key(
        CHECK,
        "check_tls_verify",
        Switch,
        "on",
        "whether a certificate has to be good",
    ),
    key(CHECK, "inter", Time, "1s", "between two probes"),
    key(
        CHECK,
        "fastinter",
        Time,
        "300ms",
        "the same while a state is about to turn",
    ),
    key(
        CHECK,
        "downinter",
        Time,
        "2s",
        "the same while a server is down",
    ),
    key(CHECK, "timeout_check", Time, "1200ms", "for one probe"),
    key(
        CHECK,
        "rise",
        Number(1, IN_A_ROW),
        "2",
        "good probes in a row, to come back",
    ),
    key(CHECK, "fall", Number(1, IN_A_ROW), "3", "bad ones, to go"),
];

/// The key of this name that may stand at `place`.
pub fn find(name: &str, place: Place) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.name == name && key.places.contains(&place))
}

/// The names that may stand at `place`.
pub fn names(place: Place) -> Vec<&'static str> {
    let keys = KEYS.iter().filter(|key| key.places.contains(&place));
    keys.map(|key| key.name).collect()
}

/// The keys that set a process.
pub fn of_process() -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .filter(|key| key.is_process())
        .map(|key| key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_place_has_two_keys_of_one_name() {
        for place in [Place::Global, Place::Farms, Place::Farm, Place::Server] {
            let mut names = names(place);
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{place:?}");
        }
    }
}
