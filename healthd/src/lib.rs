//! healthd: watches servers. The only writer of health.

mod checks;
mod evidence;
#[doc(hidden)] // for tests
pub mod keeper;
mod metrics;
mod probe;
mod settings;
mod verdict;
mod watch;

pub use settings::Settings;

use checks::Checks;
use common::process::signals::{Phase, Shutdown};
use common::store::{Prober, Reader};
use std::sync::Arc;
use watch::schedule::{Done, Schedule};

/// Probes every enabled server of the table in force until `shutdown`, and keeps what gone redirectors counted where
/// there is a `keeper`. `admin` is where monitoring asks.
///
/// # Errors
/// When background work panics, or another healthd is at work under the same id.
pub async fn run(
    reader: Reader,
    prober: Prober,
    keeper: Option<common::store::Keeper>,
    settings: Settings,
    admin: Option<tokio::net::TcpListener>,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let (sender, checks) = tokio::sync::watch::channel(Checks::default());
    let done: Arc<Done> = Arc::default();
    let mut work = tokio::task::JoinSet::new();
    work.spawn(endless(common::files::watch()));
    if let Some(listener) = admin {
        work.spawn(endless(common::net::web::serve(
            listener,
            metrics::router(done.clone(), checks.clone()),
        )));
    }
    if let Some(keeper) = keeper {
        work.spawn(endless(
            keeper::totals::TotalsKeeper::new(reader.clone(), keeper).run(),
        ));
    }
    work.spawn(endless(checks::follow(reader, settings.cluster, sender)));
    let room = watch::schedule::room(common::net::socket::raise_file_limit());
    let witness = watch::witness::Witness::new(settings.witnesses);
    work.spawn(
        Schedule::new(settings.id, settings.alone, room, prober, checks, done)
            .beside(witness)
            .run(),
    );
    tokio::select! {
        () = shutdown.reached(Phase::Draining) => Ok(()),
        Some(ended) = work.join_next() => match ended {
            Ok(Err(taken)) => Err(taken.into()),
            other => Err(anyhow::anyhow!("background work ended: {:?}", other.err())),
        }
    }
}

/// Work that ends by a panic only.
async fn endless(work: impl Future<Output = ()>) -> Result<(), watch::id_claim::Taken> {
    work.await;
    Ok(())
}
