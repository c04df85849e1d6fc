//! The facts of a record in words with figures.

use rsttrace_common::names::tcp;

use crate::reset::{Reset, Socket};

/// What a person wants to know of the reset whatever its cause, the most telling first.
pub(super) fn of(reset: &Reset) -> Vec<String> {
    let mut evidence = Vec::new();
    if let Some(reason) = &reset.reason {
        evidence.push(format!("the kernel's reason is {reason}"));
    }
    if let Some(packet) = &reset.provoked_by {
        evidence.push(format!("it answers a packet with the flags {}", packet.flags));
    }
    match &reset.socket {
        None => evidence.push("the kernel had no socket for it".to_owned()),
        Some(socket) => of_socket(socket, &mut evidence),
    }
    let facts = &reset.facts;
    if facts.linger_zero {
        evidence.push("SO_LINGER was set to 0 seconds".to_owned());
    }
    if facts.holder_exiting {
        evidence.push("the process was exiting".to_owned());
    }
    if facts.probes_out > 0 {
        evidence.push(format!("{} probes were unanswered", facts.probes_out));
    }
    evidence
}

fn of_socket(socket: &Socket, evidence: &mut Vec<String>) {
    evidence.push(format!("the connection was in {}", socket.state));
    if let (Some(queue), Some(limit)) = (socket.accept_queue, socket.accept_queue_limit) {
        evidence.push(format!("{queue} connections waited in the accept queue, whose limit is {limit}"));
    }
    if socket.state.0 == tcp::SYN_SENT {
        return;
    }
    for (bytes, what) in [
        (socket.unread_bytes, "received bytes were not read by the process"),
        (socket.unacked_bytes, "sent bytes were not acknowledged"),
        (socket.unsent_bytes, "written bytes were not sent"),
    ] {
        if let Some(bytes @ 1..) = bytes {
            evidence.push(format!("{bytes} {what}"));
        }
    }
    for (ms, what) in [
        (socket.fin_received_ms, "the peer's FIN came"),
        (socket.fin_sent_ms, "this side closed"),
        (socket.since_send_ms, "this side last sent data"),
        (socket.since_receive_ms, "data last came"),
    ] {
        if let Some(ms) = ms {
            evidence.push(format!("{what} {}", ago(ms)));
        }
    }
    if let Some(idle) = socket.idle_before_send_ms.filter(|&idle| idle >= 1000.0) {
        evidence.push(format!("the last send came after a silence of {}", span(idle)));
    }
    if let Some(retransmits @ 1..) = socket.retransmits {
        evidence.push(format!("{retransmits} segments had to be sent again"));
    }
}

/// A time before the reset. The kernel keeps some in clock ticks, of 1 to 10 ms, and zero ticks may be anything up to
/// one.
fn ago(ms: f64) -> String {
    if ms == 0.0 { "within a clock tick before".to_owned() } else { format!("{} before", span(ms)) }
}

/// A span of time with a unit that fits.
pub(crate) fn span(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{:.0} µs", ms * 1000.0),
        ..1000.0 => format!("{ms:.0} ms"),
        ..600_000.0 => format!("{:.1} s", ms / 1000.0),
        _ => format!("{:.0} min", ms / 60_000.0),
    }
}
