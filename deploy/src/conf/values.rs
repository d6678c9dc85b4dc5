//! What the value of each key of a farm or server may be: one place that says yes or no, whichever layer it is in.

use common::config::values::{number, positive_duration, switch};
use common::model::check::{CheckAddr, CheckUri, StatusSet};
use common::model::farm::{Balance, CacheControl, Intent, OnAllDown, RedirectCode, Weight};
use common::model::host::Host;
use common::model::target::{Scheme, Target};
use common::words::list;

/// Checks one value; the message says what may be written.
pub fn check(key: &str, text: &str) -> Result<(), String> {
    match key {
        "balance" => balance(text).map(drop),
        "redirect_code" => redirect_code(text).map(drop),
        "cache_control" => cache_control(text).map(drop),
        "on_all_down" => on_all_down(text).map(drop),
        "fallback" => target(text).map(drop),
        "keepalive" | "check" | "check_tls_verify" => switch(text).map(drop),
        "weight" => weight(text).map(drop),
        "enable" => enable(text).map(drop),
        "check_method" => method(text).map(drop),
        "check_uri" => uri(text).map(drop),
        "check_addr" => addr(text).map(drop),
        "check_scheme" => scheme(text).map(drop),
        "check_expect" => expect(text).map(drop),
        "inter" | "fastinter" | "downinter" | "timeout_check" => positive_duration(text).map(drop),
        "rise" | "fall" => count(text).map(drop),
        _ => Ok(()),
    }
}

/// The hosts of a farm; a scheme before one is allowed, as old files have it, and says nothing.
pub fn hosts(text: &str) -> Result<Vec<Host>, String> {
    let host = |text: &str| -> Result<Host, String> {
        let target = target(text)?;
        // What other servers call the site that answers for hosts nobody has named.
        if matches!(target.host().as_str(), "_" | "default" | "default_server") {
            return Err(format!(
                "`{text}` is no host that a client asks for: write the farm's own, such as img.example.org"
            ));
        }
        if !target.base().is_empty() {
            return Err(format!(
                "`{text}` has a path: a farm answers for a whole host"
            ));
        }
        Ok(target.host().clone())
    };
    let hosts: Vec<Host> = list(text).into_iter().map(host).collect::<Result<_, _>>()?;
    if hosts.is_empty() {
        Err("is empty: write the host clients ask for".into())
    } else {
        Ok(hosts)
    }
}

/// Where a server is.
pub fn target(text: &str) -> Result<Target, String> {
    text.parse()
        .map_err(|error: common::model::target::BadTarget| error.to_string())
}

/// A server's share.
pub fn weight(text: &str) -> Result<Weight, String> {
    number(0u16, u16::MAX)(text).map(Weight)
}

/// What is wanted of a server.
pub fn enable(text: &str) -> Result<Intent, String> {
    if text.eq_ignore_ascii_case("drain") {
        return Ok(Intent::Drain);
    }
    switch(text)
        .map(|on| if on { Intent::On } else { Intent::Off })
        .map_err(|_| format!("`{text}` is not one of on, off, drain"))
}

/// How a farm chooses.
pub fn balance(text: &str) -> Result<Balance, String> {
    match text.to_ascii_lowercase().as_str() {
        "random" => Ok(Balance::Random),
        "roundrobin" => Ok(Balance::RoundRobin),
        _ => Err(format!("`{text}` is not one of random, roundrobin")),
    }
}

/// The status of a redirect.
pub fn redirect_code(text: &str) -> Result<RedirectCode, String> {
    let code: u16 = number(100, 599)(text)?;
    code.try_into()
        .map_err(|error: common::model::farm::BadRedirectCode| error.to_string())
}

/// The Cache-Control of a redirect.
pub fn cache_control(text: &str) -> Result<CacheControl, String> {
    text.parse()
        .map_err(|error: common::model::farm::BadCacheControl| error.to_string())
}

/// What a farm does with no live server.
pub fn on_all_down(text: &str) -> Result<OnAllDown, String> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(OnAllDown::Error),
        "any" => Ok(OnAllDown::Any),
        _ => Err(format!("`{text}` is not one of error, any")),
    }
}

/// The method of a probe.
pub fn method(text: &str) -> Result<common::model::check::Method, String> {
    match text.to_ascii_uppercase().as_str() {
        "HEAD" => Ok(common::model::check::Method::Head),
        "GET" => Ok(common::model::check::Method::Get),
        _ => Err(format!("`{text}` is not one of HEAD, GET")),
    }
}

/// The path of a probe.
pub fn uri(text: &str) -> Result<CheckUri, String> {
    text.parse()
        .map_err(|error: common::model::check::BadCheckUri| error.to_string())
}

/// Where a probe connects.
pub fn addr(text: &str) -> Result<CheckAddr, String> {
    text.parse()
        .map_err(|error: common::model::check::BadCheckAddr| error.to_string())
}

/// The scheme of a probe.
pub fn scheme(text: &str) -> Result<Scheme, String> {
    match text.to_ascii_lowercase().as_str() {
        "http" => Ok(Scheme::Http),
        "https" => Ok(Scheme::Https),
        _ => Err(format!("`{text}` is not one of http, https")),
    }
}

/// The statuses that mean alive.
pub fn expect(text: &str) -> Result<StatusSet, String> {
    text.parse()
        .map_err(|error: common::model::check::BadStatusSet| error.to_string())
}

/// Probes in a row.
pub fn count(text: &str) -> Result<u16, String> {
    number(1u16, 1000)(text)
}
