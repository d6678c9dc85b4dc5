//! The request of a probe: one connection, one request, one status. Nothing is done for it that a browser would need: no
//! pool, no cookies, no redirects, no URL taken apart again.

use crate::lookup::{LIMIT, Lookup};
use crate::tls;
use common::check::{Check, Method};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Why there is no status.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// How a probe names itself.
const USER_AGENT: &str = concat!("rbalancer-healthd/", env!("CARGO_PKG_VERSION"));

/// What the kind of address that a name's first one is of has before the other is tried too (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Asks once, over TLS with a connector for that; the status of the answer.
pub(crate) async fn ask(lookup: &Lookup, secure: Option<&TlsConnector>, check: &Check, method: Method) -> Result<StatusCode, Failure> {
    let request = request(check, method)?;
    let stream = connect(lookup, check).await?;
    match secure {
        None => answer(stream, request).await,
        Some(connector) => answer(tls::handshake(connector, check, stream).await?, request).await,
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, request: Request<Empty<Bytes>>) -> Result<StatusCode, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    // The body, if any, is not read: dropping the connection closes it.
    let response = tokio::select! {
        biased;
        response = &mut answer => response,
        // It ends with an answer, or with the reason why there is none.
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    Ok(response?.status())
}

fn request(check: &Check, method: Method) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let request = match method {
        Method::Head => Request::head(check.uri.to_string()),
        Method::Get => Request::get(check.uri.to_string()).header(header::RANGE, "bytes=0-0"),
    };
    let request = request.header(header::HOST, host(check)).header(header::USER_AGENT, USER_AGENT).header(header::ACCEPT, "*/*");
    request.header(header::CONNECTION, "close").body(Empty::new())
}

/// The value of the Host field.
fn host(check: &Check) -> String {
    if check.port == check.scheme.default_port() { check.host.to_string() } else { format!("{}:{}", check.host, check.port) }
}

/// A connection to the first address that takes one.
async fn connect(lookup: &Lookup, check: &Check) -> Result<TcpStream, Failure> {
    let (host, port) = match &check.addr {
        Some(addr) => (addr.host.as_str(), addr.port.unwrap_or(check.port)),
        None => (check.host.as_str(), check.port),
    };
    let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if let Some(address) = literal {
        return Ok(TcpStream::connect((address, port)).await?);
    }
    let addresses = lookup.clone().find(host.to_owned(), LIMIT).await?;
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let at = addresses.iter().map(|address| SocketAddr::new(address.ip(), port));
    let (preferred, other): (Vec<_>, Vec<_>) = at.partition(|address| address.is_ipv6() == first);
    Ok(connect_either(&preferred, &other).await?)
}

/// To one of `preferred`, or to one of the `other` kind where that fails or takes long: IPv6 may lead nowhere.
async fn connect_either(preferred: &[SocketAddr], other: &[SocketAddr]) -> std::io::Result<TcpStream> {
    if other.is_empty() {
        return TcpStream::connect(preferred).await;
    }
    let (first, second) = (TcpStream::connect(preferred), async {
        tokio::time::sleep(HEAD_START).await;
        TcpStream::connect(other).await
    });
    tokio::pin!(first, second);
    tokio::select! {
        biased;
        connected = &mut first => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => TcpStream::connect(other).await,
        },
        connected = &mut second => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => first.await,
        },
    }
}
