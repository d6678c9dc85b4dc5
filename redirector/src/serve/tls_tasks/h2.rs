//! One HTTP/2 connection: framing by hyper under tight limits, answers by the same plain function as HTTP/1.

pub(crate) mod bytes;
pub(crate) mod frames;
pub(crate) mod message;
pub(crate) mod patience;
pub(crate) mod streams;

use crate::answer::{Outcome, answer, refuse};
use crate::client::{self, Asker, Guest, Guests};
use crate::counters::Slot;
use crate::protocol::context::Desk;
use crate::protocol::http1::head::{Head, Method, Refusal};
use crate::serve::connections::Phase;
use crate::serve::tls_tasks::task::Registered;
use crate::tls::session::Session;
use ::bytes::Bytes;
use bytes::Stream;
use common::model::target::Scheme;
use common::process::Phase as ProcessPhase;
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
const HEADER_LIST: u32 = crate::protocol::http1::head::MAX_HEAD as u32;

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
    guest: Option<Box<Guest>>,
) {
    let peer = common::net::socket::peer(&stream).ok();
    let mut shutdown = registered.thread.shutdown.clone();
    let signs = Rc::new(Signs::new());
    let deadlines = registered.thread.settings.deadlines;
    let connection = Rc::new(Connection {
        registered,
        guest,
        peer,
        signs: signs.clone(),
        pages: Cell::new(0),
        enough: Notify::new(),
    });
    let asked = connection.clone();
    let service = service_fn(move |request| Connection::respond(asked.clone(), request));
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
    let went = || connection.enter(true);
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
struct Connection {
    registered: Registered,
    /// Who is there, where that has to be known.
    guest: Option<Box<Guest>>,
    peer: Option<IpAddr>,
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

impl Connection {
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
        let guests = &mut self.registered.thread.desk.borrow_mut().guests;
        let asker = self.asker(guests.as_deref(), request);
        let head = format!(
            "HTTP/2.0 {} \r\nContent-Length: {}\r\n\r\n",
            response.status().as_u16(),
            response.body().len()
        );
        log(
            guests.as_deref_mut(),
            asker,
            request,
            (None, None),
            head.as_bytes(),
        );
    }

    /// The connection is idle from here on, unless a page is being made or an answer is on its way: that has its whole
    /// time again if it `moved`.
    fn enter(&self, moved: bool) {
        let phase = match (self.pages.get(), self.signs.is_sending()) {
            (0, false) => Phase::Idle,
            (0, true) => Phase::Write,
            _ => Phase::Page,
        };
        self.registered.enter(phase, moved);
    }

    /// Who asks.
    fn asker(&self, guests: Option<&Guests>, request: &Request<Incoming>) -> Asker {
        let Some((guests, guest)) = guests.zip(self.guest.as_ref()) else {
            return Asker {
                client: self.peer,
                scheme: None,
            };
        };
        let values = |name| {
            request
                .headers()
                .get_all(name)
                .iter()
                .rev()
                .map(HeaderValue::as_bytes)
        };
        let fields = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        guests.forwarded(guest, values("x-forwarded-for"), fields)
    }

    fn may_see_stats(&self, asker: Asker) -> bool {
        let pages = self.registered.thread.settings.pages.as_ref();
        pages
            .zip(asker.client)
            .is_some_and(|(pages, client)| pages.allow(client))
    }

    fn answer(&self, request: &Request<Incoming>) -> Answered {
        self.enter(false);
        let desk = &mut *self.registered.thread.desk.borrow_mut();
        let Desk {
            sources,
            guests,
            output,
            ..
        } = desk;
        let asker = self.asker(guests.as_deref(), request);
        let max_fields = sources.max_fields;
        let mut view = sources.view(asker.scheme.unwrap_or(Scheme::Https));
        let statics = view.statics;
        output.clear();
        let head = match message::head(request, max_fields) {
            Ok(head) => head,
            Err(refusal) => {
                let head_only = request.method() == hyper::Method::HEAD;
                let method = if head_only { Method::Head } else { Method::Get };
                let host = request
                    .uri()
                    .authority()
                    .map_or(b"".as_slice(), |host| host.as_str().as_bytes());
                refuse(
                    refusal,
                    Some(&Head {
                        method,
                        host,
                        ..message::UNKNOWN
                    }),
                    &mut view,
                    output,
                );
                log(
                    guests.as_deref_mut(),
                    asker,
                    request,
                    (None, Some(refusal)),
                    output,
                );
                return Answered::Here(message::of_bytes(output, None));
            }
        };
        // A file is shared by all who ask for it, not copied for each: they may take their time.
        let file = statics
            .get(head.target)
            .filter(|_| head.method == Method::Get);
        let asked = Head {
            method: if file.is_some() {
                Method::Head
            } else {
                head.method
            },
            ..head
        };
        let mut outcome = answer(&asked, &mut view, false, output);
        if matches!(outcome, Outcome::Aside { .. }) && !self.may_see_stats(asker) {
            outcome = answer(&asked, &mut view, true, output);
        }
        if !matches!(outcome, Outcome::Aside { .. }) {
            log(
                guests.as_deref_mut(),
                asker,
                request,
                (view.chosen, view.refusal),
                output,
            );
        }
        match outcome {
            Outcome::Open | Outcome::File { open: true } => {}
            Outcome::Close | Outcome::Refused | Outcome::File { open: false } => {
                self.enough.notify_one();
            }
            Outcome::Aside { .. } => {
                let target = String::from_utf8_lossy(head.target).into_owned();
                return Answered::Page {
                    target,
                    head_only: head.method == Method::Head,
                };
            }
        }
        Answered::Here(message::of_bytes(
            output,
            file.map(|file| file.body.clone()),
        ))
    }
}

/// A page that is being made.
struct Making<'a>(&'a Connection);

impl<'a> Making<'a> {
    fn of(connection: &'a Connection) -> Self {
        connection.pages.set(connection.pages.get() + 1);
        connection.enter(false);
        Self(connection)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.pages.set(self.0.pages.get() - 1);
        self.0.enter(false);
    }
}

/// Logs a request, where requests are logged.
fn log(
    guests: Option<&mut Guests>,
    asker: Asker,
    request: &Request<Incoming>,
    became: (Option<Slot>, Option<Refusal>),
    answer: &[u8],
) {
    let Some(guests) = guests.filter(|guests| guests.logs()) else {
        return;
    };
    let field = |name| {
        request
            .headers()
            .get(name)
            .map_or(b"".as_slice(), |value| value.as_bytes())
    };
    let asked = client::Request {
        method: request.method().as_str().as_bytes(),
        target: request
            .uri()
            .path_and_query()
            .map_or(b"".as_slice(), |target| target.as_str().as_bytes()),
        version: "HTTP/2.0",
        host: request
            .uri()
            .authority()
            .map_or(b"".as_slice(), |host| host.as_str().as_bytes()),
        texts: [
            field(hyper::header::REFERER),
            field(hyper::header::USER_AGENT),
        ],
    };
    guests.write(
        asker,
        &asked,
        request.method() == hyper::Method::HEAD,
        answer,
        became,
    );
}
