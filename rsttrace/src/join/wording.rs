//! Words of verdicts: moments, clocks, TTLs, and the difference of two clocks.

use jiff::{Timestamp, tz::TimeZone};

use super::{gathered_host::GatheredHost, judge::Window, seen_reset::SeenReset};
use crate::{model::PairClock, util::human_duration};

/// How moments are written: in this zone, which is named elsewhere; without one in UTC with its `Z`.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments(pub(super) Option<TimeZone>);

impl Moments {
    /// A moment for people, to the millisecond.
    pub(super) fn of(&self, time_ns: i64) -> String {
        let time = Timestamp::from_nanosecond(time_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        match &self.0 {
            Some(zone) => time.to_zoned(zone.clone()).strftime("%F %T%.3f").to_string(),
            None => format!("{time:.3}"),
        }
    }

    /// A span of the other host's time.
    pub(super) fn span(&self, window: &Window) -> String {
        let half = human_duration(milliseconds(window.to_ns.saturating_sub(window.at_ns)));
        format!("{} ± {half}", self.of(window.at_ns))
    }
}

/// That two recordings do not overlap in time; `None` where they do, by their own clocks.
pub(super) fn apart(one: &GatheredHost, other: &GatheredHost, moments: &Moments) -> Option<String> {
    let (span, other_span) = one.span_ns().zip(other.span_ns())?;
    let (first, last) = if span.1 < other_span.0 {
        ((one, span), (other, other_span))
    } else if other_span.1 < span.0 {
        ((other, other_span), (one, span))
    } else {
        return None;
    };
    Some(format!(
        "the recordings of {} and {} do not overlap in time, by their own clocks: that of {} ends at {}, that of {} begins at {}",
        first.0.name,
        last.0.name,
        first.0.name,
        moments.of(first.1.1),
        last.0.name,
        moments.of(last.1.0)
    ))
}

pub(super) fn clock_sentence(window: &Window, name: &str) -> String {
    match window.clock {
        Some(clock) => format!("the clock of {name} is {}", skew_in_words(clock)),
        None => "no reset is matched; both clocks follow time servers by their own account".to_owned(),
    }
}

/// A difference of clocks in words, as a part of a sentence.
pub(super) fn skew_in_words(clock: PairClock) -> String {
    let PairClock { skew_us, least_us, most_us, matches } = clock;
    let ahead = if skew_us < 0 { "behind" } else { "ahead" };
    let apart = |us: i64| human_duration(milliseconds(us.saturating_abs().saturating_mul(1_000))).to_string();
    let spread = apart(most_us.saturating_sub(least_us));
    let (of, is) = if matches == 1 { ("match", "") } else { ("matches", ", median") };
    format!("{} {ahead} (spread {spread}{is} of {matches} {of})", apart(skew_us))
}

pub(super) fn ttl_sentence(reset: &SeenReset) -> String {
    match (reset.ttl, reset.handshake_ttl) {
        (Some(ttl), Some(handshake)) if ttl == handshake => {
            format!("its TTL is {ttl}, as that of the peer's handshake")
        }
        (Some(ttl), Some(handshake)) => format!("its TTL is {ttl}, and that of the peer's handshake {handshake}"),
        (Some(ttl), None) => format!("its TTL is {ttl}; that of the peer's handshake was not seen"),
        _ => "its TTL was not seen".to_owned(),
    }
}

fn milliseconds(ns: i64) -> f64 {
    std::time::Duration::from_nanos(ns.unsigned_abs()).as_secs_f64() * 1e3
}

/// That the numbers of a record are those of a packet; `None` where they are its own.
pub(super) fn lent_sentence(reset: &SeenReset) -> Option<String> {
    reset.is_lent.then(|| {
        "its host did not see the header: the numbers are those of the only packet that a capture has of it at that time".to_owned()
    })
}
