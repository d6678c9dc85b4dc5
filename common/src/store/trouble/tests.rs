//! Tests of [`super`].

use super::*;

#[test]
fn answers_are_told_apart_and_come_with_a_remedy() {
    let words = |code: &str, details: &str| Trouble::answer(code, details).to_string();
    for (code, details, expected) in [
        ("NOAUTH", "Authentication required.", "redis_password_file"),
        (
            "ERR",
            "Protocol error: unauthenticated multibulk length",
            "redis_password_file",
        ),
        (
            "WRONGPASS",
            "invalid username-password pair or user is disabled.",
            "the user in the URL",
        ),
        (
            "NOPERM",
            "User lame has no permissions to run the 'hmget' command",
            "deploy/redis",
        ),
        (
            "DENIED",
            "Redis is running in protected mode because",
            "requirepass",
        ),
        ("MOVED", "3999 127.0.0.1:6381", "redis+cluster://"),
        ("CLUSTERDOWN", "Hash slot not served", "redis+cluster://"),
        (
            "ERR",
            "This instance has cluster support disabled",
            "redis://HOST",
        ),
        (
            "READONLY",
            "You can't write against a read only replica.",
            "primary",
        ),
        (
            "OOM",
            "command not allowed when used memory > 'maxmemory'.",
            "maxmemory",
        ),
        (
            "MISCONF",
            "Redis is configured to save RDB snapshots",
            "its log",
        ),
        (
            "NOREPLICAS",
            "Not enough good replicas to write.",
            "min-replicas-to-write",
        ),
        ("ERR", "something new", "ERR something new"),
    ] {
        assert!(
            words(code, details).contains(expected),
            "{code}: {}",
            words(code, details)
        );
    }
    let sentinel = Trouble::answer("NOAUTH", "").of_sentinel().to_string();
    assert!(
        sentinel.contains("redis_sentinel_password_file"),
        "{sentinel}"
    );
}

#[test]
fn the_words_of_a_tls_library_are_not_handed_on() {
    for (words, expected) in [
        (
            "received corrupt message of type InvalidContentType",
            "redis://",
        ),
        ("invalid peer certificate: UnknownIssuer", "redis_ca_file"),
        (
            "received fatal alert: CertificateRequired",
            "redis_cert_file and redis_key_file",
        ),
        ("received fatal alert: UnknownCA", "does not trust"),
        (
            "received fatal alert: ProtocolVersion",
            "fatal alert: protocol version",
        ),
    ] {
        let said = TlsTrouble::of(words).expect(words).to_string();
        assert!(said.contains(expected) && !said.contains(words), "{said}");
    }
    assert_eq!(TlsTrouble::of("Connection refused (os error 111)"), None);
}
