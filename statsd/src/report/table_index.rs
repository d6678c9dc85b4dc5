//! A table, with what is worked out of it once and not with every report.

use common::model::check::{Check, CheckKey};
use common::model::farm::{Farm, Server};
use common::model::generation::Table;
use std::collections::HashSet;
use std::sync::Arc;

/// What a table makes of one server, however often it is reported on.
#[derive(Debug)]
pub struct ServerFacts {
    /// The check made of it; none if there is none.
    pub check: Option<CheckKey>,
    /// Its target as written.
    pub domain: Arc<str>,
}

/// What is worked out of a table.
#[derive(Debug)]
pub struct TableIndex {
    /// What is known of each server, in the order of farms and servers.
    facts: Vec<Vec<ServerFacts>>,
    /// Every check once.
    checks: Vec<CheckKey>,
}

impl TableIndex {
    /// Works it out.
    pub fn new(table: &Table) -> Self {
        let facts = |server: &Server| ServerFacts {
            check: server.check.as_ref().map(Check::key),
            domain: server.target.to_string().into(),
        };
        let of_farm = |farm: &Farm| farm.servers.iter().map(facts).collect();
        let facts: Vec<Vec<ServerFacts>> = table.farms.iter().map(of_farm).collect();
        let mut seen = HashSet::new();
        let keys = facts
            .iter()
            .flatten()
            .filter_map(|facts| facts.check.as_ref());
        let checks = keys.filter(|key| seen.insert(*key)).cloned().collect();
        Self { facts, checks }
    }

    /// The farms of the `table` it was worked out of, each with what is known of its servers.
    pub fn farms<'a>(
        &'a self,
        table: &'a Table,
    ) -> impl Iterator<Item = (&'a Farm, &'a [ServerFacts])> {
        table.farms.iter().zip(self.facts.iter().map(Vec::as_slice))
    }

    /// Every check that is to be made.
    pub fn checks(&self) -> &[CheckKey] {
        &self.checks
    }
}
