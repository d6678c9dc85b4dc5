//! Tests of [`super`].

use super::*;
use crate::answer::request::FIELDS;

fn asked(uri: &str, fields: &[(&str, &str)]) -> Result<(String, String), Refusal> {
    let builder = hyper::Request::builder().uri(uri);
    let builder = fields.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    let request = builder.body(()).expect("a request");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    super::request(&request, FIELDS).map(|request| (text(request.host), text(request.target)))
}

#[test]
fn authority_and_host_must_agree() {
    let good = Ok(("a.org".to_owned(), "/x?y".to_owned()));
    assert_eq!(asked("https://a.org/x?y", &[]), good);
    assert_eq!(asked("https://a.org/x?y", &[("host", "A.org")]), good);
    assert_eq!(asked("/x?y", &[("host", "a.org")]), good);
    assert_eq!(asked("https://a.org/x?y", &[("host", "a.org:443")]), good);
    assert_eq!(
        asked("https://a.org/", &[("host", "a.org:80")]),
        Err(Fault::OtherHost.into())
    );
    assert_eq!(
        asked("https://a.org/", &[("host", "b.org")]),
        Err(Fault::OtherHost.into())
    );
    assert!(
        asked(
            "https://a.org/",
            &[("if-none-match", "\"a\""), ("if-none-match", "\"b\"")]
        )
        .is_ok()
    );
    assert_eq!(
        asked("https://a.org/", &[("host", "a.org"), ("host", "a.org")]),
        Err(Fault::TwoHosts.into())
    );
    assert_eq!(asked("/", &[]), Err(Fault::NoHost.into()));
    assert_eq!(asked("*", &[("host", "a.org")]), Err(Fault::Target.into()));
    assert_eq!(
        asked(
            &format!("/{}", "x".repeat(MAX_TARGET)),
            &[("host", "a.org")]
        ),
        Err(Refusal::TargetTooLong)
    );
}

#[test]
fn any_number_of_cookies_is_one_field() {
    let with = |name: &'static str, count: usize| {
        asked("https://a.org/", &vec![(name, "a=b"); count]).map(drop)
    };
    assert_eq!(
        (
            with("cookie", 300),
            with("x", FIELDS),
            with("x", FIELDS + 1)
        ),
        (Ok(()), Ok(()), Err(Refusal::HeadTooLarge))
    );
    let fields = [vec![("cookie", "a=b"); 300], vec![("x", "y"); FIELDS]].concat();
    assert_eq!(
        asked("https://a.org/", &fields).map(drop),
        Err(Refusal::HeadTooLarge)
    );
}

#[test]
fn an_answer_keeps_its_fields_and_bytes_that_are_no_text() {
    let answer = Answer::Beside {
        before: b"http://a.org",
        rest: b"/\xe9",
    };
    let response = response(&answer, false, b"Date: now\r\n");
    assert_eq!(
        (response.status(), response.headers().len()),
        (StatusCode::FOUND, 4)
    );
    assert_eq!(
        response.headers()["location"].as_bytes(),
        b"http://a.org/\xe9"
    );
}
