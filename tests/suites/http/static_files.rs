//! Files served in place: the favicon and nothing else, never anything outside the folder.

use std::path::Path;
use tempfile::TempDir;
use tests::client::{self, Answer};
use tests::up::Up;

const ICON: &[u8] = b"\0\0\x01\0 not quite an icon";

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[global]\ncheck = off\nstatic_dir = {folder}\n[farms]\nlist = img\n[img]\nlist = a\ndomain = img.test\n[a]\ndomain = http://a.test\n"
    )
}

/// `up` with a folder that holds an icon, and more that must not be served.
fn start() -> Up {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let folder = directory.path().join("www");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("favicon.ico"), ICON).expect("an icon");
    std::fs::write(folder.join("other.txt"), "other").expect("a file");
    std::fs::write(directory.path().join("secret"), "secret").expect("a file");
    let text = configuration(&folder);
    Up::start_in(directory, &text)
}

fn ask(up: &Up, method: &str, headers: &[(&str, &str)]) -> Answer {
    client::request(up.address, method, "img.test", "/favicon.ico", headers)
}

#[test]
fn the_favicon_is_served_with_type_length_and_caching() {
    let up = start();
    for host in ["img.test", "unknown.test", "localhost"] {
        let answer = up.get(host, "/favicon.ico");
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, ICON),
            "{host}: {answer:?}"
        );
        assert!(
            answer
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("image/")),
            "{answer:?}"
        );
        assert_eq!(
            answer.header("content-length"),
            Some(ICON.len().to_string())
        );
        assert!(
            answer
                .header("cache-control")
                .is_some_and(|value| value.contains("max-age")),
            "{answer:?}"
        );
    }
    let head = ask(&up, "HEAD", &[]);
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some(ICON.len().to_string())),
        "{head:?}"
    );
    assert_eq!(up.get("img.test", "/favicon.ico?x").status, 200);
}

#[test]
fn a_client_that_has_it_is_told_so() {
    let up = start();
    let answer = ask(&up, "GET", &[]);
    let etag = answer.header("etag").expect("an ETag");
    let modified = answer.header("last-modified").expect("a Last-Modified");
    for (name, value) in [
        ("If-None-Match", etag.as_str()),
        ("If-None-Match", "*"),
        ("If-Modified-Since", modified.as_str()),
    ] {
        let again = ask(&up, "GET", &[(name, value)]);
        assert_eq!(
            (again.status, again.header("etag")),
            (304, Some(etag.clone())),
            "{name}: {value}"
        );
    }
    for (name, value) in [
        ("If-None-Match", "\"other\""),
        ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("If-Modified-Since", "x"),
    ] {
        assert_eq!(
            ask(&up, "GET", &[(name, value)]).status,
            200,
            "{name}: {value}"
        );
    }
    assert_eq!(
        ask(
            &up,
            "GET",
            &[
                ("If-None-Match", etag.as_str()),
                ("If-None-Match", "\"other\"")
            ]
        )
        .status,
        200
    );
    assert_eq!(
        up.get("u@x", "/favicon.ico").status,
        400,
        "for every host, and that is none"
    );
}

#[test]
fn nothing_else_in_the_folder_and_nothing_outside_is_served() {
    let up = start();
    let targets = [
        "/other.txt",
        "/",
        "/../secret",
        "/%2e%2e/secret",
        "/favicon.ico/",
        "//favicon.ico",
        "/x/../favicon.ico",
        "/FAVICON.ICO",
    ];
    for target in targets {
        assert_eq!(
            up.get("img.test", target).location(),
            format!("http://a.test{target}")
        );
        assert_eq!(up.get("unknown.test", target).status, 403, "{target}");
    }
}

#[test]
fn a_directory_in_the_files_place_is_not_served() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let folder = directory.path().join("www");
    std::fs::create_dir_all(folder.join("favicon.ico")).expect("a folder where the file should be");
    let text = configuration(&folder);
    let up = Up::start_in(directory, &text);
    assert_eq!(
        up.get("img.test", "/favicon.ico").location(),
        "http://a.test/favicon.ico"
    );
}

#[test]
fn a_missing_folder_is_only_a_warning() {
    let directory = TempDir::new().expect("a temporary directory");
    let text = configuration(&directory.path().join("missing"));
    let up = Up::start_in(directory, &text);
    assert_eq!(
        up.get("img.test", "/favicon.ico").location(),
        "http://a.test/favicon.ico"
    );
    let warned = up
        .process
        .lines()
        .iter()
        .any(|line| line.contains("static_dir") || line.contains("missing"));
    assert!(
        warned,
        "no word of the missing folder: {:?}",
        up.process.lines()
    );
    up.end();
}
