//! Which farms have no live server: said in the log when it begins and when it ends.

use crate::routes::Routes;
use crate::routes::farm::Service;
use common::model::farm::{Farm, Farms, Name, OnAllDown};
use std::collections::{BTreeSet, HashSet};

/// The farms without a live server. The log names one when it becomes one, and when it is none any more.
#[derive(Debug, Default)]
pub(crate) struct EmptyFarms(BTreeSet<Name>);

/// Farms named one by one where many turn at once.
const NAMED: usize = 10;

impl EmptyFarms {
    /// Looks at the farms of new `routes` at the places in `stale`, or at all of them.
    pub(crate) fn take(&mut self, farms: &Farms, stale: Option<&BTreeSet<u32>>, routes: &Routes) {
        let looked_at: Vec<&Farm> = match stale {
            Some(stale) => stale
                .iter()
                .filter_map(|&index| farms.get(index as usize))
                .collect(),
            None => {
                let names: HashSet<&Name> = farms.iter().map(|farm| &farm.name).collect();
                self.0.retain(|name| names.contains(name));
                farms.iter().collect()
            }
        };
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for farm in looked_at {
            let Some(service) = routes.in_service(farm) else {
                continue;
            };
            if service.live == 0 && self.0.insert(farm.name.clone()) {
                begun.push(format!(
                    "farm {} has no live server: {}",
                    farm.name,
                    last_resort(farm, service)
                ));
            } else if service.live > 0 && self.0.remove(&farm.name) {
                ended.push(format!(
                    "farm {} has live servers again: {} of {}",
                    farm.name, service.live, service.enabled
                ));
            }
        }
        begun
            .iter()
            .take(NAMED)
            .for_each(|words| tracing::error!("{words}"));
        ended
            .iter()
            .take(NAMED)
            .for_each(|words| tracing::info!("{words}"));
        let (begun, ended) = (
            begun.len().saturating_sub(NAMED),
            ended.len().saturating_sub(NAMED),
        );
        if begun > 0 {
            tracing::error!("{begun} more farms have no live server");
        }
        if ended > 0 {
            tracing::info!("{ended} more farms have live servers again");
        }
    }
}

/// What clients of a farm without a live server get.
fn last_resort(farm: &Farm, service: Service) -> String {
    match (&farm.fallback, farm.on_all_down) {
        (_, OnAllDown::Any) if service.enabled > 0 => {
            "clients get any of its enabled servers".into()
        }
        (Some(fallback), _) => format!("clients go to {fallback}"),
        _ => "clients get 503".into(),
    }
}
