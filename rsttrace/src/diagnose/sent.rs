//! Causes of sent resets: rules over the socket as the kernel had it, with the kernel's reason if it gives one (Linux
//! 6.10 and later for resets that answer a packet, 6.12 and later for the others), and without.

use rsttrace_common::abi::tcp;

use super::{
    catalogue::{CERTAIN, CauseSpec, GUESS, LIKELY, no_evidence},
    client_ended,
    correlation::{CHECK_MAX_BYTES, CHECK_MAX_MS},
    download,
    ended::{self, LastData},
    given_up, joined, keepalive, mptcp, not_translated, process_end,
    received::AT_WORK_MS,
    segment_answers,
    sent_view::{is_active, is_by_another_task, is_by_close, reason_allows, reason_is},
    serving::WAITED_MIN_MS,
    timeouts::{TimeoutOwner, Timeouts},
    tls_alerts, turned_away, wire,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender},
    util::human_duration,
};

/// Earlier connections of equal size at equal intervals from which on they are health checks.
pub(crate) const CHECKS_MIN: u32 = 3;

/// Longest age of a connection on which there has been nothing but the beginning of a session, milliseconds.
const NEW_MS: f64 = 500.0;
/// Longest time after which a process that aborts has not waited for an answer, milliseconds.
const NO_WAIT_MS: f64 = 50.0;

/// Causes of sent resets, in the order in which they are tried.
pub(super) static CAUSES: &[&CauseSpec] = &[
    &wire::INJECTED_SENT,
    &FIREWALL_REJECT,
    &segment_answers::PORT_SCAN,
    &segment_answers::PORT_CLOSED,
    &mptcp::SUBFLOW_SENT,
    &ended::AFTERMATH,
    &tls_alerts::GOODBYE_SENT,
    &HEALTH_PROBE,
    &ended::GIVEN_UP_EARLIER,
    &ended::PEER_STOPPED_READING,
    &given_up::OUT_OF_MEMORY,
    &given_up::LINGER2_EXPIRED,
    &client_ended::CLIENT_ENDED_SENT,
    &process_end::PROCESS_DIED,
    &process_end::PROCESS_EXITED,
    &ended::GAVE_UP_WAITING,
    &keepalive::RACE_SENT,
    &keepalive::REUSED_SENT,
    &keepalive::PROCESS_ENDED,
    &turned_away::TURNED_AWAY_SENT,
    &download::STOPPED,
    &segment_answers::DATA_AFTER_CLOSE,
    &segment_answers::LISTEN_OVERFLOW,
    &segment_answers::NO_CONNECTION,
    &not_translated::CONNTRACK_INVALID,
    &segment_answers::TIME_WAIT,
    &SOCKET_DESTROYED,
    &given_up::USER_TIMEOUT,
    &given_up::KEEPALIVE_TIMEOUT,
    &process_end::LISTENER_CLOSED,
    &CLOSED_WITH_UNREAD_DATA,
    &AFTER_CLOSE,
    &LINGER_ZERO,
    &ended::CLEARED_OLD_CONNECTION,
    &joined::RELAYED,
    &segment_answers::BAD_SEGMENT,
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
