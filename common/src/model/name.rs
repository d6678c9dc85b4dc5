//! Names of farms and servers, and the `farm/server` pair that identifies a server everywhere.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a farm, a server or a cluster: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name: use 1 to 64 letters, digits, dots, dashes or underscores")]
pub struct BadName(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(BadName(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What identifies a server: `farm/server`. Never its domain, which two farms may share.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerId {
    /// The farm that lists the server.
    pub farm: Name,
    /// The server's section name.
    pub server: Name,
}

/// Why a text is no [`ServerId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no server: write FARM/SERVER")]
pub struct BadServerId(String);

impl FromStr for ServerId {
    type Err = BadServerId;
    fn from_str(text: &str) -> Result<Self, BadServerId> {
        let bad = || BadServerId(text.chars().take(140).collect());
        let (farm, server) = text.split_once('/').ok_or_else(bad)?;
        Ok(Self {
            farm: farm.parse().map_err(|_| bad())?,
            server: server.parse().map_err(|_| bad())?,
        })
    }
}

impl TryFrom<String> for ServerId {
    type Error = BadServerId;
    fn try_from(text: String) -> Result<Self, BadServerId> {
        text.parse()
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.farm, self.server)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        assert!("img-1_a.B".parse::<Name>().is_ok());
        for bad in ["", "a b", "a/b", "é", "@fallback", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_server_is_a_farm_and_a_name() {
        let id: ServerId = "img/srv1".parse().expect("valid");
        assert_eq!(
            (
                id.farm.as_str(),
                id.server.as_str(),
                id.to_string().as_str()
            ),
            ("img", "srv1", "img/srv1")
        );
        assert!("img".parse::<ServerId>().is_err());
        assert!("img/a/b".parse::<ServerId>().is_err());
    }
}
