//! A real HTTP origin in this process that can be stopped (connections are refused) and started on the same port.

use crate::port;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// An HTTP server that answers everything with its name.
#[derive(Debug)]
pub struct Origin {
    name: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stopping: AtomicBool,
    hung: AtomicBool,
    status: AtomicU16,
    requests: AtomicU64,
}

impl Origin {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start(name: &str) -> Self {
        Self::start_on(name, port::listener())
    }

    /// Starts one on another address of this host.
    pub fn start_at(name: &str, address: std::net::IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0))
            .unwrap_or_else(|error| panic!("{address} cannot be listened on: {error}"));
        Self::start_on(name, listener)
    }

    fn start_on(name: &str, listener: TcpListener) -> Self {
        let stopping = AtomicBool::new(false);
        let shared = Shared {
            stopping,
            hung: AtomicBool::new(false),
            status: AtomicU16::new(200),
            requests: AtomicU64::new(0),
        };
        let mut origin = Self {
            name: name.to_owned(),
            address: port::address(&listener),
            shared: Arc::new(shared),
            accepting: None,
        };
        origin.accept(listener);
        origin
    }

    /// Its URL without a path, as in a server's `domain` and at the start of a `Location`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests answered so far, probes included.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Answers with `status` from now on.
    pub fn answer_with(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Hangs from now on, or answers again: connections are taken, requests are not answered.
    pub fn hang(&self, hung: bool) {
        self.shared.hung.store(hung, Ordering::SeqCst);
    }

    /// Closes the socket: connections are refused from here on.
    pub fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; it then drops the listener.
        drop(TcpStream::connect(self.address));
        accepting.join().expect("the accepting thread ends");
    }

    /// Listens again, on the same port.
    pub fn restart(&mut self) {
        assert!(self.accepting.is_none(), "{} runs already", self.name);
        let listener = TcpListener::bind(self.address).expect("the port is still free");
        self.accept(listener);
    }

    fn accept(&mut self, listener: TcpListener) {
        self.shared.stopping.store(false, Ordering::SeqCst);
        let (shared, name) = (self.shared.clone(), self.name.clone());
        self.accepting = Some(thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared, name) = (stream, shared.clone(), name.clone()) else {
                    continue;
                };
                thread::spawn(move || {
                    // A client that goes away in the middle is its own affair.
                    let _ = answer(stream, &shared, &name);
                });
            }
        }));
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(mut stream: TcpStream, shared: &Shared, name: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut reader, mut request, mut line) = (
        BufReader::new(stream.try_clone()?),
        String::new(),
        String::new(),
    );
    reader.read_line(&mut request)?;
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    if request.is_empty() {
        return Ok(());
    }
    while shared.hung.load(Ordering::SeqCst) && !shared.stopping.load(Ordering::SeqCst) {
        thread::sleep(crate::LOOK);
    }
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let (status, body) = (
        shared.status.load(Ordering::Relaxed),
        format!("origin {name}\n"),
    );
    let shown = if request.starts_with("HEAD ") {
        ""
    } else {
        &body
    };
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + shown).as_bytes())
}
