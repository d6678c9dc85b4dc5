//! Tests of [`super`].

use super::*;

#[test]
fn each_phase_has_its_deadline_and_a_slow_head_cannot_move_it() {
    let deadlines = Deadlines {
        idle: Duration::from_secs(65),
        head: Duration::from_secs(5),
    };
    let mut connections = Connections::default();
    let (slow, idle) = (connections.insert("slow"), connections.insert("idle"));
    for tick in 0..21 {
        connections.set_phase(slow, Phase::Head, false);
        let over = connections.sweep(&deadlines);
        assert_eq!(over, if tick < 20 { vec![] } else { vec![slow] });
    }
    assert_eq!(connections.remove(slow), Some("slow"));
    assert_eq!(
        (connections.len(), connections.longest_waiting(5)),
        (1, vec![idle])
    );
}

#[test]
fn whoever_has_gone_is_not_taken_for_the_next_at_the_same_place() {
    let mut connections = Connections::default();
    let first = connections.insert(1);
    assert_eq!(connections.remove(first), Some(1));
    let second = connections.insert(2);
    assert_eq!((second.index(), second == first), (first.index(), false));
    assert!(connections.get_mut(first).is_none() && connections.remove(first).is_none());
    assert_eq!(connections.at(second.index()), Some(second));
}

#[test]
fn a_drain_leaves_a_second_to_who_was_active_and_all_their_time_to_the_busy() {
    let deadlines = Deadlines {
        idle: Duration::from_secs(65),
        head: Duration::from_secs(5),
    };
    let mut connections = Connections::default();
    let [old, silent, head, page] = [(); 4].map(|()| connections.insert(()));
    connections.set_phase(silent, Phase::Hello, false);
    connections.set_phase(head, Phase::Head, false);
    connections.set_phase(page, Phase::Page, false);
    (0..5).for_each(|_| assert_eq!(connections.sweep(&deadlines), []));
    let [young, shaking] = [(); 2].map(|()| connections.insert(()));
    connections.set_phase(shaking, Phase::Hello, false);
    connections.set_phase(shaking, Phase::Handshake, false);
    assert_eq!(connections.drain(), [old, silent]);
    assert_eq!(
        [old, silent].map(|place| connections.remove(place)),
        [Some(()); 2]
    );
    // It asks, and is idle again a little later.
    for tick in 0..5 {
        let late = connections.insert(());
        assert!(connections.is_idle(late));
        connections.remove(late);
        assert_eq!(
            connections.sweep(&deadlines),
            if tick == 4 { vec![young] } else { vec![] }
        );
    }
    assert_eq!(
        [young, head, page, shaking].map(|place| connections.is_idle(place)),
        [true, false, false, false]
    );
}

#[test]
fn a_handshake_has_its_time_from_the_accept() {
    let deadlines = Deadlines {
        idle: Duration::from_secs(65),
        head: Duration::from_secs(1),
    };
    let mut connections = Connections::default();
    let place = connections.insert(());
    connections.set_phase(place, Phase::Hello, false);
    (0..4).for_each(|_| assert_eq!(connections.sweep(&deadlines), []));
    connections.set_phase(place, Phase::Handshake, false);
    connections.set_phase(place, Phase::Handshake, false);
    assert_eq!(connections.sweep(&deadlines), [place]);
}

#[test]
fn the_longest_idle_come_first_then_slow_heads_and_the_busy_never() {
    let deadlines = Deadlines {
        idle: Duration::from_secs(65),
        head: Duration::from_secs(5),
    };
    let mut connections = Connections::default();
    let places: Vec<ConnectionId> = (0..6)
        .map(|number| {
            connections.sweep(&deadlines);
            connections.insert(number)
        })
        .collect();
    connections.set_phase(places[0], Phase::Write, false);
    connections.set_phase(places[1], Phase::Idle, true);
    connections.set_phase(places[4], Phase::Head, true);
    connections.set_phase(places[5], Phase::Head, false);
    assert_eq!(connections.longest_waiting(1), [places[2]]);
    assert!(!connections.longest_waiting(3).contains(&places[4]));
    assert!(connections.longest_waiting(4).contains(&places[4]));
    assert_eq!(connections.longest_waiting(9).len(), 4);
}
