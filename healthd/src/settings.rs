//! What a healthd is told.

use common::config::global::Global;
use common::model::farm::Name;
use common::process::host_name;

/// A healthd's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its stable name: a restart under it finds its own view.
    pub id: String,
    /// The cluster whose tables it takes.
    pub cluster: Name,
    /// Whether the store is this process's own: nobody else can be at work under the id.
    pub alone: bool,
    /// Hosts and ports of the store: reached over the network, they speak for a prober that suspects itself.
    pub witnesses: Vec<(String, u16)>,
}

impl Settings {
    /// Takes the settings from `[global]` and environment; `id` is the flag, by default the host's name.
    pub fn take(global: &mut Global, id: Option<Name>) -> Self {
        let cluster = global
            .get("cluster", str::parse::<Name>)
            .or_else(|| "rbalancer".parse().ok());
        Self {
            id: id.map_or_else(host_name, |id| id.to_string()),
            cluster: cluster.expect("the default is a name"),
            alone: false,
            witnesses: Vec::new(),
        }
    }
}
