//! What is exported means what it meant.

use super::*;
use crate::conf::{Flags, parse};
use common::model::farm::{Intent, Weight};
use common::model::overrides::Force;
use proptest::prelude::*;

fn read(text: &str) -> Farms {
    let (document, problems) = Document::parse("f", text);
    parse(&document, problems, Flags::default())
        .unwrap_or_else(|problems| unreachable!("{problems}\n{text}"))
        .farms
}

fn round_trips(farms: &Farms) {
    let text = file(farms, &"prod".parse().expect("a name"));
    assert_eq!(&read(&text), farms, "{text}");
}

const FULL: &str = "[farms]\nlist = img, vid\n[img]\ndomain = img.org, [::1]\nlist = a, b, c\nbalance = roundrobin\nredirect_code = 307\n\
    cache_control = \"max-age=5 ; x\"\non_all_down = any\nfallback = spare.org:81/base\nkeepalive = off\ninter = 3s\ncheck_uri = /alive\n\
    [a]\ndomain = https://h/base\ncheck_method = GET\ncheck_addr = 10.0.0.1:8080\nfall = 9\n\
    [b]\ndomain = g\ncheck_scheme = https\ncheck_tls_verify = off\nweight = 0\nenable = drain\n\
    [c]\ndomain = k\ncheck = off\n[vid]\ndomain = vid.org\nlist = b, d\nrise = 7\n[d]\ndomain = d.org\ncheck_expect = 200-399\n";

#[test]
fn every_key_comes_back() {
    round_trips(&read(FULL));
    round_trips(&read(include_str!("../../conf/canonical.conf")));
    round_trips(&read(include_str!("../../../rbalancer.conf")));
}

#[test]
fn what_all_servers_have_is_written_once() {
    let farms = read(
        "[global]\ninter = 3s\nfall = 5\n[farms]\nlist = img\n[img]\ndomain = img.org\nlist = a, b, c\n[a]\ndomain = a.org\nrise = 4\n\
         [b]\ndomain = b.org\n[c]\ndomain = c.org\ncheck = off\n",
    );
    let text = file(&farms, &"prod".parse().expect("a name"));
    assert!(
        text.starts_with("[global]\ncluster = prod\nfall = 5\ninter = 3s\n\n[farms]"),
        "{text}"
    );
    assert_eq!(
        (
            text.matches("inter = ").count(),
            text.matches("rise = ").count()
        ),
        (1, 1),
        "{text}"
    );
    round_trips(&farms);
}

#[test]
fn servers_of_one_farm_may_expect_different_statuses_by_default() {
    // In img no key says what to expect: b has chosen a path, a has not. In vid both are told.
    round_trips(&read(
        "[farms]\nlist = img, vid\n[img]\ndomain = img.org\nlist = a, b\n[vid]\ndomain = vid.org\nlist = a, b\n\
         check_uri = /ok\ncheck_expect = 200,204\n[a]\ndomain = a.org\n[b]\ndomain = b.org\ncheck_uri = /\n",
    ));
}

#[test]
fn what_is_set_by_hand_is_folded_in_where_a_file_can_say_it() {
    let farms = read(FULL);
    let hand = |id: &str, value: Override| (id.parse().expect("an identity"), value);
    let overrides = HashMap::from([
        hand(
            "img/a",
            Override {
                weight: Some(Weight(7)),
                force: Some(Force::Up),
                ..Override::default()
            },
        ),
        // The section of b is vid's too.
        hand(
            "img/b",
            Override {
                enable: Some(Intent::On),
                ..Override::default()
            },
        ),
    ]);
    let (folded, left_out) = fold(&farms, &overrides);
    round_trips(&folded);
    let servers: HashMap<_, _> = folded
        .servers()
        .map(|(id, server)| (id.to_string(), (server.weight, server.enable)))
        .collect();
    assert_eq!(servers["img/a"], (Weight(7), Intent::On));
    assert_eq!(servers["img/b"], (Weight(0), Intent::Drain));
    assert_eq!(left_out, ["img/a force up", "img/b on"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_table_of_a_file_comes_back(
        global in keys(), img in keys(), vid in keys(), a in keys(), b in keys(), c in keys(), base in "(/base)?",
    ) {
        let farms = read(&format!(
            "[global]\n{global}[farms]\nlist = img, vid\n[img]\ndomain = img.org\nlist = a, b\n{img}[vid]\ndomain = vid.org\nlist = b, c, a\n{vid}\
             [a]\ndomain = a.org{base}\n{a}[b]\ndomain = http://b.org:81\n{b}[c]\ndomain = https://c.org\n{c}"
        ));
        let text = file(&farms, &"prod".parse().expect("a name"));
        prop_assert_eq!(read(&text), farms, "{}", text);
    }
}

fn keys() -> impl Strategy<Value = String> {
    let one = |key: &'static str, values: &'static [&'static str]| {
        proptest::option::of(proptest::sample::select(values)).prop_map(move |value| {
            value.map_or(String::new(), |value| format!("{key} = {value}\n"))
        })
    };
    (
        one("check", &["on", "off"]),
        one("check_uri", &["/", "/ok"]),
        one("check_expect", &["200-399", "200-499", "200,204"]),
        one("inter", &["1s", "200ms", "7s"]),
        one("fastinter", &["300ms", "2s"]),
        one("check_addr", &["10.0.0.1", "10.0.0.2:81"]),
        one("check_scheme", &["http", "https"]),
        one("rise", &["2", "5"]),
    )
        .prop_map(|(a, b, c, d, e, f, g, h)| a + &b + &c + &d + &e + &f + &g + &h)
}
