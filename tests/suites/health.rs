//! Dead servers out, living ones back, with nobody doing anything.

use tests::origin::Origin;
use tests::traffic::load;
use tests::up::{Up, one_farm};
use tests::{TURN, eventually};

#[test]
fn a_stopped_origin_is_out_and_a_started_one_back() {
    let [mut a, b, c] = ["a", "b", "c"].map(Origin::start);
    let up = Up::start(&one_farm("", "", &[("a", &a, 1), ("b", &b, 1), ("c", &c, 1)]));
    let to_a = || load(up.address, "img.test", 150, 3).to(&a.url());
    eventually!(TURN, up.stats().server("img", "a")["checked"] == "ok", "{:?}", up.stats());
    assert!(to_a() > 0);
    let url = a.url();
    a.stop();
    eventually!(TURN, load(up.address, "img.test", 150, 3).to(&url) == 0);
    eventually!(TURN, up.stats().server("img", "a")["health"] == "down", "{:?}", up.stats());
    let stats = up.stats();
    let (down, fine) = (stats.server("img", "a"), stats.server("img", "b"));
    assert_eq!((&down["reason"], &down["checked"]), (&"connection refused".into(), &"failing".into()), "{down}");
    assert_eq!((&fine["health"], &fine["checked"]), (&"up".into(), &"ok".into()), "{fine}");
    assert!(down["since"].as_u64().or(down["since"].as_str().map(|_| 1)).is_some(), "{down}");
    let all = load(up.address, "img.test", 300, 3);
    assert_eq!((all.total(), all.to(&b.url()) + all.to(&c.url())), (300, 300), "{all:?}");
    a.restart();
    eventually!(TURN, load(up.address, "img.test", 150, 3).to(&url) > 0, "{:?}", up.stats());
    eventually!(TURN, up.stats().server("img", "a")["health"] == "up", "{:?}", up.stats());
    up.end();
}

#[test]
fn a_server_that_answers_with_an_error_is_out() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let up = Up::start(&one_farm("", "", &[("a", &a, 1), ("b", &b, 1)]));
    eventually!(TURN, up.stats().server("img", "a")["checked"] == "ok", "{:?}", up.stats());
    a.answer_with(503);
    eventually!(TURN, load(up.address, "img.test", 150, 3).to(&a.url()) == 0);
    eventually!(TURN, up.stats().server("img", "a")["reason"] == "HTTP 503", "{:?}", up.stats());
    // Alive is anything below 500 while nobody has chosen a path.
    a.answer_with(404);
    eventually!(TURN, load(up.address, "img.test", 150, 3).to(&a.url()) > 0);
}

#[test]
fn with_no_live_server_clients_are_asked_to_come_back() {
    let mut a = Origin::start("a");
    let up = Up::start(&one_farm("", "", &[("a", &a, 1)]));
    eventually!(TURN, up.get("img.test", "/").status == 302);
    a.stop();
    eventually!(TURN, up.get("img.test", "/").status == 503);
    let answer = up.get("img.test", "/");
    assert_eq!((answer.header("retry-after").as_deref(), answer.header("cache-control").as_deref()), (Some("5"), Some("no-store")));
    a.restart();
    eventually!(TURN, up.get("img.test", "/").status == 302);
}

#[test]
fn with_no_live_server_the_farms_own_wish_counts() {
    let [mut a, mut b] = ["a", "b"].map(Origin::start);
    let urls = [a.url(), b.url()];
    let any = Up::start(&one_farm("", "on_all_down = any", &[("a", &a, 1), ("b", &b, 1)]));
    let fallback = Up::start(&one_farm("", "fallback = http://spare.test/base", &[("a", &a, 1), ("b", &b, 1)]));
    a.stop();
    b.stop();
    eventually!(TURN, any.stats().server("img", "a")["health"] == "down" && any.stats().server("img", "b")["health"] == "down");
    assert!(urls.iter().all(|url| load(any.address, "img.test", 100, 2).to(url) > 0));
    eventually!(TURN, fallback.get("img.test", "/x?y").location() == "http://spare.test/base/x?y");
}

#[test]
fn probes_come_on_their_own_schedule_and_never_to_a_server_that_is_off() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let conf = one_farm("inter = 200ms", "", &[("a", &a, 1), ("b", &b, 1)]) + "enable = off\n";
    let up = Up::start(&conf);
    eventually!(TURN, a.requests() >= 5);
    assert_eq!((b.requests(), &up.stats().server("img", "b")["checked"]), (0, &"off".into()));
}
