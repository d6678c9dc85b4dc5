//! The streams of one connection as they begin. A redirect is ready in the first turn of its stream, so that a task of
//! its own would cost more than the answer: each stream gets that turn with its connection, and only one that has to
//! wait, for a page or for room, becomes a task.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Stream = Pin<Box<dyn Future<Output = ()>>>;

/// Streams that have not had their first turn.
#[derive(Clone, Default)]
pub(super) struct Begun(Rc<RefCell<Vec<Stream>>>);

impl Begun {
    /// Gives each of them its first turn. Answers are only noted in it: all of them leave together when the connection,
    /// which they wake, has its next turn.
    fn take_turns(&self) {
        for mut stream in self.0.take() {
            // Who has to wait is polled as a task at once, and says there whom to wake.
            if stream
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
            {
                tokio::task::spawn_local(stream);
            }
        }
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Begun {
    fn execute(&self, stream: F) {
        self.0.borrow_mut().push(Box::pin(stream));
    }
}

/// A connection, and after each of its turns those of the streams that began in it.
pub(super) struct WithStreams<'a, F> {
    pub(super) connection: Pin<&'a mut F>,
    pub(super) begun: Begun,
}

impl<F: Future> Future for WithStreams<'_, F> {
    type Output = F::Output;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let outcome = this.connection.as_mut().poll(context);
        this.begun.take_turns();
        outcome
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
                assert_eq!(
                    ended.get(),
                    0,
                    "nothing runs inside the connection's own turn"
                );
                begun.take_turns();
                assert_eq!(ended.get(), 1);
                tell.send(()).expect("somebody waits");
            })
            .await;
        local.await;
        assert_eq!(ended.get(), 11);
    }
}
