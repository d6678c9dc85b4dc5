//! What a redirector is told.

use crate::access_log::entry::{Address, Form, Style};
use crate::access_log::writer::LogDestination;
use crate::answer::request::{FIELDS, MAX_FIELDS};
use crate::answer::static_files::{StaticName, StaticSettings};
use crate::background::override_file::ByFile;
use crate::tls::TlsSettings;
use common::config::global::{Global, Problems};
use common::config::ini::Problem;
use common::config::values::{
    duration, networks, number, path, positive_duration, stats_uri, switch,
};
use common::files;
use common::model::farm::Name;
use common::model::target::Target;
use common::net::listen::{ListenAddress, ListenAddresses};
use common::net::network::Network;
use common::words::list;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The port of rbalancer.
pub const DEFAULT_PORT: u16 = 9998;

/// A redirector's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: ListenAddresses,
    /// Where and how TLS is served, if it is.
    pub tls: Option<TlsSettings>,
    /// Whether https may be redirected to http.
    pub allow_downgrade: bool,
    /// Where challenges of certificate authorities are answered.
    pub acme_url: Option<Target>,
    /// The cluster whose tables it takes.
    pub cluster: Name,
    /// Threads that serve clients.
    pub threads: usize,
    /// Static files, if any.
    pub statics: Option<StaticSettings>,
    /// The stats pages' path; none: off.
    pub stats_uri: Option<String>,
    /// Where a redirector without stats pages sends those who ask for them.
    pub stats_url: Option<Target>,
    /// Who may see them.
    pub stats_allow: Vec<Network>,
    /// Header fields a request may have.
    pub max_fields: usize,
    /// From a head's first byte to its last.
    pub client_timeout: Duration,
    /// From an answer to the next request.
    pub keepalive_timeout: Duration,
    /// Connections held at once; none: as many as descriptors allow.
    pub maxconn: Option<usize>,
    /// Waiting connections of one client address at once; none: as many as it likes.
    pub maxconn_per_address: Option<usize>,
    /// How long draining may take.
    pub grace: Duration,
    /// Where the last good table is kept.
    pub state_file: Option<PathBuf>,
    /// How old it may be at a start.
    pub state_max_age: Duration,
    /// Where this host sets servers by hand.
    pub override_file: Option<PathBuf>,
    /// What that file says at the start.
    pub by_file: ByFile,
    /// Peers that speak for their clients.
    pub trusted_proxies: Arc<[Network]>,
    /// Where requests are logged, if they are, and how.
    pub access_log: Option<(LogDestination, Style)>,
}

impl Settings {
    /// Takes the settings from `[global]` and environment; `listen` is the flag.
    pub fn take(global: &mut Global, listen: Option<ListenAddresses>) -> Self {
        let port = global
            .get("port", number(1u16, u16::MAX))
            .unwrap_or(DEFAULT_PORT);
        let bind = global.get("bind", |text| ListenAddresses::with_port(text, port));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let stats_uri = global
            .get("stats_uri", stats_uri)
            .unwrap_or_else(|| Some("/stats".into()));
        let cluster = global
            .get("cluster", str::parse::<Name>)
            .or_else(|| "rbalancer".parse().ok());
        let override_file = global.get("override_file", path);
        let by_file = read_now(override_file.as_deref()).unwrap_or_else(|problem| {
            global.problem(format!("override_file: {problem}"));
            ByFile::default()
        });
        let listen = listen
            .or(bind)
            .unwrap_or_else(|| ListenAddress { ip: None, port }.into());
        Self {
            trusted_proxies: global
                .get("trusted_proxies", networks)
                .unwrap_or_default()
                .into(),
            access_log: access_log(global),
            override_file,
            by_file,
            tls: TlsSettings::take(global, &listen),
            listen,
            allow_downgrade: global.get("allow_downgrade", switch).unwrap_or(false),
            acme_url: global.get("acme_url", parse_acme_url),
            cluster: cluster.expect("the default is a name"),
            threads: global.get("threads", number(1usize, 1024)).unwrap_or(cores),
            statics: statics(global),
            stats_uri,
            stats_url: global.get("stats_url", str::parse::<Target>),
            stats_allow: global
                .get("stats_allow", networks)
                .unwrap_or_else(Network::private),
            max_fields: global
                .get("max_fields", number(1usize, MAX_FIELDS))
                .unwrap_or(FIELDS),
            client_timeout: global
                .get("client_timeout", positive_duration)
                .unwrap_or(Duration::from_secs(5)),
            keepalive_timeout: global
                .get("keepalive_timeout", positive_duration)
                .unwrap_or(Duration::from_secs(65)),
            maxconn: global.get("maxconn", number(1usize, 100_000_000)),
            maxconn_per_address: global
                .get("maxconn_per_address", most_per_address)
                .flatten(),
            grace: global
                .get("grace", duration)
                .unwrap_or(Duration::from_secs(10)),
            state_file: global.get("state_file", path),
            state_max_age: global
                .get("state_max_age", positive_duration)
                .unwrap_or(Duration::from_secs(7 * 86_400)),
        }
    }
}

/// Where requests are logged, if they are, and how.
fn access_log(global: &mut Global) -> Option<(LogDestination, Style)> {
    let form = global.get("access_log_format", parse_form);
    let with_query = global.get("log_query", switch);
    let style = Style {
        form: form.unwrap_or_default(),
        without_query: !with_query.unwrap_or(true),
        address: global.get("log_ip", parse_address).unwrap_or_default(),
    };
    let destination = global.get("access_log", |text| {
        if text.eq_ignore_ascii_case("off") {
            Ok(None)
        } else {
            text.parse().map(Some)
        }
    });
    Some((destination.flatten()?, style))
}

/// The files that every host gets, if there is a folder of them.
fn statics(global: &mut Global) -> Option<StaticSettings> {
    let names = global.get("static_files", |text| {
        let names = list(text).into_iter().map(str::parse);
        names.collect::<Result<Vec<StaticName>, _>>()
    });
    let names = names.or_else(|| Some(vec!["favicon.ico".parse().ok()?]));
    Some(StaticSettings {
        folder: global.get("static_dir", path)?,
        names: names.unwrap_or_default(),
    })
}

impl Settings {
    /// Tries the paths it names, as far as that changes nothing. What is allowed but probably not meant.
    ///
    /// # Errors
    /// What would end the start.
    pub fn try_paths(&self) -> Result<Vec<String>, Problems> {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        if let Some((LogDestination::Path(path), _)) = &self.access_log
            && let Err(why) = try_folder(path)
        {
            problems.push(Problem {
                file: "access_log".into(),
                line: None,
                message: why,
            });
        }
        if let Some(path) = &self.state_file
            && let Err(why) = try_folder(path).and_then(|()| try_regular(path))
        {
            warnings.push(format!(
                "state_file: {why}; what it is to keep would be lost"
            ));
        }
        if let Some(StaticSettings { folder, .. }) = &self.statics
            && !folder.is_dir()
        {
            warnings.push(format!(
                "static_dir: {} is no folder: its files are not served, their paths are redirected",
                folder.display()
            ));
        }
        if problems.is_empty() {
            Ok(warnings)
        } else {
            Err(Problems(problems))
        }
    }
}

/// Whether the folder of a file to be written is there and may be written to.
fn try_folder(path: &Path) -> Result<(), String> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(format!(
            "there is no folder {}: make it, or name another file",
            folder.display()
        ));
    }
    let may_write = rustix::fs::access(
        folder,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )
    .is_ok();
    if may_write {
        Ok(())
    } else {
        Err(format!(
            "{} may not be written to by this user",
            folder.display()
        ))
    }
}

fn try_regular(path: &Path) -> Result<(), String> {
    let Ok(meta) = std::fs::metadata(path) else {
        return Ok(());
    };
    files::refuse_irregular(&meta).map_err(|error| format!("{} {error}", path.display()))
}

/// What the override file says; a disk that does not answer is a problem, not a start that hangs.
fn read_now(override_file: Option<&Path>) -> Result<ByFile, String> {
    let Some(path) = override_file else {
        return Ok(ByFile::default());
    };
    files::within_blocking("override_file", path, ByFile::read)
        .map_err(|hangs| hangs.to_string())
        .flatten()
}

/// A URL with its scheme: what is asked over https is answered there too.
fn parse_acme_url(text: &str) -> Result<Target, String> {
    let target: Target = text
        .parse()
        .map_err(|error: common::model::target::BadTarget| error.to_string())?;
    if target.scheme().is_none() {
        Err(format!("`{text}` has no scheme: write http://{text}"))
    } else {
        Ok(target)
    }
}

/// A number, or `off`.
fn most_per_address(text: &str) -> Result<Option<usize>, String> {
    if text.eq_ignore_ascii_case("off") {
        Ok(None)
    } else {
        number(1usize, 100_000_000)(text).map(Some)
    }
}

fn parse_form(text: &str) -> Result<Form, String> {
    match text.to_ascii_lowercase().as_str() {
        "combined" => Ok(Form::Combined),
        "json" => Ok(Form::Json),
        _ => Err(format!(
            "`{text}` is no form of a log line: write combined or json"
        )),
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    match text.to_ascii_lowercase().as_str() {
        "full" => Ok(Address::Full),
        "truncated" => Ok(Address::Truncated),
        "off" => Ok(Address::Off),
        _ => Err(format!("`{text}` is none of full, truncated, off")),
    }
}
