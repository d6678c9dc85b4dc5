//! What a redirector costs its Redis: as good as nothing, whatever its clients do.
#![allow(clippy::print_stdout, reason = "the figures are what the suite is for")]

use common::model::health::{Checked, Finding, State};
use common::store::{HealthReport, Redis, Store};
use std::time::{Duration, Instant};
use tests::paced::Paced;
use tests::redis::RedisServer;
use tests::scenario::Scale;
use tests::world::Way;
use tests::{START, client, eventually};

/// Commands a second, those in scripts included.
const MOST: f64 = 12.0;

const SERVERS: usize = 200;

fn conf() -> String {
    let names: Vec<String> = (0..SERVERS).map(|n| format!("s{n}")).collect();
    let servers: String = names
        .iter()
        .map(|name| format!("[{name}]\ndomain = http://{name}.test\n"))
        .collect();
    format!(
        "[farms]\nlist = img\n[img]\ndomain = img.test\nlist = {}\n{servers}",
        names.join(", ")
    )
}

/// Commands carried out so far, by the server's own word.
fn commands(redis: &RedisServer) -> u64 {
    let info = redis.call(&["INFO", "stats"]);
    let line = |line: &str| {
        line.strip_prefix("total_commands_processed:")?
            .trim()
            .parse()
            .ok()
    };
    info.text()
        .lines()
        .find_map(line)
        .expect("INFO counts commands")
}

#[test]
fn a_redirector_sends_no_more_than_twelve_commands_a_second() {
    let _alone = crate::alone();
    let (redis, directory) = (
        RedisServer::forgetful(),
        tempfile::tempdir().expect("a temporary directory"),
    );
    let way = Way::to(&redis);
    assert_eq!(way.apply(directory.path(), conf().as_bytes()).code, Some(0));
    let finding = Finding {
        state: State::Up,
        checked: Checked::Ok,
        since: 1,
        why: "HTTP 200".into(),
        last_check: 1,
    };
    let changed = vec![(
        common::model::check::CheckKey("http://s0.test/".into()),
        finding,
    )];
    let report = HealthReport {
        id: "watcher".into(),
        sequence: 1,
        changed,
        ..HealthReport::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(
            Store::Redis(Redis::pooled(&redis.settings()))
                .prober()
                .report(&report),
        )
        .expect("an answer");
    let redirector = way.redirector(directory.path(), "redirector");
    eventually!(
        START,
        client::get(redirector.address, "img.test", "/").status == 302
    );
    for rate in [0, 50, 2000] {
        let traffic = (rate > 0).then(|| Paced::start(&[redirector.address], "img.test", rate));
        let (began, before) = (Instant::now(), commands(&redis));
        std::thread::sleep(Duration::from_secs(Scale::asked().pick(3, 30)));
        // Opening a connection and asking are commands too, but not the redirector's.
        let each =
            commands(&redis).saturating_sub(before + 2) as f64 / began.elapsed().as_secs_f64();
        println!("{rate} requests a second: {each:.1} commands a second");
        if let Some(traffic) = traffic {
            assert_eq!(traffic.stop().lost, 0);
        }
        assert!(
            each <= MOST,
            "{each:.1} commands a second at {rate} requests a second"
        );
    }
}
