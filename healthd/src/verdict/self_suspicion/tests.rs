//! When a prober doubts itself.

use super::*;
use crate::checks::CheckedServer;
use crate::evidence::Evidence;
use crate::verdict::judge::Judge;
use common::model::check::Check;

struct One {
    check: Check,
    servers: Vec<CheckedServer>,
    judge: Judge,
}

/// A target on a port of its own that answered at `start` and failed first after `failed` ms, if at all.
fn one(port: u16, uri: &str, start: Instant, failed: Option<u64>) -> One {
    let json = serde_json::json!({"scheme": "http", "host": "h", "port": port, "method": "HEAD", "uri": uri, "expect": "200-399",
        "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1000, "rise": 2, "fall": 3});
    let check: Check = serde_json::from_value(json).expect("valid check");
    let mut judge = Judge::new(0);
    judge.take(&check, &Evidence::Success("HTTP 200".into()), start, 1);
    if let Some(after) = failed {
        judge.take(
            &check,
            &Evidence::Hard("connection refused".into()),
            start + Duration::from_millis(after),
            1,
        );
    }
    One {
        check,
        servers: Vec::new(),
        judge,
    }
}

fn look(all: &[One], now: Instant) -> Option<usize> {
    SelfSuspicion::default().look(
        all.iter().map(|one| CheckState {
            check: &one.check,
            servers: &one.servers,
            judge: &one.judge,
            address: None,
        }),
        now,
    )
}

#[test]
fn everything_failing_at_once_raises_doubt() {
    let start = Instant::now();
    let world = |failed: &[Option<u64>]| -> Vec<One> {
        (80..)
            .zip(failed)
            .map(|(port, failed)| one(port, "/", start, *failed))
            .collect()
    };
    assert_eq!(
        look(&world(&[Some(1000), Some(2000), Some(3000)]), start),
        Some(3)
    );
    assert_eq!(
        look(&world(&[Some(1000), Some(2000), Some(3001)]), start),
        None,
        "one after the other"
    );
    assert_eq!(
        look(&world(&[Some(1000), Some(2000), None]), start),
        None,
        "one answers"
    );
    assert_eq!(
        look(&world(&[Some(1000), Some(2000)]), start),
        None,
        "too few"
    );
    assert_eq!(look(&[], start), None);
}

#[test]
fn several_checks_of_one_port_are_one_target() {
    let start = Instant::now();
    let all = [
        one(80, "/a", start, Some(1)),
        one(80, "/b", start, Some(2)),
        one(81, "/", start, Some(3)),
    ];
    assert_eq!(look(&all, start), None);
}

#[test]
fn doubt_says_nothing_is_conclusive_and_later_only_what_is_hard() {
    let now = Instant::now();
    let raised = Raised {
        since: now,
        begun: now,
        reached: false,
        sound: false,
        weighed: now,
    };
    let doubt = SelfSuspicion(Some(raised.clone()));
    assert!(!doubt.is_conclusive(true, now + SOONER) && !doubt.is_conclusive(false, now + SOONER));
    assert!(
        doubt.is_conclusive(true, now + BELIEVED) && !doubt.is_conclusive(false, now + BELIEVED)
    );
    let sound = SelfSuspicion(Some(Raised {
        sound: true,
        ..raised
    }));
    assert!(sound.is_conclusive(true, now + SOONER) && !sound.is_conclusive(false, now + SOONER));
    assert!(SelfSuspicion::default().is_conclusive(false, now));
}

#[test]
fn a_go_between_on_this_machine_may_be_what_has_died() {
    let start = Instant::now();
    let sound = |addrs: [&str; 3], reached: bool| {
        let through = |addr: &str| {
            let mut one = one(80, "/", start, Some(1));
            one.check.addr = Some(addr.parse().expect("an address"));
            one
        };
        let all = addrs.map(through);
        is_sound(
            all.iter().map(|one| CheckState {
                check: &one.check,
                servers: &one.servers,
                judge: &one.judge,
                address: None,
            }),
            reached,
        )
    };
    assert!(!sound(
        ["127.0.0.1:81", "127.0.0.1:82", "127.0.0.1:83"],
        true
    ));
    assert!(sound(
        ["192.0.2.1:81", "192.0.2.1:82", "192.0.2.1:83"],
        false
    ));
    assert!(!sound(
        ["192.0.2.1:81", "192.0.2.2:82", "192.0.2.3:83"],
        false
    ));
    assert!(sound(
        ["192.0.2.1:81", "192.0.2.2:82", "192.0.2.3:83"],
        true
    ));
}
