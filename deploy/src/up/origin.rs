//! A toy origin: a server with a few files, for the demo. It can be told to stop working, and to start again.

use common::net::web::{Ask, Page, Router, StatusCode, page, text};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;

/// Serves an origin called `name` on `listener` until dropped.
pub async fn serve(listener: TcpListener, name: String) {
    let works = Arc::new(AtomicBool::new(true));
    let router: Router =
        Arc::new(move |ask| Box::pin(std::future::ready(answer(&ask, &name, &works))));
    common::net::web::serve(listener, router).await;
}

fn answer(ask: &Ask, name: &str, works: &AtomicBool) -> Page {
    match ask.path.as_str() {
        "/-/stop" => {
            works.store(false, Ordering::Relaxed);
            text(
                StatusCode::OK,
                format!("{name} answers 503 from now on; /-/start ends that\n"),
            )
        }
        "/-/start" => {
            works.store(true, Ordering::Relaxed);
            text(StatusCode::OK, format!("{name} works again\n"))
        }
        _ if !works.load(Ordering::Relaxed) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{name} is stopped\n"),
        ),
        path => page(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            format!("this is {path}, served by {name}\n"),
        ),
    }
}
