//! Ways to one redis-server: over TLS with certificates of one's own, on a Unix socket, and by a Sentinel that asks for a
//! password. Each carries the store; and whoever else answers there, or refuses, is told apart by every program.

use common::model::tally::CountKey;
use common::store::{Redis, RedisSettings, Store, StoreError};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tests::process::{Ended, Process};
use tests::redis::RedisServer;
use tests::sentinel::Sentinel;
use tests::up::write;
use tests::{START, client, eventually, port, tls};

/// A redis-server that listens over TLS and on a socket, and nowhere else.
struct Server {
    directory: TempDir,
    port: u16,
    _process: Process,
}

impl Server {
    fn start() -> Self {
        Self::taking_clients("no", "cert")
    }

    /// One that wants certificates of its clients, or not; those it takes are in `NAME.pem`.
    fn taking_clients(wanted: &str, name: &str) -> Self {
        let (directory, port) = (
            tempfile::tempdir().expect("a temporary directory"),
            port::free(),
        );
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
                .expect("a certificate");
        let certificate = write(directory.path(), "cert.pem", made.cert.pem());
        let key = write(
            directory.path(),
            "key.pem",
            made.signing_key.serialize_pem(),
        );
        let mut command = Command::new("redis-server");
        ["client", "other"]
            .iter()
            .for_each(|name| drop(tls::certificate(directory.path(), name, &["rbalancer"])));
        command.args([
            "--port",
            "0",
            "--save",
            "",
            "--tls-port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--tls-auth-clients",
            wanted,
        ]);
        command.args([
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &format!("{name}.pem"),
        ]);
        command.current_dir(directory.path());
        command
            .arg("--unixsocket")
            .arg(directory.path().join("redis.sock"))
            .arg("--dir")
            .arg(directory.path());
        let process = Process::spawn("redis-server", command);
        process.wait_for_line("accept connections at", START);
        Self {
            directory,
            port,
            _process: process,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn settings(&self, url: &str, ca_file: Option<&str>) -> RedisSettings {
        let address = url.parse().expect("a redis URL");
        RedisSettings {
            ca_file: ca_file.map(|name| self.file(name)),
            ..RedisSettings::new(address)
        }
    }

    fn over_tls(&self, host: &str, ca_file: Option<&str>) -> RedisSettings {
        self.settings(&format!("rediss://{host}:{}", self.port), ca_file)
    }
}

async fn counts(store: Store, total: u64) -> Result<u64, StoreError> {
    let key: CountKey = "img/a".parse().expect("a counted key");
    let said = serde_json::json!({"id": "r", "host": "h", "address": "a", "version": "v", "generation": 1, "overrides": 0, "started": 0});
    store
        .replica()
        .announce(&serde_json::from_value(said).expect("an announcement"))
        .await?;
    store.replica().flush("r", &[(key.clone(), total)]).await?;
    Ok(store.reader().totals().await?.sum().get(&key))
}

#[tokio::test]
async fn the_store_works_over_tls_and_on_a_socket() {
    let server = Server::start();
    for (total, host) in [(1, "localhost"), (3, "127.0.0.1")] {
        let settings = server.over_tls(host, Some("cert.pem"));
        assert_eq!(
            counts(Store::Redis(Redis::dedicated(&settings)), total).await,
            Ok(total),
            "{host}"
        );
        assert_eq!(
            counts(Store::Redis(Redis::pooled(&settings)), total + 1).await,
            Ok(total + 1),
            "{host}"
        );
    }
    let socket = server.settings(
        &format!("redis+unix://{}", server.file("redis.sock").display()),
        None,
    );
    assert_eq!(
        counts(Store::Redis(Redis::dedicated(&socket)), 5).await,
        Ok(5)
    );
    assert_eq!(counts(Store::Redis(Redis::pooled(&socket)), 6).await, Ok(6));
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused_and_a_lost_file_named() {
    let server = Server::start();
    let unknown = counts(
        Store::Redis(Redis::dedicated(&server.over_tls("127.0.0.1", None))),
        1,
    )
    .await
    .expect_err("an unknown issuer");
    assert!(
        unknown
            .to_string()
            .to_ascii_lowercase()
            .contains("certificate"),
        "{unknown}"
    );
    let lost = counts(
        Store::Redis(Redis::pooled(
            &server.over_tls("127.0.0.1", Some("nowhere.pem")),
        )),
        1,
    )
    .await
    .expect_err("no file");
    assert!(
        lost.to_string().contains("redis_ca_file") && lost.to_string().contains("nowhere.pem"),
        "{lost}"
    );
}

#[tokio::test]
async fn hints_come_over_tls() {
    let server = Server::start();
    let store = Store::Redis(Redis::dedicated(
        &server.over_tls("localhost", Some("cert.pem")),
    ));
    let mut hints = store.reader().hints();
    // The first says that listening began.
    tokio::time::timeout(START, hints.next())
        .await
        .expect("it listens");
    let id = "img/a".parse().expect("a server");
    let event =
        serde_json::from_value(serde_json::json!({"at": 1, "by": "t", "what": "w", "why": ""}))
            .expect("an event");
    store
        .operator()
        .set_override(&id, Some(&Default::default()), &event, None)
        .await
        .expect("an answer");
    tokio::time::timeout(START, hints.next())
        .await
        .expect("a hint");
}

#[tokio::test]
async fn sentinels_may_have_a_password_that_the_primary_has_not() {
    let (directory, primary) = (
        tempfile::tempdir().expect("a temporary directory"),
        RedisServer::forgetful(),
    );
    let sentinel = Sentinel::start(&directory, 1, &primary, "requirepass secret\n");
    eventually!(START, sentinel.say(&["PING"]).is_some());
    let open = RedisSettings::new(sentinel.url().parse().expect("a redis URL"));
    let refused = counts(Store::Redis(Redis::dedicated(&open)), 1)
        .await
        .expect_err("no password")
        .to_string();
    assert!(
        refused
            .contains("asks for a password: name a file with it as redis_sentinel_password_file"),
        "{refused}"
    );
    let settings = RedisSettings {
        sentinel_password_file: Some(write(directory.path(), "password", "secret\n").into()),
        ..open
    };
    assert_eq!(
        counts(Store::Redis(Redis::dedicated(&settings)), 2).await,
        Ok(2)
    );
    assert_eq!(
        counts(Store::Redis(Redis::pooled(&settings)), 3).await,
        Ok(3)
    );
}

const TABLE: &str = "[farms]\nlist = img\n[img]\nlist = a, b\ndomain = img.test\ncheck = off\n[a]\ndomain = http://a.test\n[b]\ndomain = b.test\n";

/// Runs a command in a folder where `f.conf` is [`TABLE`] under `global`, to its end.
fn run(folder: &Path, global: &str, program: &str, arguments: &[&str]) -> Ended {
    write(folder, "f.conf", format!("[global]\n{global}\n{TABLE}"));
    Process::start(program, folder, arguments, &[]).wait(START)
}

#[test]
fn a_redis_that_wants_certificates_of_its_clients_gets_ours() {
    let server = Server::taking_clients("yes", "client");
    let folder = server.directory.path();
    let redis = format!(
        "redis = rediss://localhost:{}\nredis_ca_file = cert.pem\n",
        server.port
    );
    let ours = |name: &str, key: &str| {
        format!("{redis}redis_cert_file = {name}.pem\nredis_key_file = {key}.key\n")
    };
    let cli = |global: &str, arguments: &[&str]| run(folder, global, "rbalancer", arguments);
    cli(&ours("client", "client"), &["apply", "f.conf", "--yes"]).expect(0, &["generation"]);
    cli(&ours("client", "client"), &["show", "-c", "f.conf"]).expect(0, &["img"]);
    // Read at every dial: a certificate that is renewed is used without a restart.
    let redirector = Process::start(
        "rbalancer-redirector",
        folder,
        &["-c", "f.conf", "--listen", "127.0.0.1:0"],
        &[("RBALANCER_ADMIN_BIND", "off")],
    );
    let address = redirector.wait_for_address(START);
    eventually!(START, client::get(address, "img.test", "/").status == 302);
    write(folder, "empty.pem", "");
    let refusals = [
        (redis.clone(), "wants a certificate of its clients"),
        (
            ours("other", "other"),
            "does not take the certificate in redis_cert_file",
        ),
        (
            ours("client", "other"),
            "redis_key_file is not the key of redis_cert_file",
        ),
        (
            ours("gone", "client"),
            "redis_cert_file gone.pem: No such file",
        ),
        (
            ours("client", "client")
                .replace("redis_ca_file = cert.pem", "redis_ca_file = other.pem"),
            "nobody we trust has signed its certificate: name who did as redis_ca_file",
        ),
        (
            ours("client", "client").replace("ca_file = cert.pem", "ca_file = empty.pem"),
            "redis_ca_file holds no certificate",
        ),
        (
            ours("client", "client").replace("rediss:", "redis:"),
            "where TLS is spoken write rediss://",
        ),
    ];
    for (global, words) in &refusals {
        for command in [&["show", "-c", "f.conf"][..], &["apply", "f.conf", "--yes"]] {
            cli(global, command).expect(1, &[words]);
        }
        let healthd = {
            write(
                folder,
                "f.conf",
                format!("[global]\nhealthd_bind = off\n{global}\n{TABLE}"),
            );
            Process::start("rbalancer-healthd", folder, &["-c", "f.conf"], &[])
        };
        healthd.wait_for_line(words, START);
        tests::up::ends_well(healthd);
    }
    for (half, other) in [
        ("redis_cert_file = client.pem\n", "redis_key_file"),
        ("redis_key_file = client.key\n", "redis_cert_file"),
    ] {
        for (program, arguments) in [
            ("rbalancer", &["check", "f.conf"][..]),
            ("rbalancer-redirector", &["-t", "-c", "f.conf"]),
            ("rbalancer-statsd", &["-t", "-c", "f.conf"]),
        ] {
            run(folder, &format!("{redis}{half}"), program, arguments)
                .expect(78, &["f.conf:4", &format!("add {other}")]);
        }
    }
    cli(&ours("client", "client"), &["show", "-c", "f.conf"]).expect(0, &["img"]);
    tests::up::ends_well(redirector);
}

/// Everything that is done with a Redis.
const COMMANDS: [&[&str]; 7] = [
    &["show", "-c", "f.conf"],
    &["apply", "f.conf", "--yes"],
    &["plan", "f.conf"],
    &["weight", "img/a", "3", "-c", "f.conf"],
    &["history", "-c", "f.conf"],
    &["export", "-c", "f.conf"],
    &["doctor", "-c", "f.conf"],
];

/// Each of `commands` and `daemons` says `words` of what is at `url`.
fn is_told(url: &str, words: &str, commands: &[&[&str]], daemons: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let global = format!("redis = {url}");
    for arguments in commands {
        let ended = run(folder.path(), &global, "rbalancer", arguments);
        ended.expect(1, &[words]);
        no_library_speaks(&ended.text());
    }
    let global = format!(
        "{global}\nadmin_bind = off\nhealthd_bind = off\nstats_bind = 127.0.0.1:0\nbind = 127.0.0.1:0\n"
    );
    write(folder.path(), "f.conf", format!("[global]\n{global}"));
    for program in daemons {
        let process = Process::start(program, folder.path(), &["-c", "f.conf"], &[]);
        process.wait_for_line(words, START);
        let ended = process.terminate(START);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        no_library_speaks(&ended.text());
    }
}

fn everybody_says(url: &str, words: &str) {
    is_told(
        url,
        words,
        &COMMANDS,
        &[
            "rbalancer-redirector",
            "rbalancer-healthd",
            "rbalancer-statsd",
        ],
    );
}

fn somebody_says(url: &str, words: &str) {
    is_told(url, words, &COMMANDS[..2], &["rbalancer-healthd"]);
}

/// Nobody can do anything with the words of a library.
fn no_library_speaks(text: &str) {
    for words in [
        "creating a new object",
        "InvalidContentType",
        "Pipeline failure",
        "ResponseError",
        "multibulk",
        "fatal alert",
    ] {
        assert!(!text.contains(words), "`{words}` in:\n{text}");
    }
}

#[test]
fn a_redis_that_asks_for_a_password_or_refuses_a_user_says_what_is_missing() {
    let secret = RedisServer::breakable("secret");
    everybody_says(
        &secret.url(),
        "asks for a password: name a file with it as redis_password_file",
    );
    somebody_says(
        &secret.url().replace("//", "//:wrong@"),
        "does not take this user and password: look into the redis_password_file",
    );
    somebody_says(
        &secret.url().replace("//", "//nobody:x@"),
        "does not take this user and password",
    );
    let open = RedisServer::forgetful();
    open.call(&[
        "ACL", "SETUSER", "lame", "on", ">x", "~*", "+ping", "+hello", "+client", "+select",
    ]);
    somebody_says(
        &open.url().replace("//", "//lame:x@"),
        "its user may not do that",
    );
}

/// Where somebody says the same to whoever says anything.
fn greets(greeting: &'static str) -> SocketAddr {
    let listener = port::listener();
    let address = port::address(&listener);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A client that goes away in the middle is its own affair.
            let _ = stream
                .read(&mut [0; 64])
                .and_then(|_| stream.write_all(greeting.as_bytes()));
        }
    });
    address
}

#[test]
fn what_is_no_such_redis_is_told_apart() {
    let open = RedisServer::forgetful();
    let port = open.port();
    somebody_says(
        &format!("redis+sentinel://127.0.0.1:{port}/main"),
        "it is no Sentinel: write redis://HOST",
    );
    somebody_says(
        &format!("redis+cluster://127.0.0.1:{port}"),
        "it is no member of a Cluster: write redis://HOST",
    );
    somebody_says(
        &format!("rediss://127.0.0.1:{port}"),
        "where no TLS is spoken write redis://",
    );
    let member = RedisServer::with(&["--cluster-enabled", "yes"]);
    somebody_says(
        &member.url(),
        "it is a member of a Cluster: write redis+cluster://HOST",
    );
    let sentinel_folder = tempfile::tempdir().expect("a temporary directory");
    let sentinel = Sentinel::start(&sentinel_folder, 1, &open, "");
    somebody_says(
        &format!("redis://{}", sentinel.address()),
        "it is a Sentinel: write redis+sentinel://HOST/PRIMARY",
    );
    for greeting in [
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        somebody_says(
            &format!("redis://{}", greets(greeting)),
            "what answers there is no redis",
        );
    }
}

#[test]
fn a_user_without_a_password_is_not_asked_for_as_somebody_else() {
    let redis = RedisServer::forgetful();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let global = format!("redis = {}", redis.url().replace("//", "//anna@"));
    for (program, arguments) in [
        ("rbalancer", &["apply", "f.conf", "--yes"][..]),
        ("rbalancer", &["show", "-c", "f.conf"]),
        ("rbalancer", &["check", "f.conf"]),
        ("rbalancer-redirector", &["-t", "-c", "f.conf"]),
        ("rbalancer-healthd", &["-t", "-c", "f.conf"]),
        ("rbalancer-statsd", &["-t", "-c", "f.conf"]),
    ] {
        run(folder.path(), &global, program, arguments)
            .expect(78, &["a user and no password", "redis_password_file"]);
    }
    assert_eq!(redis.keys(), 0);
    redis.call(&["ACL", "SETUSER", "anna", "on", ">word", "~*", "&*", "+@all"]);
    let password = write(folder.path(), "password", "word\n");
    run(
        folder.path(),
        &format!("{global}\nredis_password_file = {password}"),
        "rbalancer",
        &["apply", "f.conf", "--yes"],
    )
    .expect(0, &[]);
}

#[test]
fn the_database_of_a_url_is_the_one_that_is_used() {
    let redis = RedisServer::forgetful();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let keys = |database: &str| {
        let keyspace = redis.call(&["INFO", "keyspace"]);
        format!("{keyspace:?}").contains(&format!("db{database}:"))
    };
    run(
        folder.path(),
        &format!("redis = {}?db=4", redis.url()),
        "rbalancer",
        &["apply", "f.conf", "--yes"],
    )
    .expect(0, &[]);
    assert!(keys("4") && !keys("0"));
    run(
        folder.path(),
        &format!("redis = {}/4", redis.url()),
        "rbalancer",
        &["show", "-c", "f.conf"],
    )
    .expect(0, &["img"]);
    for (key, value, words) in [
        (
            "redis",
            "redis://h?timeout=3",
            "`timeout` after the `?` is not used here",
        ),
        ("redis", "redis://h/#insecure", "redis_ca_file"),
        (
            "redis",
            "redis://h/0?db=4",
            "names database 0 and database 4",
        ),
        ("redis", "redis://h?db=4&db=4", "`db` stands twice"),
        ("redis", "redis://:a?b@h", "in user and password write %2F"),
        ("stats_url", "http://h/x?y", "`?` is not allowed here"),
        ("acme_url", "http://u@h", "user or password"),
        ("fallback", "http://h/#f", "`#` is not allowed here"),
        ("check_addr", "h:80/x", "HOST or HOST:PORT"),
    ] {
        run(
            folder.path(),
            &format!("{key} = {value}"),
            "rbalancer",
            &["check", "f.conf"],
        )
        .expect(78, &["f.conf:2", words]);
    }
}
