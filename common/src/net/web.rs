//! Small pages over HTTP/1, for people and monitoring: the stats and the admin listeners. Not the public port.

pub use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use hyper::{Method, StatusCode, header};

/// What is asked of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// The path, without query.
    pub path: String,
    /// The query, without `?`; empty if there is none.
    pub query: String,
    /// The Accept fields as one list; empty if there is none.
    pub accept: String,
}

/// A page: status, headers, whole body.
pub type Page = Response<Bytes>;

/// What answers: asked on the server's runtime, so it may wait for the store.
pub type Router =
    Arc<dyn Fn(Ask) -> std::pin::Pin<Box<dyn Future<Output = Page> + Send>> + Send + Sync>;

/// Connections a page server holds at once; more wait in the kernel.
const CONNECTIONS: usize = 512;

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take nothing of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection takes requests, and how long the last of them may take after that: whoever reads a byte now and
/// then holds no place for ever.
const LIFE: Duration = Duration::from_secs(60);

/// A page of `status` with a body of `kind`.
pub fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(body.into());
    *page.status_mut() = status;
    page.headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    page.headers_mut().insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    page
}

/// A short text.
pub fn text(status: StatusCode, body: impl Into<String>) -> Page {
    page(status, "text/plain; charset=utf-8", body.into())
}

/// Serves `router` on `listener` until dropped.
pub async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors: accepting again at once would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // tcp(7): the kernel ends a connection whose peer has no room for so long.
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT));
        let router = router.clone();
        tokio::spawn(async move {
            connection(stream, router).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let service = service_fn(move |request| answer(router.clone(), request));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = tokio::time::sleep(LIFE) => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(LIFE, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "page connection");
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let accept: Vec<&str> = request
        .headers()
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let ask = Ask {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        accept: accept.join(","),
    };
    if ask.method != Method::GET && ask.method != Method::HEAD {
        let mut page = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        page.headers_mut()
            .insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return Ok(page.map(Full::new));
    }
    Ok(router(ask).await.map(Full::new))
}
