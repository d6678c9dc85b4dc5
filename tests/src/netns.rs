//! A network of its own for one process: a namespace that is tied to this host by one cable, which can be pulled.

use crate::process::{Process, binary};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

static MADE: AtomicU8 = AtomicU8::new(0);

/// The namespace, gone when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// The two ends of the cable: here, and inside.
    cable: [String; 2],
    /// The first three numbers of all addresses on it.
    network: [u8; 3],
}

impl Namespace {
    /// Makes one. This host has the addresses `.1` to `.9` at its end of the cable, the namespace `.100`.
    pub fn new() -> Self {
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        // RFC 2544 keeps 198.18.0.0/15 for tests of networks.
        let [.., high, low] = process.to_be_bytes();
        let network = [
            198,
            18 + (high & 1),
            low.wrapping_mul(16).wrapping_add(number),
        ];
        let name = format!("rbt{process}n{number}");
        let namespace = Self {
            cable: [format!("{name}a"), format!("{name}b")],
            name,
            network,
        };
        namespace.make();
        namespace
    }

    fn make(&self) {
        let (name, [here, inside]) = (&self.name, &self.cable);
        if let Err(why) = run(&["netns", "add", name]) {
            panic!(
                "a network namespace cannot be made ({why}): run the tests as root, in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN"
            );
        }
        ip(&[
            "link", "add", here, "type", "veth", "peer", "name", inside, "netns", name,
        ]);
        (1..=9).for_each(|number| {
            ip(&[
                "addr",
                "add",
                &format!("{}/24", self.address(number)),
                "dev",
                here,
            ]);
        });
        ip(&["link", "set", here, "up"]);
        self.ip(&["link", "set", "lo", "up"]);
        self.ip(&[
            "addr",
            "add",
            &format!("{}/24", self.address(100)),
            "dev",
            inside,
        ]);
        self.ip(&["link", "set", inside, "up"]);
    }

    /// An address on the cable.
    pub fn address(&self, number: u8) -> IpAddr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, number).into()
    }

    /// Pulls the cable, or plugs it in again.
    pub fn connect(&self, connected: bool) {
        ip(&[
            "link",
            "set",
            &self.cable[0],
            if connected { "up" } else { "down" },
        ]);
    }

    /// Loses everything sent from inside to an address, without a word.
    pub fn blackhole(&self, address: IpAddr) {
        let nobody = "02:00:00:00:00:99";
        self.ip(&[
            "neigh",
            "replace",
            &address.to_string(),
            "lladdr",
            nobody,
            "dev",
            &self.cable[1],
            "nud",
            "permanent",
        ]);
    }

    /// Ends [`Namespace::blackhole`].
    pub fn reach(&self, address: IpAddr) {
        self.ip(&["neigh", "del", &address.to_string(), "dev", &self.cable[1]]);
    }

    /// Takes the way to an address from those inside: they are told so at once, by their own system.
    pub fn prohibit(&self, address: IpAddr) {
        self.ip(&["route", "add", "prohibit", &address.to_string()]);
    }

    /// Sets something of the kernel inside: `name=value`, as sysctl(8) takes it.
    pub fn sysctl(&self, setting: &str) {
        let (name, value) = setting.split_once('=').expect("name=value");
        let write = format!("echo {value} > /proc/sys/{}", name.replace('.', "/"));
        ip(&["netns", "exec", &self.name, "sh", "-c", &write]);
    }

    /// Starts a program of this workspace inside.
    pub fn start(
        &self,
        program: &str,
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(binary(program))
            .args(arguments);
        command
            .current_dir(directory)
            .envs(environment.iter().copied());
        Process::spawn(program, command)
    }

    /// Makes what listens on a port of 127.0.0.1 reachable from inside, for as long as this program runs.
    pub fn forward(&self, port: u16) -> SocketAddr {
        let listener = TcpListener::bind((self.address(9), 0)).expect("a free port on the cable");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        thread::spawn(move || {
            for from in listener.incoming().map_while(Result::ok) {
                let Ok(to) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                    continue;
                };
                pipe(&from, &to);
                pipe(&to, &from);
            }
        });
        address
    }

    fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat());
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Both fail only where they are gone already. The other end of the cable goes with this one.
        let _ = run(&["link", "del", &self.cable[0]]);
        let _ = run(&["netns", "del", &self.name]);
    }
}

fn pipe(from: &TcpStream, to: &TcpStream) {
    let copies = from
        .try_clone()
        .and_then(|from| Ok((from, to.try_clone()?)));
    let (mut from, mut to) = copies.expect("descriptors are left");
    thread::spawn(move || {
        // Ends when either side does.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

fn ip(arguments: &[&str]) {
    run(arguments).unwrap_or_else(|why| panic!("ip {}: {why}", arguments.join(" ")));
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| {
        format!("ip cannot be run, {error}: apt-get install iproute2 (tests/run does it)")
    })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
