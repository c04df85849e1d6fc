//! Why this host sends a reset: rules over the socket as the kernel had it, with the kernel's reason where it gives one
//! (Linux 6.10 for resets that answer a packet, 6.12 for the others) and without it.

use rsttrace_common::abi::{tcp, tcp_flag};

use super::{
    catalogue::{plain, table},
    evidence::{many, span},
    timeouts::Timeouts,
};
use crate::model::{CauseConfidence, Direction, Evidence, Reset, Role};

/// Different closed ports from which on it is a scan.
const SCAN_PORTS: u32 = 10;

const CERTAIN: Option<CauseConfidence> = Some(CauseConfidence::Certain);
const LIKELY: Option<CauseConfidence> = Some(CauseConfidence::Likely);

table! { Sent:
    "firewall-reject" LocalFirewall Local firewall_reject, plain;
        "A rule of this host's packet filter rejected the packet."
        "Change the rule if it should not (nft list ruleset, iptables -S: reject with tcp reset)."
        "The packet filter itself reports that it made a reset; no socket and no process has to do with it."
    "port-scan" LocalKernel Peer port_scan, scanned;
        "One peer tries many closed ports."
        "Drop its packets in the firewall if it should not do that."
        "No socket, the packet was a SYN, and the same peer has tried ten different closed ports within a minute. The first nine are port-closed."
    "port-closed" LocalKernel Peer port_closed, after_listener;
        "The peer tried to connect to a port on which nothing listens."
        "Is the service down, or does the peer have the wrong port?"
        "The kernel had no socket, and the packet that provoked the reset was a SYN (Linux 6.10 and later)."
    "no-connection" LocalKernel Unknown no_connection, after_listener;
        "A segment came for a connection that this host does not know."
        "Has the service restarted or failed over, does traffic take two paths, or does conntrack drop what it calls INVALID?"
        "The kernel had no socket, and the packet was not a SYN (Linux 6.10 and later)."
    "time-wait" LocalKernel None time_wait, plain;
        "A late segment hit a connection that had ended."
        "Nothing; it is harmless."
        "The packet hit a socket in TIME_WAIT proper: both sides had closed (Linux 6.10 and later)."
    "data-after-close" LocalKernel Local data_after_close, after_listener;
        "The peer sent data after our process had closed the connection."
        "Let the process read to the end of the stream before it closes, or close later (lingering close)."
        "The process had closed or shut down for receiving, the peer had not, and data came: an orphan in FIN_WAIT, or the TIME_WAIT socket that stands for one."
    "socket-destroyed" LocalProcess Local socket_destroyed, plain;
        "An administrator's tool ended the connection (ss -K, SOCK_DESTROY)."
        "The actor is the process that did it."
        "A reset of our own accord while the socket was open and in its live state, in the context of a task that held it."
    "user-timeout" LocalKernel Path user_timeout, user_timeout_ran_out;
        "The peer did not answer for as long as TCP_USER_TIMEOUT allows."
        "Look for a silent peer or a path that drops packets."
        "As keepalive-timeout, with TCP_USER_TIMEOUT set, and nothing heard for that long. With data in flight Linux gives up without any reset."
    "keepalive-timeout" LocalKernel Peer keepalive_timeout, plain;
        "The peer answered no keep-alive probe."
        "The peer or something between has gone or forgotten the connection; lower the keep-alive time below its idle limit."
        "A timer's reset while the socket was open, with keep-alive on and probes unanswered."
    "out-of-memory" LocalKernel Local out_of_memory, plain;
        "The kernel ran out of TCP memory or of orphaned sockets."
        "Look at net.ipv4.tcp_mem and net.ipv4.tcp_max_orphans, and at what holds so many sockets."
        "An orphan was reset without its time being up; the kernel calls it TCP_ABORT_ON_MEMORY."
    "linger2-expired" LocalKernel None linger2_expired, plain;
        "The peer did not close in the time that TCP_LINGER2 or net.ipv4.tcp_fin_timeout allows."
        "Nothing; this side has long closed."
        "An orphan in FIN_WAIT2 was reset by its timer, or at once where TCP_LINGER2 is negative."
    "listener-closed" LocalProcess Local listener_closed, plain;
        "The listener was closed with connections still in its accept queue."
        "Stop taking connections in (drain the load balancer) before the service stops."
        "An accepted connection that no process had taken yet was reset when its listener closed."
    "process-died" LocalProcess Local process_died, died_with_others;
        "The process exited or was killed with the connection open."
        "Find out why it ended: its log, the out-of-memory killer (dmesg), a deployment."
        "As closed-with-unread-data or linger-zero, and the task that closed was exiting; often several sockets of one process within milliseconds."
    "closed-with-unread-data" LocalProcess Local closed_with_unread_data, plain;
        "The process closed the connection with received data unread."
        "Let the process read what the peer sends before it closes."
        "The process closed while bytes were in the receive queue (TCP_ABORT_ON_CLOSE)."
    "linger-zero" LocalProcess Local linger_zero, plain;
        "The process aborted the connection (SO_LINGER 0 or a disconnect)."
        "If the peer should not see an error, let the process close without SO_LINGER 0."
        "The process closed with SO_LINGER at 0 seconds, or disconnected the socket; nothing was unread. The kernel calls it TCP_STATE."
    "listen-overflow" LocalKernel Local listen_overflow, plain;
        "The listener's accept queue was full, and net.ipv4.tcp_abort_on_overflow is set."
        "Accept faster, or raise the listener's backlog and net.core.somaxconn."
        "A reset of the listener in answer to a packet that was no SYN, with more connections in its queue than the limit."
    "bad-segment" LocalKernel Peer bad_segment, plain;
        "The peer sent a segment that does not fit the state of the connection."
        "Look for an old connection on the same ports, a broken middlebox, or forged packets."
        "A listener or a half-open connection answered a packet: an acknowledgement of what was never sent, an old sequence number, a SYN in the wrong place."
}

/// Whether the kernel gave this reason, or gives none at all.
fn reason_allows(reset: &Reset, reason: &str) -> bool {
    reset.reason.as_deref().is_none_or(|given| given == reason || given == "NOT_SPECIFIED")
}

fn reason_is(reset: &Reset, reason: &str) -> bool {
    reset.reason.as_deref() == Some(reason)
}

/// The kernel said nothing: before 6.10 it has no reasons, and before 6.12 none for resets of our own accord.
fn no_reason(reset: &Reset) -> bool {
    reset.reason.as_deref().is_none_or(|given| given == "NOT_SPECIFIED")
}

/// The packet filter's own function sent it.
fn firewall_reject(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    (reset.facts.netfilter_hook != 0).then_some(CauseConfidence::Certain)
}

/// A reset that answers a packet for which there was no socket at all; the flags of that packet.
fn without_socket(reset: &Reset) -> Option<u8> {
    reset.socket.is_none().then_some(reset.provoked_by?.flags.0)
}

fn is_syn(flags: u8) -> bool {
    flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN
}

fn port_scan(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    port_closed(reset, timeouts).filter(|_| reset.facts.neighbours.closed_ports >= SCAN_PORTS).and(LIKELY)
}

fn scanned(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let ports = reset.facts.neighbours.closed_ports;
    evidence.push(format_args!("this peer has tried {ports} or more different closed ports within a minute"));
}

fn port_closed(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    without_socket(reset).filter(|&flags| is_syn(flags)).and(CERTAIN)
}

/// What happened to the listener on this port.
fn after_listener(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let Some(ms) = reset.facts.neighbours.listener_gone_ms {
        evidence.push(format_args!("a listener on this port closed, or its process ended, {} before", span(ms)));
    }
}

fn no_connection(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    without_socket(reset).and(CERTAIN)
}

/// The sub-state tells the two kinds of `TIME_WAIT` sockets apart: in `FIN_WAIT2` the peer has not closed yet.
fn time_wait(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    reset.facts.time_wait_substate.filter(|&substate| substate != tcp::FIN_WAIT2).and(CERTAIN)
}

fn data_after_close(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if reset.facts.time_wait_substate == Some(tcp::FIN_WAIT2) {
        return CERTAIN;
    }
    // A socket that the kernel closes and then answers data for.
    (reset.provoked_by.is_some() && reset.facts.raw_state == tcp::CLOSE).then_some(CauseConfidence::Certain)
}

/// A reset of our own accord, in answer to no packet.
fn own_accord(reset: &Reset) -> bool {
    reset.direction == Direction::Sent && reset.provoked_by.is_none() && reset.socket.is_some()
}

/// Of our own accord, while the connection was still open: nobody closed the socket just then.
fn while_open(reset: &Reset) -> bool {
    own_accord(reset) && reset.facts.raw_state != tcp::CLOSE
}

fn socket_destroyed(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    (while_open(reset) && reset.facts.holder.is_some() && reason_allows(reset, "TCP_STATE"))
        .then_some(CauseConfidence::Certain)
}

fn keepalive_expired(reset: &Reset) -> bool {
    while_open(reset)
        && reset.facts.holder.is_none()
        && (reason_is(reset, "TCP_KEEPALIVE_TIMEOUT")
            || no_reason(reset) && reset.facts.keepalive && reset.facts.probes_out > 0)
}

/// The timer does not say which of the two limits it was; what was heard since does.
fn user_timeout(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let limit = reset.facts.user_timeout_ms;
    let heard = reset.socket.as_ref().and_then(|socket| socket.since_receive_ms);
    (keepalive_expired(reset) && limit > 0 && heard.is_none_or(|heard| heard >= f64::from(limit)))
        .then_some(CauseConfidence::Likely)
}

fn user_timeout_ran_out(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    evidence.push(format_args!("TCP_USER_TIMEOUT was {}", span(f64::from(reset.facts.user_timeout_ms))));
}

fn keepalive_timeout(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    keepalive_expired(reset).then_some(CauseConfidence::Certain)
}

/// Our process had closed: the last descriptor was gone before the kernel reset what was left.
fn orphaned(reset: &Reset) -> bool {
    own_accord(reset) && reset.facts.dead
}

fn out_of_memory(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if reason_is(reset, "TCP_ABORT_ON_MEMORY") {
        return CERTAIN;
    }
    let state = reset.socket.as_ref()?.state.0;
    let unfinished = matches!(state, tcp::FIN_WAIT1 | tcp::CLOSING | tcp::LAST_ACK);
    (orphaned(reset) && unfinished && no_reason(reset)).then_some(CauseConfidence::Likely)
}

fn linger2_expired(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if reason_is(reset, "TCP_ABORT_ON_LINGER") {
        return CERTAIN;
    }
    // The timer gives TCP_STATE; where the kernel gives nothing, a close in FIN_WAIT2 has no other reason to reset.
    let waits = reset.socket.as_ref()?.state.0 == tcp::FIN_WAIT2;
    let by_timer = reset.facts.holder.is_none() && reason_allows(reset, "TCP_STATE");
    (orphaned(reset) && waits && (by_timer || no_reason(reset))).then_some(CauseConfidence::Likely)
}

/// Of our own accord, by closing the socket.
fn by_close(reset: &Reset) -> bool {
    own_accord(reset) && reset.facts.raw_state == tcp::CLOSE
}

/// An accepted connection that never came to a process: no file, and not by the task that holds its lock.
fn listener_closed(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let child = reset.socket.as_ref().is_some_and(|socket| socket.role == Some(Role::Server));
    (by_close(reset) && child && reset.facts.orphan && reset.facts.holder.is_none()).then_some(CauseConfidence::Certain)
}

fn process_died(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    (by_close(reset) && reset.facts.holder_exiting).then_some(CauseConfidence::Certain)
}

fn died_with_others(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let others = reset.facts.neighbours.same_process;
    if others > 0 {
        evidence.push(many(
            others.into(),
            "other socket of this process",
            "was reset in the same tenth of a second",
            "were reset in the same tenth of a second",
        ));
    }
}

fn closed_with_unread_data(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let unread = reset.socket.as_ref().and_then(|socket| socket.unread_bytes).is_some_and(|bytes| bytes > 0);
    (by_close(reset) && unread && reason_allows(reset, "TCP_ABORT_ON_CLOSE")).then_some(CauseConfidence::Certain)
}

fn linger_zero(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let facts = &reset.facts;
    let lingering = facts.linger_zero && facts.shutdown != 0;
    let disconnected = facts.shutdown == 0 || reason_is(reset, "TCP_DISCONNECT_WITH_DATA");
    (by_close(reset) && facts.holder.is_some() && (lingering || disconnected)).then_some(CauseConfidence::Certain)
}

/// A reset that our listener sends.
fn by_listener(reset: &Reset) -> bool {
    reset.facts.raw_state == tcp::LISTEN
}

fn listen_overflow(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let full = reset.socket.as_ref().is_some_and(|socket| socket.accept_queue > socket.accept_queue_limit);
    let no_syn = reset.provoked_by.is_some_and(|packet| packet.flags.0 & tcp_flag::SYN == 0);
    // A stray acknowledgement to a full listener is a TCP_FLAGS.
    (by_listener(reset) && full && no_syn && reason_allows(reset, "INVALID_SYN")).then_some(CauseConfidence::Likely)
}

fn bad_segment(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    (reset.provoked_by.is_some() && matches!(reset.facts.raw_state, tcp::LISTEN | tcp::SYN_SENT | tcp::SYN_RECV))
        .then_some(CauseConfidence::Certain)
}
