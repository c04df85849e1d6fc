//! What a run would not have recorded: by its filters, and by what it could not see.

use super::seen_reset::SeenReset;
use crate::model::{Direction, RecordingContext};

/// Beginning of what a run says that does not see the resets of its own host's packet filter; no counter has these either.
pub(super) const OWN_FILTER: &str = "resets sent by firewall rules";

/// What a recording may lack without lacking a reset: beginnings of the texts of `degraded`. Any other text forbids conclusions.
const HARMLESS_LIMITS: [&str; 14] = [
    "a program that rsttrace is made to run",
    "all of them are kept",
    "an attacker who takes rsttrace over",
    "containers and peers that are named",
    "of connections of the others, translations",
    "owners ",
    "the process that accepted",
    "forged resets are recognised",
    "the headers of received resets",
    "events of different CPUs",
    "a reset that interrupts another is counted as lost",
    "those of processes",
    "forwarded resets are not seen",
    "the other side of translated connections",
];
/// Further ones where sent resets are looked for, and where received ones are.
const HARMLESS_FOR_SENT: [&str; 2] = ["received resets are not seen", "ignored resets are not seen"];
const HARMLESS_FOR_RECEIVED: [&str; 2] = ["sent resets are not seen", "resets from closed ports"];

/// Why a run would not have recorded a reset at the other end; `None` where it would have.
pub(super) fn hides(
    context: &RecordingContext,
    direction: Direction,
    reset: &SeenReset,
    is_direct: bool,
) -> Option<String> {
    let (sent, received) = (&HARMLESS_FOR_SENT[..], &HARMLESS_FOR_RECEIVED[..]);
    let more = if direction == Direction::Sent { sent } else { received };
    let is_harmless = |text: &String| {
        text.starts_with(OWN_FILTER) || HARMLESS_LIMITS.iter().chain(more).any(|beginning| text.starts_with(beginning))
    };
    if let Some(limit) = context.degraded.iter().find(|text| !is_harmless(text)) {
        return Some(format!("was limited: {}", crate::util::sanitize::truncate(limit, 200)));
    }
    if direction == Direction::Received && context.ignored != Some(true) {
        return Some("was made without --ignored, so a reset that was ignored is not in it".to_owned());
    }
    let Some(filters) = &context.filters else {
        let why = "was made with filters that it does not name, by an earlier version";
        return context.filtered.then(|| why.to_owned());
    };
    if !is_direct && filters.goes_by_ends() {
        let why = "was made with filters by address or port, which a translation of addresses changes";
        return Some(why.to_owned());
    }
    filters.may_hide(direction, reset.peer, reset.local).map(|why| format!("was {why}"))
}

/// Whether what a run could not see forbids no conclusion from a missing reset of either direction.
pub(super) fn is_harmless_limit(text: &str) -> bool {
    HARMLESS_LIMITS.iter().any(|beginning| text.starts_with(beginning))
}
