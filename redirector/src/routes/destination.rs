//! `Destination`: where a redirect leads, ready to be written.

use crate::counters::Slot;
use common::model::target::{Scheme, Target};
use smallvec::SmallVec;

/// Where a redirect leads: all that an answer needs of it, in one cache line with its [`AliasSlot`](crate::routes::balance::AliasSlot).
#[derive(Debug)]
pub struct Destination {
    /// Host, port and base path.
    rest: SmallVec<[u8; 40]>,
    /// None: the request's.
    scheme: Option<Scheme>,
    /// What counts it.
    pub(crate) slot: Slot,
}

impl Destination {
    /// Where a redirect to `target` leads, counted by `slot`.
    pub fn new(target: &Target, slot: Slot) -> Self {
        let rest = [target.authority().as_bytes(), target.base().as_bytes()].concat();
        Self {
            rest: SmallVec::from_slice(&rest),
            scheme: target.scheme(),
            slot,
        }
    }

    /// What precedes the request's path in a Location, for a request that came by `scheme`: two parts.
    #[inline]
    pub fn origin(&self, request: Scheme) -> [&[u8]; 2] {
        let scheme: &[u8] = match self.scheme.unwrap_or(request) {
            Scheme::Http => b"http://",
            Scheme::Https => b"https://",
        };
        [scheme, &self.rest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use crate::routes::balance::AliasSlot;
    use common::model::tally::CountKey;

    #[test]
    fn what_it_writes_is_the_targets_own_origin_in_one_cache_line() {
        let slot = Counters::new(1).slot(&CountKey::Refused(400));
        let long = format!("{}.test:8080/base/path", "a".repeat(60));
        for text in [
            "img.test",
            "http://img.test:81",
            "https://[::1]/base",
            &long,
        ] {
            let target: Target = text.parse().expect("a target");
            for request in [Scheme::Http, Scheme::Https] {
                assert_eq!(
                    Destination::new(&target, slot).origin(request).concat(),
                    target.origin(request).as_bytes()
                );
            }
        }
        assert_eq!(size_of::<AliasSlot<Destination>>(), 64);
    }
}
