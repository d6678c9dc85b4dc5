//! The redirector: answers clients from a table in memory, and never waits for the store to do so.

pub mod access_log;
pub mod answer;
pub mod background;
pub mod client;
pub mod counters;
pub mod metrics;
pub mod protocol;
pub mod routes;
pub mod run;
pub mod serve;
pub mod settings;
pub mod tls;

pub use answer::pages::Pages;
pub use metrics::ProcessMetrics;
pub use run::{Redirector, Sockets, StoreAccess};
pub use settings::{DEFAULT_PORT, Settings};
