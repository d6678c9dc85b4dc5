//! What statsd is told: the cluster it reports on, where its pages are, where it listens.

use common::config::global::Global;
use common::config::values::stats_uri;
use common::model::farm::Name;
use common::net::listen::ListenAddress;
use std::net::Ipv4Addr;

/// The port of the stats pages unless the file says otherwise.
const PORT: u16 = 9999;

/// What statsd is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The cluster reported on; a table of another one is refused.
    pub cluster: Name,
    /// The path of the page; `.json` and `.csv` are appended to it for the other forms.
    pub stats_uri: String,
    /// Where the daemon listens.
    pub bind: ListenAddress,
}

impl Settings {
    /// Takes what concerns statsd; what is unusable is noted there and replaced by the default.
    pub fn take(global: &mut Global) -> Self {
        Self {
            cluster: global
                .get("cluster", str::parse::<Name>)
                .unwrap_or_else(default_cluster),
            stats_uri: global
                .get("stats_uri", stats_uri)
                // `off` is about the public port, not about a program that does nothing but show the stats.
                .flatten()
                .unwrap_or_else(|| "/stats".into()),
            bind: global
                .get("stats_bind", str::parse::<ListenAddress>)
                .unwrap_or(ListenAddress {
                    ip: Some(Ipv4Addr::LOCALHOST.into()),
                    port: PORT,
                }),
        }
    }
}

#[allow(clippy::expect_used, reason = "a constant")]
fn default_cluster() -> Name {
    "rbalancer".parse().expect("letters only")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Settings, String> {
        let (document, problems) = common::config::ini::Document::parse("f", text);
        let mut global = Global::new(&document, problems, |_| None);
        let settings = Settings::take(&mut global);
        global
            .finish(settings)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn everything_has_a_default() {
        let settings = take("").expect("defaults");
        assert_eq!(
            (settings.cluster.as_str(), settings.stats_uri.as_str()),
            ("rbalancer", "/stats")
        );
        assert_eq!(settings.bind.to_string(), "127.0.0.1:9999");
    }

    #[test]
    fn bad_values_are_named_with_their_line() {
        let error =
            take("[global]\nstats_uri = stats\nstats_bind = 99999\n").expect_err("two problems");
        assert!(
            error.contains("f:2: stats_uri") && error.contains("f:3: stats_bind"),
            "{error}"
        );
        assert_eq!(
            take("[global]\nstats_uri = OFF\n")
                .expect("valid")
                .stats_uri,
            "/stats"
        );
    }
}
