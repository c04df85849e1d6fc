//! Evidence: the facts of a record in words, with figures.

use std::fmt::{self, Display};

use rsttrace_common::abi::{netfilter, tcp};

use super::wire::is_captured;
use crate::{
    model::{Direction, Evidence, Reset, Socket},
    util::human_duration,
};

/// Beginning of the line on the idle time before the last send.
pub(super) const AFTER_SILENCE: &str = "the last send came after a silence of";

/// Appends the facts that matter whatever the cause, the most telling first. Lines that a rule added before are not
/// repeated.
pub(super) fn append_facts(reset: &Reset, evidence: &mut Evidence) {
    if let Some(reason) = &reset.reason {
        evidence.push_parts(["the kernel's reason is ", reason]);
    }
    if let Some(packet) = &reset.provoked_by {
        match packet.flags.usual() {
            Some(flags) => evidence.push_parts(["it answers a packet with the flags ", flags]),
            None => evidence.push(format_args!("it answers a packet with the flags {}", packet.flags)),
        }
    }
    match &reset.socket {
        None if reset.internals.netfilter_hook != 0 => append_netfilter_hook(reset.internals.netfilter_hook, evidence),
        None if is_captured(reset) => append_lack_of_connection(reset, evidence),
        None => evidence.push_parts(["the kernel had no socket for it"]),
        Some(socket) => append_socket_facts(reset, socket, evidence),
    }
    let internals = &reset.internals;
    if internals.linger_zero {
        evidence.push_parts(["SO_LINGER was set to 0 seconds"]);
    }
    if internals.holder_exiting {
        evidence.push_parts(["the process was exiting"]);
    }
    if internals.probes_out > 0 {
        evidence.push(pluralize(internals.probes_out.into(), "probe", "was unanswered", "were unanswered"));
    }
    if let Some(lost) = reset.cause.lost_bytes {
        evidence.push(pluralize(lost, "byte of this host", "was lost with it", "were lost with it"));
    }
    if let Some(packet) = &reset.packet {
        let own = packet.handshake_ttl.or(internals.correlation.peer_ttl);
        match own {
            Some(own) => {
                let (mut ttl, mut of_own) = (itoa::Buffer::new(), itoa::Buffer::new());
                let (ttl, own) = (ttl.format(packet.ttl), of_own.format(own));
                let of_whom = match reset.direction {
                    Direction::Received => ", that of the peer's own packets ",
                    Direction::Sent => ", that of this host's other packets ",
                };
                evidence.push_parts(["its TTL was ", ttl, of_whom, own]);
            }
            None if reset.direction == Direction::Sent => {}
            None => evidence.push(format_args!("its TTL was {}, and the peer's own is not known", packet.ttl)),
        }
    }
}

/// Tells what a capture shows of a reset that belongs to no connection in it.
fn append_lack_of_connection(reset: &Reset, evidence: &mut Evidence) {
    evidence.push_parts([match (reset.direction, reset.provoked_by) {
        (Direction::Received, _) => "the capture has nothing of its connection but this reset",
        (Direction::Sent, Some(_)) => "this host knew no such connection, or not any more",
        (Direction::Sent, None) => "the segment that it answers is not in the capture",
    }]);
}

/// Appends the netfilter hook of the rule that rejected the packet (`NF_INET_*`).
fn append_netfilter_hook(hook: u8, evidence: &mut Evidence) {
    evidence.push_parts([match hook {
        netfilter::LOCAL_IN => "a rule for incoming packets (input) rejected it",
        netfilter::FORWARD => "a rule for forwarded packets (forward) rejected it: it was not for this host",
        netfilter::LOCAL_OUT => "a rule for outgoing packets (output) rejected it: it was this host's own",
        hook => return evidence.push(format_args!("a rule of netfilter's hook {hook} rejected it")),
    }]);
}

fn append_socket_facts(reset: &Reset, socket: &Socket, evidence: &mut Evidence) {
    match socket.state.name() {
        Some(state) => evidence.push_parts(["the connection was in ", state]),
        None => evidence.push(format_args!("the connection was in {}", socket.state)),
    }
    if let (Some(queue), Some(limit)) = (socket.accept_queue, socket.accept_queue_limit) {
        evidence.push(format_args!("{queue} connections waited in the accept queue, whose limit is {limit}"));
    }
    if socket.state.0 == tcp::SYN_SENT {
        return;
    }
    for (bytes, what) in [
        (socket.unread_bytes, ["received byte", "was not read by the process", "were not read by the process"]),
        (socket.unacked_bytes, ["sent byte", "was not acknowledged", "were not acknowledged"]),
        (socket.unsent_bytes, ["written byte", "was not sent", "were not sent"]),
    ] {
        if let Some(bytes @ 1..) = bytes {
            let [kind, was, were] = what;
            evidence.push(pluralize(bytes, kind, was, were));
        }
    }
    for (ms, what) in [
        (socket.fin_received_ms, "the peer's FIN came"),
        (socket.fin_sent_ms, "this side closed"),
        (socket.since_send_ms, "this side last sent data"),
        (socket.since_receive_ms, "data last came"),
    ] {
        if let Some(ms) = ms {
            evidence.push(format_args!("{what} {}", before_reset(ms)));
        }
    }
    let is_told = |evidence: &Evidence| evidence.lines().any(|line| line.starts_with(AFTER_SILENCE));
    // Where the peer's FIN had come before, the silence ended with that.
    let is_before_send = socket.fin_received_ms.is_none() || reset.idle_ms() == socket.idle_before_send_ms;
    let idle = socket.idle_before_send_ms.filter(|&idle| idle >= 1000.0 && is_before_send);
    if let Some(idle) = idle.filter(|_| !is_told(evidence)) {
        evidence.push(format_args!("{AFTER_SILENCE} {}", human_duration(idle)));
    }
    if let Some(retransmits @ 1..) = socket.retransmits {
        evidence.push(pluralize(retransmits.into(), "segment", "had to be sent again", "had to be sent again"));
    }
}

/// Time before the reset, in milliseconds. 0 is shown as less than a clock tick: the kernel keeps some times in ticks,
/// of 1 to 10 ms.
pub(super) fn before_reset(ms: f64) -> impl Display {
    fmt::from_fn(move |formatter| match ms {
        0.0 => formatter.write_str("within a clock tick before"),
        _ => write!(formatter, "{} before", human_duration(ms)),
    })
}

/// Count with a noun and a predicate: `1 probe was unanswered`, `2 probes were unanswered`. A phrase behind the noun is
/// left alone: `2 other connections to this port`.
pub(super) fn pluralize(count: u64, what: &str, one: impl Display, more: impl Display) -> impl Display {
    fmt::from_fn(move |formatter| {
        if count == 1 {
            return write!(formatter, "1 {what} {one}");
        }
        // The noun ends before the first preposition.
        let end = what.as_bytes().windows(4).position(|word| matches!(word, b" to " | b" of "));
        let (noun, rest) = what.split_at(end.unwrap_or(what.len()));
        write!(formatter, "{count} {noun}s{rest} {more}")
    })
}
