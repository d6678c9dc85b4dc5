//! How long a client may take over a head or an answer on HTTP/2. Time runs only while it owes us something, and begins
//! anew with each thing it ends: a busy connection has no timer.

use super::frames::Frames;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes a client has to take of an answer before the time it may take begins anew.
const ENOUGH: usize = 4096;

/// What a client owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Debt {
    /// The rest of a head, or of another frame.
    Head,
    /// Room for an answer: of the kernel's, or by its own windows.
    Room,
}

/// What is seen of a client where bytes come and go.
#[derive(Debug)]
pub(super) struct Signs {
    frames: RefCell<Frames>,
    /// Whether it ended something since anybody looked.
    ended: Cell<bool>,
    /// Whether the kernel has no room for what is to be sent.
    blocked: Cell<bool>,
    /// Bytes the kernel took since that was last enough.
    taken: Cell<usize>,
    /// Bodies that were not sent to their end.
    unsent: Arc<AtomicUsize>,
}

impl Signs {
    pub(super) fn new() -> Self {
        Self {
            frames: RefCell::new(Frames::new()),
            ended: Cell::default(),
            blocked: Cell::default(),
            taken: Cell::default(),
            unsent: Arc::default(),
        }
    }

    /// The client has said `bytes`.
    pub(super) fn came(&self, bytes: &[u8]) {
        let ended = self.frames.borrow_mut().take(bytes);
        self.ended.set(self.ended.get() | ended);
    }

    /// The kernel took `count` bytes, and then had no room.
    pub(super) fn went(&self, count: usize, blocked: bool) {
        self.taken.set(self.taken.get() + count);
        self.blocked.set(blocked);
    }

    /// `body` as one that is known to be unsent until it is sent.
    pub(super) fn sending(&self, body: Bytes) -> Bytes {
        if body.is_empty() {
            return body;
        }
        self.unsent.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(UnsentBody {
            body,
            count: self.unsent.clone(),
        })
    }

    /// Whether an answer is on its way.
    pub(super) fn is_sending(&self) -> bool {
        self.blocked.get() || self.unsent.load(Ordering::Relaxed) > 0
    }

    fn debt(&self) -> Option<Debt> {
        if self.is_sending() {
            return Some(Debt::Room);
        }
        self.frames.borrow().owes().then_some(Debt::Head)
    }

    /// Whether the client did its part since the last call.
    fn made_progress(&self, debt: Debt) -> bool {
        match debt {
            Debt::Head => self.ended.take(),
            Debt::Room => {
                let enough = self.taken.get() >= ENOUGH;
                if enough {
                    self.taken.set(0);
                }
                enough
            }
        }
    }
}

/// A body on its way. h2 drops it with its last byte, or with its stream.
struct UnsentBody {
    body: Bytes,
    count: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for UnsentBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for UnsentBody {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends when what is served ends, or when the client takes too long.
pub(super) struct Patient<'a, F> {
    pub(super) serving: Pin<&'a mut F>,
    signs: Rc<Signs>,
    limits: [Duration; 2],
    debt: Option<Debt>,
    /// Told when an answer begins or ceases to be on its way, and when enough of it went.
    went: &'a dyn Fn(),
    /// When the debt is due.
    due: Option<Pin<Box<Sleep>>>,
}

impl<'a, F> Patient<'a, F> {
    /// `limits`: for the rest of a head, and for room.
    pub(super) fn new(
        serving: Pin<&'a mut F>,
        signs: Rc<Signs>,
        limits: [Duration; 2],
        went: &'a dyn Fn(),
    ) -> Self {
        Self {
            serving,
            signs,
            limits,
            debt: None,
            went,
            due: None,
        }
    }
}

impl<F: Future> Future for Patient<'_, F> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.serving.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let debt = this.signs.debt();
        let before = std::mem::replace(&mut this.debt, debt);
        let progressed = debt.is_some_and(|debt| this.signs.made_progress(debt)) || before != debt;
        if progressed && [before, debt].contains(&Some(Debt::Room)) {
            (this.went)();
        }
        let Some(debt) = debt else {
            return Poll::Pending;
        };
        if progressed {
            let due = Instant::now() + this.limits[debt as usize];
            match &mut this.due {
                Some(sleep) => sleep.as_mut().reset(due),
                none => *none = Some(Box::pin(sleep_until(due))),
            }
        }
        this.due
            .as_mut()
            .map_or(Poll::Pending, |due| due.as_mut().poll(context))
    }
}

#[cfg(test)]
mod tests;
