//! What a file says, and what is said of a bad one.

use super::*;
use common::model::check::Check;
use common::model::farm::{Intent, Weight};
use proptest::prelude::*;
use std::collections::HashSet;

fn load(text: &str) -> Result<Conf, String> {
    let (document, problems) = Document::parse("f", text);
    parse(&document, problems, Flags::default()).map_err(|problems| problems.to_string())
}

/// As operators of the first rbalancer wrote it.
const CANONICAL: &str = include_str!("canonical.conf");

#[test]
fn the_canonical_file_means_what_a_person_reads_in_it() {
    let conf = load(CANONICAL).expect("good");
    let servers: Vec<_> = conf
        .farms
        .servers()
        .map(|(id, server)| {
            (
                id.to_string(),
                server.target.to_string(),
                server.weight,
                server.enable,
            )
        })
        .collect();
    let expected = [
        ("stc/srv3", "http://img1.org.domain.cdn.com", 10, Intent::On),
        (
            "stc/srv4",
            "http://img2.org.domain.cdn.com",
            10,
            Intent::Off,
        ),
        ("img/srv1", "http://img1.org.domain.cdn.com", 20, Intent::On),
        ("img/srv2", "http://img2.org.domain.cdn.com", 10, Intent::On),
    ];
    assert_eq!(
        servers,
        expected.map(|(id, target, weight, enable)| (
            id.to_owned(),
            target.to_owned(),
            Weight(weight),
            enable
        ))
    );
    assert_eq!(
        (conf.redirector.listen.first().port, conf.warnings.len()),
        (9998, 0)
    );
    let shared: HashSet<_> = conf
        .farms
        .servers()
        .filter_map(|(_, server)| server.check.as_ref())
        .map(Check::key)
        .collect();
    assert_eq!(shared.len(), 2, "equal checks are one check");
}

#[test]
fn nearer_layers_win() {
    let conf = load("[global]\ninter=5s\nbalance=roundrobin\n[farms]\nlist=a,b\n[a]\nlist=s\ndomain=a.org\ninter=4s\nbalance=random\n[b]\nlist=s\ndomain=b.org\ncheck_uri=/ok\n[s]\ndomain=h:81/base\nrise=7\n").expect("good");
    let checks: Vec<_> = conf
        .farms
        .servers()
        .filter_map(|(_, server)| server.check.clone())
        .collect();
    assert_eq!(
        checks[0].to_string(),
        "HEAD http://h:81/base/ expect 200-499 every 4000/300/2000ms within 1200ms rise 7 fall 3"
    );
    assert_eq!(
        checks[1].to_string(),
        "HEAD http://h:81/base/ok expect 200-399 every 5000/300/2000ms within 1200ms rise 7 fall 3"
    );
    assert_eq!(
        conf.farms
            .iter()
            .map(|farm| farm.balance.as_str())
            .collect::<Vec<_>>(),
        ["random", "roundrobin"]
    );
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let text = load("[global]\nprot=1\n[farms]\nlist=img,stc,imgg\n[img]\nlist=srv1,srvv\ndomain=x.org\n[srv1]\ndomain=http://u:p@h\nweight=70000\n[srv2]\ndomain=h\n[stc]\nlist=srv2,srv2\ndomain=X.org.\nbalence=random\n").expect_err("bad");
    let expected = [
        "f:2: unknown key `prot` in [global]; did you mean `port`?",
        "f:4: farm `imgg` is listed but has no section [imgg]; did you mean `img`?",
        "f:6: server `srvv` is listed but has no section [srvv]; did you mean `srv1`?",
        "f:9: domain: a user or password before `@`",
        "f:10: weight: `70000` is out of range",
        "f:14: list of [stc] names server `srv2` twice",
        "f:15: domain x.org belongs to farm [img] already",
        "f:16: unknown key `balence` in farm [stc]; did you mean `balance`?",
    ];
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line} should start with {start}");
    }
}

#[test]
fn lists_go_over_lines_and_names_may_have_any_letters() {
    let text = "[farms]\nlist =\n  img\n[img]\nlist = a,  # the first\n       b\n\n       c\ndomain = Bücher.example,\n   xn--bcher-kva.test:80\n\
                fallback = http://bücher.example:81/ä\n[a]\ndomain = https://café.example:8443/x\n[b]\ndomain = 例え.テスト\n[c]\ndomain = c\n";
    let refused = load(text).expect_err("a base path is bytes of a URL");
    assert!(
        refused.starts_with("f:11: fallback: base path `/ä`"),
        "{refused}"
    );
    let conf = load(&text.replace("/ä", "")).expect("good");
    let farm = conf.farms.get(0).expect("a farm");
    let servers: Vec<String> = farm
        .servers
        .iter()
        .map(|server| format!("{} {}", server.name, server.target))
        .collect();
    assert_eq!(
        servers,
        [
            "a https://xn--caf-dma.example:8443/x",
            "b xn--r8jz45g.xn--zckzah",
            "c c"
        ]
    );
    let hosts: Vec<&str> = farm
        .domains
        .iter()
        .map(common::model::host::Host::as_str)
        .collect();
    assert_eq!(hosts, ["xn--bcher-kva.example", "xn--bcher-kva.test"]);
    assert_eq!(
        farm.fallback.as_ref().map(ToString::to_string).as_deref(),
        Some("http://xn--bcher-kva.example:81")
    );
}

#[test]
fn one_bad_item_of_a_list_is_one_problem() {
    let lines = |list: &str| {
        let text =
            load(&format!("[farms]\nlist = f\n[f]\nlist = {list}\ndomain = f.org\n[a]\ndomain = a\n[b]\ndomain = u@b\n")).expect_err("bad");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        lines("a, ä").len(),
        1,
        "and no word of an empty list: {:?}",
        lines("a, ä")
    );
    let named = lines("a b");
    assert!(
        named[0].ends_with("`a b` is no name: separate names by commas: a, b"),
        "{named:?}"
    );
    assert!(
        named.len() == 2 && named[1].starts_with("f:9: domain"),
        "what is wrong with the servers is said too: {named:?}"
    );
}

#[test]
fn a_circle_is_found() {
    let circle = |domain: &str| {
        load(&format!(
            "[farms]\nlist=a\n[a]\nlist=s\ndomain=a.org\n[s]\ndomain={domain}\n"
        ))
    };
    assert!(
        circle("http://A.org:9998")
            .expect_err("a circle")
            .starts_with("f:7: domain: http://a.org:9998 is a farm's own domain")
    );
    assert!(circle("http://a.org:81").is_ok());
    for key in ["acme_url", "stats_url"] {
        let elsewhere = |url: &str| {
            load(&format!(
                "[global]\n{key}={url}\n[farms]\nlist=a\n[a]\nlist=s\ndomain=a.org\n[s]\ndomain=b.org\n"
            ))
        };
        let found = elsewhere("http://a.org:9998/stats").expect_err("a circle");
        assert!(
            found.starts_with(&format!(
                "f:2: {key}: http://a.org:9998/stats is a farm's own domain"
            )),
            "{found}"
        );
        assert!(elsewhere("http://a.org:9999/stats").is_ok());
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reading_panic(lines in proptest::collection::vec("(\\[(global|farms|a|b|s)\\]|(list|domain|weight|enable|inter|port|check|rise)=(a|b|s|a,b|http://h|on|-1|99999|5s|x y|é)?)", 0..30)) {
        let _ = load(&lines.join("\n"));
    }
}
