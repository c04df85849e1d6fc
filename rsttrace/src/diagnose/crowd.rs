//! Rules that need more than one reset: what breaks together, and what comes again and again.

use std::fmt;

use super::{
    evidence::{many, span},
    story::Story,
    timeouts::Timeouts,
};
use crate::model::{CauseConfidence, Evidence, Reset, Role};

/// Connections in a row that break on their first data, this one among them, from which on somebody does that on
/// purpose.
const POLICY_ROW: u32 = 3;
/// The time over which they have to come: what is faster is a burst.
const POLICY_SPAN_MS: f64 = 1_000.0;
/// A listener that drops the data of a connection that it has no room for answers only when it has forgotten it.
const NEVER_TAKEN_MS: f64 = 500.0;
/// A check does not keep its connection for longer than this.
const PROBE_MS: f64 = 5_000.0;
/// A refusal so short a time before belongs to the same event.
const REFUSED_MS: f64 = 1_000.0;

const LIKELY: Option<CauseConfidence> = Some(CauseConfidence::Likely);
const GUESS: Option<CauseConfidence> = Some(CauseConfidence::Guess);

/// How neighbours are told.
const OTHER: &str = "other connection to this address and port";

/// Our end of a connection in use, which we opened.
fn client(reset: &Reset) -> Option<Story<'_>> {
    Story::of(reset).filter(|story| story.in_use() && !story.is(Role::Server))
}

pub(super) fn policy(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = client(reset)?;
    let before = &reset.facts.neighbours;
    let first = story.has_sent() && !story.has_received() && story.answers_our_send();
    let again = before.first_data + 1 >= POLICY_ROW && before.first_data_since_ms >= POLICY_SPAN_MS;
    if !first || !again {
        return None;
    }
    match (story.foreign_ttl(), story.window()) {
        (Some(true), _) => LIKELY,
        // A window to offer is an application's.
        (_, Some(1..)) => None,
        _ => GUESS,
    }
}

pub(super) fn first_data_again(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let before = &reset.facts.neighbours;
    evidence.push(format_args!(
        "{} connections in a row to this address and port were reset on their first data, within {}",
        before.first_data + 1,
        span(before.first_data_since_ms)
    ));
}

pub(super) fn accept_overflow(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = client(reset).filter(|story| story.is(Role::Client) && !story.has_received())?;
    // A process that aborts has a window to offer, a listener without room has none.
    if story.foreign_ttl() == Some(true) || story.window().is_some_and(|window| window > 0) {
        return None;
    }
    if never_taken(story) {
        return LIKELY;
    }
    match reset.facts.neighbours.newborn {
        _ if !story.newborn() => None,
        0 if story.has_sent() => None,
        0 => GUESS,
        1 if story.has_sent() => GUESS,
        _ => LIKELY,
    }
}

/// The peer never acknowledged a byte, however often it was sent.
fn never_taken(story: Story<'_>) -> bool {
    let socket = story.socket;
    story.in_flight()
        && socket.bytes_acked == Some(0)
        && socket.retransmits.is_some_and(|count| count > 0)
        && story.reset.facts.established_ms.is_some_and(|since| since >= NEVER_TAKEN_MS)
}

pub(super) fn with_the_handshake(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let Some(story) = Story::of(reset) else { return };
    if never_taken(story) {
        evidence.push("the peer had agreed to the connection and acknowledged none of our data");
    } else if let Some(since) = reset.facts.established_ms {
        evidence.push(format_args!("it came {} after the handshake, as its answer would", span(since)));
    }
    match reset.facts.neighbours.newborn {
        0 => {}
        others => evidence.push(many(others.into(), OTHER, "broke so within a second", "broke so within a second")),
    }
}

pub(super) fn peer_restarted(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = client(reset).filter(|story| !story.newborn())?;
    let before = &reset.facts.neighbours;
    let refused = before.refused_ms.is_some_and(|ms| ms <= REFUSED_MS);
    (story.foreign_ttl() != Some(true) && (before.broken_at_once >= 1 || before.broken >= 2 || refused))
        .then_some(CauseConfidence::Likely)
}

pub(super) fn broke_with_others(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let before = &reset.facts.neighbours;
    if before.broken > 0 {
        let broke = fmt::from_fn(|formatter| write!(formatter, "broke in the {} before", span(before.broken_since_ms)));
        evidence.push(many(before.broken.into(), OTHER, &broke, &broke));
    }
    if let Some(ms) = before.refused_ms.filter(|&ms| ms <= REFUSED_MS) {
        evidence.push(format_args!("it refused a connection {} before", span(ms)));
    }
}

pub(super) fn health_probe(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = Story::of(reset).filter(|story| story.in_use() && story.is(Role::Server) && story.wordless())?;
    let short = reset.facts.established_ms.or(story.socket.age_ms).is_none_or(|since| since <= PROBE_MS);
    (short && reset.facts.neighbours.probes >= 1).then_some(CauseConfidence::Likely)
}

pub(super) fn probed_again(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let before = &reset.facts.neighbours;
    let last = span(before.probe_gap_ms);
    match before.probes {
        1 => evidence.push(format_args!("the same source has done so once, last {last} before")),
        probes => evidence.push(format_args!("the same source has done so {probes} times, last {last} before")),
    }
}
