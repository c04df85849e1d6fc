//! Answers of this host's kernel to segments: for ports without a listener, for connections that it does not know, or not any more,
//! and for what does not fit a connection.

use rsttrace_common::abi::{tcp, tcp_flag};

use super::{
    catalogue::{CERTAIN, CauseSpec, LIKELY, no_evidence},
    sent_view::{is_after_close, is_by_listener, meets_no_connection, reason_allows},
    timeouts::Timeouts,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Sender},
    util::human_duration,
};

/// Number of different closed ports within a minute from which on it is a scan.
const SCAN_PORTS: u32 = 10;

pub(super) static PORT_SCAN: CauseSpec = CauseSpec {
    code: "port-scan",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Peer,
    rule: port_scan,
    evidence: scanned_ports,
    summary: "One peer tries many closed ports.",
    advice: "Drop its packets in the firewall if it should not do that.",
    shows_by: "No socket, the packet was a SYN, and the same peer has tried ten different closed ports within a minute. The first nine are port-closed.",
};

fn port_scan(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    port_closed(reset, timeouts).filter(|_| reset.internals.correlation.closed_ports >= SCAN_PORTS).and(LIKELY)
}

fn scanned_ports(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let ports = reset.internals.correlation.closed_ports;
    evidence.push(format_args!("this peer has tried {ports} or more different closed ports within a minute"));
}

pub(super) static PORT_CLOSED: CauseSpec = CauseSpec {
    code: "port-closed",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Peer,
    rule: port_closed,
    evidence: after_listener,
    summary: "The peer tried to connect to a port on which nothing listens.",
    advice: "Is the service down, or does the peer have the wrong port?",
    shows_by: "The kernel had no socket, and the packet that provoked the reset was a SYN (Linux 6.10 and later).",
};

fn port_closed(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    flags_without_socket(reset).filter(|&flags| is_syn(flags)).and(CERTAIN)
}

/// Code of a reset that answers a segment of a connection which this host does not know.
pub(super) const NO_CONNECTION_CODE: &str = "no-connection";

pub(super) static NO_CONNECTION: CauseSpec = CauseSpec {
    code: NO_CONNECTION_CODE,
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Unknown,
    rule: no_connection,
    evidence: after_listener,
    summary: "A segment came for a connection that this host does not know.",
    advice: "Has the service restarted or failed over, does traffic take two paths, or does conntrack drop what it calls INVALID?",
    shows_by: "The packet was not a SYN, and the kernel had no socket for it (Linux 6.10 and later), or the listener of its port alone.",
};

fn no_connection(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    meets_no_connection(reset).then_some(CauseConfidence::Certain)
}

/// Flags of the packet that the reset answers, if there was no socket for it.
fn flags_without_socket(reset: &Reset) -> Option<u8> {
    reset.socket.is_none().then_some(reset.provoked_by?.flags.0)
}

fn is_syn(flags: u8) -> bool {
    flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN
}

/// Tells when the listener on this port closed.
fn after_listener(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let Some(ending) = &reset.internals.ending {
        let closed = human_duration(ending.closed_ms);
        evidence.push(format_args!("this host had closed a connection between these ends {closed} before"));
    }
    if let Some(ms) = reset.internals.correlation.listener_gone_ms {
        let gone = human_duration(ms);
        evidence.push(format_args!("a listener on this port closed, or its process ended, {gone} before"));
    }
}

pub(super) static TIME_WAIT: CauseSpec = CauseSpec {
    code: "time-wait",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::None,
    rule: time_wait,
    evidence: no_evidence,
    summary: "A late segment hit a connection that had ended.",
    advice: "Nothing; it is harmless.",
    shows_by: "The packet hit a socket in TIME_WAIT proper: both sides had closed (Linux 6.10 and later).",
};

/// Fires for a TIME_WAIT mini-socket (`inet_timewait_sock`) in the sub-state TIME_WAIT. In FIN_WAIT2 the peer has not
/// closed yet.
fn time_wait(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    reset.internals.time_wait_substate.filter(|&substate| substate != tcp::FIN_WAIT2).and(CERTAIN)
}

pub(super) static DATA_AFTER_CLOSE: CauseSpec = CauseSpec {
    code: "data-after-close",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Local,
    rule: data_after_close,
    evidence: after_listener,
    summary: "The peer sent data after our process had closed the connection.",
    advice: "Make the process read to the end of the stream before it closes, or close later (lingering close).",
    shows_by: "The process had closed or shut down for receiving, the peer had not, and data came: an orphan in FIN_WAIT, or the TIME_WAIT socket that stands for one.",
};

fn data_after_close(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    is_after_close(reset).then_some(CauseConfidence::Certain)
}

pub(super) static LISTEN_OVERFLOW: CauseSpec = CauseSpec {
    code: "listen-overflow",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Local,
    rule: listen_overflow,
    evidence: handshakes_dropped,
    summary: "The listener's accept queue was full when the connection was opened.",
    advice: "Accept faster, or raise the listener's backlog and net.core.somaxconn.",
    shows_by: "A reset of the listener in answer to a packet that was not a SYN, with more connections in its queue than the limit (net.ipv4.tcp_abort_on_overflow is set); or, as a guess, of a listener that has dropped handshakes, for a connection that this host does not know: a client whose handshake was dropped takes itself for connected.",
};

fn listen_overflow(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let full = reset.socket.as_ref().is_some_and(|socket| socket.accept_queue > socket.accept_queue_limit);
    let no_syn = reset.provoked_by.is_some_and(|packet| packet.flags.0 & tcp_flag::SYN == 0);
    // A stray acknowledgement to a listener with a full queue has the reason TCP_FLAGS.
    if is_by_listener(reset) && full && no_syn && reason_allows(reset, "INVALID_SYN") {
        return LIKELY;
    }
    has_dropped_handshake(reset).then_some(CauseConfidence::Guess)
}

/// Whether the segment may be of a client whose handshake the listener has dropped: it has dropped some, and neither an earlier
/// connection between these ends nor an earlier listener explains the segment.
fn has_dropped_handshake(reset: &Reset) -> bool {
    let internals = &reset.internals;
    internals.listener_drops > 0
        && is_by_listener(reset)
        && meets_no_connection(reset)
        && internals.ending.is_none()
        && internals.correlation.listener_gone_ms.is_none()
}

fn handshakes_dropped(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    match reset.internals.listener_drops {
        0 => {}
        1 => evidence.push("the listener has dropped a segment of a handshake since it began to listen"),
        count => {
            // The kernel side counts no further.
            let or_more = if count == u16::MAX { " or more" } else { "" };
            evidence.push(format_args!(
                "the listener has dropped {count}{or_more} segments of handshakes since it began to listen"
            ));
        }
    }
}

pub(super) static BAD_SEGMENT: CauseSpec = CauseSpec {
    code: "bad-segment",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Peer,
    rule: bad_segment,
    evidence: no_evidence,
    summary: "The peer sent a segment that does not fit the state of the connection.",
    advice: "Look for an old connection on the same ports, a broken middlebox, or forged packets.",
    shows_by: "A half-open connection answered a packet: an acknowledgement of what was never sent, an old sequence number; or a listener answered a SYN that it cannot take.",
};

fn bad_segment(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    (reset.provoked_by.is_some() && matches!(reset.internals.raw_state, tcp::LISTEN | tcp::SYN_SENT | tcp::SYN_RECV))
        .then_some(CauseConfidence::Certain)
}
