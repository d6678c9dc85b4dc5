//! Tests of [`super`].

use super::*;

fn stamp(table: u64, checksum: &str, cluster: &str) -> Stamp {
    Stamp {
        table,
        overrides: 0,
        checksum: checksum.into(),
        cluster: cluster.parse().expect("valid"),
        schema: SCHEMA,
        min_reader: 1,
        nonce: String::new(),
        by: String::new(),
        why: String::new(),
        forced: false,
        farms: None,
    }
}

#[test]
fn only_a_greater_generation_of_our_cluster_is_taken() {
    let ours: Name = "prod".parse().expect("valid");
    let held = stamp(10, "x", "prod");
    let next = |held: Option<&Stamp>, offered: Option<&Stamp>| step(&ours, held, offered);
    assert_eq!(next(None, None), Step::Keep);
    assert_eq!(next(None, Some(&held)), Step::Fetch);
    assert_eq!(
        next(Some(&held), Some(&stamp(11, "y", "prod"))),
        Step::Fetch
    );
    assert_eq!(next(Some(&held), Some(&held)), Step::Keep);
    assert_eq!(next(Some(&held), None), Step::Alarm(Alarm::Missing(10)));
    assert!(matches!(
        next(Some(&held), Some(&stamp(9, "x", "prod"))),
        Step::Alarm(Alarm::Older { .. })
    ));
    assert!(matches!(
        next(Some(&held), Some(&stamp(10, "y", "prod"))),
        Step::Alarm(Alarm::Checksum(10))
    ));
    assert!(matches!(
        next(None, Some(&stamp(11, "y", "stage"))),
        Step::Alarm(Alarm::OtherCluster { .. })
    ));
    let mut newer = stamp(11, "y", "prod");
    newer.min_reader = SCHEMA + 1;
    assert!(matches!(
        next(Some(&held), Some(&newer)),
        Step::Alarm(Alarm::TooNew(_))
    ));
}

#[test]
fn an_empty_table_replaces_one_with_farms_only_by_force() {
    let ours: Name = "prod".parse().expect("valid");
    let holding = |table: u64, farms: Option<u64>| Stamp {
        farms,
        ..stamp(table, "x", "prod")
    };
    let empty = holding(11, Some(0));
    for held in [holding(10, Some(2)), holding(10, None)] {
        let step = step(&ours, Some(&held), Some(&empty));
        assert_eq!(
            step,
            Step::Alarm(Alarm::Empty {
                held: 10,
                offered: 11
            })
        );
    }
    let forced = Stamp {
        forced: true,
        ..empty.clone()
    };
    assert_eq!(
        step(&ours, Some(&holding(10, Some(2))), Some(&forced)),
        Step::Fetch
    );
    assert_eq!(
        step(&ours, Some(&holding(10, Some(0))), Some(&empty)),
        Step::Fetch
    );
    // A reader that holds none has nothing to lose.
    assert_eq!(step(&ours, None, Some(&empty)), Step::Fetch);
}

#[test]
fn a_table_with_other_farms_than_noted_is_damaged() {
    let noted = Stamp {
        farms: Some(1),
        ..stamp(1, &checksum(b"[]"), "prod")
    };
    assert!(
        matches!(read_table(noted, b"[]"), Err(Alarm::Damaged { why, .. }) if why.contains("1 were noted"))
    );
}

#[test]
fn a_damaged_table_is_refused_whole() {
    let json = b"[]";
    let good = stamp(1, &checksum(json), "prod");
    assert!(read_table(good.clone(), json).is_ok());
    assert!(matches!(
        read_table(good, b"[ ]"),
        Err(Alarm::Damaged { .. })
    ));
    let nonsense = b"{\"farms\":";
    assert!(read_table(stamp(1, &checksum(nonsense), "prod"), nonsense).is_err());
}
