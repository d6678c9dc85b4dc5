//! One way to Redis that cannot hang: every call sits under a deadline, and what went wrong decides whether the
//! connection is kept or dialled anew by the next call.
//!
//! Redirectors use dedicated connections (a pool's checkout costs a round trip); the command line, statsd and
//! healthd use a pool.

use super::dial::{DEADLINE, RedisSettings};
use crate::store::error::StoreError;
use deadpool_redis::{Manager, Pool, PoolError};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisError, ScriptInvocation};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections a pool may hold.
const POOL_SIZE: usize = 4;

/// A way to Redis.
pub(super) struct Link {
    settings: RedisSettings,
    pooled: bool,
    held: Mutex<HeldLink>,
    /// Calls in a row that found no answer in time.
    timeouts: AtomicU32,
    /// How often a connection was given up.
    given_up: AtomicU64,
    /// Another link to the same place: where it leaves a server, this one does too.
    beside: Option<Arc<Self>>,
}

/// What the calls share, and the how-many-th it is: a call that failed gives up only what it used itself.
#[derive(Default)]
struct HeldLink {
    serial: u64,
    /// How often the link beside had given up when this was last used.
    beside: u64,
    source: Option<Source>,
}

#[derive(Clone)]
enum Source {
    /// One connection of our own.
    Own(MultiplexedConnection),
    /// A pool; it knows one server and one password.
    Pool(Pool),
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
        Self::new(settings, false, None)
    }

    /// One that leaves a server where `beside` does: who only reads never learns that a server takes no writes any more.
    pub(super) fn beside(settings: RedisSettings, beside: Arc<Self>) -> Self {
        Self::new(settings, false, Some(beside))
    }

    pub(super) fn pooled(settings: RedisSettings) -> Self {
        Self::new(settings, true, None)
    }

    fn new(settings: RedisSettings, pooled: bool, beside: Option<Arc<Self>>) -> Self {
        Self {
            settings,
            pooled,
            held: Mutex::default(),
            timeouts: AtomicU32::new(0),
            given_up: AtomicU64::new(0),
            beside,
        }
    }

    /// Sends a pipeline and decodes its answers.
    pub(super) async fn pipeline<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
    ) -> Result<T, StoreError> {
        self.call(async |connection| pipeline.query_async(connection).await)
            .await
    }

    /// Runs a script, loading it if Redis does not have it.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.call(async |connection| call.invoke_async(connection).await)
            .await
    }

    async fn call<T>(
        &self,
        run: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, StoreError> {
        let (serial, mut connection) = self.checkout().await?;
        match tokio::time::timeout(DEADLINE, run(&mut connection)).await {
            Ok(Ok(answer)) => {
                self.timeouts.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(error)) if error.is_timeout() => Err(self.timed_out(serial)),
            Ok(Err(error)) => {
                if drops_connection(&error) {
                    self.forget(serial);
                }
                Err(match self.settings.failed(&error) {
                    StoreError::Unreachable { at, why } => StoreError::Unreachable {
                        at,
                        why: why.underway(),
                    },
                    refused => refused,
                })
            }
            Err(_) => Err(self.timed_out(serial)),
        }
    }

    async fn checkout(&self) -> Result<(u64, Checkout), StoreError> {
        let beside = self
            .beside
            .as_ref()
            .map_or(0, |beside| beside.given_up.load(Ordering::Relaxed));
        let (serial, source) = {
            let mut held = self.held();
            if std::mem::replace(&mut held.beside, beside) != beside {
                held.source = None;
            }
            (held.serial, held.source.clone())
        };
        let (serial, source) = match source {
            Some(source) => (serial, source),
            None => self.keep(self.source().await?),
        };
        let pool = match source {
            Source::Own(connection) => return Ok((serial, Checkout::Own(connection))),
            Source::Pool(pool) => pool,
        };
        match tokio::time::timeout(DEADLINE, pool.get()).await {
            Ok(Ok(connection)) => Ok((serial, Checkout::Pooled(connection))),
            Ok(Err(error)) => {
                // The server or the password may be another by now.
                self.forget(serial);
                Err(match error {
                    PoolError::Backend(error) => self.settings.failed(&error),
                    other => self.settings.unreachable(&other),
                })
            }
            Err(_) => Err(self.timed_out(serial)),
        }
    }

    async fn source(&self) -> Result<Source, StoreError> {
        if !self.pooled {
            return self
                .settings
                .dial(AsyncConnectionConfig::new())
                .await
                .map(Source::Own);
        }
        // A pool's own connections do not say what is wrong with them.
        drop(self.settings.dial(AsyncConnectionConfig::new()).await?);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE));
        let wrong = |error: &dyn std::fmt::Display| self.settings.unreachable(&error.to_string());
        let manager = Manager::new_with_config(self.settings.primary().await?, config)
            .map_err(|error| wrong(&error))?;
        Pool::builder(manager)
            .max_size(POOL_SIZE)
            .build()
            .map(Source::Pool)
            .map_err(|error| wrong(&error))
    }

    fn keep(&self, source: Source) -> (u64, Source) {
        let mut held = self.held();
        held.serial += 1;
        held.source = Some(source.clone());
        (held.serial, source)
    }

    /// The next call dials anew: dropping the last handle of a connection closes it.
    fn forget(&self, serial: u64) {
        let mut held = self.held();
        if held.serial == serial && held.source.take().is_some() {
            self.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn held(&self) -> MutexGuard<'_, HeldLink> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One late answer may be a slow moment; two in a row and the connection is given up.
    fn timed_out(&self, serial: u64) -> StoreError {
        if self.timeouts.fetch_add(1, Ordering::Relaxed) >= 1 {
            self.timeouts.store(0, Ordering::Relaxed);
            self.forget(serial);
        }
        self.settings.timed_out()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.settings.address)
    }
}

/// Broken connections, and servers that are not what they were when they were dialled, are left for a new dial.
fn drops_connection(error: &RedisError) -> bool {
    const CHANGED: [&str; 7] = [
        "READONLY",
        "LOADING",
        "MASTERDOWN",
        "NOAUTH",
        "WRONGPASS",
        "MOVED",
        "CLUSTERDOWN",
    ];
    let changed = |code: &str| CHANGED.contains(&code);
    // Of several commands, or a transaction that was aborted for it, each has its own.
    let several = || error.clone().into_server_errors();
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.code().is_some_and(changed)
        || several().is_some_and(|errors| errors.iter().any(|(_, error)| changed(error.code())))
}
