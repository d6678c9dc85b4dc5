//! A schedule with real probes of real sockets.

use super::*;
use crate::checks::CheckedServer;
use common::model::health::State;
use common::store::{Memory, Store};
use tokio::io::AsyncWriteExt;

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .expect("did not come to hold within 10 s");
}

async fn origin(port: u16) -> (u16, task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .expect("port");
    let port = listener.local_addr().expect("bound").port();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut scrap = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut scrap).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    });
    (port, serving)
}

fn check(port: u16) -> common::model::check::Check {
    serde_json::from_value(serde_json::json!({"scheme": "http", "host": "127.0.0.1", "port": port, "method": "HEAD", "uri": "/",
        "expect": "200-399", "tls_verify": true, "inter": 50, "fastinter": 20, "downinter": 50, "timeout": 1000, "rise": 2, "fall": 2}))
    .expect("valid check")
}

#[tokio::test]
async fn a_probe_that_panics_costs_its_check_one_turn() {
    let (_sender, receiver) = watch::channel(Checks::default());
    let store = Store::Memory(Memory::default()).prober();
    let mut schedule = Schedule::new(
        "h".into(),
        true,
        room(1024),
        store,
        receiver,
        Arc::default(),
    );
    let (now, check) = (Instant::now(), check(1));
    schedule.list.set(
        Checks {
            made: [(check.key(), (check, Vec::new()))].into(),
            ..Checks::default()
        },
        now,
    );
    let (key, row, _) = schedule.list.take_due(now, &mut schedule.room).remove(0);
    schedule.fly(key, row, now, async {
        std::panic::resume_unwind(Box::new("trouble"))
    });
    let joined = schedule.probes.join_next_with_id().await.expect("a probe");
    schedule.take(joined);
    assert_eq!(
        (
            schedule.flying.len(),
            schedule.done.inconclusive.load(Ordering::Relaxed)
        ),
        (0, 1)
    );
    let next = schedule
        .list
        .take_due(now + Duration::from_secs(1), &mut schedule.room);
    assert_eq!(next.len(), 1, "it is probed again");
}

#[tokio::test]
async fn a_server_goes_down_and_comes_back_and_a_restart_turns_nothing() {
    let (port, serving) = origin(0).await;
    let check = check(port);
    let key = check.key();
    let seat = CheckedServer {
        id: "img/a".parse().expect("valid"),
        serves: true,
    };
    let checks = Checks {
        made: [(key.clone(), (check, vec![seat]))].into(),
        ..Checks::default()
    };
    let store = Store::Memory(Memory::default());
    let (_keep, receiver) = watch::channel(Checks::default());
    let start = || {
        let (sender, receiver) = watch::channel(Checks::default());
        sender.send_replace(checks.clone());
        let schedule = Schedule::new(
            "h".into(),
            false,
            room(1024),
            store.prober(),
            {
                let mut receiver = receiver;
                receiver.mark_changed();
                receiver
            },
            Arc::default(),
        );
        (tokio::spawn(schedule.run()), sender)
    };
    drop(receiver);
    let state = async || {
        store
            .prober()
            .own_view("h")
            .await
            .expect("memory")
            .findings
            .get(&key)
            .map(|finding| finding.state)
    };
    let (running, _sender) = start();
    until(async || state().await == Some(State::Up)).await;
    serving.abort();
    until(async || state().await == Some(State::Down)).await;
    let (_, _serving) = origin(port).await;
    until(async || state().await == Some(State::Up)).await;
    running.abort();
    let before = store.reader().events(100).await.expect("memory");
    assert_eq!(
        before
            .iter()
            .rev()
            .map(|event| event.what.as_str())
            .collect::<Vec<_>>(),
        ["img/a is down", "img/a is up"]
    );
    let sequence = store.prober().own_view("h").await.expect("memory").sequence;
    let (_running, _sender) = start();
    until(async || store.prober().own_view("h").await.expect("memory").sequence > sequence + 1)
        .await;
    assert_eq!(store.reader().events(100).await.expect("memory"), before);
}

#[tokio::test]
async fn of_two_that_begin_at_once_under_one_id_one_ends() {
    let (port, serving) = origin(0).await;
    let check = check(port);
    let checks = Checks {
        made: [(check.key(), (check, Vec::new()))].into(),
        ..Checks::default()
    };
    let (store, (_sender, mut receiver)) =
        (Store::Memory(Memory::default()), watch::channel(checks));
    receiver.mark_changed();
    let begin = || {
        Schedule::new(
            "h".into(),
            false,
            room(1024),
            store.prober(),
            receiver.clone(),
            Arc::default(),
        )
    };
    let (mut one, mut other) = (tokio::spawn(begin().run()), tokio::spawn(begin().run()));
    let ended = async {
        tokio::select! {
            ended = &mut one => ended,
            ended = &mut other => ended,
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .expect("one ends")
        .expect("no panic");
    assert_eq!(ended, Err(Taken("h".into())));
    assert!(
        !one.is_finished() || !other.is_finished(),
        "the other one goes on"
    );
    [one, other].iter().for_each(task::JoinHandle::abort);
    serving.abort();
}
