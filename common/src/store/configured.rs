//! Which Redis a process is told to use: the keys `redis…` of `[global]`, flags and environment.

use crate::config::environment;
use crate::config::global::Global;
use crate::config::values::{non_empty, path};
use crate::store::address::RedisAddress;
use crate::store::dial::RedisSettings;
use std::path::PathBuf;

impl Global {
    /// The Redis this process is told to use, if any; `flag` is `--redis`.
    pub fn redis(&mut self, flag: Option<RedisAddress>) -> Option<RedisSettings> {
        // The environment is the documented place for a password; its usual name is RBALANCER_REDIS_URL.
        let address = flag
            .or_else(|| self.variable(environment::REDIS_URL, str::parse::<RedisAddress>))
            .or_else(|| self.get("redis", str::parse::<RedisAddress>));
        let password_file = self.get("redis_password_file", path);
        let sentinel_password_file = self.get("redis_sentinel_password_file", path);
        let prefix = self
            .get("redis_prefix", non_empty)
            .unwrap_or_else(|| RedisSettings::PREFIX.into());
        let ca_file = self.get("redis_ca_file", path);
        let client_pair = self.client_pair();
        let address = address?;
        if address.has_user() && !address.has_password() && password_file.is_none() {
            self.problem(format!("redis: the URL names a user and no password, who would be asked for as the default user: add redis_password_file, or write {address} without a user"));
        }
        if !address.is_tls() {
            let keys = ["redis_ca_file", "redis_cert_file", "redis_key_file"];
            for key in keys
                .into_iter()
                .filter(|key| self.get(key, non_empty).is_some())
            {
                tracing::warn!(
                    "{key} is of no use where redis is asked without TLS: write rediss://, or remove the key"
                );
            }
        }
        Some(RedisSettings {
            address,
            password_file,
            sentinel_password_file,
            client_pair,
            ca_file,
            prefix,
        })
    }

    /// A certificate for servers that want one of their clients, and its key: both, or neither.
    fn client_pair(&mut self) -> Option<(PathBuf, PathBuf)> {
        match (
            self.get("redis_cert_file", path),
            self.get("redis_key_file", path),
        ) {
            (Some(certificate), Some(key)) => return Some((certificate, key)),
            (Some(_), None) => self.refuse(
                "redis_cert_file",
                "is of no use without its key: add redis_key_file",
            ),
            (None, Some(_)) => self.refuse(
                "redis_key_file",
                "is of no use without its certificate: add redis_cert_file",
            ),
            (None, None) => {}
        }
        None
    }

    /// The Redis a daemon cannot do without: its absence is a problem.
    pub fn redis_needed(&mut self, flag: Option<RedisAddress>) -> Option<RedisSettings> {
        let redis = self.redis(flag);
        if redis.is_none() && self.is_sound() {
            self.problem(
                "no redis: give --redis URL, RBALANCER_REDIS_URL or redis in [global]".into(),
            );
        }
        redis
    }
}
