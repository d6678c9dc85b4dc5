//! The steps of an answer: reading a head, finding the farm, picking the server.

use common::model::farm::Farms;
use common::model::health::{Checked, Finding, Health, State, ViewChanges, Views};
use divan::{Bencher, black_box};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use redirector::counters::Counters;
use redirector::protocol::http1::head::parse;
use redirector::routes::Routes;
use redirector::routes::balance::Pick;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    divan::main();
}

const SHORT: &[u8] =
    b"GET /img/a.jpg?x=1 HTTP/1.1\r\nHost: img.test\r\nUser-Agent: load/1\r\nAccept: */*\r\n\r\n";

const BROWSER: &[u8] = b"GET /img/a.jpg?x=1 HTTP/1.1\r\nHost: img.test\r\nConnection: keep-alive\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5\r\nAccept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate\r\nReferer: http://img.test/album/2024/\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";

#[divan::bench(args = [SHORT.len(), BROWSER.len()])]
fn head(bencher: Bencher<'_, '_>, length: usize) {
    let head = if length == SHORT.len() {
        SHORT
    } else {
        BROWSER
    };
    bencher.bench_local(|| {
        matches!(
            parse(black_box(head), redirector::answer::request::FIELDS),
            redirector::protocol::http1::head::Parsed::Complete(..)
        )
    });
}

#[divan::bench(args = [1, 2, 10, 1000])]
fn pick_random(bencher: Bencher<'_, '_>, servers: usize) {
    let (pick, servers) = Pick::random(weights(servers));
    let mut rng = SmallRng::seed_from_u64(1);
    bencher.bench_local(|| pick.next(&servers, &mut rng));
}

#[divan::bench(args = [2, 10, 1000])]
fn pick_round_robin(bencher: Bencher<'_, '_>, servers: usize) {
    let (pick, servers) = Pick::round_robin(weights(servers), Arc::default());
    let mut rng = SmallRng::seed_from_u64(1);
    bencher.bench_local(|| pick.next(&servers, &mut rng));
}

fn weights(servers: usize) -> Vec<(u16, usize)> {
    (0..servers)
        .map(|index| (if index % 3 == 0 { 20 } else { 10 }, index))
        .collect()
}

/// A look-up and a pick, of all hosts in turn.
#[divan::bench(args = [1, 100, 10_000], sample_size = 10_000)]
fn routes(bencher: Bencher<'_, '_>, farms: usize) {
    let routes = build(&table(farms));
    let hosts: Vec<String> = (0..farms).map(|index| host(index * 7919 % farms)).collect();
    let (mut rng, mut at) = (SmallRng::seed_from_u64(1), 0);
    bencher.bench_local(|| {
        at = if at + 1 == hosts.len() { 0 } else { at + 1 };
        routes
            .farm(black_box(hosts[at].as_bytes()))
            .and_then(|farm| Some(farm.pick(false, &mut rng).ok()?.slot))
    });
}

#[divan::bench(args = [1, 100, 10_000], sample_count = 10)]
fn routes_build(bencher: Bencher<'_, '_>, farms: usize) {
    let table = table(farms);
    bencher.bench_local(|| build(&table));
}

/// The same with every server checked and up.
#[divan::bench(args = [100, 1000, 10_000], sample_count = 10)]
fn routes_build_checked(bencher: Bencher<'_, '_>, farms: usize) {
    let table = checked(farms);
    let (health, counters, mut rng) = (up(&table), Counters::new(1), SmallRng::seed_from_u64(1));
    let previous = Routes::build(
        &table,
        &HashMap::new(),
        &health,
        &counters,
        &Routes::default(),
        &mut rng,
    );
    bencher.bench_local(|| {
        Routes::build(
            &table,
            &HashMap::new(),
            &health,
            &counters,
            &previous,
            &mut rng,
        )
    });
}

/// One server of one farm turns.
#[divan::bench(args = [100, 1000, 10_000], sample_count = 100)]
fn routes_rebuild_one_farm(bencher: Bencher<'_, '_>, farms: usize) {
    let table = checked(farms);
    let (health, counters, mut rng) = (up(&table), Counters::new(1), SmallRng::seed_from_u64(1));
    let routes = Routes::build(
        &table,
        &HashMap::new(),
        &health,
        &counters,
        &Routes::default(),
        &mut rng,
    );
    bencher.bench_local(|| {
        routes.rebuild(
            &table,
            &[farms as u32 / 2].into(),
            &HashMap::new(),
            &health,
            &counters,
        )
    });
}

fn checked(farms: usize) -> Farms {
    let mut table = serde_json::to_value(table(farms)).expect("a table has a JSON form");
    for (index, farm) in table.as_array_mut().expect("farms").iter_mut().enumerate() {
        for (server, fields) in farm["servers"]
            .as_array_mut()
            .expect("servers")
            .iter_mut()
            .enumerate()
        {
            fields["check"] = serde_json::json!({"scheme": "http", "host": format!("img{index}-{server}.test"), "port": 80,
                "method": "HEAD", "uri": "/", "expect": "200-499", "tls_verify": true, "inter": 2000, "fastinter": 300,
                "downinter": 2000, "timeout": 1200, "rise": 2, "fall": 3});
        }
    }
    serde_json::from_value(table).expect("a good table")
}

/// Every check of `farms` is up.
fn up(farms: &Farms) -> Health {
    let finding = Finding {
        state: State::Up,
        checked: Checked::Ok,
        since: 1,
        why: "HTTP 200".into(),
        last_check: 1,
    };
    let keys = farms
        .servers()
        .filter_map(|(_, server)| Some(server.check.as_ref()?.key()));
    let findings = keys.map(|key| (key, finding.clone())).collect();
    let mut views = Views::default();
    let changes = ViewChanges {
        sequences: [("p".to_owned(), 1)].into(),
        changed: [("p".to_owned(), (1, findings))].into(),
    };
    views.take(changes, Instant::now());
    views.merge(Instant::now(), Duration::from_secs(5))
}

fn build(farms: &Farms) -> Routes {
    let (counters, mut rng) = (Counters::new(1), SmallRng::seed_from_u64(1));
    Routes::build(
        farms,
        &HashMap::new(),
        &Health::default(),
        &counters,
        &Routes::default(),
        &mut rng,
    )
}

fn host(farm: usize) -> String {
    format!("img{farm}.test")
}

/// `farms` farms of ten servers.
fn table(farms: usize) -> Farms {
    let server = |index: usize| serde_json::json!({"name": format!("s{index}"), "target": format!("http://img{index}.test"), "weight": 10, "enable": "on"});
    let farm = |index: usize| serde_json::json!({"name": format!("f{index}"), "domains": [host(index)], "servers": (0..10).map(server).collect::<Vec<_>>()});
    serde_json::from_value((0..farms).map(farm).collect()).expect("a good table")
}
