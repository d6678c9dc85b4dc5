//! Who may write what: whether this user may do what the operator must, and whether the roles may not do what is
//! not theirs. Pure: it judges what Redis answered.

use super::finding::Line;
use common::store::{Answer, StoreError, Trouble};

/// Where the users of the roles are described.
const REMEDY: &str = "give each role a user of its own, with the rights in deploy/redis";

/// A role's user, and what Redis answered to each command that the user must not be allowed.
pub(super) type Tried = (&'static str, Vec<(String, Result<Answer, StoreError>)>);

/// The users of the roles, each with commands it must not be allowed.
pub(super) fn forbidden(prefix: &str) -> Vec<(&'static str, Vec<Vec<String>>)> {
    let call = |words: &str| {
        words
            .split(' ')
            .map(|word| word.replace('@', &format!("{prefix}:")))
            .collect::<Vec<_>>()
    };
    let (table, generation, overrides) = (
        call("SET @table:1 x"),
        call("HSET @generation table 1"),
        call("HSET @overrides x y"),
    );
    let (health, count) = (call("HSET @health:x y z"), call("ZADD @count:x 1 y"));
    vec![
        (
            "rbalancer-redirector",
            vec![
                table.clone(),
                generation.clone(),
                overrides.clone(),
                health.clone(),
            ],
        ),
        (
            "rbalancer-healthd",
            vec![table.clone(), generation.clone(), overrides.clone()],
        ),
        (
            "rbalancer-statsd",
            vec![table, generation, overrides, health, count],
        ),
    ]
}

/// Whether this user may write what the operator writes.
pub(super) fn own(tried: Result<(), StoreError>) -> Line {
    match tried {
        Ok(()) => Line::ok("this user may write what `rbalancer apply` writes"),
        Err(StoreError::Refused { why, .. }) => {
            let remedy = match why {
                Trouble::NoRight(_) => {
                    "connect as a user with the operator's rights, see deploy/redis"
                }
                Trouble::Replica => "this is a replica: point --redis at the primary",
                Trouble::Full => "Redis is full: raise maxmemory",
                Trouble::CannotSave(_) => "Redis cannot save: look into its log",
                Trouble::FewReplicas => "start the replicas, or lower min-replicas-to-write",
                _ => "see what Redis says",
            };
            Line::wrong(
                format!("this user cannot write what `rbalancer apply` writes ({why})"),
                remedy,
            )
        }
        Err(error) => Line::wrong(format!("trying to write failed: {error}"), "ask again"),
    }
}

/// Whether the roles' users are there, and are kept from what is not theirs.
pub(super) fn roles(tried: &[Tried]) -> Vec<Line> {
    let (mut lines, mut missing, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (role, answers) in tried {
        let absent = |why: &Trouble| why.to_string().contains("not found");
        if answers.iter().any(
            |(_, answer)| matches!(answer, Err(StoreError::Refused { why, .. }) if absent(why)),
        ) {
            missing.push(*role);
            continue;
        }
        let what = "what the users of the roles may do";
        let lacks = |answer: &Result<Answer, StoreError>| {
            matches!(
                answer,
                Err(StoreError::Refused {
                    why: Trouble::NoCommand(_),
                    ..
                })
            )
        };
        if answers.iter().any(|(_, answer)| lacks(answer)) {
            return vec![Line::unanswered(
                what,
                "this server cannot be asked that (ACL DRYRUN is of Redis 7)",
            )];
        }
        if answers.iter().any(|(_, answer)| answer.is_err()) {
            return vec![Line::unknown(what)];
        }
        let may: Vec<&str> = answers
            .iter()
            .filter(|(_, answer)| *answer == Ok(Answer::Text("OK".into())))
            .map(|(call, _)| call.as_str())
            .collect();
        match may.is_empty() {
            true => kept.push(*role),
            false => lines.push(Line::wrong(
                format!("user {role} may do what is not its own: {}", may.join("; ")),
                REMEDY,
            )),
        }
    }
    if !missing.is_empty() {
        let what = format!(
            "no user {}: whoever reaches Redis may change the farms",
            missing.join(", ")
        );
        lines.push(Line::risk(what, REMEDY));
    }
    if !kept.is_empty() {
        lines.push(Line::ok(format!(
            "kept to their own keys: {}",
            kept.join(", ")
        )));
    }
    lines
}

/// Whether everybody who reaches Redis may do everything, by what `ACL LIST` said.
pub(super) fn default_user(list: &Result<Answer, StoreError>) -> Line {
    let what = "what may be done without a password";
    let users = match list {
        Ok(Answer::List(users)) => users,
        Err(StoreError::Refused {
            why: Trouble::NoCommand(_),
            ..
        }) => return Line::unanswered(what, "this server has no users"),
        _ => return Line::unknown(what),
    };
    let rules = users.iter().find_map(|user| match user {
        Answer::Text(text) => text.strip_prefix("user default "),
        _ => None,
    });
    let has = |rule: &str| rules.is_some_and(|rules| rules.split(' ').any(|held| held == rule));
    if has("on") && has("nopass") && !has("-@all") {
        let what = "the user default needs no password: whoever reaches Redis may do what it may";
        return Line::risk(
            what,
            "take it away with `ACL SETUSER default off`, or give it a password, see deploy/redis",
        );
    }
    Line::ok("nothing may be done without a password")
}

#[cfg(test)]
mod tests;
