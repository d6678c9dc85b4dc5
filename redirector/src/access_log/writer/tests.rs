//! Tests of [`super`].

use super::*;

fn entry(target: &[u8]) -> LogEntry<'_> {
    LogEntry {
        at: 0,
        client: "192.0.2.1".parse().ok(),
        method: b"GET",
        target,
        version: "HTTP/1.1",
        host: b"",
        status: 302,
        bytes: 0,
        referer: b"",
        agent: b"",
        farm: "",
        server: "",
        location: b"",
        reason: "",
    }
}

fn until(mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "not within 10 s"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn words_that_are_no_path_are_no_file() {
    assert!(
        ["-", "stdout", "/dev/stdout"]
            .iter()
            .all(|text| text.parse() == Ok(LogDestination::Stdout))
    );
    assert_eq!("/dev/stderr".parse(), Ok(LogDestination::Stderr));
    assert_eq!(
        "access.log".parse(),
        Ok(LogDestination::Path("access.log".into()))
    );
    assert_eq!(
        "./syslog".parse(),
        Ok(LogDestination::Path("./syslog".into()))
    );
    for word in ["syslog", "stderr", "none", "journal", ""] {
        let error = word.parse::<LogDestination>().expect_err(word);
        assert!(error.contains("- for standard output"), "{error}");
    }
}

#[tokio::test]
async fn lines_reach_the_file_and_a_new_one_after_it_was_moved() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, progressed) = (
        folder.path().join("access.log"),
        folder.path().join("access.log.1"),
    );
    let (log, _) = AccessLog::open(LogDestination::Path(path.clone()), Style::default())
        .await
        .expect("it opens");
    let mut lines = log.lines();
    lines.add(&entry(b"/one"));
    lines.hand_over();
    until(|| std::fs::read_to_string(&path).is_ok_and(|text| text.contains("GET /one HTTP/1.1")));
    std::fs::rename(&path, &progressed).expect("moved");
    log.state().reopen();
    lines.add(&entry(b"/two"));
    drop(lines);
    until(|| std::fs::read_to_string(&path).is_ok_and(|text| text.contains("/two")));
    assert!(
        !std::fs::read_to_string(&progressed)
            .expect("it is there")
            .contains("/two")
    );
    assert_eq!(log.state().dropped(), 0);
}

#[tokio::test]
async fn at_the_end_every_line_is_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let (log, writing) = AccessLog::open(LogDestination::Path(path.clone()), Style::default())
        .await
        .expect("it opens");
    let mut lines = log.lines();
    (0..20_000).for_each(|_| lines.add(&entry(b"/last")));
    drop((lines, log));
    writing.end().await;
    assert_eq!(
        std::fs::read_to_string(&path)
            .expect("it is there")
            .lines()
            .count(),
        20_000
    );
}

#[test]
fn what_a_full_queue_cannot_take_is_counted_and_nobody_waits() {
    let (sender, batches) = sync_channel(1);
    let log = AccessLog {
        sender,
        style: Style::default(),
        state: Arc::default(),
    };
    let mut lines = log.lines();
    for _ in 0..3 {
        (0..10).for_each(|_| lines.add(&entry(b"/x")));
        lines.hand_over();
    }
    assert_eq!(
        (
            log.state().dropped(),
            batches.recv().expect("one batch").lines
        ),
        (20, 10)
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_written_costs_lines_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/access.log");
    let destination = LogDestination::Path(path.clone());
    assert!(
        AccessLog::open(destination.clone(), Style::default())
            .await
            .is_err()
    );
    let state: Arc<LogState> = Arc::default();
    let mut writer = Writer {
        destination,
        file: None,
        state: state.clone(),
        failing: false,
    };
    let batch = || Batch {
        bytes: b"x\n".to_vec(),
        lines: 1,
    };
    writer.write(&batch());
    assert_eq!(state.dropped(), 1);
    std::fs::create_dir(folder.path().join("deep")).expect("made");
    writer.write(&batch());
    assert_eq!(
        (std::fs::read(&path).expect("written"), state.dropped()),
        (b"x\n".to_vec(), 1)
    );
}
