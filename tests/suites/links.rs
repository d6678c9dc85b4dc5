//! Ways to one redis-server: over TLS with a certificate of one's own, on a Unix socket, and by a Sentinel that asks for a
//! password. Each carries the store.

use common::store::{Redis, RedisSettings, Store, StoreError};
use common::tally::CountKey;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::sentinel::Sentinel;
use tests::up::write;
use tests::{START, eventually, port};

/// A redis-server that listens over TLS and on a socket, and nowhere else.
struct Server {
    directory: TempDir,
    port: u16,
    _process: Process,
}

impl Server {
    fn start() -> Self {
        let (directory, port) = (tempfile::tempdir().expect("a temporary directory"), port::free());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a certificate");
        let certificate = write(directory.path(), "cert.pem", made.cert.pem());
        let key = write(directory.path(), "key.pem", made.signing_key.serialize_pem());
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--tls-port", &port.to_string(), "--bind", "127.0.0.1", "--tls-auth-clients", "no"]);
        command.args(["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &certificate]);
        command.arg("--unixsocket").arg(directory.path().join("redis.sock")).arg("--dir").arg(directory.path());
        let process = Process::spawn("redis-server", command);
        process.wait_for_line("accept connections at", START);
        Self { directory, port, _process: process }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn settings(&self, url: &str, ca_file: Option<&str>) -> RedisSettings {
        let address = url.parse().expect("a redis URL");
        RedisSettings { ca_file: ca_file.map(|name| self.file(name)), ..RedisSettings::new(address) }
    }

    fn over_tls(&self, host: &str, ca_file: Option<&str>) -> RedisSettings {
        self.settings(&format!("rediss://{host}:{}", self.port), ca_file)
    }
}

async fn counts(store: Store, total: u64) -> Result<u64, StoreError> {
    let key: CountKey = "img/a".parse().expect("a counted key");
    let said = serde_json::json!({"id": "r", "host": "h", "address": "a", "version": "v", "generation": 1, "overrides": 0, "started": 0});
    store.replica().announce(&serde_json::from_value(said).expect("an announcement")).await?;
    store.replica().flush("r", &[(key.clone(), total)]).await?;
    Ok(store.reader().totals().await?.sum().get(&key))
}

#[tokio::test]
async fn the_store_works_over_tls_and_on_a_socket() {
    let server = Server::start();
    for (total, host) in [(1, "localhost"), (3, "127.0.0.1")] {
        let settings = server.over_tls(host, Some("cert.pem"));
        assert_eq!(counts(Store::Redis(Redis::dedicated(&settings)), total).await, Ok(total), "{host}");
        assert_eq!(counts(Store::Redis(Redis::pooled(&settings)), total + 1).await, Ok(total + 1), "{host}");
    }
    let socket = server.settings(&format!("redis+unix://{}", server.file("redis.sock").display()), None);
    assert_eq!(counts(Store::Redis(Redis::dedicated(&socket)), 5).await, Ok(5));
    assert_eq!(counts(Store::Redis(Redis::pooled(&socket)), 6).await, Ok(6));
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused_and_a_lost_file_named() {
    let server = Server::start();
    let unknown = counts(Store::Redis(Redis::dedicated(&server.over_tls("127.0.0.1", None))), 1).await.expect_err("an unknown issuer");
    assert!(unknown.to_string().to_ascii_lowercase().contains("certificate"), "{unknown}");
    let lost = counts(Store::Redis(Redis::pooled(&server.over_tls("127.0.0.1", Some("nowhere.pem")))), 1).await.expect_err("no file");
    assert!(lost.to_string().contains("redis_ca_file") && lost.to_string().contains("nowhere.pem"), "{lost}");
}

#[tokio::test]
async fn hints_come_over_tls() {
    let server = Server::start();
    let store = Store::Redis(Redis::dedicated(&server.over_tls("localhost", Some("cert.pem"))));
    let mut hints = store.reader().hints();
    // The first says that listening began.
    tokio::time::timeout(START, hints.next()).await.expect("it listens");
    let id = "img/a".parse().expect("a server");
    let event = serde_json::from_value(serde_json::json!({"at": 1, "by": "t", "what": "w", "why": ""})).expect("an event");
    store.operator().set_override(&id, Some(&Default::default()), &event, None).await.expect("an answer");
    tokio::time::timeout(START, hints.next()).await.expect("a hint");
}

#[tokio::test]
async fn sentinels_may_have_a_password_that_the_primary_has_not() {
    let (directory, primary) = (tempfile::tempdir().expect("a temporary directory"), RedisServer::forgetful());
    let sentinel = Sentinel::start(&directory, 1, &primary, "requirepass secret\n");
    eventually!(START, sentinel.say(&["PING"]).is_some());
    let open = RedisSettings::new(sentinel.url().parse().expect("a redis URL"));
    let refused = counts(Store::Redis(Redis::dedicated(&open)), 1).await.expect_err("no password").to_string();
    assert!(refused.contains("NOAUTH"), "{refused}");
    let settings = RedisSettings { sentinel_password_file: Some(write(directory.path(), "password", "secret\n").into()), ..open };
    assert_eq!(counts(Store::Redis(Redis::dedicated(&settings)), 2).await, Ok(2));
    assert_eq!(counts(Store::Redis(Redis::pooled(&settings)), 3).await, Ok(3));
}
