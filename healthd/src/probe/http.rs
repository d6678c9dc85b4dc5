//! The request of a probe: one connection, one request, one status. Nothing is done for it that a browser would need: no
//! pool, no cookies, no redirects, and nothing of the answer is read beyond its status line.

use crate::evidence::Failure;
use crate::probe::connect::connect;
use crate::probe::lookup::Lookup;
use crate::probe::status::StatusReader;
use crate::probe::tls;
use common::model::check::{Check, Method};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// How a probe names itself.
const USER_AGENT: &str = concat!("rbalancer-healthd/", env!("CARGO_PKG_VERSION"));

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// `HEAD`.
    Head,
    /// `GET` of the first byte: no server is to send a film for a probe.
    FirstByte,
    /// `GET` of the whole, of which the status is read.
    Whole,
}

impl From<Method> for Question {
    fn from(method: Method) -> Self {
        match method {
            Method::Head => Self::Head,
            Method::Get => Self::FirstByte,
        }
    }
}

/// Asks once, over TLS with a connector for that; the status of the answer.
pub(crate) async fn ask(
    lookup: &Lookup,
    secure: Option<&TlsConnector>,
    check: &Check,
    question: Question,
) -> Result<u16, Failure> {
    let stream = connect(lookup, check).await?;
    match secure {
        None => answer(stream, check, question).await,
        Some(connector) => {
            answer(
                tls::handshake(connector, check, stream).await?,
                check,
                question,
            )
            .await
        }
    }
}

/// A server may answer before it is asked, and close without hearing the question: one that is full does. Every client
/// reads such an answer, so a question that cannot be sent is a failure only where there is no answer either.
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    check: &Check,
    question: Question,
) -> Result<u16, Failure> {
    let request = request(check, question);
    let sent = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    }
    .await;
    match (status(&mut stream).await, sent) {
        (Ok(status), _) => Ok(status),
        (Err(_), Err(unsent)) => Err(unsent.into()),
        (Err(failure), Ok(())) => Err(failure),
    }
}

/// The rest of the answer is not read: dropping the connection closes it.
async fn status(stream: &mut (impl AsyncRead + Unpin)) -> Result<u16, Failure> {
    let (mut reader, mut buffer) = (StatusReader::default(), [0; 4096]);
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Some(status) = reader.take(&buffer[..length])? {
            return Ok(status);
        }
    }
}

fn request(check: &Check, question: Question) -> String {
    let (method, range) = match question {
        Question::Head => ("HEAD", ""),
        Question::FirstByte => ("GET", "Range: bytes=0-0\r\n"),
        Question::Whole => ("GET", ""),
    };
    let (uri, host) = (&check.uri, host(check));
    format!(
        "{method} {uri} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\n{range}Connection: close\r\n\r\n"
    )
}

/// The value of the Host field.
fn host(check: &Check) -> String {
    if check.port == check.scheme.default_port() {
        check.host.to_string()
    } else {
        format!("{}:{}", check.host, check.port)
    }
}
