//! What the ejection limit lets pass.

use super::*;
use crate::evidence::Evidence;
use crate::verdict::judge::Ruling;
use proptest::prelude::*;

struct One {
    check: Check,
    servers: Vec<CheckedServer>,
    judge: Judge,
}

impl One {
    fn seen(&self) -> CheckState<'_> {
        CheckState {
            check: &self.check,
            servers: &self.servers,
            judge: &self.judge,
            address: None,
        }
    }
}

fn one(host: &str, servers: &[&str], down: bool) -> One {
    let json = serde_json::json!({"scheme": "http", "host": host, "port": 80, "method": "HEAD", "uri": "/", "expect": "200-399",
        "tls_verify": true, "inter": 1000, "fastinter": 300, "downinter": 2000, "timeout": 1000, "rise": 2, "fall": 1});
    let check: Check = serde_json::from_value(json).expect("valid check");
    let servers = servers
        .iter()
        .map(|id| CheckedServer {
            id: id.parse().expect("valid"),
            serves: true,
        })
        .collect();
    let mut judge = Judge::new(0);
    if down {
        judge.rule(&check, Ruling::Down, Instant::now(), 1);
    }
    One {
        check,
        servers,
        judge,
    }
}

/// Whether the first of `all` may go.
fn goes(all: &[One]) -> Result<(), String> {
    goes_beside(0, all)
}

/// The same in a farm with more servers that take clients whatever is found.
fn goes_beside(always_in: usize, all: &[One]) -> Result<(), String> {
    let always_in = [("img".parse().expect("a name"), always_in)].into();
    held(
        &all.iter().map(One::seen),
        &always_in,
        &all[0].seen(),
        Instant::now(),
    )
    .map_or(Ok(()), Err)
}

#[test]
fn servers_that_take_clients_whatever_is_found_carry_a_farm() {
    let all = || vec![one("h0", &["img/a"], false), one("h1", &["img/b"], true)];
    assert_eq!(goes_beside(0, &all()), Err("the last of farm img".into()));
    assert_eq!(
        goes_beside(1, &all()),
        Err("half of farm img is out already".into())
    );
    assert_eq!(goes_beside(2, &all()), Ok(()));
}

#[test]
fn half_of_a_farm_may_go_and_one_of_two_but_never_the_last() {
    let farm = |size: usize, down: usize| -> Vec<One> {
        (0..size)
            .map(|n| {
                one(
                    &format!("h{n}"),
                    &[&format!("img/s{n}")],
                    n > 0 && n <= down,
                )
            })
            .collect()
    };
    assert_eq!(goes(&farm(1, 0)), Err("the last of farm img".into()));
    assert_eq!(goes(&farm(2, 0)), Ok(()));
    assert_eq!(goes(&farm(2, 1)), Err("the last of farm img".into()));
    assert_eq!(goes(&farm(3, 0)), Ok(()));
    assert_eq!(
        goes(&farm(3, 1)),
        Err("half of farm img is out already".into())
    );
    assert_eq!(goes(&farm(6, 2)), Ok(()));
    assert_eq!(
        goes(&farm(6, 3)),
        Err("half of farm img is out already".into())
    );
}

#[test]
fn every_farm_a_check_speaks_for_must_be_able_to_do_without() {
    let shared = || one("h0", &["img/a", "dl/a"], false);
    assert_eq!(
        goes(&[shared(), one("h1", &["img/b"], false)]),
        Err("the last of farm dl".into())
    );
    assert_eq!(
        goes(&[shared(), one("h1", &["img/b", "dl/b"], false)]),
        Ok(())
    );
    let twice = one("h0", &["img/a", "img/b", "img/c"], false);
    assert_eq!(
        goes(&[twice, one("h1", &["img/d"], false)]),
        Err("half of farm img is out already".into())
    );
}

#[test]
fn servers_without_traffic_neither_hold_nor_carry_a_farm() {
    let draining = |mut one: One| {
        one.servers.iter_mut().for_each(|seat| seat.serves = false);
        one
    };
    assert_eq!(
        goes(&[
            draining(one("h0", &["img/a"], false)),
            one("h1", &["img/b"], true)
        ]),
        Ok(())
    );
    assert_eq!(
        goes(&[
            one("h0", &["img/a"], false),
            draining(one("h1", &["img/b"], false))
        ]),
        Err("the last of farm img".into())
    );
}

#[test]
fn a_suspicion_is_believed_when_another_address_answered_all_the_while() {
    let start = Instant::now();
    let suspect = |host: &str| {
        let mut one = one(host, &["img/a"], false);
        one.judge
            .rule(&one.check, Ruling::Suspect("x".into()), start, 1);
        one
    };
    let answering = |host: &str, from: Instant| {
        let mut one = one(host, &["dl/b"], false);
        one.judge
            .take(&one.check, &Evidence::Success("HTTP 200".into()), from, 1);
        one
    };
    let held = |all: &[One], at| {
        held(
            &all.iter().map(One::seen),
            &BTreeMap::new(),
            &all[0].seen(),
            at,
        )
        .is_some()
    };
    let later = start + BELIEVED;
    assert!(held(&[suspect("h0")], later));
    assert!(!held(&[suspect("h0"), answering("h1", start)], later));
    assert!(held(
        &[suspect("h0"), answering("h1", start)],
        later - Duration::from_secs(1)
    ));
    assert!(
        held(&[suspect("h0"), answering("h0", start)], later),
        "the same address says nothing about the way there"
    );
    assert!(held(
        &[
            suspect("h0"),
            answering("h1", start + Duration::from_secs(1))
        ],
        later
    ));
}

#[test]
fn machines_are_told_apart_by_address() {
    let machine = |host: &str, addr: Option<&str>, address: Option<&str>| {
        let mut one = one(host, &[], false);
        one.check.addr = addr.map(|addr| addr.parse().expect("an address"));
        let address = address.map(|address| address.parse().expect("an address"));
        match (CheckState {
            address,
            ..one.seen()
        })
        .machine()
        {
            Machine::Here => "here".to_owned(),
            Machine::GoBetween => "go-between".to_owned(),
            Machine::At(address) => address.to_string(),
            Machine::Called(name) => name.to_owned(),
        }
    };
    assert_eq!(machine("192.0.2.1", None, None), "192.0.2.1");
    assert_eq!(machine("[2001:db8::1]", None, None), "2001:db8::1");
    assert_eq!(machine("a.test", None, None), "a.test");
    assert_eq!(machine("a.test", None, Some("192.0.2.1")), "192.0.2.1");
    assert_eq!(
        machine("a.test", Some("192.0.2.2:81"), Some("192.0.2.1")),
        "192.0.2.2"
    );
    for (host, addr) in [
        ("127.0.0.1", None),
        ("[::1]", None),
        ("127.0.0.1", Some("127.0.0.1:81")),
        ("localhost", Some("127.0.0.1:81")),
    ] {
        assert_eq!(machine(host, addr, None), "here", "{host}");
    }
    assert_eq!(machine("localhost", None, Some("::1")), "here");
    assert_eq!(machine("a.test", Some("127.0.0.1:81"), None), "go-between");
    assert_eq!(
        machine("a.test", Some("localhost:81"), Some("127.0.0.1")),
        "go-between"
    );
}

proptest! {
    #[test]
    fn what_is_let_go_leaves_at_least_half_and_one(down in proptest::collection::vec(any::<bool>(), 1..12)) {
        let all: Vec<One> = down.iter().enumerate().map(|(n, &down)| one(&format!("h{n}"), &[&format!("img/s{n}")], n > 0 && down)).collect();
        let out = down.iter().skip(1).filter(|&&down| down).count();
        if goes(&all).is_ok() {
            prop_assert!(out + 1 < all.len() && out < (all.len() / 2).max(1));
        } else {
            prop_assert!(out + 1 >= all.len() || out + 1 > (all.len() / 2).max(1));
        }
    }
}
