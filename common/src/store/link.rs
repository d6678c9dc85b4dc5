//! One way to Redis that cannot hang: every call sits under a deadline, and what went wrong decides whether the
//! connection is kept or dialled anew by the next call.
//!
//! Redirectors use dedicated connections (a pool's checkout costs a round trip); the command line, statsd and
//! healthd use a pool.

use super::StoreError;
use deadpool_redis::{Manager, Pool};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, ScriptInvocation};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The time a dial or a call may take.
const DEADLINE: Duration = Duration::from_secs(1);

/// A silent peer is found dead after this long, by the kernel.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections a pool may hold.
const POOL_SIZE: usize = 4;

/// A Redis to connect to, from a URL such as `redis://user@host:6379/0` or `redis+unix:///run/redis.sock`.
#[derive(Clone, Debug)]
pub struct RedisAddress(ConnectionInfo);

/// Why a text is no [`RedisAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is no redis URL ({why}): write redis://HOST[:PORT][/DB] or redis+unix:///PATH")]
pub struct BadRedisAddress {
    url: String,
    why: String,
}

impl FromStr for RedisAddress {
    type Err = BadRedisAddress;
    fn from_str(url: &str) -> Result<Self, BadRedisAddress> {
        // The text may hold a password: only its beginning up to an `@` is never shown.
        let shown = url.rsplit_once('@').map_or(url.to_owned(), |(_, host)| format!("redis://…@{host}"));
        let bad = |why: String| BadRedisAddress { url: shown.clone(), why };
        if !url.contains("://") {
            return Err(bad("no scheme".into()));
        }
        let info = url.into_connection_info().map_err(|error| bad(error.to_string()))?;
        if !info.addr().is_supported() {
            return Err(bad("TLS is not built in".into()));
        }
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(PEER_TIMEOUT).with_interval(Duration::from_secs(1)))
            .set_user_timeout(PEER_TIMEOUT);
        Ok(Self(info.set_tcp_settings(tcp)))
    }
}

impl RedisAddress {
    /// Whether the URL itself holds a password.
    pub fn has_password(&self) -> bool {
        self.0.redis_settings().password().is_some()
    }
}

impl std::fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.addr().fmt(f)
    }
}

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where it is.
    pub address: RedisAddress,
    /// A file with the password, read at every dial so that it can be changed without a restart.
    pub password_file: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: String,
}

impl RedisSettings {
    async fn connection_info(&self) -> Result<ConnectionInfo, StoreError> {
        let Some(path) = &self.password_file else { return Ok(self.address.0.clone()) };
        let text = tokio::fs::read_to_string(path).await.map_err(|error| StoreError::Unreachable {
            at: self.address.to_string(),
            why: format!("redis_password_file {}: {error}", path.display()),
        })?;
        let redis = self.address.0.redis_settings().clone().set_password(text.trim_end_matches(['\r', '\n']));
        Ok(self.address.0.clone().set_redis_settings(redis))
    }
}

/// A way to Redis.
pub(super) struct Link {
    settings: RedisSettings,
    connections: Connections,
    /// Calls in a row that found no answer in time.
    timeouts: AtomicU32,
}

enum Connections {
    /// One connection of our own.
    Dedicated(Mutex<Option<MultiplexedConnection>>),
    /// A pool, made at the first call.
    Pooled(Mutex<Option<Pool>>),
}

/// A connection for one call.
enum Checkout {
    Own(MultiplexedConnection),
    Pooled(deadpool_redis::Connection),
}

impl Deref for Checkout {
    type Target = MultiplexedConnection;
    fn deref(&self) -> &MultiplexedConnection {
        match self {
            Self::Own(connection) => connection,
            Self::Pooled(connection) => connection,
        }
    }
}

impl DerefMut for Checkout {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        match self {
            Self::Own(connection) => connection,
            Self::Pooled(connection) => connection,
        }
    }
}

impl Link {
    pub(super) fn dedicated(settings: RedisSettings) -> Self {
        Self { settings, connections: Connections::Dedicated(Mutex::default()), timeouts: AtomicU32::new(0) }
    }

    pub(super) fn pooled(settings: RedisSettings) -> Self {
        Self { settings, connections: Connections::Pooled(Mutex::default()), timeouts: AtomicU32::new(0) }
    }

    /// Sends a pipeline and decodes its answers.
    pub(super) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        self.call(async |connection| pipeline.query_async(connection).await).await
    }

    /// Runs a script, loading it if Redis does not have it.
    pub(super) async fn script<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        self.call(async |connection| call.invoke_async(connection).await).await
    }

    async fn call<T>(&self, run: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>) -> Result<T, StoreError> {
        let mut connection = self.checkout().await?;
        match tokio::time::timeout(DEADLINE, run(&mut connection)).await {
            Ok(Ok(answer)) => {
                self.timeouts.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) if error.is_timeout() => Err(self.timed_out()),
            Ok(Err(error)) => {
                if drops_connection(&error) {
                    self.forget();
                }
                Err(self.refused(&error))
            }
            Err(_) => Err(self.timed_out()),
        }
    }

    async fn checkout(&self) -> Result<Checkout, StoreError> {
        match &self.connections {
            Connections::Dedicated(held) => {
                let live = held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
                if let Some(connection) = live {
                    return Ok(Checkout::Own(connection));
                }
                let connection = self.dial().await?;
                *held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(connection.clone());
                Ok(Checkout::Own(connection))
            }
            Connections::Pooled(held) => {
                let made = held.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
                let pool = match made {
                    Some(pool) => pool,
                    None => {
                        let pool = self.pool().await?;
                        *held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(pool.clone());
                        pool
                    }
                };
                match tokio::time::timeout(DEADLINE, pool.get()).await {
                    Ok(Ok(connection)) => Ok(Checkout::Pooled(connection)),
                    Ok(Err(error)) => {
                        // A pool knows one password: a new one is made with the file as it is then.
                        self.forget();
                        Err(self.unreachable(&error))
                    }
                    Err(_) => Err(self.timed_out()),
                }
            }
        }
    }

    async fn dial(&self) -> Result<MultiplexedConnection, StoreError> {
        let info = self.settings.connection_info().await?;
        let client = Client::open(info).map_err(|error| self.unreachable(&error))?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(DEADLINE)).set_response_timeout(Some(DEADLINE));
        let dialling = client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(DEADLINE, dialling).await {
            Ok(dialled) => dialled.map_err(|error| self.unreachable(&error)),
            Err(_) => Err(self.timed_out()),
        }
    }

    async fn pool(&self) -> Result<Pool, StoreError> {
        let info = self.settings.connection_info().await?;
        let manager = Manager::new(info).map_err(|error| self.unreachable(&error))?;
        Pool::builder(manager).max_size(POOL_SIZE).build().map_err(|error| self.unreachable(&error))
    }

    /// The next call dials anew: dropping the last handle of a connection closes it.
    fn forget(&self) {
        match &self.connections {
            Connections::Dedicated(held) => *held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None,
            Connections::Pooled(held) => *held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None,
        }
    }

    /// One late answer may be a slow moment; two in a row and the connection is given up.
    fn timed_out(&self) -> StoreError {
        if self.timeouts.fetch_add(1, Ordering::Relaxed) >= 1 {
            self.timeouts.store(0, Ordering::Relaxed);
            self.forget();
        }
        StoreError::TimedOut(self.settings.address.to_string())
    }

    fn unreachable(&self, error: &impl std::fmt::Display) -> StoreError {
        StoreError::Unreachable { at: self.settings.address.to_string(), why: error.to_string() }
    }

    fn refused(&self, error: &RedisError) -> StoreError {
        if error.is_io_error() {
            return self.unreachable(error);
        }
        StoreError::Refused { at: self.settings.address.to_string(), why: error.to_string() }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.settings.address)
    }
}

/// Broken connections, and servers that changed their role under us, are left for a new dial.
fn drops_connection(error: &RedisError) -> bool {
    let code = error.code().unwrap_or_default();
    error.is_io_error() || error.is_unrecoverable_error() || matches!(code, "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_named_without_its_password() {
        let bad = "http://user:secret@host:1".parse::<RedisAddress>().expect_err("no redis URL").to_string();
        assert!(bad.contains("host:1") && !bad.contains("secret"), "{bad}");
        assert!("127.0.0.1:6379".parse::<RedisAddress>().is_err());
        assert_eq!("redis://u:p@127.0.0.1:7/3".parse::<RedisAddress>().expect("valid").to_string(), "127.0.0.1:7");
    }
}
