//! What the connections of one thread with tasks share.

use crate::protocol::context::ThreadContext;
use crate::serve::connections::Connections;
use crate::serve::limits::ThreadLimits;
use crate::tls::session::Gate;
use common::process::signals::Shutdown;
use rustls::ServerConfig;
use std::cell::RefCell;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// The task of a connection.
#[derive(Debug, Default)]
pub(crate) struct Task {
    /// How it can be ended, once it has begun.
    pub(crate) abort: Option<AbortHandle>,
    /// Whether it takes leave by itself when the process drains.
    pub(crate) takes_leave: bool,
}

/// What the connections of one thread share.
pub(crate) struct Thread {
    pub(crate) context: RefCell<ThreadContext>,
    pub(crate) connections: RefCell<Connections<Task>>,
    pub(crate) settings: ThreadLimits,
    /// Lets one step of a handshake through at a time.
    pub(crate) handshakes: Gate,
    pub(crate) shutdown: Shutdown,
    pub(crate) config: Arc<ServerConfig>,
}
