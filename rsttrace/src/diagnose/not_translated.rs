//! Segments that the NAT host itself met, because conntrack took them for invalid.

use super::{catalogue::CauseSpec, segment_answers::NO_CONNECTION_CODE, timeouts::Timeouts};
use crate::model::{
    CauseConfidence, Direction, Evidence, Fault, Reset, Sender,
    translation::{ConntrackEntry, ConntrackState, untranslated_ends},
};

/// Code of a reset of this host in answer to a segment that it should have translated.
pub const CONNTRACK_INVALID_CODE: &str = "conntrack-invalid";

pub(super) static CONNTRACK_INVALID: CauseSpec = CauseSpec {
    code: CONNTRACK_INVALID_CODE,
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Local,
    // Found by a look-up in conntrack, after the rules.
    rule: |_, _| None,
    evidence: meant_for,
    summary: "This host translates the connection, took a segment of it for invalid, and reset it itself.",
    advice: "Drop what conntrack calls invalid before it reaches this host's own TCP (nft: `ct state invalid drop` in input), or set net.netfilter.nf_conntrack_tcp_be_liberal=1. Both ends of the connection were alive.",
    shows_by: "No socket, the packet was not a SYN, and conntrack has a living translated connection to which its ends belong: it was not translated.",
};

/// Finds in conntrack's entry whether this host should have translated the segment that a reset without a socket answers. It is
/// the cause then.
pub fn note_untranslated(sent: &mut Reset, entry: &ConntrackEntry) {
    let Some(meant) = untranslated_ends(entry, sent.local, sent.peer.end()) else { return };
    sent.translated = Some(meant);
    sent.internals.conntrack_state = entry.tcp_state;
    // A connection that has ended is reset once more, which changes nothing.
    let is_alive = entry.tcp_state.is_none_or(|state| !state.has_ended());
    if is_alive && sent.cause.code == NO_CONNECTION_CODE {
        sent.cause = super::cause(&CONNTRACK_INVALID, CauseConfidence::Certain);
    }
}

/// Shows which connection the segment belongs to.
fn meant_for(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let Some(meant) = reset.translated {
        let state = reset.internals.conntrack_state.and_then(ConntrackState::name).unwrap_or("state not known");
        evidence.push(format_args!(
            "conntrack has the connection between {} and {} ({state}), and did not translate this segment of it",
            meant.local, meant.peer
        ));
    }
}

/// Whether this is a code of a reset that answers a segment of a connection which this host's TCP does not know.
pub fn answers_unknown_connection(code: &str) -> bool {
    matches!(code, NO_CONNECTION_CODE | CONNTRACK_INVALID_CODE)
}
