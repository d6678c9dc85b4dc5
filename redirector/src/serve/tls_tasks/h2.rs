//! One HTTP/2 connection: framing by hyper under tight limits, answers by the same plain function as HTTP/1.

pub(crate) mod bytes;
pub(crate) mod frames;
pub(crate) mod message;
pub(crate) mod patience;
pub(crate) mod streams;

use crate::access_log::requests::LoggedRequest;
use crate::answer::request::MAX_HEAD;
use crate::answer::{Answer, answer, refuse};
use crate::client::{Client, Peer};
use crate::protocol::context::{Clients, ThreadContext};
use crate::serve::connections::Phase;
use crate::serve::tls_tasks::registration::Registered;
use crate::tls::session::Session;
use ::bytes::Bytes;
use bytes::Stream;
use common::model::target::Scheme;
use common::process::signals::Phase as ProcessPhase;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use patience::{Patient, Signs};
use std::cell::Cell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use streams::{Begun, WithStreams};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Requests at once on one connection.
const STREAMS: u32 = 100;

/// The longest list of header fields, as RFC 9113 section 6.5.2 counts it: what a head of HTTP/1 may have.
const HEADER_LIST: u32 = MAX_HEAD as u32;

/// Bytes of a body a client may send unasked: none is ever read.
const STREAM_WINDOW: u32 = 4096;

/// The smallest window for a whole connection that HTTP/2 knows.
const CONNECTION_WINDOW: u32 = 65_535;

/// Bytes of answers held for one stream until the client takes them.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams reset by the client that may wait to be looked at, and streams we reset ourselves, before the connection
/// ends (CVE-2023-44487 and its kin).
const RESETS: usize = 20;
const OWN_RESETS: usize = 100;

/// Serves the connection to its end; a drain, and a farm that wants no connection kept, say GOAWAY.
pub(crate) async fn serve(
    registered: Registered,
    stream: TcpStream,
    session: Session,
    peer: Option<Box<Peer>>,
) {
    let address = common::net::socket::peer(&stream).ok();
    let mut shutdown = registered.thread.shutdown.clone();
    let signs = Rc::new(Signs::new());
    let deadlines = registered.thread.settings.deadlines;
    let connection = Rc::new(Http2Connection {
        registered,
        peer,
        address,
        signs: signs.clone(),
        pages: Cell::new(0),
        enough: Notify::new(),
    });
    let asked = connection.clone();
    let service = service_fn(move |request| Http2Connection::respond(asked.clone(), request));
    let begun = Begun::default();
    let mut builder = Builder::new(begun.clone());
    builder
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(OWN_RESETS)
        .auto_date_header(false);
    let stream = TokioIo::new(Stream::new(stream, session, signs.clone()));
    let serving = std::pin::pin!(builder.serve_connection(stream, service));
    let mut serving = std::pin::pin!(WithStreams {
        connection: serving,
        begun
    });
    let went = || connection.set_phase(true);
    let mut patient = Patient::new(
        serving.as_mut(),
        signs,
        [deadlines.time(Phase::Head), deadlines.time(Phase::Write)],
        &went,
    );
    tokio::select! {
        // How a client ends its connection is its own affair.
        () = &mut patient => return,
        () = shutdown.reached(ProcessPhase::Draining) => {}
        () = connection.enough.notified() => {}
    }
    patient.serving.connection.as_mut().graceful_shutdown();
    patient.await;
}

/// What the requests of one connection share.
struct Http2Connection {
    registered: Registered,
    /// Who is there, where that has to be known.
    peer: Option<Box<Peer>>,
    /// The address of the socket.
    address: Option<IpAddr>,
    signs: Rc<Signs>,
    /// Pages being made.
    pages: Cell<usize>,
    /// Told when no more requests are wanted.
    enough: Notify,
}

/// What became of a request.
enum Answered {
    Here(Response<Bytes>),
    Page { target: String, head_only: bool },
}

impl Http2Connection {
    async fn respond(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let response = match self.answer(&request) {
            Answered::Here(response) => response,
            Answered::Page { target, head_only } => {
                let response = self.page(&target, head_only).await;
                self.log_page(&request, &response);
                response
            }
        };
        Ok(response.map(|body| Full::new(self.signs.sending(body))))
    }

    async fn page(&self, target: &str, head_only: bool) -> Response<Bytes> {
        // The client may reset the stream: what is awaited here is dropped then.
        let _making = Making::of(self);
        message::of_page(self.registered.page(target).await, head_only)
    }

    /// Logs a page as it is sent.
    fn log_page(&self, request: &Request<Incoming>, response: &Response<Bytes>) {
        let clients = &mut self.registered.thread.context.borrow_mut().clients;
        let client = self.client(clients.as_deref(), request);
        if let Some(log) = clients.as_mut().and_then(|clients| clients.log.as_mut()) {
            let status = response.status().as_u16();
            log.page(client, &logged(request), status, response.body().len());
        }
    }

    /// The connection is idle from here on, unless a page is being made or an answer is on its way: that has its whole
    /// time again if it `progressed`.
    fn set_phase(&self, progressed: bool) {
        let phase = match (self.pages.get(), self.signs.is_sending()) {
            (0, false) => Phase::Idle,
            (0, true) => Phase::Write,
            _ => Phase::Page,
        };
        self.registered.set_phase(phase, progressed);
    }

    /// Who asks.
    fn client(&self, clients: Option<&Clients>, request: &Request<Incoming>) -> Client {
        let Some((clients, peer)) = clients.zip(self.peer.as_deref()) else {
            return Client {
                address: self.address,
                scheme: None,
            };
        };
        let headers = request.headers();
        let forwarded = headers.get_all("x-forwarded-for").iter().rev();
        let fields = headers
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        clients
            .proxies
            .client_by_fields(peer, forwarded.map(HeaderValue::as_bytes), fields)
    }

    fn answer(&self, asked: &Request<Incoming>) -> Answered {
        self.set_phase(false);
        let ThreadContext {
            sources,
            clients,
            date,
            ..
        } = &mut *self.registered.thread.context.borrow_mut();
        let client = self.client(clients.as_deref(), asked);
        let max_fields = sources.max_fields;
        let mut view = sources.view(client.scheme.unwrap_or(Scheme::Https));
        let request = message::request(asked, max_fields);
        let answer = match &request {
            Ok(request) => answer(request, &mut view, || client.address),
            Err(refusal) => refuse(*refusal, message::authority(asked), &view),
        };
        let head_only = asked.method() == hyper::Method::HEAD;
        if let (Answer::Page, Ok(request)) = (answer, &request) {
            let target = String::from_utf8_lossy(request.target).into_owned();
            return Answered::Page { target, head_only };
        }
        if let Some(log) = clients.as_mut().and_then(|clients| clients.log.as_mut()) {
            log.answered(client, &logged(asked), &answer);
        }
        if !answer.keepalive() || view.draining {
            self.enough.notify_one();
        }
        Answered::Here(message::response(&answer, head_only, date))
    }
}

/// A page that is being made.
struct Making<'a>(&'a Http2Connection);

impl<'a> Making<'a> {
    fn of(connection: &'a Http2Connection) -> Self {
        connection.pages.set(connection.pages.get() + 1);
        connection.set_phase(false);
        Self(connection)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.pages.set(self.0.pages.get() - 1);
        self.0.set_phase(false);
    }
}

/// A request as the log shows it.
fn logged(request: &Request<Incoming>) -> LoggedRequest<'_> {
    let field = |name| {
        let value = request.headers().get(name);
        value.map_or(b"".as_slice(), HeaderValue::as_bytes)
    };
    let target = request.uri().path_and_query();
    LoggedRequest {
        method: request.method().as_str().as_bytes(),
        target: target.map_or(b"", |target| target.as_str().as_bytes()),
        version: "HTTP/2.0",
        host: message::authority(request),
        referer: field(hyper::header::REFERER),
        agent: field(hyper::header::USER_AGENT),
        head_only: request.method() == hyper::Method::HEAD,
    }
}
