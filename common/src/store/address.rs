//! Where Redis is, from a URL: one server, a socket, a primary that Sentinels name, or the owner of a Cluster's slot.

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A silent peer is found dead after this long, by the kernel.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// The port of a Redis.
const REDIS_PORT: u16 = 6379;

/// The port of a Sentinel.
const SENTINEL_PORT: u16 = 26379;

/// A Redis to connect to: `redis://user@host:6379/0`, `rediss://…` (TLS), `redis+unix:///run/redis.sock`,
/// `redis+sentinel://h1,h2,h3/primary`, `redis+cluster://h1,h2`; with `rediss+…` over TLS.
#[derive(Clone, Debug)]
pub struct RedisAddress {
    pub(super) way: Way,
    /// How to connect: the address itself where there is only one, else what all servers have in common.
    pub(super) info: ConnectionInfo,
}

/// How the server that takes writes is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is the address.
    Direct,
    /// Sentinels know it by a name.
    Sentinel {
        /// The Sentinels.
        nodes: Vec<Node>,
        /// The name.
        primary: String,
    },
    /// Any of a Cluster's nodes knows who owns the slot of our keys.
    Cluster(Vec<Node>),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Why a text is no [`RedisAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{url}` is no redis URL ({why}): write redis://HOST[:PORT][/DB], rediss://… for TLS, redis+unix:///PATH, \
     redis+sentinel://HOST,HOST/PRIMARY or redis+cluster://HOST,HOST"
)]
pub struct BadRedisAddress {
    url: String,
    why: String,
}

impl FromStr for RedisAddress {
    type Err = BadRedisAddress;
    fn from_str(url: &str) -> Result<Self, BadRedisAddress> {
        let url = url.trim();
        parse(url).map_err(|why| BadRedisAddress {
            url: without_secrets(url),
            why,
        })
    }
}

/// The text of a bad URL for a message: neither what stands before an `@` nor what follows a `?` or a `#`, for either
/// may be a password.
fn without_secrets(url: &str) -> String {
    let secret = url.find(['?', '#']).unwrap_or(url.len());
    let (place, rest) = url.split_at(secret);
    let (scheme, host) = place.split_once("://").unwrap_or(("", place));
    let scheme = if scheme.is_empty() {
        String::new()
    } else {
        format!("{scheme}://")
    };
    match (host.rsplit_once('@'), rest.contains('@')) {
        (_, true) => format!("{scheme}…"),
        (Some((_, host)), false) if rest.is_empty() => format!("{scheme}…@{host}"),
        (Some((_, host)), false) => format!("{scheme}…@{host}?…"),
        (None, false) if rest.is_empty() => url.to_owned(),
        (None, false) => format!("{place}?…"),
    }
}

fn parse(url: &str) -> Result<RedisAddress, String> {
    let socket = ["unix://", "redis+unix://", "valkey+unix://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    let secret = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'))
        .map_or("", |(secret, _)| secret);
    if !socket && secret.contains(['/', '?', '#']) {
        return Err("in user and password write %2F for `/`, %3F for `?` and %23 for `#`".into());
    }
    if url.contains('#') {
        return Err("a `#` and what follows it are not used: remove it; certificates of your own are trusted by redis_ca_file".into());
    }
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    if socket {
        known_parameters(query, &["db", "user", "pass"])?;
        let asked = if query.is_empty() {
            url.to_owned()
        } else {
            format!("{url}?{query}")
        };
        return Ok(RedisAddress {
            way: Way::Direct,
            info: info(&asked)?,
        });
    }
    let database = known_parameters(query, &["db"])?;
    let (address, in_path) = without_query(url, scheme, rest)?;
    match database {
        Some(database) => address.with_database(database, in_path),
        None => Ok(address),
    }
}

/// Refuses parameters that nobody reads, or that stand twice; the value of `db`, if it is given.
fn known_parameters<'a>(query: &'a str, known: &[&str]) -> Result<Option<&'a str>, String> {
    let mut seen = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !known.contains(&name) {
            // Behind an `&` in a password that was not written %26 stands the rest of it.
            let named = if query.contains("pass=") {
                "a parameter".to_owned()
            } else {
                format!("`{name}`")
            };
            return Err(format!(
                "{named} after the `?` is not used here: remove it; known are {}",
                known.join(", ")
            ));
        }
        if seen.iter().any(|(earlier, _)| *earlier == name) {
            return Err(format!(
                "`{name}` stands twice after the `?`: write it once"
            ));
        }
        seen.push((name, value));
    }
    Ok(seen
        .into_iter()
        .find(|(name, _)| *name == "db")
        .map(|(_, database)| database))
}

/// The address, and the database that the path names, as it is written.
fn without_query<'a>(
    url: &str,
    scheme: &str,
    rest: &'a str,
) -> Result<(RedisAddress, &'a str), String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (plain, kind) = match scheme.split_once('+') {
        Some((
            plain @ ("redis" | "rediss" | "valkey" | "valkeys"),
            kind @ ("sentinel" | "cluster"),
        )) => (plain, kind),
        _ => {
            return Ok((
                RedisAddress {
                    way: Way::Direct,
                    info: info(url)?,
                },
                path,
            ));
        }
    };
    let (user, hosts) = authority
        .rsplit_once('@')
        .map_or(("", authority), |(user, hosts)| {
            (&authority[..=user.len()], hosts)
        });
    let default_port = if kind == "sentinel" {
        SENTINEL_PORT
    } else {
        REDIS_PORT
    };
    let nodes = hosts
        .split(',')
        .map(|host| node(host.trim(), default_port))
        .collect::<Result<Vec<_>, _>>()?;
    let (way, database) = if kind == "sentinel" {
        let (primary, database) = path.split_once('/').unwrap_or((path, ""));
        if primary.is_empty() {
            return Err("the name of the primary is missing after the Sentinels".into());
        }
        (
            Way::Sentinel {
                nodes,
                primary: primary.to_owned(),
            },
            database,
        )
    } else {
        (Way::Cluster(nodes), path)
    };
    if matches!(way, Way::Cluster(_)) && !matches!(database, "" | "0") {
        return Err("a Cluster has only database 0".into());
    }
    Ok((
        RedisAddress {
            way,
            info: info(&format!("{plain}://{user}localhost/{database}"))?,
        },
        database,
    ))
}

fn info(url: &str) -> Result<ConnectionInfo, String> {
    let info = url
        .into_connection_info()
        .map_err(|error| error.to_string())?;
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(
            TcpKeepalive::new()
                .with_time(PEER_TIMEOUT)
                .with_interval(Duration::from_secs(1)),
        )
        .set_user_timeout(PEER_TIMEOUT);
    // The library's name is a command more at every dial, and one more to allow.
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    Ok(info.set_tcp_settings(tcp).set_redis_settings(redis))
}

/// `HOST`, `HOST:PORT`, `[IPV6]:PORT`.
fn node(text: &str, default_port: u16) -> Result<Node, String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (
            host,
            port.parse().map_err(|_| format!("`{port}` is no port"))?,
        ),
        _ => (text, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        Err("a host is missing".into())
    } else {
        Ok(Node {
            host: host.to_owned(),
            port,
        })
    }
}

impl RedisAddress {
    /// With the database that `?db=` names; the path may name the same one.
    fn with_database(mut self, text: &str, in_path: &str) -> Result<Self, String> {
        let database = text.parse::<i64>().ok().filter(|database| *database >= 0);
        let database =
            database.ok_or_else(|| format!("`{text}` is no database: write a number"))?;
        let redis = self.info.redis_settings();
        if matches!(self.way, Way::Cluster(_)) && database != 0 {
            return Err("a Cluster has only database 0".into());
        }
        if !in_path.is_empty() && redis.db() != database {
            return Err(format!(
                "names database {} and database {database}: write one",
                redis.db()
            ));
        }
        self.info = self
            .info
            .clone()
            .set_redis_settings(redis.clone().set_db(database));
        Ok(self)
    }

    /// The hosts and ports that are named; none for a socket in the file system.
    pub fn places(&self) -> Vec<(String, u16)> {
        let nodes = match &self.way {
            Way::Direct => match self.info.addr() {
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                    return vec![(host.clone(), *port)];
                }
                _ => return Vec::new(),
            },
            Way::Sentinel { nodes, .. } | Way::Cluster(nodes) => nodes,
        };
        nodes
            .iter()
            .map(|node| (node.host.clone(), node.port))
            .collect()
    }

    /// Whether the URL itself holds a password.
    pub fn has_password(&self) -> bool {
        self.info.redis_settings().password().is_some()
    }

    /// Whether the URL names a user.
    pub fn has_user(&self) -> bool {
        self.info.redis_settings().username().is_some()
    }

    /// Whether connections are made over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[Node]| {
            nodes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        match &self.way {
            Way::Direct => self.info.addr().fmt(f),
            Way::Sentinel { nodes, primary } => write!(f, "{primary} of Sentinels {}", list(nodes)),
            Way::Cluster(nodes) => write!(f, "the Cluster of {}", list(nodes)),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests;
