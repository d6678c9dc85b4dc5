//! A connection's id among those of its thread.

use crate::serve::address_limit::AddressPermit;
use crate::serve::connections::{ConnectionId, Phase};
use crate::serve::tls_tasks::shared::Thread;
use common::net::web::Page;
use std::rc::Rc;

/// A connection's id among the others; freed however its task ends.
pub(crate) struct Registered {
    pub(crate) thread: Rc<Thread>,
    pub(crate) place: ConnectionId,
    /// Its share of what its address may hold.
    pub(crate) _held: Option<AddressPermit>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.thread.connections.borrow_mut().remove(self.place);
    }
}

impl Registered {
    /// The connection waits for something else now, and may have `progressed`.
    pub(crate) fn set_phase(&self, phase: Phase, progressed: bool) {
        self.thread
            .connections
            .borrow_mut()
            .set_phase(self.place, phase, progressed);
    }

    /// Has a page made; none when that failed.
    pub(crate) async fn page(&self, target: &str) -> Option<Page> {
        self.thread.settings.pages.as_ref()?.make(target).await.ok()
    }
}
