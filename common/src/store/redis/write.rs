//! What writers tell Redis. Everything here is idempotent: a call that timed out may still be carried out later.

use super::{Redis, SLICE, TEXT_SLICE, content};
use crate::model::farm::ServerId;
use crate::model::generation::SCHEMA;
use crate::model::overrides::Override;
use crate::model::tally::CountKey;
use crate::store::error::StoreError;
use crate::store::history_entry::HistoryEntry;
use crate::store::records::{
    Announcement, EVENTS_KEPT, Event, ExpectedGenerations, HealthReport, Publication, Published,
    Reported, TABLES_KEPT,
};
use crate::store::scripts;
use crate::time::unix_ms;
use redis::{Value, pipe};
use std::borrow::Borrow;

/// How long a table may wait half-written before Redis forgets it.
const STAGING_SECONDS: u32 = 600;

impl Redis {
    pub(in crate::store) async fn publish(
        &self,
        publication: &Publication,
    ) -> Result<Published, StoreError> {
        let json = serde_json::to_vec(&publication.farms).map_err(content)?;
        let staging = self.keys.staging(&publication.nonce);
        for (index, slice) in json.chunks(TEXT_SLICE).enumerate() {
            let mut call = pipe();
            // Each slice names its place: sent twice, it is written once. None is ever there without its end.
            call.atomic();
            call.cmd("SETRANGE")
                .arg(&staging)
                .arg(index * TEXT_SLICE)
                .arg(slice)
                .ignore();
            call.cmd("EXPIRE")
                .arg(&staging)
                .arg(STAGING_SECONDS)
                .ignore();
            self.writing.pipeline::<()>(&call).await?;
        }
        let mut call = scripts::PUBLISH.prepare_invoke();
        call.key(self.keys.generation())
            .key(&staging)
            .key(self.keys.events())
            .key(self.keys.tables())
            .key(self.keys.overrides());
        let edition = HistoryEntry::of(publication, &json);
        call.arg(publication.expected)
            .arg(self.keys.table_prefix())
            .arg(TABLES_KEPT)
            .arg(EVENTS_KEPT);
        call.arg(&publication.nonce)
            .arg(&edition.stamp.checksum)
            .arg(publication.cluster.as_str())
            .arg(SCHEMA)
            .arg(SCHEMA);
        call.arg(&publication.by)
            .arg(&publication.why)
            .arg(unix_ms());
        call.arg(u8::from(publication.forced))
            .arg(publication.farms.len())
            .arg(u8::from(publication.reset));
        call.arg(serde_json::to_string(&edition).map_err(content)?)
            .arg(self.keys.hint());
        let answer: Vec<String> = self.writing.script(&call).await?;
        let number = |at: usize| {
            answer
                .get(at)
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| content("publishing gave no generation"))
        };
        let (generation, by) = (number(1)?, answer.get(2).cloned().unwrap_or_default());
        match answer.first().map(String::as_str) {
            Some("1") => Ok(Published::Now(generation)),
            Some("2") => Ok(Published::Replaced {
                mine: number(3)?,
                generation,
                by,
            }),
            _ => Ok(Published::Lost { generation, by }),
        }
    }

    pub(in crate::store) async fn set_override(
        &self,
        id: &ServerId,
        value: Option<&Override>,
        event: &Event,
        judged: Option<ExpectedGenerations>,
    ) -> Result<bool, StoreError> {
        let json = value
            .map(serde_json::to_string)
            .transpose()
            .map_err(content)?
            .unwrap_or_default();
        let mut call = scripts::OVERRIDE.prepare_invoke();
        call.key(self.keys.generation())
            .key(self.keys.overrides())
            .key(self.keys.events());
        call.arg(id.to_string())
            .arg(json)
            .arg(EVENTS_KEPT)
            .arg(event.at)
            .arg(&event.by)
            .arg(&event.what)
            .arg(&event.why);
        call.arg(self.keys.hint());
        if let Some(ExpectedGenerations { table, overrides }) = judged {
            call.arg(table).arg(overrides);
        }
        self.writing.script(&call).await
    }

    pub(in crate::store) async fn report(
        &self,
        report: &HealthReport,
    ) -> Result<Reported, StoreError> {
        let (view, index) = (
            self.keys.health(&report.id),
            self.keys.health_at(&report.id),
        );
        self.write_events(report, &view).await?;
        let mut call = pipe();
        // One transaction: a reader that sees the sequence sees everything it stands for.
        call.atomic();
        call.cmd("ZSCORE").arg(self.keys.probers()).arg(&report.id);
        let findings: Vec<_> = report.changed.iter().chain(&report.touched).collect();
        for slice in findings.chunks(SLICE) {
            call.cmd("HSET").arg(&view);
            for (check, finding) in slice {
                call.arg(check.0.as_ref())
                    .arg(serde_json::to_string(finding).map_err(content)?);
            }
            call.ignore();
        }
        for slice in report.changed.chunks(SLICE) {
            call.cmd("ZADD").arg(&index);
            slice.iter().for_each(|(check, _)| {
                call.arg(report.sequence).arg(check.0.as_ref());
            });
            call.ignore();
        }
        for slice in report.removed.chunks(SLICE) {
            let gone: Vec<&str> = slice.iter().map(|check| check.0.as_ref()).collect();
            call.cmd("HDEL")
                .arg(&view)
                .arg(&gone)
                .ignore()
                .cmd("ZREM")
                .arg(&index)
                .arg(&gone)
                .ignore();
        }
        call.cmd("ZADD").arg(self.keys.probers());
        if report.idle {
            call.arg("NX");
        }
        call.arg(report.sequence).arg(&report.id).ignore();
        if !report.changed.is_empty() {
            call.cmd("PUBLISH").arg(self.keys.hint()).arg("").ignore();
        }
        call.cmd("ZCARD").arg(&index);
        let (before, held): (Option<f64>, usize) = self.writing.pipeline(&call).await?;
        Ok(Reported {
            before: before.map(|before| before as u64),
            held,
        })
    }

    async fn write_events(&self, report: &HealthReport, view: &str) -> Result<(), StoreError> {
        if report.events.is_empty() {
            return Ok(());
        }
        let mut call = scripts::EVENTS.prepare_invoke();
        call.key(self.keys.events())
            .key(view)
            .arg(EVENTS_KEPT)
            .arg(&report.run)
            .arg(report.first_event);
        for event in &report.events {
            call.arg(event.at)
                .arg(&event.by)
                .arg(&event.what)
                .arg(&event.why);
        }
        self.writing.script::<Value>(&call).await.map(drop)
    }

    pub(in crate::store) async fn flush(
        &self,
        id: &str,
        totals: &[(impl Borrow<CountKey>, u64)],
    ) -> Result<(), StoreError> {
        for slice in totals.chunks(SLICE) {
            let mut call = pipe();
            call.cmd("ZADD").arg(self.keys.count(id)).arg("GT");
            for (key, total) in slice {
                call.arg(total).arg(key.borrow().to_string());
            }
            call.ignore();
            self.writing.pipeline::<()>(&call).await?;
        }
        Ok(())
    }

    pub(in crate::store) async fn announce(
        &self,
        announcement: &Announcement,
    ) -> Result<usize, StoreError> {
        let said = announcement;
        let mut call = scripts::ANNOUNCE.prepare_invoke();
        call.key(self.keys.replicas())
            .key(self.keys.replica(&said.id))
            .key(self.keys.count(&said.id))
            .key(self.keys.folded(&said.id));
        call.arg(&said.id)
            .arg("host")
            .arg(&said.host)
            .arg("address")
            .arg(&said.address)
            .arg("version")
            .arg(&said.version);
        call.arg("generation")
            .arg(said.generation)
            .arg("overrides")
            .arg(said.overrides)
            .arg("started")
            .arg(said.started);
        call.arg("alarm")
            .arg(&said.alarm)
            .arg("by_file")
            .arg(&said.by_file);
        call.arg("certificate_expires")
            .arg(said.certificate_expires);
        // A list of texts and numbers has a JSON form.
        call.arg("refused_hosts")
            .arg(serde_json::to_string(&said.refused_hosts).unwrap_or_default());
        call.arg("left")
            .arg(if said.left { "true" } else { "false" });
        self.writing.script(&call).await
    }
}
