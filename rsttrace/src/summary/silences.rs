//! Silences that broke connections, beside silences that others survived: the idle limit of something between.
//!
//! Only resets are seen, not the connections that went on. A reset with another cause, of a connection whose last data had been
//! acknowledged, tells that the connection had survived the silence before these; that costs nothing, and is not much.

use std::{fmt::Write as _, num::NonZeroUsize, time::Duration};

use lru::LruCache;

use super::harm::Harmed;
use crate::{
    diagnose::connection_view::ReceivedReset,
    model::{Endpoint, Fault, Reset, Role},
    util::human_duration,
};

/// Most services whose silences are kept.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Fewest resets from which a limit is told.
const MIN_BROKEN: u64 = 3;
/// Shortest silence that counts, milliseconds.
const SILENCE_MIN_MS: f64 = 900.0;
/// Causes by which a connection had been forgotten: the silence before was as long as the limit or longer.
const FORGOTTEN: [&str; 4] = ["path-lost-state", "peer-lost-state", "idle-timeout-path", "keepalive-answer"];

/// Silences on connections to services, bounded.
#[derive(Debug)]
pub(super) struct Silences(LruCache<Endpoint, Silence>);

/// Most services whose limits are told.
const MAX_TOLD: usize = 3;

/// Silences on connections to one service, milliseconds.
#[derive(Debug, Default)]
struct Silence {
    broken: u64,
    shortest_broken: f64,
    longest_broken: f64,
    /// Longest silence after which data were answered; 0 where none was seen.
    longest_survived: f64,
    /// When the first of them broke, and when one was last known to be alive before it broke, nanoseconds of
    /// `CLOCK_MONOTONIC`.
    first_broken_ns: u64,
    last_alive_ns: u64,
    /// What was counted for those whose own record does not find the fault on the path.
    unsettled: Option<Harmed>,
}

impl Silence {
    /// Whether something forgets connections by their silence: some were alive when others had been forgotten already, so that
    /// no single event, such as the start of a host, explains them all; and none survived a longer silence.
    fn is_limit(&self) -> bool {
        self.broken >= MIN_BROKEN
            && self.last_alive_ns > self.first_broken_ns
            && self.longest_survived < self.shortest_broken
    }
}

impl Default for Silences {
    fn default() -> Self {
        Self(LruCache::new(CAPACITY))
    }
}

/// Returns whether the silence before a reset is an upper limit of a device's idle timeout, and no timeout itself: it was this
/// host that spoke when it wanted to.
pub(super) fn is_bound(reset: &Reset) -> bool {
    matches!(reset.cause.code, "path-lost-state" | "peer-lost-state")
}

impl Silences {
    /// Adds a reset, and what was counted as its harm.
    pub(super) fn observe(&mut self, reset: &Reset, harmed: Option<&Harmed>) {
        let Some(socket) = reset.socket.as_ref().filter(|socket| socket.role == Some(Role::Client)) else { return };
        let silence = |ms: Option<f64>| ms.filter(|&ms| ms >= SILENCE_MIN_MS);
        if FORGOTTEN.contains(&reset.cause.code) {
            let view = ReceivedReset::of(reset).filter(|view| view.has_unacked());
            let Some(ms) = silence(view.and_then(ReceivedReset::relevant_idle_ms)) else { return };
            let entry = self.0.get_or_insert_mut(reset.peer.end(), Silence::default);
            let now = reset.internals.ktime_ns;
            let alive_ns = before(now, ms + socket.since_send_ms.unwrap_or(0.0));
            if entry.broken == 0 {
                (entry.shortest_broken, entry.first_broken_ns) = (ms, now);
            }
            entry.shortest_broken = entry.shortest_broken.min(ms);
            entry.longest_broken = entry.longest_broken.max(ms);
            entry.first_broken_ns = entry.first_broken_ns.min(now);
            entry.last_alive_ns = entry.last_alive_ns.max(alive_ns);
            entry.broken += reset.count;
            if let Some(harmed) = harmed.filter(|harmed| harmed.fault != Fault::Path) {
                match &mut entry.unsettled {
                    // Of another cause and fault: one of them is told as its record tells it.
                    Some(all) if all.code() == harmed.code() && all.fault == harmed.fault => all.add(harmed),
                    Some(_) => {}
                    none => *none = Some(harmed.clone()),
                }
            }
            return;
        }
        // The peer acknowledged what was sent after the silence. (Once it has answered, the silence is not known any more.)
        let is_acknowledged = socket.unacked_bytes == Some(0) && socket.bytes_acked.is_some_and(|bytes| bytes > 0);
        if let Some(ms) = silence(socket.idle_before_send_ms).filter(|_| is_acknowledged) {
            let entry = self.0.get_or_insert_mut(reset.peer.end(), Silence::default);
            entry.longest_survived = entry.longest_survived.max(ms);
        }
    }

    /// Services with a limit, those with the most broken connections first.
    fn limited(&self) -> Vec<(&Endpoint, &Silence)> {
        let mut limited: Vec<_> = self.0.iter().filter(|(_, silence)| silence.is_limit()).collect();
        limited.sort_by(|(one_end, one), (other_end, other)| {
            other.broken.cmp(&one.broken).then_with(|| one_end.cmp(other_end))
        });
        limited.truncate(MAX_TOLD);
        limited
    }

    /// What was counted for resets whose fault is on the path, for all that [`Self::limits`] tells, and whose records do not know.
    pub(super) fn settled(&self) -> Vec<&Harmed> {
        self.limited().into_iter().filter_map(|(_, silence)| silence.unsettled.as_ref()).collect()
    }

    /// The limits of the services with the most broken connections, a sentence each without its full stop; none where there is
    /// none, or where longer silences were survived.
    pub(super) fn limits(&self) -> Vec<String> {
        self.limited().into_iter().map(|(service, silence)| silence.sentence(service)).collect()
    }
}

impl Silence {
    fn sentence(&self, service: &Endpoint) -> String {
        let Self { broken, shortest_broken, longest_broken, longest_survived, .. } = *self;
        let [shortest, longest, survived] = [shortest_broken, longest_broken, longest_survived].map(human_duration);
        let mut text = format!("{broken} resets answered data to {service} after silences of {shortest}");
        // A string takes everything.
        _ = if shortest.to_string() == longest.to_string() { Ok(()) } else { write!(text, " to {longest}") };
        _ = if longest_survived > 0.0 {
            write!(
                text,
                "; connections that had been idle for up to {survived} went on: something on the path forgets them after a time in between"
            )
        } else {
            write!(
                text,
                ": something on the path forgets idle connections after {shortest} at most (connections that survived are not seen)"
            )
        };
        text
    }
}

/// The time this many milliseconds before a time in nanoseconds.
fn before(now_ns: u64, ms: f64) -> u64 {
    let ago = Duration::try_from_secs_f64(ms.max(0.0) / 1e3).unwrap_or_default();
    now_ns.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX))
}
