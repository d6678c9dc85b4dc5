//! The redirector: answers clients from a table in memory, and never waits for the store to do so.
//!
//! One request over HTTP/1, from bytes to bytes:
//! 1. `serve/accept`: up to sixteen who are there are accepted, and what they say is read.
//! 2. `serve/worker`: the connection gets its turn, and is lent the thread's buffers.
//! 3. `protocol/http1/connection`: every whole request in what was read is answered, in their order.
//! 4. `protocol/http1/head`: one strict pass over the raw head makes it a `Request`, or a refusal.
//! 5. `answer`: the request becomes an `Answer`, a value of references.
//! 6. `routes`, `routes/farm`, `routes/balance`: host, farm and server in constant time; `counters` counts it.
//! 7. `access_log/requests`, `access_log/entry`: the answer as a line, where requests are logged.
//! 8. `protocol/http1/write`: the answer as bytes, which leave at once, the last of them with the FIN.
//!
//! Over TLS the first two are `serve/tls_tasks/thread` and `serve/tls_tasks/task`. Who asks is told by `client`, where that
//! has to be known.
//!
//! One request over HTTP/2:
//! 1. `serve/tls_tasks/thread`: the client is accepted, on threads of their own, a task a connection.
//! 2. `serve/tls_tasks/task`: a PROXY header is read, hands are shaken step by step (`tls/session`).
//! 3. `serve/tls_tasks/h2`: frames by hyper, under limits (`h2/bytes`, `h2/frames`, `h2/patience`, `h2/streams`).
//! 4. `serve/tls_tasks/h2/message`: what hyper read becomes the same `Request`.
//! 5. `answer`: the same `Answer`, asked once.
//! 6. `routes`, `routes/farm`, `routes/balance` and `counters`: as above.
//! 7. `access_log/requests`: the same line.
//! 8. `serve/tls_tasks/h2/message`'s other half makes the answer a response; a file's bytes are shared, not copied.
//!
//! A redirect over HTTP/1 takes no lock, allocates nothing and waits for nobody. Half a second later `background/flush` writes the totals that changed to
//! the store, as absolute numbers: written twice or late they do no harm. Where others want the core of a thread that
//! serves, that thread goes first (`common/src/process/thread_priority.rs`).

// Hidden modules are what tests and benches reach in by: no promise to anybody.
mod access_log;
#[doc(hidden)]
pub mod answer;
#[doc(hidden)]
pub mod background;
mod client;
#[doc(hidden)]
pub mod counters;
mod metrics;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod routes;
mod run;
mod serve;
mod settings;
mod tls;

pub use answer::pages::Pages;
pub use metrics::ProcessMetrics;
pub use run::{Redirector, Sockets, StoreAccess};
pub use settings::{DEFAULT_PORT, Settings};
pub use tls::{Tls, TlsSettings};
