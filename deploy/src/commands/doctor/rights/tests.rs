//! Tests of [`super`].

use super::*;
use crate::commands::doctor::finding::Level;

fn refused(why: &str) -> StoreError {
    let (code, details) = why.split_once(' ').unwrap_or((why, ""));
    StoreError::Refused {
        at: "h:1".into(),
        why: Trouble::answer(code, details),
    }
}

fn judged(answers: [Result<Answer, StoreError>; 3]) -> Vec<Level> {
    let roles = [
        "rbalancer-redirector",
        "rbalancer-healthd",
        "rbalancer-statsd",
    ];
    let tried: Vec<Tried> = roles
        .into_iter()
        .zip(answers)
        .map(|(role, answer)| (role, vec![("SET x y".to_owned(), answer)]))
        .collect();
    super::roles(&tried).iter().map(|line| line.level).collect()
}

#[test]
fn roles_are_kept_to_their_own() {
    let denied = || {
        Ok(Answer::Text(
            "This user has no permissions to run the 'set' command".into(),
        ))
    };
    let may = || Ok(Answer::Text("OK".into()));
    let absent = || Err(refused("ERR User 'x' not found"));
    assert_eq!(judged([denied(), denied(), denied()]), [Level::Ok]);
    assert_eq!(
        judged([may(), denied(), absent()]),
        [Level::Wrong, Level::Risk, Level::Ok]
    );
    assert_eq!(judged([absent(), absent(), absent()]), [Level::Risk]);
    assert_eq!(
        judged([Err(refused("NOPERM")), denied(), denied()]),
        [Level::Unknown]
    );
}

#[test]
fn an_open_default_user_is_a_risk_and_an_old_server_is_not_one_that_forbids() {
    let list = |rules: &str| {
        Ok(Answer::List(vec![
            Answer::Text("user x on >y +@all".into()),
            Answer::Text(format!("user default {rules}")),
        ]))
    };
    let level = |rules: &str| default_user(&list(rules)).level;
    assert_eq!(level("on nopass sanitize-payload ~* &* +@all"), Level::Risk);
    assert_eq!(level("on nopass ~* +get"), Level::Risk);
    assert_eq!(level("off nopass ~* &* +@all"), Level::Ok);
    assert_eq!(level("on #1234 ~* &* +@all"), Level::Ok);
    assert_eq!(level("on nopass ~* &* -@all"), Level::Ok);
    assert_eq!(
        default_user(&Err(refused("NOPERM x"))).level,
        Level::Unknown
    );
    let old = || {
        Err(refused(
            "ERR Unknown subcommand or wrong number of arguments for 'DRYRUN'. Try ACL HELP.",
        ))
    };
    let tried: Vec<Tried> = vec![("rbalancer-redirector", vec![("SET x y".to_owned(), old())])];
    let line = &roles(&tried)[0];
    assert!(
        line.level == Level::Unknown
            && line.what.contains("Redis 7")
            && !line.what.contains("not allowed"),
        "{line:?}"
    );
}

#[test]
fn the_operators_own_trouble_names_its_remedy() {
    assert_eq!(own(Ok(())).level, Level::Ok);
    let line = own(Err(refused("NOPERM no permissions to run 'set'")));
    assert!(
        line.level == Level::Wrong && line.remedy.contains("deploy/redis"),
        "{line:?}"
    );
    assert!(
        own(Err(refused("OOM command not allowed")))
            .remedy
            .contains("maxmemory")
    );
}

#[test]
fn every_role_is_asked_about_keys_under_the_prefix() {
    let all = forbidden("{p}");
    assert_eq!(all.len(), 3);
    assert!(
        all.iter()
            .flat_map(|(_, calls)| calls)
            .all(|call| call[1].starts_with("{p}:")),
        "{all:?}"
    );
}
