//! Tests of [`super`].

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
