//! Tests of [`super`].

use super::*;

#[test]
fn a_target_reads_back_as_written() {
    for text in [
        "http://img1.org",
        "https://img1.org:8443/a/b",
        "img1.org",
        "img1.org:81",
        "http://[::1]:8080",
    ] {
        assert_eq!(text.parse::<Target>().expect(text).to_string(), text);
    }
    assert_eq!(
        "http://img1.org/a/"
            .parse::<Target>()
            .expect("valid")
            .to_string(),
        "http://img1.org/a"
    );
}

#[test]
fn a_target_without_scheme_follows_the_request() {
    let target: Target = "img1.org:81/x".parse().expect("valid");
    assert_eq!(target.origin(Scheme::Https), "https://img1.org:81/x");
    let fixed: Target = "http://img1.org".parse().expect("valid");
    assert_eq!(fixed.origin(Scheme::Https), "http://img1.org");
}

#[test]
fn what_was_written_by_mistake_is_refused() {
    for bad in [
        "http:/img1.org",
        "http//img1.org",
        "https:img1.org",
        "HTTP",
        "img1.org:",
        "10.0.0.300",
        "1.2.3",
    ] {
        assert!(bad.parse::<Target>().is_err(), "{bad:?} was accepted");
    }
    for bad in ["a..b", "-a.org", "a-.org", "0.0.0.0:80", "12"] {
        assert!(bad.parse::<Target>().is_err(), "{bad:?} was accepted");
    }
    for good in [
        "10.0.0.3",
        "3com.org",
        "a--b.org",
        "_x.org",
        "localhost",
        "img1",
        "img1.org.",
        "1.2.3.example",
    ] {
        assert!(good.parse::<Target>().is_ok(), "{good:?} was refused");
    }
    assert!(
        "http:/img1.org"
            .parse::<Target>()
            .is_err_and(|error| error.to_string().contains("write http://HOST"))
    );
}

#[test]
fn what_would_bend_a_location_is_refused() {
    for bad in [
        "",
        "ftp://a",
        "http://",
        "http://u:p@h",
        "h?x",
        "h#x",
        "h:0",
        "h:99999",
        "h/a b",
        "h/\u{e9}",
        "a b",
        "http:///x",
    ] {
        assert!(bad.parse::<Target>().is_err(), "{bad:?} was accepted");
    }
}
