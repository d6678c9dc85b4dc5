//! What `/stats.json` says, read as an outsider reads it.

use crate::client;
use serde_json::Value;
use std::net::SocketAddr;

/// One answer of `/stats.json`.
#[derive(Debug, Clone)]
pub struct Stats(pub Value);

impl Stats {
    /// Asks `address`.
    pub fn of(address: SocketAddr) -> Self {
        let answer = client::get(address, "localhost", "/stats.json");
        assert_eq!(answer.status, 200, "/stats.json at {address}: {answer:?}");
        Self(
            serde_json::from_slice(&answer.body).unwrap_or_else(|error| {
                panic!("/stats.json at {address}: {error}: {}", answer.text())
            }),
        )
    }

    fn farms(&self) -> impl Iterator<Item = &Value> {
        self.0["farms"].as_array().into_iter().flatten()
    }

    /// What the clients of all farms were sent on.
    pub fn redirects(&self) -> u64 {
        self.farms()
            .map(|farm| {
                farm["redirects"]
                    .as_u64()
                    .expect("farms[].redirects is a number")
            })
            .sum()
    }

    /// What the clients of one farm were sent on; 0 for a farm it does not show.
    pub fn of_farm(&self, name: &str) -> u64 {
        self.farms()
            .filter(|farm| farm["name"] == name)
            .filter_map(|farm| farm["redirects"].as_u64())
            .sum()
    }

    /// One server of one farm; null for one it does not show.
    pub fn server(&self, farm: &str, server: &str) -> &Value {
        let farm = self.farms().find(|held| held["name"] == farm);
        let servers = farm
            .and_then(|farm| farm["servers"].as_array())
            .into_iter()
            .flatten();
        servers
            .into_iter()
            .find(|held| held["name"] == server)
            .unwrap_or(&Value::Null)
    }

    /// How many redirectors it shows.
    pub fn replicas(&self) -> usize {
        self.0["replicas"].as_array().map_or(0, Vec::len)
    }
}
