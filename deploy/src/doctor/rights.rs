//! Who may write what: whether this user may do what the operator must, and whether the roles may not do what is
//! not theirs. Pure: it judges what Redis answered.

use super::Line;
use common::store::{Answer, StoreError};

/// Where the users of the roles are described.
const REMEDY: &str = "give each role a user of its own, with the rights in deploy/redis";

/// A role's user, and what Redis answered to each command that the user must not be allowed.
pub(super) type Tried = (&'static str, Vec<(String, Result<Answer, StoreError>)>);

/// The users of the roles, each with commands it must not be allowed.
pub(super) fn forbidden(prefix: &str) -> Vec<(&'static str, Vec<Vec<String>>)> {
    let call = |words: &str| words.split(' ').map(|word| word.replace('@', &format!("{prefix}:"))).collect::<Vec<_>>();
    let (table, generation, overrides) = (call("SET @table:1 x"), call("HSET @generation table 1"), call("HSET @overrides x y"));
    let (health, count) = (call("HSET @health:x y z"), call("ZADD @count:x 1 y"));
    vec![
        ("rbalancer-redirector", vec![table.clone(), generation.clone(), overrides.clone(), health.clone()]),
        ("rbalancer-healthd", vec![table.clone(), generation.clone(), overrides.clone()]),
        ("rbalancer-statsd", vec![table, generation, overrides, health, count]),
    ]
}

/// Whether this user may write what the operator writes.
pub(super) fn own(tried: Result<(), StoreError>) -> Line {
    match tried {
        Ok(()) => Line::ok("this user may write what `rbalancer apply` writes"),
        Err(StoreError::Refused { why, .. }) => {
            // Several refusals have the same cause: the first one says it.
            let why = why.split("error: ").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or(&why);
            let kind = why.to_ascii_lowercase();
            let remedies = [
                ("noperm", "connect as a user with the operator's rights, see deploy/redis"),
                ("readonly", "this is a replica: point --redis at the primary"),
                ("oom", "Redis is full: raise maxmemory"),
                ("misconf", "Redis cannot save: look into its log"),
                ("noreplicas", "start the replicas, or lower min-replicas-to-write"),
            ];
            let remedy = remedies.iter().find(|(word, _)| kind.contains(word)).map_or("see what Redis says", |(_, remedy)| remedy);
            Line::wrong(format!("this user cannot write what `rbalancer apply` writes ({why})"), remedy)
        }
        Err(error) => Line::wrong(format!("trying to write failed: {error}"), "ask again"),
    }
}

/// Whether the roles' users are there, and are kept from what is not theirs.
pub(super) fn roles(tried: &[Tried]) -> Vec<Line> {
    let (mut lines, mut missing, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (role, answers) in tried {
        let absent = |why: &str| why.contains("not found");
        if answers.iter().any(|(_, answer)| matches!(answer, Err(StoreError::Refused { why, .. }) if absent(why))) {
            missing.push(*role);
            continue;
        }
        if answers.iter().any(|(_, answer)| answer.is_err()) {
            return vec![Line::unknown("what the users of the roles may do")];
        }
        let may: Vec<&str> =
            answers.iter().filter(|(_, answer)| *answer == Ok(Answer::Text("OK".into()))).map(|(call, _)| call.as_str()).collect();
        match may.is_empty() {
            true => kept.push(*role),
            false => lines.push(Line::wrong(format!("user {role} may do what is not its own: {}", may.join("; ")), REMEDY)),
        }
    }
    if !missing.is_empty() {
        let what = format!("no user {}: whoever reaches Redis may change the farms", missing.join(", "));
        lines.push(Line::risk(what, REMEDY));
    }
    if !kept.is_empty() {
        lines.push(Line::ok(format!("kept to their own keys: {}", kept.join(", "))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn refused(why: &str) -> StoreError {
        StoreError::Refused { at: "h:1".into(), why: why.into() }
    }

    fn judged(answers: [Result<Answer, StoreError>; 3]) -> Vec<Level> {
        let roles = ["rbalancer-redirector", "rbalancer-healthd", "rbalancer-statsd"];
        let tried: Vec<Tried> = roles.into_iter().zip(answers).map(|(role, answer)| (role, vec![("SET x y".to_owned(), answer)])).collect();
        super::roles(&tried).iter().map(|line| line.level).collect()
    }

    #[test]
    fn roles_are_kept_to_their_own() {
        let denied = || Ok(Answer::Text("This user has no permissions to run the 'set' command".into()));
        let may = || Ok(Answer::Text("OK".into()));
        let absent = || Err(refused("ERR User 'x' not found"));
        assert_eq!(judged([denied(), denied(), denied()]), [Level::Ok]);
        assert_eq!(judged([may(), denied(), absent()]), [Level::Wrong, Level::Risk, Level::Ok]);
        assert_eq!(judged([absent(), absent(), absent()]), [Level::Risk]);
        assert_eq!(judged([Err(refused("NOPERM")), denied(), denied()]), [Level::Unknown]);
    }

    #[test]
    fn the_operators_own_trouble_names_its_remedy() {
        assert_eq!(own(Ok(())).level, Level::Ok);
        let line = own(Err(refused("Pipeline failure: [(Index 0, error: NoPerm: no permissions to run 'set')]")));
        assert!(line.level == Level::Wrong && line.remedy.contains("deploy/redis"), "{line:?}");
        assert!(own(Err(refused("OOM: command not allowed"))).remedy.contains("maxmemory"));
    }

    #[test]
    fn every_role_is_asked_about_keys_under_the_prefix() {
        let all = forbidden("{p}");
        assert_eq!(all.len(), 3);
        assert!(all.iter().flat_map(|(_, calls)| calls).all(|call| call[1].starts_with("{p}:")), "{all:?}");
    }
}
