//! Causes of the resets of packet captures, which show neither processes nor what a kernel knew.

use rsttrace_common::abi::tcp;

use super::{
    catalogue::{CauseSpec, LIKELY},
    client_ended,
    connection_view::has_foreign_ttl,
    sent_view::is_by_close,
    timeouts::Timeouts,
};
use crate::model::{CauseConfidence, Direction, Fault, Hook, Reset, Sender};

/// Returns whether the record is made of captured packets.
pub(super) fn is_captured(reset: &Reset) -> bool {
    reset.hook == Hook::Capture
}

/// Causes that packets prove: by the peer's timestamp or TTL, or by another reset of the connection.
const PROVED_BY_PACKETS: [&str; 3] = ["aftermath", "connection-refused", "peer-aborted"];

/// How sure a rule is of a captured reset: what the kernel's state would prove, packets make likely; and what rests on half of a
/// connection, or on a part of it that does not show whether there are timestamps, is a guess.
pub(super) fn confidence(reset: &Reset, code: &str, confidence: CauseConfidence) -> CauseConfidence {
    let socket = reset.socket.as_ref().filter(|socket| !matches!(socket.state.0, tcp::SYN_SENT | tcp::TIME_WAIT));
    let lacks = socket.is_some_and(|socket| {
        socket.bytes_sent.is_none() || socket.bytes_received.is_none() || reset.internals.timestamps.is_none()
    });
    match confidence {
        _ if lacks => CauseConfidence::Guess,
        CauseConfidence::Certain if !PROVED_BY_PACKETS.contains(&code) => CauseConfidence::Likely,
        other => other,
    }
}

/// A reset in this host's name that something else sent.
pub(super) static INJECTED_SENT: CauseSpec = CauseSpec {
    code: "injected",
    direction: Some(Direction::Sent),
    sender: Sender::Path,
    fault: Fault::Path,
    rule: injected,
    evidence: super::catalogue::no_evidence,
    summary: "The reset has this host's address and did not come from it.",
    advice: "Look for a middlebox on the way that ends connections.",
    shows_by: "In a packet capture alone: the reset's TTL is off that of this host's other packets by more than 2, or it was made without a socket and comes from nearer than they do.",
};

fn injected(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if is_captured(reset) && has_foreign_ttl(reset) == Some(true) { LIKELY } else { None }
}

/// A reset of a socket, where nothing shows what the process did.
pub(super) static ABORTED: CauseSpec = CauseSpec {
    code: "aborted",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: aborted,
    evidence: client_ended::nothing_lost,
    summary: "A process on this host aborted the connection.",
    advice: "Look at that host, with rsttrace or its log at this moment: the process closed with data unread or with SO_LINGER at 0, or it ended. A capture does not show which.",
    shows_by: "In a packet capture alone: the reset answers no segment, and has the numbers of the connection. Harmless where this host is the client, nothing of its own was lost and no answer was awaited.",
};

fn aborted(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if is_captured(reset) && is_by_close(reset) { LIKELY } else { None }
}
