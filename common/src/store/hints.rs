//! Hints that something was published. One may be missed or come twice: they only make the next poll sooner.

use super::dial::{DEADLINE, RedisSettings};
use crate::store::error::StoreError;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How often a silent connection is asked whether it still stands.
const PING: Duration = Duration::from_secs(2);

/// The longest pause before the next dial, which is drawn at random below it.
const PAUSE: Duration = Duration::from_secs(1);

/// A stream of hints, see [`super::Reader::hints`].
#[derive(Debug)]
pub struct Hints {
    heard: watch::Receiver<u64>,
    listening: Option<JoinHandle<()>>,
}

impl Hints {
    /// Waits for the next hint.
    pub async fn next(&mut self) {
        if self.heard.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn of(heard: watch::Receiver<u64>) -> Self {
        Self {
            heard,
            listening: None,
        }
    }

    /// Listens on a connection of its own until dropped; whatever breaks is dialled anew. Needs a runtime.
    pub(super) fn listen(settings: RedisSettings, channel: String) -> Self {
        let (tell, heard) = watch::channel(0);
        let listening = tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&settings, &channel, &tell).await {
                    tracing::debug!(%error, "no hints for now; the poll goes on");
                }
                tokio::time::sleep(PAUSE.mul_f64(rand::random_range(0.1..1.0))).await;
            }
        });
        Self {
            heard,
            listening: Some(listening),
        }
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

/// Subscribes and passes on what comes until the connection fails.
async fn listen(
    settings: &RedisSettings,
    channel: &str,
    tell: &watch::Sender<u64>,
) -> Result<(), StoreError> {
    let (sender, mut pushed) = mpsc::unbounded_channel::<PushInfo>();
    // Messages come between the answers only in the third version of the protocol.
    let settings = settings.speaking(ProtocolVersion::RESP3);
    let mut connection = settings
        .dial(AsyncConnectionConfig::new().set_push_sender(sender))
        .await?;
    within(&settings, connection.subscribe(channel)).await?;
    // What was published while nobody listened.
    tell.send_modify(|count| *count += 1);
    loop {
        match tokio::time::timeout(PING, pushed.recv()).await {
            Ok(Some(push)) if push.kind == PushKind::Disconnection => {
                return Err(settings.unreachable(&"disconnected"));
            }
            Ok(Some(push)) if push.kind == PushKind::Message => {
                tell.send_modify(|count| *count += 1);
            }
            Ok(Some(_)) => {}
            Ok(None) => return Err(settings.unreachable(&"disconnected")),
            Err(_) => ping(&settings, &mut connection).await?,
        }
    }
}

async fn ping(
    settings: &RedisSettings,
    connection: &mut MultiplexedConnection,
) -> Result<(), StoreError> {
    within(settings, redis::cmd("PING").query_async::<()>(connection)).await
}

async fn within<T>(
    settings: &RedisSettings,
    call: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|error| settings.failed(&error)),
        Err(_) => Err(settings.timed_out()),
    }
}
