//! The streams of one connection as they begin. A redirect is ready in the first turn of its stream, so that a task of
//! its own would cost more than the answer: each stream gets that turn with its connection, and only one that has to
//! wait, for a page or for room, becomes a task.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

type Streams = Vec<Pin<Box<dyn Future<Output = ()>>>>;

/// Streams that have not had their first turn.
#[derive(Clone, Default)]
pub(super) struct Begun(Rc<RefCell<Streams>>);

impl Begun {
    /// Gives each of them its first turn. Answers are only noted in it: all of them leave together when the connection,
    /// which they wake, has its next turn.
    pub(super) fn take_turns(&self) {
        let mut streams = self.0.take();
        for mut stream in streams.drain(..) {
            // Who has to wait is polled as a task at once, and says there whom to wake.
            if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                tokio::task::spawn_local(stream);
            }
        }
        // Their room is used again, unless a turn began another stream.
        if self.0.borrow().is_empty() {
            self.0.replace(streams);
        }
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Begun {
    fn execute(&self, stream: F) {
        self.0.borrow_mut().push(Box::pin(stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Executor;
    use std::cell::Cell;
    use tokio::sync::oneshot;
    use tokio::task::LocalSet;

    #[tokio::test]
    async fn a_stream_that_has_to_wait_ends_as_a_task() {
        let (begun, ended) = (Begun::default(), Rc::new(Cell::new(0)));
        let (tell, told) = oneshot::channel::<()>();
        let (quick, slow) = (ended.clone(), ended.clone());
        let local = LocalSet::new();
        local
            .run_until(async {
                begun.execute(async move { quick.set(quick.get() + 1) });
                begun.execute(async move {
                    let _ = told.await;
                    slow.set(slow.get() + 10);
                });
                assert_eq!(ended.get(), 0, "nothing runs inside the connection's own turn");
                begun.take_turns();
                assert_eq!(ended.get(), 1);
                tell.send(()).expect("somebody waits");
            })
            .await;
        local.await;
        assert_eq!(ended.get(), 11);
    }
}
