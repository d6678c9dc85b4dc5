//! The configurations: the same weighted redirect in the words of each server, in the best way it has.

use anyhow::Context;
use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The host of the farm all of them have.
pub const HOST: &str = "img.test";

/// Connections a server must hold.
pub const CONNECTIONS: usize = 10_000;

/// rbalancer with `farms` farms of `servers` servers each. The first is [`HOST`]'s; `mark` begins the servers' names,
/// so that one table can be told from another. Its settings are the defaults but for the address and the threads.
pub fn rbalancer(port: u16, threads: usize, farms: usize, servers: usize, mark: &str) -> String {
    let names = |count: usize, prefix: &str| {
        (0..count)
            .map(|index| format!("{prefix}{index}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut text = format!(
        "[global]\nbind = 127.0.0.1:{port}\nthreads = {threads}\ncheck = off\n[farms]\nlist = {}\n",
        names(farms, "f")
    );
    for farm in 0..farms {
        let list = names(servers, &format!("f{farm}-"));
        let _ = write!(text, "[f{farm}]\ndomain = {}\nlist = {list}\n", host(farm));
        for server in 0..servers {
            let weight = if server == 0 { 20 } else { 10 };
            let _ = write!(
                text,
                "[f{farm}-{server}]\ndomain = http://{mark}{}.test\nweight = {weight}\n",
                server + 1
            );
        }
    }
    text
}

/// A table of servers that are probed every two seconds, each on an address of its own on loopback and the port that
/// `port` gives it.
pub fn watched(farms: usize, servers: usize, port: impl Fn(usize) -> u16) -> String {
    let names = |count: usize, prefix: &str| {
        (0..count)
            .map(|index| format!("{prefix}{index}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut text = format!(
        "[global]\ninter = 2s\n[farms]\nlist = {}\n",
        names(farms, "f")
    );
    for farm in 0..farms {
        let _ = write!(
            text,
            "[f{farm}]\ndomain = {}\nlist = {}\n",
            host(farm),
            names(servers, &format!("f{farm}-"))
        );
        for server in 0..servers {
            let number = farm * servers + server;
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number as u32);
            let _ = write!(
                text,
                "[f{farm}-{server}]\ndomain = http://{address}:{}\n",
                port(number)
            );
        }
    }
    text
}

/// The host of one of many farms.
pub fn host(farm: usize) -> String {
    if farm == 0 {
        HOST.to_owned()
    } else {
        format!("img{farm}.test")
    }
}

/// HAProxy: http-request redirect, which keeps connections, and connections handed over with their first bytes.
/// `more` are more lines of the frontend.
pub fn haproxy(port: u16, more: &str) -> String {
    format!(
        "global
    nbthread 1
    maxconn {maxconn}
    no strict-limits
defaults
    mode http
    timeout client 65s
    timeout connect 5s
    timeout server 5s
    timeout http-request 5s
    timeout http-keep-alive 65s
frontend img
    bind 127.0.0.1:{port} defer-accept backlog 4096
{more}    http-request deny deny_status 403 unless {{ hdr(host) -i {HOST} }}
    http-after-response set-header Cache-Control no-store
    http-request redirect prefix http://img1.test code 302 if {{ rand(3) lt 2 }}
    http-request redirect prefix http://img2.test code 302
",
        maxconn = CONNECTIONS + 1000
    )
}

/// nginx: return and split_clients, and connections handed over with their first bytes.
/// `more` are more lines of the farm's server.
pub fn nginx(port: u16, folder: &Path, more: &str) -> String {
    format!(
        "worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/nginx-{port}.pid;
error_log {folder}/nginx-{port}.err crit;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
    access_log off;
    keepalive_timeout 65s;
    keepalive_requests 100000000;
    client_header_timeout 5s;
    client_body_temp_path {folder};
    split_clients \"$connection$connection_requests\" $server_chosen {{ 66.67% img1.test; * img2.test; }}
    server {{ listen 127.0.0.1:{port} default_server deferred backlog=4096; return 403; }}
    server {{
        listen 127.0.0.1:{port};
{more}        server_name {HOST};
        add_header Cache-Control no-store always;
        return 302 http://$server_chosen$request_uri;
    }}
}}
",
        folder = folder.display(),
        connections = CONNECTIONS + 1000
    )
}

/// Writes a configuration; where it is.
///
/// # Errors
/// When it cannot be written.
pub fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("{}", path.display()))?;
    Ok(path)
}
