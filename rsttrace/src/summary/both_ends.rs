//! Incidents whose both ends are on this host. Which record comes first depends on how soon each owner is known, so the harm counts
//! for one of the ends by what its record says.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::{first_victims::VictimKeys, harm::Harmed};
use crate::model::{Direction, Fault, IncidentRole, Reset};

/// Most incidents whose other end may still come.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Harm that was counted for the first records of incidents, by their sequence number.
#[derive(Debug)]
pub(super) struct BothEnds(LruCache<u64, FirstEnd>);

/// The first record of an incident.
#[derive(Debug)]
pub(super) struct FirstEnd {
    /// Its sequence number.
    pub(super) seq: u64,
    /// What was counted for it.
    pub(super) harmed: Harmed,
    pub(super) keys: VictimKeys,
    direction: Direction,
}

impl Default for BothEnds {
    fn default() -> Self {
        Self(LruCache::new(CAPACITY))
    }
}

impl BothEnds {
    /// Adds a record and the harm that was counted for it. Returns the first record of its incident if this one, at the other end,
    /// is the one to count: its fault is on this host and that of the first is not, or it sent the reset and neither knows better.
    pub(super) fn observe(&mut self, reset: &Reset, harmed: Option<&Harmed>) -> Option<FirstEnd> {
        if let Some(harmed) = harmed.filter(|_| reset.begins_incident()) {
            let (seq, direction, keys) = (reset.seq, reset.direction, VictimKeys::of(reset));
            self.0.put(seq, FirstEnd { seq, harmed: harmed.clone(), keys, direction });
            return None;
        }
        if reset.incident_role != IncidentRole::OtherEnd || reset.cause.fault == Fault::None {
            return None;
        }
        let first = self.0.pop(&reset.incident)?;
        let rank = |fault: Fault, direction: Direction| (fault == Fault::Local, direction == Direction::Sent);
        let is_better = rank(reset.cause.fault, reset.direction) > rank(first.harmed.fault, first.direction);
        is_better.then_some(first)
    }
}
