//! What the operator asks of the Redis server itself: how far copies are, what this user may write, raw questions.

use super::{Redis, content};
use crate::store::answer::{Answer, Replication};
use crate::store::error::StoreError;
use redis::{Value, pipe};

/// How long copies may take to say that they hold a write, in one call: well under the deadline of a call.
const COPIES_MS: u64 = 350;

/// How often they are asked: about a second in all.
const COPIES_ASKED: usize = 3;

/// How long what was written only to be waited for stays.
const MARK_MS: u64 = 1000;

impl Redis {
    pub(in crate::store) async fn copies(&self) -> Result<Option<Replication>, StoreError> {
        let connected = match self.ask(&["INFO", "replication"]).await {
            Ok(Answer::Text(info)) => info.lines().find_map(|line| {
                line.trim_end()
                    .strip_prefix("connected_slaves:")?
                    .parse()
                    .ok()
            }),
            Ok(_) | Err(StoreError::Refused { .. }) => None,
            Err(error) => return Err(error),
        };
        let Some(connected) = connected.filter(|connected: &u64| *connected > 0) else {
            return Ok(None);
        };
        let mut call = pipe();
        // WAIT asks about the latest write of its own connection, and a pool may hand out another than before: so
        // it gets one. Copies take writes in order.
        call.cmd("SET")
            .arg(self.keys.staging("mark"))
            .arg("")
            .arg("PX")
            .arg(MARK_MS)
            .ignore();
        call.cmd("WAIT").arg(connected).arg(COPIES_MS);
        let mut acknowledged = 0;
        for _ in 0..COPIES_ASKED {
            (acknowledged,) = self.writing.pipeline(&call).await?;
            if acknowledged >= connected {
                break;
            }
        }
        Ok(Some(Replication {
            acknowledged: acknowledged.min(connected),
            connected,
        }))
    }

    pub(in crate::store) async fn try_writes(&self) -> Result<(), StoreError> {
        let mut call = pipe();
        // Each names a field or a key that does not exist, or appends nothing.
        call.cmd("SETRANGE")
            .arg(self.keys.staging("trial"))
            .arg(0)
            .arg("")
            .ignore();
        call.cmd("DEL")
            .arg(self.keys.staging("trial"))
            .arg(self.keys.table(0))
            .ignore();
        for hash in [
            self.keys.generation(),
            self.keys.tables(),
            self.keys.overrides(),
        ] {
            call.cmd("HDEL").arg(hash).arg("@trial").ignore();
        }
        call.cmd("EVAL").arg("return 1").arg(0).ignore();
        self.writing.pipeline::<()>(&call).await
    }

    pub(in crate::store) async fn ask(&self, command: &[&str]) -> Result<Answer, StoreError> {
        let Some((name, arguments)) = command.split_first() else {
            return Err(content("no command"));
        };
        let mut call = pipe();
        call.cmd(name).arg(arguments);
        let (value,): (Value,) = self.writing.pipeline(&call).await?;
        answer(value)
    }
}

fn answer(value: Value) -> Result<Answer, StoreError> {
    Ok(match value {
        Value::Nil => Answer::Nil,
        Value::Int(number) => Answer::Number(number),
        Value::Boolean(yes) => Answer::Number(i64::from(yes)),
        Value::Okay => Answer::Text("OK".into()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Answer::Text(text),
        Value::BulkString(bytes) => Answer::Text(String::from_utf8_lossy(&bytes).into_owned()),
        Value::Double(number) => Answer::Text(number.to_string()),
        Value::Array(values) | Value::Set(values) => {
            Answer::List(values.into_iter().map(answer).collect::<Result<_, _>>()?)
        }
        Value::Map(pairs) => {
            let flat = pairs.into_iter().flat_map(|(key, value)| [key, value]);
            Answer::List(flat.map(answer).collect::<Result<_, _>>()?)
        }
        other => return Err(content(format!("an answer of another kind: {other:?}"))),
    })
}
