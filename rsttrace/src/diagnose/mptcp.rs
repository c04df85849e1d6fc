//! Subflows of MPTCP connections (RFC 8684): where one of several paths is reset, the connection goes on.

use super::{
    catalogue::{CauseSpec, GUESS, LIKELY, no_evidence},
    connection_view::ReceivedReset,
    timeouts::Timeouts,
};
use crate::model::{CauseConfidence, Direction, Fault, Reset, Sender};

/// A subflow that this host resets.
pub(super) static SUBFLOW_SENT: CauseSpec = CauseSpec {
    code: "mptcp-subflow",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::None,
    rule: subflow_sent,
    evidence: no_evidence,
    summary: "This host reset one path of an MPTCP connection; the connection goes on over the others.",
    advice: "Nothing, unless the connection should use this path: look at 'ip mptcp limits' on both ends.",
    shows_by: "The kernel's reason is one of MPTCP's, or the socket is a subflow over which no data went.",
};

fn subflow_sent(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if reset.reason.as_deref().is_some_and(|reason| reason.starts_with("MPTCP_")) {
        return LIKELY;
    }
    let unused =
        reset.socket.as_ref().is_some_and(|socket| (socket.bytes_sent, socket.bytes_received) == (Some(0), Some(0)));
    if reset.internals.is_mptcp == Some(true) && unused { GUESS } else { None }
}

/// A subflow that the peer resets.
pub(super) static SUBFLOW_RECEIVED: CauseSpec = CauseSpec {
    code: "mptcp-subflow",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::None,
    rule: subflow_received,
    evidence: no_evidence,
    summary: "The peer refused or removed one path of an MPTCP connection; the connection goes on over the others.",
    advice: "Nothing, unless the connection should use this path: look at 'ip mptcp limits' on both ends.",
    shows_by: "The socket is a subflow of an MPTCP connection, and no data went over it.",
};

/// Fires for a subflow that was never used. One that was used may have been the only one.
fn subflow_received(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = ReceivedReset::of(reset)?;
    if reset.internals.is_mptcp == Some(true) && view.exchanged_no_data() { GUESS } else { None }
}
