//! Causes of sent resets: rules over the socket as the kernel had it, with the kernel's reason if it gives one (Linux
//! 6.10 and later for resets that answer a packet, 6.12 and later for the others), and without.

use nix::sys::signal::Signal;
use rsttrace_common::abi::{tcp, tcp_flag};

use super::{
    catalogue::{CERTAIN, CauseSpec, GUESS, LIKELY, no_evidence},
    client_ended,
    correlation::{CHECK_MAX_BYTES, CHECK_MAX_MS},
    download,
    ended::{self, LastData},
    evidence::pluralize,
    joined, keepalive, mptcp, not_translated,
    received::AT_WORK_MS,
    serving::WAITED_MIN_MS,
    timeouts::{TimeoutOwner, Timeouts},
    tls_alerts, turned_away, wire,
};
use crate::{
    model::internals::OwnerExit,
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender},
    util::human_duration,
};

/// Earlier connections of equal size at equal intervals from which on they are health checks.
pub(crate) const CHECKS_MIN: u32 = 3;

/// Longest time between the end of a process and the close of a socket that belongs to it, milliseconds.
const EXIT_MS: f64 = 100.0;
/// Longest age of a connection on which there has been nothing but the beginning of a session, milliseconds.
const NEW_MS: f64 = 500.0;
/// Longest time after which a process that aborts has not waited for an answer, milliseconds.
const NO_WAIT_MS: f64 = 50.0;
/// Number of different closed ports within a minute from which on it is a scan.
const SCAN_PORTS: u32 = 10;

/// Causes of sent resets, in the order in which they are tried.
pub(super) static CAUSES: &[&CauseSpec] = &[
    &wire::INJECTED_SENT,
    &FIREWALL_REJECT,
    &PORT_SCAN,
    &PORT_CLOSED,
    &mptcp::SUBFLOW_SENT,
    &ended::AFTERMATH,
    &tls_alerts::GOODBYE_SENT,
    &HEALTH_PROBE,
    &ended::GIVEN_UP_EARLIER,
    &ended::PEER_STOPPED_READING,
    &OUT_OF_MEMORY,
    &LINGER2_EXPIRED,
    &client_ended::CLIENT_ENDED_SENT,
    &PROCESS_DIED,
    &PROCESS_EXITED,
    &ended::GAVE_UP_WAITING,
    &keepalive::RACE_SENT,
    &keepalive::REUSED_SENT,
    &keepalive::PROCESS_ENDED,
    &turned_away::TURNED_AWAY_SENT,
    &download::STOPPED,
    &DATA_AFTER_CLOSE,
    &LISTEN_OVERFLOW,
    &NO_CONNECTION,
    &not_translated::CONNTRACK_INVALID,
    &TIME_WAIT,
    &SOCKET_DESTROYED,
    &USER_TIMEOUT,
    &KEEPALIVE_TIMEOUT,
    &LISTENER_CLOSED,
    &CLOSED_WITH_UNREAD_DATA,
    &AFTER_CLOSE,
    &LINGER_ZERO,
    &ended::CLEARED_OLD_CONNECTION,
    &joined::RELAYED,
    &BAD_SEGMENT,
    &wire::ABORTED,
];

static FIREWALL_REJECT: CauseSpec = CauseSpec {
    code: "firewall-reject",
    direction: Some(Direction::Sent),
    sender: Sender::LocalFirewall,
    fault: Fault::Local,
    rule: firewall_reject,
    evidence: no_evidence,
    summary: "A rule of this host's packet filter rejected the packet.",
    advice: "Change the rule if it should not (nft list ruleset, iptables -S: reject with tcp reset).",
    shows_by: "The packet filter itself reports that it sent a reset; no socket and no process is involved.",
};

/// Fires if netfilter itself sent the reset (`nf_send_reset`, `nf_send_reset6`).
fn firewall_reject(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    (reset.internals.netfilter_hook != 0).then_some(CauseConfidence::Certain)
}

static PORT_SCAN: CauseSpec = CauseSpec {
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

static PORT_CLOSED: CauseSpec = CauseSpec {
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

static NO_CONNECTION: CauseSpec = CauseSpec {
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

static TIME_WAIT: CauseSpec = CauseSpec {
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

static DATA_AFTER_CLOSE: CauseSpec = CauseSpec {
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

/// Returns whether data came for a connection that this side had closed and the peer had not.
pub(super) fn is_after_close(reset: &Reset) -> bool {
    // The state FIN_WAIT2 lives on as a sub-state of TIME_WAIT.
    if reset.internals.time_wait_substate == Some(tcp::FIN_WAIT2) {
        return true;
    }
    // A socket that the kernel closed because data came (`tcp_rcv_state_process`), before it answered them.
    if reset.provoked_by.is_some() && reset.internals.raw_state == tcp::CLOSE {
        return true;
    }
    // The socket has gone since: nothing, or a listener, answers.
    meets_no_connection(reset)
        && reset
            .internals
            .ending
            .as_ref()
            .is_some_and(|ending| ending.error == 0 && matches!(ending.state, tcp::FIN_WAIT1 | tcp::FIN_WAIT2))
}

/// Returns whether the reset answers a segment, other than a SYN, for which this host had no connection: it met no socket,
/// or a listener. What the listener says of it does not depend on the connection, so neither does the cause.
pub(super) fn meets_no_connection(reset: &Reset) -> bool {
    let Some(packet) = reset.provoked_by else { return false };
    let opens = packet.flags.0 & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN;
    reset.internals.netfilter_hook == 0 && !opens && (reset.socket.is_none() || is_by_listener(reset))
}

static HEALTH_PROBE: CauseSpec = CauseSpec {
    code: "health-probe",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::None,
    rule: health_probe,
    evidence: own_checks,
    summary: "A health check of this host ended its connection with a reset.",
    advice: "Nothing; it is harmless. To keep it out of the output: --no-benign.",
    shows_by: "This host opened the connection, and has ended at least three of equal size to the same place before, at equal intervals; or, as a guess, it aborted a short one right after it had sent, without a wait for an answer.",
};

fn health_probe(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    match reset.internals.correlation.checks {
        _ if reset.internals.holder_exiting => None,
        CHECKS_MIN.. => LIKELY,
        _ if aborts_without_wait(reset) => GUESS,
        _ => None,
    }
}

/// Returns whether the process, a client, aborted a short connection right after it had sent, as checks of TLS services do.
fn aborts_without_wait(reset: &Reset) -> bool {
    let is_abort = is_by_close(reset) && reset.internals.linger_zero;
    let Some(socket) = reset.socket.as_ref().filter(|socket| is_abort && socket.role == Some(Role::Client)) else {
        return false;
    };
    let is_small = |bytes: Option<u64>| bytes.is_some_and(|bytes| (1..=CHECK_MAX_BYTES).contains(&bytes));
    socket.age_ms.is_some_and(|age| age <= NEW_MS)
        && is_small(socket.bytes_sent)
        && is_small(socket.bytes_received)
        && socket.unread_bytes == Some(0)
        && socket.unacked_bytes.is_some_and(|bytes| bytes > 0)
        && socket.since_send_ms.is_some_and(|since| since <= NO_WAIT_MS)
}

fn own_checks(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    if reset.internals.correlation.checks >= CHECKS_MIN {
        regular_checks(reset, timeouts, evidence);
    } else {
        evidence.push("the process aborted it right after it had sent, without a wait for an answer");
    }
}

/// Tells the interval of regular checks.
pub(super) fn regular_checks(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let earlier = &reset.internals.correlation;
    let interval = human_duration(earlier.check_interval_ms);
    evidence
        .push(format_args!("{} connections of equal size have ended so before, one every {interval}", earlier.checks));
}

static SOCKET_DESTROYED: CauseSpec = CauseSpec {
    code: "socket-destroyed",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: socket_destroyed,
    evidence: no_evidence,
    summary: "An administrator's tool ended the connection (ss -K, SOCK_DESTROY).",
    advice: "The actor is the process that did it.",
    shows_by: "This side reset the connection without a packet to answer, while the socket was open and in a live state, in the context of a task that held it.",
};

fn socket_destroyed(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    (is_by_another_task(reset) && reason_allows(reset, "TCP_STATE")).then_some(CauseConfidence::Certain)
}

static USER_TIMEOUT: CauseSpec = CauseSpec {
    code: "user-timeout",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Path,
    rule: user_timeout,
    evidence: user_timeout_limit,
    summary: "The peer did not answer for as long as TCP_USER_TIMEOUT allows.",
    advice: "Look for a silent peer or a path that drops packets.",
    shows_by: "Like keepalive-timeout, but TCP_USER_TIMEOUT is set, and nothing was received for that long. With data in flight Linux gives up without any reset.",
};

/// Fires if a timer's reset came after a silence as long as `TCP_USER_TIMEOUT`. The timer (`tcp_keepalive_timer`) does
/// not tell which of its two limits was reached.
fn user_timeout(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let limit = reset.internals.user_timeout_ms;
    let heard = reset.socket.as_ref().and_then(|socket| socket.since_receive_ms);
    (is_keepalive_expiry(reset) && limit > 0 && heard.is_none_or(|heard| heard >= f64::from(limit)))
        .then_some(CauseConfidence::Likely)
}

fn user_timeout_limit(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    evidence.push(format_args!("TCP_USER_TIMEOUT was {}", human_duration(f64::from(reset.internals.user_timeout_ms))));
}

static KEEPALIVE_TIMEOUT: CauseSpec = CauseSpec {
    code: "keepalive-timeout",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Peer,
    rule: keepalive_timeout,
    evidence: no_evidence,
    summary: "The peer answered no keep-alive probe.",
    advice: "The peer or something between has gone or forgotten the connection; lower the keep-alive time below its idle limit.",
    shows_by: "A timer's reset while the socket was open, with keep-alive on and probes unanswered.",
};

fn keepalive_timeout(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    is_keepalive_expiry(reset).then_some(CauseConfidence::Certain)
}

/// Returns whether the keep-alive timer reset an open connection.
fn is_keepalive_expiry(reset: &Reset) -> bool {
    is_while_open(reset)
        && reset.internals.holder.is_none()
        && (reason_is(reset, "TCP_KEEPALIVE_TIMEOUT")
            || has_no_reason(reset) && reset.internals.keepalive && reset.internals.probes_out > 0)
}

static OUT_OF_MEMORY: CauseSpec = CauseSpec {
    code: "out-of-memory",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::Local,
    rule: out_of_memory,
    evidence: no_evidence,
    summary: "The kernel ran out of TCP memory or of orphaned sockets.",
    advice: "Look at net.ipv4.tcp_mem and net.ipv4.tcp_max_orphans, and at what holds so many sockets.",
    shows_by: "An orphan was reset before its timeout; the kernel's reason is TCP_ABORT_ON_MEMORY.",
};

fn out_of_memory(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if reason_is(reset, "TCP_ABORT_ON_MEMORY") {
        return CERTAIN;
    }
    let state = reset.socket.as_ref()?.state.0;
    let unfinished = matches!(state, tcp::FIN_WAIT1 | tcp::CLOSING | tcp::LAST_ACK);
    (is_orphan(reset) && unfinished && has_no_reason(reset) && !is_by_another_task(reset))
        .then_some(CauseConfidence::Likely)
}

static LINGER2_EXPIRED: CauseSpec = CauseSpec {
    code: "linger2-expired",
    direction: Some(Direction::Sent),
    sender: Sender::LocalKernel,
    fault: Fault::None,
    rule: linger2_expired,
    evidence: no_evidence,
    summary: "The peer did not close in the time that TCP_LINGER2 or net.ipv4.tcp_fin_timeout allows.",
    advice: "Nothing; this side has long closed.",
    shows_by: "An orphan in FIN_WAIT2 was reset by its timer, or immediately where TCP_LINGER2 is negative.",
};

fn linger2_expired(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    if reason_is(reset, "TCP_ABORT_ON_LINGER") {
        return CERTAIN;
    }
    // The timer gives TCP_STATE; without a reason, a close in FIN_WAIT2 is reset for nothing else.
    let waits = reset.socket.as_ref()?.state.0 == tcp::FIN_WAIT2;
    let by_timer = reset.internals.holder.is_none() && reason_allows(reset, "TCP_STATE");
    (is_orphan(reset) && waits && (by_timer || has_no_reason(reset)) && !is_by_another_task(reset))
        .then_some(CauseConfidence::Likely)
}

static LISTENER_CLOSED: CauseSpec = CauseSpec {
    code: "listener-closed",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: listener_closed,
    evidence: no_evidence,
    summary: "The listener was closed with connections still in its accept queue.",
    advice: "Stop taking connections in (drain the load balancer) before the service stops.",
    shows_by: "An accepted connection that no process had taken yet was reset when its listener closed.",
};

/// Fires for a connection that was not accepted: it has no file, and no task holds its lock.
fn listener_closed(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let child = reset.socket.as_ref().is_some_and(|socket| socket.role == Some(Role::Server));
    (is_by_close(reset) && child && reset.internals.orphan && reset.internals.holder.is_none())
        .then_some(CauseConfidence::Certain)
}

static PROCESS_DIED: CauseSpec = CauseSpec {
    code: "process-died",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: process_died,
    evidence: died_with_others,
    summary: "A signal killed the process with the connection open.",
    advice: "Find out what killed it: its log, the out-of-memory killer (dmesg), a deployment.",
    shows_by: "As closed-with-unread-data or linger-zero, and the task that closed was exiting because of a signal; often several sockets of one process within milliseconds. Or as data-after-close, and another socket has shown that the process ended then.",
};

fn process_died(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    exit(reset).filter(|_| exit_signal(reset).is_some())
}

/// How sure it is that the end of the process closed the connection; `None` if it did not.
fn exit(reset: &Reset) -> Option<CauseConfidence> {
    if is_by_close(reset) && reset.internals.holder_exiting {
        return CERTAIN;
    }
    // Another reset has shown the end of the process, and this connection was closed by then.
    let exited = reset.internals.correlation.owner_exited.filter(|_| is_after_close(reset))?.since_ms;
    let closed = reset.closing_times().0?;
    if (closed - exited).abs() <= EXIT_MS { LIKELY } else { None }
}

/// Signal that ended the process: the low seven bits of its exit code (`wait(2)`).
pub(super) fn exit_signal(reset: &Reset) -> Option<u32> {
    process_exit_code(reset).map(|code| code & 0x7f).filter(|&signal| signal != 0)
}

/// Exit code of the process that closed the connection by its end, as `wait(2)` has it.
fn process_exit_code(reset: &Reset) -> Option<u32> {
    let internals = &reset.internals;
    internals.exit_code.or_else(|| internals.correlation.owner_exited.and_then(|exit| exit.code))
}

static PROCESS_EXITED: CauseSpec = CauseSpec {
    code: "process-exited",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: process_exited,
    evidence: died_with_others,
    summary: "The process exited by itself with the connection open.",
    advice: "If the peer should not see an error, make the process read what has come and close its connections before it exits.",
    shows_by: "As process-died, without a signal: the process had called exit or returned.",
};

fn process_exited(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    exit(reset)
}

/// Tells how the process ended.
pub(super) fn exit_code(reset: &Reset, evidence: &mut Evidence) {
    if let Some(signal) = exit_signal(reset) {
        match signal_name(signal) {
            Some(name) => evidence.push_parts(["the signal was ", name]),
            None => evidence.push(format_args!("the signal was {signal}")),
        }
    } else if let Some(code) = process_exit_code(reset) {
        evidence.push(format_args!("its exit status was {}", code >> 8 & 0xff));
    }
}

fn died_with_others(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    exit_code(reset, evidence);
    if let Some(OwnerExit { since_ms: exited, .. }) =
        reset.internals.correlation.owner_exited.filter(|_| is_after_close(reset))
    {
        let exited = human_duration(exited);
        evidence.push(format_args!("its process ended {exited} before; the peer's data came after that"));
    }
    let others = reset.internals.correlation.same_process;
    if others > 0 {
        evidence.push(pluralize(
            others.into(),
            "other socket of this process",
            "was reset in the same tenth of a second",
            "were reset in the same tenth of a second",
        ));
    }
}

/// Name of a signal; `None` for an unknown number.
fn signal_name(signal: u32) -> Option<&'static str> {
    i32::try_from(signal).ok().and_then(|signal| Signal::try_from(signal).ok()).map(Signal::as_str)
}

static CLOSED_WITH_UNREAD_DATA: CauseSpec = CauseSpec {
    code: "closed-with-unread-data",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: closed_with_unread_data,
    evidence: client_ended::nothing_lost,
    summary: "The process closed the connection with received data unread.",
    advice: "Make the process read what the peer sends before it closes.",
    shows_by: "The process closed while bytes were in the receive queue (TCP_ABORT_ON_CLOSE). Harmless where we are the client and nothing of ours was lost: the process did not want the rest.",
};

fn closed_with_unread_data(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let unread = reset.socket.as_ref().and_then(|socket| socket.unread_bytes).is_some_and(|bytes| bytes > 0);
    if is_by_close(reset) && unread && reason_allows(reset, "TCP_ABORT_ON_CLOSE") {
        return CERTAIN;
    }
    // What was not read of an MPTCP connection is in another socket's queue (`mptcp_do_fastclose`).
    if is_active(reset) && reset.internals.is_mptcp == Some(true) && reason_is(reset, "TCP_ABORT_ON_CLOSE") {
        LIKELY
    } else {
        None
    }
}

/// A client that closes by a reset, so that no socket stays in TIME_WAIT.
static AFTER_CLOSE: CauseSpec = CauseSpec {
    code: "after-close",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::None,
    rule: after_close,
    evidence: no_evidence,
    summary: "The process reset a connection that the peer had closed, after all had been exchanged.",
    advice: "Nothing; it is harmless.",
    shows_by: "We are the client, the peer's answer and its FIN had come and were read, nothing of ours was lost, and the process aborted with SO_LINGER at 0 seconds.",
};

fn after_close(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let socket = reset.socket.as_ref().filter(|socket| socket.state.0 == tcp::CLOSE_WAIT)?;
    let lost = socket.unacked_bytes? + socket.unsent_bytes? + socket.unread_bytes?;
    let confidence = match ended::last_data_at_close(reset)? {
        (Role::Client, LastData::Received) => LIKELY,
        // Request and answer within a tick.
        (Role::Client, LastData::Unclear) => GUESS,
        _ => None,
    };
    linger_zero(reset, timeouts).filter(|_| lost == 0 && !reset.internals.holder_exiting).and(confidence)
}

static LINGER_ZERO: CauseSpec = CauseSpec {
    code: "linger-zero",
    direction: Some(Direction::Sent),
    sender: Sender::LocalProcess,
    fault: Fault::Local,
    rule: linger_zero,
    evidence: aborted,
    summary: "The process aborted the connection (SO_LINGER 0 or a disconnect).",
    advice: "If the peer should not see an error, let the process close without SO_LINGER 0.",
    shows_by: "The process closed with SO_LINGER at 0 seconds, or disconnected the socket; nothing was unread. The kernel's reason is TCP_STATE. Harmless where we are the client, nothing of ours was lost and no answer was awaited. A guess for a client's connection of five seconds at most with little or nothing exchanged, which may be one of the first health checks.",
};

fn aborted(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    client_ended::nothing_lost(reset, timeouts, evidence);
    silence_or_wait(reset, timeouts, evidence);
}

fn linger_zero(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let internals = &reset.internals;
    let lingering = internals.linger_zero && internals.shutdown != 0;
    let disconnected = internals.shutdown == 0 || reason_is(reset, "TCP_DISCONNECT_WITH_DATA");
    if !is_by_close(reset) || internals.holder.is_none() || !(lingering || disconnected) {
        return None;
    }
    if lingering && may_be_check(reset) { GUESS } else { CERTAIN }
}

/// Returns whether the connection may have been a health check, one of the first: the process is its client, and ended it soon,
/// with little or nothing exchanged.
fn may_be_check(reset: &Reset) -> bool {
    let Some(socket) = reset.socket.as_ref().filter(|socket| socket.role == Some(Role::Client)) else { return false };
    let is_small = |bytes: Option<u64>| bytes.is_some_and(|bytes| bytes <= CHECK_MAX_BYTES);
    !reset.internals.holder_exiting
        && socket.age_ms.is_some_and(|age| age <= CHECK_MAX_MS)
        && is_small(socket.bytes_sent)
        && is_small(socket.bytes_received)
        && socket.unread_bytes == Some(0)
}

/// Tells how long a client had waited when it aborted the connection; otherwise how long that had been silent, and the known
/// timeouts that match: some servers (MariaDB) abort idle connections.
fn silence_or_wait(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    let Some(socket) = &reset.socket else { return };
    if let Some((Role::Client, LastData::Sent)) = ended::last_data_at_close(reset)
        && let Some(waited) = socket.since_send_ms.filter(|&waited| waited >= WAITED_MIN_MS)
    {
        evidence.push(format_args!("its last data had waited {} for an answer", human_duration(waited)));
        return;
    }
    let last = [socket.since_send_ms, socket.since_receive_ms].into_iter().flatten().reduce(f64::min);
    let Some(silence) = last.filter(|&silence| silence >= AT_WORK_MS) else { return };
    let (time, known) = (human_duration(silence), timeouts.describe(silence, TimeoutOwner::of_socket(reset)));
    evidence.push(format_args!("nothing had gone either way for {time} ({known})"));
}

static LISTEN_OVERFLOW: CauseSpec = CauseSpec {
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

/// Returns whether a listener sent the reset.
fn is_by_listener(reset: &Reset) -> bool {
    reset.internals.raw_state == tcp::LISTEN
}

static BAD_SEGMENT: CauseSpec = CauseSpec {
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

/// Returns whether the kernel gave no reason for the reset: it has none for answers to packets before 6.10, and none
/// for other resets before 6.12.
fn has_no_reason(reset: &Reset) -> bool {
    reset.reason.as_deref().is_none_or(|given| given == "NOT_SPECIFIED")
}

fn reason_is(reset: &Reset, reason: &str) -> bool {
    reset.reason.as_deref() == Some(reason)
}

/// Returns whether the kernel gave this reason, or none.
fn reason_allows(reset: &Reset, reason: &str) -> bool {
    has_no_reason(reset) || reason_is(reset, reason)
}

/// Returns whether the kernel sent the reset for a socket and in answer to no packet (`tcp_send_active_reset`).
fn is_active(reset: &Reset) -> bool {
    reset.direction == Direction::Sent && reset.provoked_by.is_none() && reset.socket.is_some()
}

/// Returns whether the reset was active and the connection open: no process was closing the socket.
fn is_while_open(reset: &Reset) -> bool {
    is_active(reset) && reset.internals.raw_state != tcp::CLOSE
}

/// Returns whether a task aborted an open connection: neither a timer nor a close, which both go without one.
fn is_by_another_task(reset: &Reset) -> bool {
    is_while_open(reset) && reset.internals.holder.is_some()
}

/// Returns whether the reset was active and came from the close of the socket.
pub(super) fn is_by_close(reset: &Reset) -> bool {
    is_active(reset) && reset.internals.raw_state == tcp::CLOSE
}

/// Returns whether the reset was active and the last descriptor of the socket had been closed before.
fn is_orphan(reset: &Reset) -> bool {
    is_active(reset) && reset.internals.dead
}
