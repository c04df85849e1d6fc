//! The first resets of a burst or of regular checks, which were told before that could be known.

use std::{hash::Hash, net::IpAddr, num::NonZeroUsize};

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
/// Code of a health check.
pub(super) const HEALTH_PROBE: &str = "health-probe";
/// Longest time by which the times of a burst may be off, nanoseconds: a clock tick.
const SLACK_NS: u64 = 10_000_000;

/// Last resets that blamed a side, by the client, service or process whose end may be their cause, and by the checks that they may
/// be.
#[derive(Debug)]
pub(super) struct FirstVictims {
    of_bursts: LruCache<Subject, Vec<Kept>>,
    of_checks: LruCache<Checked, Vec<Kept>>,
}

/// Where a reset is kept.
#[derive(Debug)]
pub(super) struct VictimKeys {
    subject: Option<Subject>,
    checked: Option<Checked>,
}

impl VictimKeys {
    pub(super) fn of(reset: &Reset) -> Self {
        Self { subject: Subject::of(reset), checked: Checked::of(reset) }
    }
}

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

/// What health checks have in common: the client and the service, and the payload bytes sent and received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Checked {
    client: IpAddr,
    /// PID of a client on this host; 0 for another host's.
    pid: u32,
    service: Endpoint,
    bytes: (Option<u64>, Option<u64>),
}

#[derive(Clone, Debug)]
struct Kept {
    at: u64,
    /// Sequence number of its record.
    seq: u64,
    harmed: Harmed,
}

impl Default for FirstVictims {
    fn default() -> Self {
        Self { of_bursts: LruCache::new(CAPACITY), of_checks: LruCache::new(CAPACITY) }
    }
}

impl FirstVictims {
    /// Adds a reset and the harm that was counted for it. Returns the harm counted for earlier resets that belong to this
    /// one's burst or checks and had another cause.
    pub(super) fn observe(&mut self, reset: &Reset, harmed: Option<&Harmed>) -> Vec<Harmed> {
        if let Some(since_ms) = burst_ms(reset) {
            let since = std::time::Duration::try_from_secs_f64(since_ms / 1e3).unwrap_or_default();
            let since_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            let began = reset.internals.ktime_ns.saturating_sub(since_ns).saturating_sub(SLACK_NS);
            return self.take(reset, began).into_iter().map(|kept| kept.harmed).collect();
        }
        if let Some(harmed) = harmed.filter(|_| reset.cause.fault != Fault::None) {
            let kept = Kept { at: reset.internals.ktime_ns, seq: reset.seq, harmed: harmed.clone() };
            keep(&mut self.of_bursts, Subject::of(reset), &kept);
            keep(&mut self.of_checks, Checked::of(reset), &kept);
        }
        Vec::new()
    }

    /// Replaces what was counted for a reset, by its sequence number.
    pub(super) fn replace(&mut self, keys: &VictimKeys, seq: u64, harmed: &Harmed) {
        let of_burst = keys.subject.as_ref().and_then(|subject| self.of_bursts.peek_mut(subject));
        let of_check = keys.checked.as_ref().and_then(|checked| self.of_checks.peek_mut(checked));
        let lists = of_burst.into_iter().chain(of_check);
        for kept in lists.flatten().filter(|kept| kept.seq == seq) {
            kept.harmed = harmed.clone();
        }
    }

    /// Takes the resets since `began`, nanoseconds, that belong to this one, out of both tables.
    fn take(&mut self, reset: &Reset, began: u64) -> Vec<Kept> {
        // A process may check one service while it fails to use another.
        let is_check = reset.cause.code == HEALTH_PROBE;
        let taken: Vec<Kept> = if is_check {
            take_since(&mut self.of_checks, Checked::of(reset), began)
        } else {
            take_since(&mut self.of_bursts, Subject::of(reset), began)
        };
        // Each counts once.
        let is_taken = |kept: &Kept| taken.iter().any(|taken| taken.seq == kept.seq);
        if is_check {
            let other = Subject::of(reset).and_then(|subject| self.of_bursts.peek_mut(&subject));
            if let Some(kept) = other {
                kept.retain(|kept| !is_taken(kept));
            }
        } else if !taken.is_empty() {
            for (_, kept) in &mut self.of_checks {
                kept.retain(|kept| !is_taken(kept));
            }
        }
        taken
    }
}

/// Keeps a reset, and drops the oldest of its list if there would be more than [`MAX_KEPT`].
fn keep<K: Hash + Eq>(table: &mut LruCache<K, Vec<Kept>>, key: Option<K>, kept: &Kept) {
    let Some(key) = key else { return };
    let list = table.get_or_insert_mut(key, Vec::new);
    if list.len() == MAX_KEPT {
        list.remove(0);
    }
    list.push(kept.clone());
}

/// Takes the resets of a list since `began`, nanoseconds.
fn take_since<K: Hash + Eq>(table: &mut LruCache<K, Vec<Kept>>, key: Option<K>, began: u64) -> Vec<Kept> {
    let list = key.and_then(|key| table.get_mut(&key));
    list.map(|list| list.extract_if(.., |kept| kept.at >= began).collect()).unwrap_or_default()
}

/// Time since the first reset of a burst, milliseconds; `None` where this reset shows none.
fn burst_ms(reset: &Reset) -> Option<f64> {
    let correlation = &reset.internals.correlation;
    match reset.cause.code {
        "client-ended" if correlation.ended_before > 0 => Some(correlation.ended_since_ms),
        // Twice as long as they take at equal intervals, which the first ones may not have.
        HEALTH_PROBE if correlation.checks == CHECKS_MIN => {
            Some(correlation.check_interval_ms * f64::from(CHECKS_MIN) * 2.0)
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

impl Checked {
    fn of(reset: &Reset) -> Option<Self> {
        let socket = reset.socket.as_ref()?;
        let bytes = (socket.bytes_sent, socket.bytes_received);
        match (reset.direction, socket.role) {
            (Direction::Received, Some(Role::Server)) => {
                Some(Self { client: reset.peer.address, pid: 0, service: reset.local, bytes })
            }
            (Direction::Sent, Some(Role::Client)) => {
                let pid = reset.process.as_ref()?.pid;
                Some(Self { client: reset.local.address, pid, service: reset.peer.end(), bytes })
            }
            _ => None,
        }
    }
}
