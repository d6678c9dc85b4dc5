//! Those who look at the pages, and what they are shown. While nobody looks the store is read seldom; whoever comes
//! then waits for a reading.

use crate::live::rendered::Rendered;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How long after a look the next one is expected: longer than the page's own refresh.
const ATTENTION: Duration = Duration::from_secs(10);

/// How long who comes while the store is read seldom waits for a reading, before it is shown the last one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shared by the pages and by what reads the store.
#[derive(Debug, Clone)]
pub(crate) struct Latest(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shown: watch::Sender<Showing>,
    looked: Mutex<Option<Instant>>,
    came: Notify,
}

#[derive(Debug)]
struct Showing {
    shown: Arc<Rendered>,
    /// Whether it is renewed seldom, since nobody looks.
    old: bool,
}

impl Latest {
    /// Nobody yet; `shown` is for whoever comes before the first reading.
    pub(crate) fn new(shown: Rendered) -> Self {
        let shown = watch::Sender::new(Showing {
            shown: Arc::new(shown),
            old: false,
        });
        Self(Arc::new(Inner {
            shown,
            looked: Mutex::default(),
            came: Notify::new(),
        }))
    }

    /// What there is to show to somebody who looks.
    pub(crate) async fn look(&self) -> Arc<Rendered> {
        *self.0.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if self.0.shown.borrow().old {
            self.0.came.notify_one();
            let _ = tokio::time::timeout(
                PATIENCE,
                self.0.shown.subscribe().wait_for(|latest| !latest.old),
            )
            .await;
        }
        self.latest()
    }

    /// What was read last, for those who ask about the process and not about the cluster.
    pub(crate) fn latest(&self) -> Arc<Rendered> {
        self.0.shown.borrow().shown.clone()
    }

    /// What was read now.
    pub(crate) fn show(&self, shown: Rendered) {
        self.0.shown.send_replace(Showing {
            shown: Arc::new(shown),
            old: false,
        });
    }

    /// Whether somebody looks.
    pub(crate) fn look_on(&self, now: Instant) -> bool {
        let looked = *self.0.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.is_some_and(|looked| now.saturating_duration_since(looked) < ATTENTION)
    }

    /// What is shown grows old, for `time` or until somebody comes.
    pub(crate) async fn rest(&self, time: Duration) {
        self.0.shown.send_modify(|latest| latest.old = true);
        let _ = tokio::time::timeout(time, self.0.came.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    fn shown() -> Rendered {
        Rendered::new(example())
    }

    #[tokio::test]
    async fn whoever_comes_while_nobody_looked_ends_the_rest_and_sees_what_is_read_then() {
        let viewers = Latest::new(shown());
        assert!(!viewers.look_on(Instant::now()));
        let before = viewers.latest();
        let (resting, looking) = (viewers.clone(), viewers.clone());
        let reading = tokio::spawn(async move {
            resting.rest(Duration::from_secs(3600)).await;
            resting.show(shown());
        });
        tokio::task::yield_now().await;
        let seen = tokio::spawn(async move { looking.look().await })
            .await
            .expect("no panic");
        reading.await.expect("the rest is over");
        assert!(!Arc::ptr_eq(&before, &seen) && Arc::ptr_eq(&seen, &viewers.latest()));
        assert!(viewers.look_on(Instant::now()));
        // The next look waits for nothing.
        assert!(Arc::ptr_eq(&seen, &viewers.look().await));
    }
}
