//! Dials Redis: reads the password, finds the server that takes writes, connects. Every step has a time limit.

use super::address::{Node, RedisAddress, Way};
use crate::files;
use crate::store::error::StoreError;
use crate::store::trouble::{TlsTrouble, Trouble};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, FromRedisValue,
    ProtocolVersion, RedisError, TlsCertificates, Value, cmd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time a connection, or the answer to a call, may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(1);

/// The time one Sentinel or one node of a Cluster may take to say who takes writes.
const NODE_DEADLINE: Duration = Duration::from_millis(400);

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where it is.
    pub address: RedisAddress,
    /// A file with the password, read at every dial so that it can be changed without a restart.
    pub password_file: Option<PathBuf>,
    /// The same for the Sentinels, who have passwords of their own.
    pub sentinel_password_file: Option<PathBuf>,
    /// A certificate of our own (PEM, with its chain) and its key, for servers that want one, read at every dial.
    pub client_pair: Option<(PathBuf, PathBuf)>,
    /// Certificates to trust (PEM) instead of the system's, read at every dial.
    pub ca_file: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: String,
}

impl RedisSettings {
    /// What every key begins with where nothing else is said. The braces put all keys into one slot of a Cluster.
    pub const PREFIX: &str = "{rbalancer}";

    /// A Redis without a password, or with one in its address, whose certificate the system trusts.
    pub fn new(address: RedisAddress) -> Self {
        Self {
            address,
            password_file: None,
            sentinel_password_file: None,
            client_pair: None,
            ca_file: None,
            prefix: Self::PREFIX.into(),
        }
    }

    /// The same over another version of the protocol.
    pub(super) fn speaking(&self, version: ProtocolVersion) -> Self {
        let mut settings = self.clone();
        let redis = settings
            .address
            .info
            .redis_settings()
            .clone()
            .set_protocol(version);
        settings.address.info = settings.address.info.set_redis_settings(redis);
        settings
    }

    /// Connects to the server that takes writes.
    pub(super) async fn dial(
        &self,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, StoreError> {
        self.connect(self.primary().await?, config, DEADLINE).await
    }

    /// How to connect to the server that takes writes.
    pub(super) async fn primary(&self) -> Result<ConnectionInfo, StoreError> {
        let info = self
            .with_password(
                self.address.info.clone(),
                "redis_password_file",
                self.password_file.as_deref(),
            )
            .await?;
        let info = match &self.address.way {
            Way::Direct => info,
            Way::Sentinel { nodes, primary } => self.ask_sentinels(nodes, primary, &info).await?,
            Way::Cluster(nodes) => self.ask_cluster(nodes, &info).await?,
        };
        self.secured(info).await
    }

    /// An address for messages, without a password.
    fn at(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn unreachable(&self, why: &impl ToString) -> StoreError {
        self.no_way(Trouble::Other(why.to_string()))
    }

    pub(super) fn no_way(&self, why: Trouble) -> StoreError {
        StoreError::Unreachable { at: self.at(), why }
    }

    pub(super) fn timed_out(&self) -> StoreError {
        StoreError::TimedOut(self.at())
    }

    /// With the password in the file that `key` names, if it names one.
    async fn with_password(
        &self,
        info: ConnectionInfo,
        key: &'static str,
        file: Option<&Path>,
    ) -> Result<ConnectionInfo, StoreError> {
        let Some(path) = file else { return Ok(info) };
        let password = String::from_utf8(self.read(key, path).await?)
            .map_err(|error| self.unreachable(&error))?;
        let redis = info
            .redis_settings()
            .clone()
            .set_password(password.trim_end_matches(['\r', '\n']));
        Ok(info.set_redis_settings(redis))
    }

    async fn read(&self, key: &'static str, path: &Path) -> Result<Vec<u8>, StoreError> {
        // A disk that hangs is one thread's trouble, however often Redis is dialled meanwhile.
        let read = files::within(key, path, files::read)
            .await
            .map_err(std::io::Error::from)
            .flatten();
        read.map_err(|error| self.unreachable(&format!("{key} {}: {error}", path.display())))
    }

    /// With what a TLS connection needs.
    async fn secured(&self, info: ConnectionInfo) -> Result<ConnectionInfo, StoreError> {
        if !self.address.is_tls() {
            return Ok(info);
        }
        // A second caller in one process finds it installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if self.ca_file.is_none() && self.client_pair.is_none() {
            return Ok(info);
        }
        let root_cert = match &self.ca_file {
            Some(path) => Some(self.read("redis_ca_file", path).await?),
            None => None,
        };
        let client_tls = match &self.client_pair {
            Some((certificate, key)) => Some(ClientTlsConfig {
                client_cert: self.read("redis_cert_file", certificate).await?,
                client_key: self.read("redis_key_file", key).await?,
            }),
            None => None,
        };
        self.check_roots(root_cert.as_deref())?;
        self.check_pair(client_tls.as_ref())?;
        let client = Client::build_with_tls(
            info,
            TlsCertificates {
                client_tls,
                root_cert,
            },
        );
        let client =
            client.map_err(|error| self.unreachable(&format!("TLS cannot be set up: {error}")))?;
        Ok(client.get_connection_info().clone())
    }

    /// Whether the certificates to trust are some that can be trusted: an empty file would trust nobody.
    fn check_roots(&self, roots: Option<&[u8]>) -> Result<(), StoreError> {
        let Some(pem) = roots else { return Ok(()) };
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| {
                self.unreachable(&format!(
                    "redis_ca_file is no PEM file of certificates: {error}"
                ))
            })?;
            store.add(certificate).map_err(|error| {
                self.unreachable(&format!("redis_ca_file cannot be used: {error}"))
            })?;
        }
        if store.is_empty() {
            return Err(self.unreachable(
                &"redis_ca_file holds no certificate: it must hold those to trust, in PEM",
            ));
        }
        Ok(())
    }

    /// Whether certificate and key of our own are what they should be, and belong together: the client would say of a key
    /// that is another's only that the server hung up.
    fn check_pair(&self, pair: Option<&ClientTlsConfig>) -> Result<(), StoreError> {
        let Some(ClientTlsConfig {
            client_cert,
            client_key,
        }) = pair
        else {
            return Ok(());
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(client_cert)
            .collect::<Result<_, _>>()
            .map_err(|error| {
                self.unreachable(&format!(
                    "redis_cert_file is no PEM file of certificates: {error}"
                ))
            })?;
        if chain.is_empty() {
            return Err(self.unreachable(&"redis_cert_file holds no certificate: it must hold our own, then its chain, in PEM"));
        }
        let key = PrivateKeyDer::from_pem_slice(client_key).map_err(|_| {
            self.unreachable(&"redis_key_file holds no private key in PEM (without a password)")
        })?;
        match CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(self.unreachable(&"redis_key_file is not the key of redis_cert_file"))
            }
            Err(error) => Err(self.unreachable(&format!("redis_key_file cannot be used: {error}"))),
        }
    }

    async fn connect(
        &self,
        info: ConnectionInfo,
        config: AsyncConnectionConfig,
        limit: Duration,
    ) -> Result<MultiplexedConnection, StoreError> {
        let client = Client::open(info).map_err(|error| self.unreachable(&error))?;
        let config = config
            .set_connection_timeout(Some(limit))
            .set_response_timeout(Some(DEADLINE));
        let dialled = async {
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            // A connection says what is wrong with it to who waits for an answer, and to nobody later.
            match cmd("PING").query_async::<Value>(&mut connection).await {
                Err(error) if !matches!(Trouble::of(&error), Trouble::NoRight(_)) => Err(error),
                _ => Ok(connection),
            }
        };
        match tokio::time::timeout(limit, dialled).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) if !error.is_timeout() => Err(self.failed(&error)),
            Ok(Err(_)) | Err(_) if self.address.is_tls() => {
                Err(self.no_way(Trouble::Tls(TlsTrouble::Silent)))
            }
            Ok(Err(_)) | Err(_) => Err(self.timed_out()),
        }
    }

    /// What a failed call means: nobody was reached, or somebody refused.
    pub(super) fn failed(&self, error: &RedisError) -> StoreError {
        let why = match Trouble::of(error) {
            // Its alert is lost where it ends the connection while we write.
            Trouble::HangsUp if self.address.is_tls() => {
                Trouble::Tls(TlsTrouble::HangsUp(self.client_pair.is_some()))
            }
            why => why,
        };
        let at = self.at();
        let answered = error.code().is_some() || error.clone().into_server_errors().is_some();
        if answered {
            StoreError::Refused { at, why }
        } else {
            StoreError::Unreachable { at, why }
        }
    }

    /// One question to one node, on a connection of its own.
    async fn ask<T: FromRedisValue>(
        &self,
        info: ConnectionInfo,
        question: &[&str],
    ) -> Result<T, StoreError> {
        let mut connection = self
            .connect(info, AsyncConnectionConfig::new(), NODE_DEADLINE)
            .await?;
        let mut call = cmd(question[0]);
        question[1..].iter().for_each(|word| {
            call.arg(word);
        });
        match tokio::time::timeout(NODE_DEADLINE, call.query_async(&mut connection)).await {
            Ok(answer) => answer.map_err(|error| self.failed(&error)),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Asks one Sentinel after the other, beginning anywhere, until one names a primary that says it is one: a
    /// Sentinel that was cut off names the old one. (Guidelines for Redis clients with support for Redis Sentinel.)
    async fn ask_sentinels(
        &self,
        nodes: &[Node],
        primary: &str,
        info: &ConnectionInfo,
    ) -> Result<ConnectionInfo, StoreError> {
        // A Sentinel has users of its own and no databases.
        let plain = self
            .address
            .info
            .clone()
            .set_redis_settings(Default::default());
        let plain = self
            .with_password(
                plain,
                "redis_sentinel_password_file",
                self.sentinel_password_file.as_deref(),
            )
            .await?;
        let mut last = self.unreachable(&"no Sentinel was asked");
        for node in from_anywhere(nodes) {
            let sentinel = self.secured(moved(&plain, node)).await?;
            let named: Option<(String, u16)> = match self
                .ask(sentinel, &["SENTINEL", "get-master-addr-by-name", primary])
                .await
            {
                Ok(named) => named,
                Err(StoreError::Refused { at, why } | StoreError::Unreachable { at, why }) => {
                    last = StoreError::Unreachable {
                        at,
                        why: why.of_sentinel(),
                    };
                    continue;
                }
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let Some((host, port)) = named else {
                last = self.unreachable(&format!("Sentinel {node} knows no `{primary}`"));
                continue;
            };
            let found = moved(info, &Node { host, port });
            match self
                .ask::<Vec<Value>>(self.secured(found.clone()).await?, &["ROLE"])
                .await
            {
                Ok(role) if says(&role, "master") => return Ok(found),
                Ok(_) => {
                    last =
                        self.unreachable(&format!("{} is not the primary any more", found.addr()));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks the nodes who owns the slot of our keys (one hash tag puts all of them there).
    async fn ask_cluster(
        &self,
        nodes: &[Node],
        info: &ConnectionInfo,
    ) -> Result<ConnectionInfo, StoreError> {
        let mut last = self.unreachable(&"no node was asked");
        for node in from_anywhere(nodes) {
            match self.ask_owner(node, info).await {
                Ok(Some(owner)) => return Ok(moved(info, &owner)),
                Ok(None) => {
                    last = self.unreachable(&format!(
                        "node {node} knows no owner of the slot of {}",
                        self.prefix
                    ));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_owner(
        &self,
        node: &Node,
        info: &ConnectionInfo,
    ) -> Result<Option<Node>, StoreError> {
        let info = self.secured(moved(info, node)).await?;
        let key = super::keys::Keys::new(&self.prefix).generation();
        let slot: u16 = self
            .ask(info.clone(), &["CLUSTER", "KEYSLOT", &key])
            .await?;
        let ranges: Vec<Vec<Value>> = self.ask(info, &["CLUSTER", "SLOTS"]).await?;
        let range = ranges.into_iter().find(|range| {
            let end = |index: usize| {
                range
                    .get(index)
                    .cloned()
                    .and_then(|value| redis::from_redis_value::<u16>(value).ok())
            };
            end(0)
                .zip(end(1))
                .is_some_and(|(first, last)| (first..=last).contains(&slot))
        });
        let owner = range
            .and_then(|range| range.into_iter().nth(2))
            .and_then(|value| redis::from_redis_value::<Vec<Value>>(value).ok());
        let mut owner = owner.unwrap_or_default().into_iter();
        let host = owner
            .next()
            .and_then(|value| redis::from_redis_value::<Option<String>>(value).ok())
            .flatten();
        let port = owner
            .next()
            .and_then(|value| redis::from_redis_value::<u16>(value).ok());
        // A node that does not know its own address means the one it was asked under.
        let host = host
            .filter(|host| !host.is_empty() && host != "?")
            .unwrap_or_else(|| node.host.clone());
        Ok(port.map(|port| Node { host, port }))
    }
}

/// `info` at another place.
fn moved(info: &ConnectionInfo, to: &Node) -> ConnectionInfo {
    let (host, port) = (to.host.clone(), to.port);
    let address = match info.addr() {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.clone().set_addr(address)
}

/// All nodes, beginning with a random one: many clients do not all ask the first.
fn from_anywhere(nodes: &[Node]) -> impl Iterator<Item = &Node> {
    let first = if nodes.is_empty() {
        0
    } else {
        rand::random_range(0..nodes.len())
    };
    nodes.iter().cycle().skip(first).take(nodes.len())
}

fn says(role: &[Value], word: &str) -> bool {
    role.first()
        .cloned()
        .and_then(|value| redis::from_redis_value::<String>(value).ok())
        .is_some_and(|said| said == word)
}
