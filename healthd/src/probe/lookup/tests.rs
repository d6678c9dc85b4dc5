//! Tests of [`super`].

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longer than any look-up takes.
const START: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_address_is_kept_until_it_is_doubted_and_the_last_known_where_none_is_found() {
    let lookup = Lookup::default();
    let kept: SocketAddr = "203.0.113.1:0".parse().expect("an address");
    for name in ["localhost", "no-such-name.invalid"] {
        lookup.known().insert(
            name.into(),
            KnownAddresses {
                addresses: vec![kept],
                until: Instant::now() + KEPT,
            },
        );
        assert_eq!(
            lookup
                .clone()
                .find(name.into(), START)
                .await
                .expect("known"),
            [kept]
        );
        lookup.doubt(name);
    }
    let found = lookup
        .clone()
        .find("localhost".into(), START)
        .await
        .expect("every host has one");
    assert!(
        found.iter().all(|address| address.ip().is_loopback()),
        "{found:?}"
    );
    assert_eq!(
        lookup
            .find("no-such-name.invalid".into(), START)
            .await
            .expect("known"),
        [kept]
    );
}

#[tokio::test]
async fn a_lookup_that_hangs_is_waited_for_once_and_made_once() {
    let (lookup, made) = (Lookup::default(), Arc::new(AtomicUsize::new(0)));
    let hang = || {
        let made = made.clone();
        drop(lookup.ask("hung.invalid", |_| {
            made.fetch_add(1, Ordering::Relaxed);
            std::future::pending()
        }));
    };
    hang();
    let find = async || {
        tokio::time::timeout(
            START,
            lookup
                .clone()
                .find("hung.invalid".into(), Duration::from_millis(50)),
        )
        .await
    };
    let failed = find()
        .await
        .expect("it does not wait for the resolver")
        .expect_err("nothing is known");
    assert!(failed.to_string().contains("does not answer"), "{failed}");
    let kept: SocketAddr = "203.0.113.1:0".parse().expect("an address");
    lookup.known().insert(
        "hung.invalid".into(),
        KnownAddresses {
            addresses: vec![kept],
            until: Instant::now(),
        },
    );
    assert_eq!(
        find().await.expect("it does not wait").expect("known"),
        [kept]
    );
    assert!(
        lookup.known()["hung.invalid"].until > Instant::now(),
        "the next probe does not wait again"
    );
    hang();
    assert_eq!(made.load(Ordering::Relaxed), 1);
}
