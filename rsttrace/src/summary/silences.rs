//! Silences that broke connections, beside silences that others survived: the idle limit of something between.
//!
//! Only resets are seen, not the connections that went on. A reset with another cause, of a connection whose last data had been
//! acknowledged, tells that the connection had survived the silence before these; that costs nothing, and is not much.

use std::{fmt::Write as _, num::NonZeroUsize};

use lru::LruCache;

use crate::{
    diagnose::connection_view::ReceivedReset,
    model::{Endpoint, Reset, Role},
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

/// Silences on connections to one service, milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    broken: u64,
    shortest_broken: f64,
    longest_broken: f64,
    /// Longest silence after which data were answered; 0 where none was seen.
    longest_survived: f64,
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
    pub(super) fn observe(&mut self, reset: &Reset) {
        let Some(socket) = reset.socket.as_ref().filter(|socket| socket.role == Some(Role::Client)) else { return };
        let silence = |ms: Option<f64>| ms.filter(|&ms| ms >= SILENCE_MIN_MS);
        if FORGOTTEN.contains(&reset.cause.code) {
            let view = ReceivedReset::of(reset).filter(|view| view.has_unacked());
            let Some(ms) = silence(view.and_then(ReceivedReset::relevant_idle_ms)) else { return };
            let entry = self.0.get_or_insert_mut(reset.peer.end(), Silence::default);
            entry.shortest_broken = if entry.broken == 0 { ms } else { entry.shortest_broken.min(ms) };
            entry.longest_broken = entry.longest_broken.max(ms);
            entry.broken += reset.count;
            return;
        }
        // The peer acknowledged what was sent after the silence. (Once it has answered, the silence is not known any more.)
        let is_acknowledged = socket.unacked_bytes == Some(0) && socket.bytes_acked.is_some_and(|bytes| bytes > 0);
        if let Some(ms) = silence(socket.idle_before_send_ms).filter(|_| is_acknowledged) {
            let entry = self.0.get_or_insert_mut(reset.peer.end(), Silence::default);
            entry.longest_survived = entry.longest_survived.max(ms);
        }
    }

    /// The limit of the service with the most broken connections, as a sentence without its full stop. `None` where there is
    /// none, or where longer silences were survived.
    pub(super) fn limit(&self) -> Option<String> {
        let has_limit =
            |silence: &Silence| silence.broken >= MIN_BROKEN && silence.longest_survived < silence.shortest_broken;
        let (service, silence) =
            self.0.iter().filter(|(_, silence)| has_limit(silence)).max_by_key(|(_, silence)| silence.broken)?;
        let Silence { broken, shortest_broken, longest_broken, longest_survived } = *silence;
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
        Some(text)
    }
}
