//! Tests of [`super`].

use super::*;
use proptest::prelude::*;

fn of(fields: &[(&str, &str)]) -> Option<Scheme> {
    told(
        fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes())),
    )
}

const HTTPS: Option<Scheme> = Some(Scheme::Https);
const HTTP: Option<Scheme> = Some(Scheme::Http);

#[test]
fn each_field_says_it_in_its_own_way() {
    for (name, value, expected) in [
        ("X-Forwarded-Proto", "https", HTTPS),
        ("x-forwarded-proto", " HTTPS , http", HTTPS),
        ("X-Forwarded-Proto", "http, https", HTTP),
        ("X-Forwarded-Proto", ", ,https", HTTPS),
        ("X-Forwarded-Proto", "wss", HTTPS),
        ("X-Forwarded-Proto", "ftp, https", None),
        ("X-Forwarded-Proto", "", None),
        ("X-Forwarded-Proto", "on", None),
        ("X-Forwarded-Scheme", "https", HTTPS),
        ("X-Forwarded-Protocol", "https", HTTPS),
        ("X-Url-Scheme", "HTTPS", HTTPS),
        ("X-Scheme", "http", HTTP),
        ("CloudFront-Forwarded-Proto", "https", HTTPS),
        ("X-Forwarded-Ssl", "On", HTTPS),
        ("X-Forwarded-SSL", " off ", HTTP),
        ("X-Forwarded-Ssl", "https", None),
        ("Front-End-Https", "on", HTTPS),
        ("Forwarded", "proto=https", HTTPS),
        (
            "Forwarded",
            "for=192.0.2.7; Proto=\"HTTPS\" ;by=10.0.0.1, for=10.0.0.2;proto=http",
            HTTPS,
        ),
        ("Forwarded", "for=192.0.2.7, for=10.0.0.2;proto=http", HTTP),
        ("Forwarded", "for=\"_a,proto=https;\\\"\";proto=http", HTTP),
        ("Forwarded", "for=\"proto=https", None),
        ("Forwarded", "proto=gopher;host=https", None),
        ("Forwarded", "xproto=https;proto", None),
        ("X-Forwarded-Port", "443", None),
        ("X-Forwarded-Prot", "https", None),
    ] {
        assert_eq!(of(&[(name, value)]), expected, "{name}: {value}");
    }
}

#[test]
fn where_several_speak_the_most_widely_set_one_is_believed() {
    assert_eq!(
        of(&[("Front-End-Https", "on"), ("X-Forwarded-Proto", "http")]),
        HTTP
    );
    assert_eq!(
        of(&[
            ("X-Forwarded-Ssl", "off"),
            ("Forwarded", "proto=https"),
            ("X-Scheme", "http")
        ]),
        HTTPS
    );
    assert_eq!(
        of(&[("Forwarded", "proto=http"), ("X-Forwarded-Proto", "https")]),
        HTTPS
    );
    // Whoever cannot be read says nothing.
    assert_eq!(
        of(&[("X-Forwarded-Proto", "yes"), ("X-Forwarded-Ssl", "on")]),
        HTTPS
    );
    // Several fields are one list.
    assert_eq!(
        of(&[
            ("X-Forwarded-Proto", ""),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Proto", "http")
        ]),
        HTTPS
    );
    assert_eq!(of(&[]), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(value in "[\"\\\\,;= a-zA-Z]{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        for (name, _) in FIELDS {
            told([(name, value.as_bytes()), (name, &bytes)].into_iter());
        }
        let quoted = format!("for={};proto=https", value.replace(['"', '\\'], ""));
        prop_assume!(!quoted[..quoted.len() - 12].to_ascii_lowercase().contains("proto"));
        prop_assert_eq!(pairs(quoted.as_bytes()), HTTPS);
    }
}
