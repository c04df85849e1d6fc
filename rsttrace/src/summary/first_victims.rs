//! The first resets of a burst or of regular checks, which were told before that could be known.

use std::{net::IpAddr, num::NonZeroUsize};

use lru::LruCache;

use crate::{
    diagnose::CHECKS_MIN,
    model::{Direction, Endpoint, Fault, Reset, Role},
    summary::harm::Harmed,
};

/// Most clients, services and processes whose last resets are kept.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Most resets kept of each.
const MAX_KEPT: usize = 4;
/// Longest time by which the times of a burst may be off, nanoseconds: a clock tick.
const SLACK_NS: u64 = 10_000_000;

/// Last resets that blamed a side, by the client, service or process whose end may be their cause.
#[derive(Debug)]
pub(super) struct FirstVictims(LruCache<Subject, Vec<Kept>>);

/// What may have ended.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Subject {
    /// A client of this port of this host.
    Client(IpAddr, u16),
    /// A service of the peer's.
    Service(Endpoint),
    /// A process of this host, by its PID.
    Process(u32),
}

#[derive(Debug)]
struct Kept {
    at: u64,
    peer: Endpoint,
    harmed: Harmed,
}

impl Default for FirstVictims {
    fn default() -> Self {
        Self(LruCache::new(CAPACITY))
    }
}

impl FirstVictims {
    /// Adds a reset and the harm that was counted for it. Returns the harm counted for earlier resets that belong to this
    /// one's burst and had another cause.
    pub(super) fn observe(&mut self, reset: &Reset, harmed: Option<Harmed>) -> Vec<Harmed> {
        let Some(subject) = Subject::of(reset) else { return Vec::new() };
        if let Some(since_ms) = burst_ms(reset) {
            let Some(kept) = self.0.get_mut(&subject) else { return Vec::new() };
            let since = std::time::Duration::try_from_secs_f64(since_ms / 1e3).unwrap_or_default();
            let since_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            let began = reset.internals.ktime_ns.saturating_sub(since_ns).saturating_sub(SLACK_NS);
            // A process may check one service while it fails to use another.
            let any_peer = reset.cause.code != "health-probe";
            let belongs = |kept: &mut Kept| kept.at >= began && (any_peer || kept.peer == reset.peer.end());
            return kept.extract_if(.., belongs).map(|kept| kept.harmed).collect();
        }
        if let Some(harmed) = harmed.filter(|_| reset.cause.fault != Fault::None) {
            let kept = self.0.get_or_insert_mut(subject, Vec::new);
            if kept.len() == MAX_KEPT {
                kept.remove(0);
            }
            kept.push(Kept { at: reset.internals.ktime_ns, peer: reset.peer.end(), harmed });
        }
        Vec::new()
    }
}

/// Time since the first reset of a burst, milliseconds; `None` where this reset shows none.
fn burst_ms(reset: &Reset) -> Option<f64> {
    let correlation = &reset.internals.correlation;
    match reset.cause.code {
        "client-ended" if correlation.ended_before > 0 => Some(correlation.ended_since_ms),
        "health-probe" if correlation.checks == CHECKS_MIN => {
            Some(correlation.check_interval_ms * f64::from(CHECKS_MIN) * 1.1)
        }
        "peer-restarted" if correlation.broken > 0 => Some(correlation.broken_since_ms),
        _ => None,
    }
}

impl Subject {
    fn of(reset: &Reset) -> Option<Self> {
        match (reset.direction, reset.socket.as_ref().and_then(|socket| socket.role)) {
            (Direction::Sent, _) => reset.process.as_ref().map(|process| Self::Process(process.pid)),
            (Direction::Received, Some(Role::Server)) => Some(Self::Client(reset.peer.address, reset.local.port)),
            (Direction::Received, _) => Some(Self::Service(reset.peer.end())),
        }
    }
}
