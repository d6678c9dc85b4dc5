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
    ConnectionBudget,
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
        Bytes::from_owner(SendQueue {
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
            return Some(Debt::ConnectionBudget);
        }
        self.frames.borrow().over_limit().then_some(Debt::Head)
    }

    /// Whether the client did its part since the last call.
    fn made_progress(&self, debt: Debt) -> bool {
        match debt {
            Debt::Head => self.ended.take(),
            Debt::ConnectionBudget => {
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
struct SendQueue {
    body: Bytes,
    count: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for SendQueue {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for SendQueue {
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
        if progressed && [before, debt].contains(&Some(Debt::ConnectionBudget)) {
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
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};

    const SOON: Duration = Duration::from_millis(50);
    const NEVER: Duration = Duration::from_secs(3600);

    /// Whether a client of which `signs` are seen is left before long.
    async fn is_left(signs: Signs, head: Duration, room: Duration) -> bool {
        let mut serving = std::pin::pin!(pending::<()>());
        let patient = Patient::new(serving.as_mut(), Rc::new(signs), [head, room], &|| {});
        tokio::time::timeout(SOON * 4, patient).await.is_ok()
    }

    #[tokio::test]
    async fn who_owes_something_is_left_and_who_only_waits_is_not() {
        assert!(!is_left(Signs::new(), SOON, SOON).await);
        let half = Signs::new();
        half.came(b"PRI");
        assert!(is_left(half, SOON, NEVER).await);
        let deaf = Signs::new();
        deaf.went(100, true);
        assert!(is_left(deaf, NEVER, SOON).await);
        let full = Signs::new();
        full.went(ENOUGH, true);
        assert!(
            is_left(full, NEVER, SOON * 3).await,
            "what it took before gives it time once"
        );
        let windowless = Signs::new();
        let body = windowless.sending(Bytes::from_static(b"text"));
        assert!(is_left(windowless, NEVER, SOON).await && body == "text");
        let taken = Signs::new();
        drop(taken.sending(Bytes::from_static(b"text")));
        taken.went(100, false);
        assert!(!is_left(taken, SOON, SOON).await);
    }

    #[tokio::test]
    async fn it_is_told_when_an_answer_begins_moves_and_is_over() {
        let (signs, told) = (Rc::new(Signs::new()), Cell::new(0));
        let (seen, mut turns) = (signs.clone(), 0);
        let mut bodies = Vec::new();
        let mut serving = std::pin::pin!(poll_fn(move |context| {
            turns += 1;
            match turns {
                2 => bodies.push(seen.sending(Bytes::from_static(b"text"))),
                4 => seen.went(ENOUGH, false),
                5 => seen.went(10, false),
                6 => bodies.clear(),
                7 => return Poll::Ready(()),
                _ => {}
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        Patient::new(serving.as_mut(), signs, [NEVER, NEVER], &|| {
            told.set(told.get() + 1);
        })
        .await;
        assert_eq!(told.get(), 3);
    }

    #[tokio::test]
    async fn each_thing_that_is_ended_gives_the_next_its_whole_time() {
        let signs = Rc::new(Signs::new());
        signs.came(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let (seen, mut times) = (signs.clone(), 0);
        let mut ticks = tokio::time::interval(SOON / 5);
        // A ping with each tick, and the first byte of the next.
        let mut serving = std::pin::pin!(poll_fn(move |context| {
            while ticks.poll_tick(context).is_ready() {
                times += 1;
                seen.came(
                    &[
                        if times == 1 { &[0][..] } else { &[] },
                        &[0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0],
                    ]
                    .concat(),
                );
            }
            if times > 20 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        let started = Instant::now();
        Patient::new(serving.as_mut(), signs, [SOON * 2, NEVER], &|| {}).await;
        assert!(
            started.elapsed() >= SOON * 3,
            "left after {:?}",
            started.elapsed()
        );
    }
}
