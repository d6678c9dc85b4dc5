//! Keeps the certificates as they are on disk: read again on HUP and when the files change, swapped without touching
//! a connection. A pair that is no good (or only half written yet) changes nothing.

use super::certificates::{Certificates, Contents, Expiry, PairProblems};
use super::{Pair, Tls};
use common::clock::unix_ms;
use common::process::Reload;
use std::time::{Duration, Instant};

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// How often a certificate that ends soon is named.
const DAY: Duration = Duration::from_secs(86_400);

/// When a certificate's end is near.
const SOON: i64 = 14 * 86_400;

/// Follows the files for ever.
pub async fn follow(tls: Tls, mut reload: Reload) {
    let mut seen = Seen { checksum: tls.chosen.now().checksum.clone(), problems: Vec::new() };
    let mut warned = None::<Instant>;
    loop {
        if warned.is_none_or(|at| at.elapsed() > DAY) {
            warn(&tls.chosen.now().expiries, unix_seconds());
            warned = Some(Instant::now());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = reload.asked() => seen.problems.clear(),
        }
        let (pairs, known) = (tls.pairs.clone(), seen.checksum.clone());
        let Ok(read) = tokio::task::spawn_blocking(move || again(&pairs, &known)).await else { continue };
        if let Some(certificates) = seen.take(read) {
            tracing::info!("new certificates are in use");
            tls.chosen.swap(certificates);
            warned = None;
        }
    }
}

/// What was found at the last look.
struct Seen {
    /// What the files held when they were last good.
    checksum: String,
    /// What was last said of them.
    problems: PairProblems,
}

impl Seen {
    /// New certificates, if there are any; problems are said once.
    fn take(&mut self, read: Result<Option<Certificates>, PairProblems>) -> Option<Certificates> {
        match read {
            Ok(None) => {
                self.problems.clear();
                None
            }
            Ok(Some(certificates)) => {
                self.checksum.clone_from(&certificates.checksum);
                self.problems.clear();
                Some(certificates)
            }
            Err(problems) => {
                if problems != self.problems {
                    let words: Vec<String> = problems.iter().map(|(file, problem)| format!("{} {problem}", file.display())).collect();
                    tracing::error!("keeping the certificates in use: {}", words.join("; "));
                    self.problems = problems;
                }
                None
            }
        }
    }
}

/// The certificates, if the files hold others than `known`.
fn again(pairs: &[Pair], known: &str) -> Result<Option<Certificates>, PairProblems> {
    let contents = Contents::read(pairs)?;
    if contents.checksum() == known { Ok(None) } else { Certificates::of(pairs, &contents).map(Some) }
}

fn warn(expiries: &[Expiry], now: i64) {
    for Expiry { file, at } in expiries {
        match at - now {
            left if left <= 0 => tracing::error!("certificate {} has expired: clients refuse it; renew it", file.display()),
            left if left < SOON => tracing::warn!("certificate {} expires in {} days: renew it", file.display(), left / 86_400),
            _ => {}
        }
    }
}

fn unix_seconds() -> i64 {
    i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_does_not_match_yet_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let pair = Pair { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let make = || rcgen::generate_simple_self_signed(vec!["a.org".to_owned()]).expect("a certificate");
        let (old, new) = (make(), make());
        std::fs::write(&pair.certificate, old.cert.pem()).expect("written");
        std::fs::write(&pair.key, old.signing_key.serialize_pem()).expect("written");
        let pairs = [pair];
        let first = Certificates::read(&pairs).expect("good");
        let mut seen = Seen { checksum: first.checksum, problems: Vec::new() };
        assert!(matches!(again(&pairs, &seen.checksum), Ok(None)));
        std::fs::write(&pairs[0].certificate, new.cert.pem()).expect("written");
        let read = again(&pairs, &seen.checksum);
        assert!(seen.take(read).is_none() && seen.problems.len() == 1);
        std::fs::write(&pairs[0].key, new.signing_key.serialize_pem()).expect("written");
        let read = again(&pairs, &seen.checksum);
        assert!(seen.take(read).is_some() && seen.problems.is_empty());
        assert!(matches!(again(&pairs, &seen.checksum), Ok(None)));
    }
}
