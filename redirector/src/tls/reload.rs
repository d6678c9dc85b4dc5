//! Keeps the certificates as they are on disk: read again on HUP and when the files change, swapped without touching
//! a connection. A pair that is no good (or only half written yet) keeps the certificate it had.

use super::Tls;
use super::certificates::{Expiry, PairProblems};
use common::files;
use common::process::signals::Reload;
use common::time::unix_ms;
use std::time::{Duration, Instant};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// How often a certificate that ends soon is named.
const DAY: Duration = Duration::from_secs(86_400);

/// When a certificate's end is near.
const SOON: i64 = 14 * 86_400;

/// Follows the files for ever.
pub(crate) async fn follow(tls: Tls, mut reload: Reload) {
    let mut said = PairProblems::new();
    let mut warned = None::<Instant>;
    loop {
        if warned.is_none_or(|at| at.elapsed() > DAY) {
            warn(&tls.chosen.now().expiries, unix_seconds());
            warned = Some(Instant::now());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = reload.asked() => said.clear(),
        }
        let (pairs, now) = (tls.pairs.clone(), tls.chosen.now());
        let Some(first) = tls.pairs.first() else {
            continue;
        };
        // What hangs is named by those who watch.
        let Ok((renewed, problems)) =
            files::within("tls_cert", &first.certificate, move |_| now.again(&pairs)).await
        else {
            continue;
        };
        if !problems.is_empty() && problems != said {
            let words: Vec<String> = problems
                .iter()
                .map(|(file, problem)| format!("{} {problem}", file.display()))
                .collect();
            tracing::error!("keeping the certificates in use: {}", words.join("; "));
        }
        said = problems;
        if let Some(certificates) = renewed {
            let files: Vec<String> = certificates
                .expiries
                .iter()
                .map(|expiry| expiry.file.display().to_string())
                .collect();
            tracing::info!("new certificates are in use: {}", files.join(", "));
            tls.chosen.swap(certificates);
            warned = None;
        }
    }
}

fn warn(expiries: &[Expiry], now: i64) {
    for Expiry { file, at } in expiries {
        match at - now {
            left if left <= 0 => tracing::error!(
                "certificate {} has expired: clients refuse it; renew it",
                file.display()
            ),
            left if left < SOON => tracing::warn!(
                "certificate {} expires in {} days: renew it",
                file.display(),
                left / 86_400
            ),
            _ => {}
        }
    }
}

fn unix_seconds() -> i64 {
    i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX)
}
