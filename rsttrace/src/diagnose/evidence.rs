//! The facts of a record in words with figures.

use rsttrace_common::names::{netfilter, tcp};

use crate::reset::{Reset, Socket};

/// How a silence before our last send is told.
pub(super) const AFTER_SILENCE: &str = "the last send came after a silence of";

/// What a person wants to know of the reset whatever its cause, the most telling first.
pub(super) fn of(reset: &Reset, evidence: &mut Vec<String>) {
    if let Some(reason) = &reset.reason {
        evidence.push(format!("the kernel's reason is {reason}"));
    }
    if let Some(packet) = &reset.provoked_by {
        evidence.push(format!("it answers a packet with the flags {}", packet.flags));
    }
    match &reset.socket {
        None if reset.facts.netfilter_hook != 0 => evidence.push(rejected(reset.facts.netfilter_hook)),
        None => evidence.push("the kernel had no socket for it".to_owned()),
        Some(socket) => of_socket(socket, evidence),
    }
    let facts = &reset.facts;
    if facts.linger_zero {
        evidence.push("SO_LINGER was set to 0 seconds".to_owned());
    }
    if facts.holder_exiting {
        evidence.push("the process was exiting".to_owned());
    }
    if facts.probes_out > 0 {
        evidence.push(many(facts.probes_out.into(), "probe", "was unanswered", "were unanswered"));
    }
    if let Some(packet) = &reset.packet {
        let own = packet.handshake_ttl.or(facts.neighbours.peer_ttl);
        evidence.push(match own {
            Some(own) => format!("its TTL was {}, that of the peer's own packets {own}", packet.ttl),
            None => format!("its TTL was {}, and the peer's own is not known", packet.ttl),
        });
    }
}

/// Which of netfilter's hooks the rule stands in.
fn rejected(hook: u8) -> String {
    match hook {
        netfilter::LOCAL_IN => "a rule for incoming packets (input) rejected it".to_owned(),
        netfilter::FORWARD => "a rule for forwarded packets (forward) rejected it: it was not for this host".to_owned(),
        netfilter::LOCAL_OUT => "a rule for outgoing packets (output) rejected it: it was this host's own".to_owned(),
        hook => format!("a rule of netfilter's hook {hook} rejected it"),
    }
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
        (socket.unread_bytes, ["received byte", "not read by the process"]),
        (socket.unacked_bytes, ["sent byte", "not acknowledged"]),
        (socket.unsent_bytes, ["written byte", "not sent"]),
    ] {
        if let Some(bytes @ 1..) = bytes {
            let [kind, not] = what;
            evidence.push(many(bytes, kind, &format!("was {not}"), &format!("were {not}")));
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
    let told = evidence.iter().any(|line| line.starts_with(AFTER_SILENCE));
    if let Some(idle) = socket.idle_before_send_ms.filter(|&idle| idle >= 1000.0 && !told) {
        evidence.push(format!("{AFTER_SILENCE} {}", span(idle)));
    }
    if let Some(retransmits @ 1..) = socket.retransmits {
        evidence.push(many(retransmits.into(), "segment", "had to be sent again", "had to be sent again"));
    }
}

/// A time before the reset. The kernel keeps some in clock ticks, of 1 to 10 ms, and zero ticks may be anything up to
/// one.
fn ago(ms: f64) -> String {
    if ms == 0.0 { "within a clock tick before".to_owned() } else { format!("{} before", span(ms)) }
}

/// `1 probe was unanswered`, `2 probes were unanswered`.
pub(super) fn many(count: u64, what: &str, one: &str, more: &str) -> String {
    if count == 1 {
        return format!("1 {what} {one}");
    }
    // The first noun takes the plural: `other connections to this port`.
    let (noun, rest) =
        [" to ", " of "].iter().find_map(|&word| Some(what.split_at(what.find(word)?))).unwrap_or((what, ""));
    format!("{count} {noun}s{rest} {more}")
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
