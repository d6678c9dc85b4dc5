//! Farms and their servers as the operator means them: the table every role works from.

use crate::model::check::Check;
use crate::model::host::Host;
pub use crate::model::name::{Name, ServerId};
use crate::model::target::Target;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A server's share among the live servers of its farm: 0 to 65535, 0 for no new redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(pub u16);

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a farm chooses among its live servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    /// Weighted random.
    #[default]
    Random,
    /// Smooth weighted round-robin.
    RoundRobin,
}

impl Balance {
    /// The value as rbalancer.conf spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "roundrobin",
        }
    }
}

/// What the operator wants of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// In service while it is healthy.
    #[default]
    On,
    /// Gets no new redirects, and is still probed.
    Drain,
    /// Out: never probed, never redirected to.
    Off,
}

impl Intent {
    /// The value as rbalancer.conf spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Drain => "drain",
            Self::Off => "off",
        }
    }
}

/// The status of a redirect. Never a permanent one: browsers would keep asking a server that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Hash)]
#[serde(try_from = "u16", into = "u16")]
pub enum RedirectCode {
    /// 302 Found (RFC 9110 section 15.4.3).
    #[default]
    Found,
    /// 303 See Other (RFC 9110 section 15.4.4).
    SeeOther,
    /// 307 Temporary Redirect (RFC 9110 section 15.4.8).
    Temporary,
}

impl RedirectCode {
    /// The status and its reason phrase, as the status line holds them.
    pub fn status_line(self) -> &'static str {
        match self {
            Self::Found => "302 Found",
            Self::SeeOther => "303 See Other",
            Self::Temporary => "307 Temporary Redirect",
        }
    }
}

/// Why a number is no [`RedirectCode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "redirect code {0} is not offered: use 302, 303 or 307 (a permanent one would outlive the server)"
)]
pub struct BadRedirectCode(u16);

impl TryFrom<u16> for RedirectCode {
    type Error = BadRedirectCode;
    fn try_from(code: u16) -> Result<Self, BadRedirectCode> {
        match code {
            302 => Ok(Self::Found),
            303 => Ok(Self::SeeOther),
            307 => Ok(Self::Temporary),
            other => Err(BadRedirectCode(other)),
        }
    }
}

impl From<RedirectCode> for u16 {
    fn from(code: RedirectCode) -> Self {
        match code {
            RedirectCode::Found => 302,
            RedirectCode::SeeOther => 303,
            RedirectCode::Temporary => 307,
        }
    }
}

/// What a farm does when none of its servers is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnAllDown {
    /// Answers 503 (or sends clients to the fallback).
    #[default]
    Error,
    /// Uses every enabled server with weight, whatever its health; never one that is off.
    Any,
}

/// The value of a `Cache-Control` header: printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CacheControl(Box<str>);

/// Why a text is no [`CacheControl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot stand in a Cache-Control header: use printable ASCII, such as no-store or max-age=5"
)]
pub struct BadCacheControl(String);

impl CacheControl {
    /// The header's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CacheControl {
    fn default() -> Self {
        Self("no-store".into())
    }
}

impl FromStr for CacheControl {
    type Err = BadCacheControl;
    fn from_str(text: &str) -> Result<Self, BadCacheControl> {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !text.is_empty() && text.trim() == text && printable && text.len() <= 200 {
            Ok(Self(text.into()))
        } else {
            Err(BadCacheControl(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for CacheControl {
    type Error = BadCacheControl;
    fn try_from(text: String) -> Result<Self, BadCacheControl> {
        text.parse()
    }
}

impl From<CacheControl> for String {
    fn from(value: CacheControl) -> Self {
        value.0.into()
    }
}

/// One server of one farm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its section's name; unique within the farm.
    pub name: Name,
    /// Where it is.
    pub target: Target,
    /// Its share.
    pub weight: Weight,
    /// What the operator wants of it.
    pub enable: Intent,
    /// How it is probed; none: never, and it counts as up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// One farm: the hosts it answers for and the servers it sends clients to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Farm {
    /// Its section's name.
    pub name: Name,
    /// The hosts it answers for, the first being the one shown. Never empty.
    pub domains: Vec<Host>,
    /// How it chooses.
    #[serde(default)]
    pub balance: Balance,
    /// The status it redirects with.
    #[serde(default)]
    pub redirect_code: RedirectCode,
    /// The Cache-Control of its normal redirects.
    #[serde(default)]
    pub cache_control: CacheControl,
    /// What it does with no live server.
    #[serde(default)]
    pub on_all_down: OnAllDown,
    /// Where its clients go when no server is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Target>,
    /// Whether a connection stays open after a redirect.
    #[serde(default = "yes")]
    pub keepalive: bool,
    /// Its servers, in the order of its list.
    pub servers: Vec<Server>,
}

fn yes() -> bool {
    true
}

impl Farm {
    /// The identity of `server` in this farm.
    pub fn id(&self, server: &Server) -> ServerId {
        ServerId {
            farm: self.name.clone(),
            server: server.name.clone(),
        }
    }
}

/// All farms of a cluster. Farm names and hosts are unique; every farm has a host and uniquely named servers. Copies
/// share one table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "Vec<Farm>")]
pub struct Farms(Arc<[Farm]>);

/// Why a list of farms is no [`Farms`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFarms {
    /// Two farms of one name.
    #[error("farm {0} is defined twice")]
    Farm(Name),
    /// One host on two farms.
    #[error("domain {0} belongs to two farms, {1} and another")]
    Domain(Host, Name),
    /// A farm no request can reach.
    #[error("farm {0} has no domain")]
    NoDomain(Name),
    /// Two servers of one name in one farm.
    #[error("server {0} is listed twice")]
    Server(ServerId),
}

impl Farms {
    /// The farms, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Farm> {
        self.0.iter()
    }

    /// The farm at `index` of the order.
    pub fn get(&self, index: usize) -> Option<&Farm> {
        self.0.get(index)
    }

    /// How many farms there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no farm.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many servers they have.
    pub fn server_count(&self) -> usize {
        self.0.iter().map(|farm| farm.servers.len()).sum()
    }

    /// Every server with its identity.
    pub fn servers(&self) -> impl Iterator<Item = (ServerId, &Server)> {
        self.0.iter().flat_map(|farm| {
            farm.servers
                .iter()
                .map(move |server| (farm.id(server), server))
        })
    }
}

impl TryFrom<Vec<Farm>> for Farms {
    type Error = BadFarms;
    fn try_from(farms: Vec<Farm>) -> Result<Self, BadFarms> {
        let (mut names, mut hosts, mut servers) = (HashSet::new(), HashSet::new(), HashSet::new());
        for farm in &farms {
            servers.clear();
            if !names.insert(&farm.name) {
                return Err(BadFarms::Farm(farm.name.clone()));
            }
            if farm.domains.is_empty() {
                return Err(BadFarms::NoDomain(farm.name.clone()));
            }
            if let Some(host) = farm.domains.iter().find(|host| !hosts.insert(*host)) {
                return Err(BadFarms::Domain(host.clone(), farm.name.clone()));
            }
            if let Some(server) = farm
                .servers
                .iter()
                .find(|server| !servers.insert(&server.name))
            {
                return Err(BadFarms::Server(farm.id(server)));
            }
        }
        Ok(Self(farms.into()))
    }
}

impl Serialize for Farms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn farm(name: &str, domain: &str) -> Farm {
        let json = serde_json::json!({"name": name, "domains": [domain], "servers": []});
        serde_json::from_value(json).expect("valid farm")
    }

    #[test]
    fn a_host_belongs_to_one_farm() {
        let twice = Farms::try_from(vec![farm("a", "x.org"), farm("b", "X.org.")]);
        assert!(matches!(twice, Err(BadFarms::Domain(..))));
        assert!(matches!(
            Farms::try_from(vec![farm("a", "x.org"), farm("a", "y.org")]),
            Err(BadFarms::Farm(_))
        ));
        assert!(Farms::try_from(vec![farm("a", "x.org"), farm("b", "y.org")]).is_ok());
    }

    #[test]
    fn a_table_from_outside_is_parsed_by_the_same_types_as_a_file() {
        let bad_domain = r#"[{"name":"a","domains":["x.org"],"servers":[{"name":"s","target":"http://u@h","weight":1,"enable":"on"}]}]"#;
        assert!(serde_json::from_str::<Farms>(bad_domain).is_err());
        let permanent = r#"[{"name":"a","domains":["x.org"],"redirect_code":301,"servers":[]}]"#;
        assert!(serde_json::from_str::<Farms>(permanent).is_err());
    }
}
