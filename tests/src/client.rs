//! A raw HTTP/1.1 client: it sends exactly the bytes a test wants and shows exactly what came back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, if it is there; bytes that are no UTF-8 are replaced.
    pub fn header(&self, name: &str) -> Option<String> {
        self.bytes(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The value of a header, byte for byte.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(held, _)| held.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// The `Location` of a redirect; fails on any other answer.
    pub fn location(&self) -> String {
        assert_eq!(self.status, 302, "no redirect: {self:?}");
        self.header("location").expect("a redirect has a Location")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection, kept open for as many requests as the server allows.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// `GET target` of `host`.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no HTTP.
    pub fn get(&mut self, host: &str, target: &[u8]) -> io::Result<Answer> {
        self.request("GET", host, target, &[])
    }

    /// Any method, with more headers.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no HTTP.
    pub fn request(
        &mut self,
        method: &str,
        host: &str,
        target: &[u8],
        headers: &[(&str, &str)],
    ) -> io::Result<Answer> {
        let mut head = format!("{method} ").into_bytes();
        head.extend_from_slice(target);
        head.extend_from_slice(format!(" HTTP/1.1\r\nHost: {host}\r\n").as_bytes());
        headers.iter().for_each(|(name, value)| {
            head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        });
        head.extend_from_slice(b"\r\n");
        self.send(&head)?;
        self.answer(method == "HEAD")
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads the next answer; one to a HEAD has no body.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no HTTP.
    pub fn answer(&mut self, head_only: bool) -> io::Result<Answer> {
        let status_line = self.line()?;
        let status = status_line
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse().ok());
        let status: u16 = status
            .filter(|_| status_line.starts_with(b"HTTP/1."))
            .ok_or_else(|| malformed(&status_line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let colon = line
                .iter()
                .position(|&byte| byte == b':')
                .ok_or_else(|| malformed(&line))?;
            headers.push((
                String::from_utf8_lossy(&line[..colon]).into_owned(),
                line[colon + 1..].trim_ascii().to_vec(),
            ));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if !head_only && !matches!(status, 100..=199 | 204 | 304) {
            answer.body = self.body(&answer)?;
        }
        Ok(answer)
    }

    /// The socket.
    pub fn into_stream(self) -> TcpStream {
        self.reader.into_inner()
    }

    fn body(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            body.resize(length.parse().map_err(|_| malformed(length.as_bytes()))?, 0);
            self.reader.read_exact(&mut body)?;
        } else if answer.header("transfer-encoding").is_some() {
            loop {
                let size = String::from_utf8_lossy(&self.line()?).into_owned();
                let size =
                    usize::from_str_radix(&size, 16).map_err(|_| malformed(size.as_bytes()))?;
                let from = body.len();
                body.resize(from + size, 0);
                self.reader.read_exact(&mut body[from..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.reader.read_to_end(&mut body)?;
        }
        Ok(body)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }
}

fn malformed(what: &[u8]) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no HTTP: {}", String::from_utf8_lossy(what)),
    )
}

/// `GET target` of `host` over a new connection; fails the test when no answer comes.
pub fn get(address: SocketAddr, host: &str, target: &str) -> Answer {
    request(address, "GET", host, target, &[])
}

/// Any method over a new connection, with more headers.
pub fn request(
    address: SocketAddr,
    method: &str,
    host: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let asked = Connection::open(address)
        .and_then(|mut connection| connection.request(method, host, target.as_bytes(), headers));
    asked.unwrap_or_else(|error| panic!("{method} {target} of {host} at {address}: {error}"))
}

/// Sends `bytes` over a new connection and reads one answer.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut connection =
        Connection::open(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    // A server may refuse before it has read everything.
    let _ = connection.send(bytes);
    connection.answer(false).unwrap_or_else(|error| {
        panic!(
            "no answer to {:?}: {error}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(80)])
        )
    })
}
