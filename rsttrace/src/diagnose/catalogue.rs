//! The catalogue of causes: one row a cause, in the order in which they are tried.
//!
//! Codes are stable. A row whose rule is [`not_yet`] is described and not recognised by this version; such resets come
//! out as `unknown`, with the evidence.

use rsttrace_common::names::{tcp, tcp_flag};

use crate::reset::{CauseConfidence, Direction, Fault, Reset, Role, Sender};

/// Decides whether a record has a cause, and how sure that is.
pub type Rule = fn(&Reset) -> Option<CauseConfidence>;

/// One cause.
pub struct Row {
    /// Stable name.
    pub code: &'static str,
    /// Which way such resets go; `None` for either.
    pub direction: Option<Direction>,
    /// Who put the reset on the wire.
    pub sender: Sender,
    /// Who has something to change.
    pub fault: Fault,
    /// One sentence.
    pub summary: &'static str,
    /// What to do.
    pub advice: &'static str,
    /// How it is recognised.
    pub rule: Rule,
}

/// What is left when no rule fits.
pub static UNKNOWN: Row = Row {
    code: "unknown",
    direction: None,
    sender: Sender::Unknown,
    fault: Fault::Unknown,
    summary: "None of the known causes fits; the evidence is what there is.",
    advice: "Look at the evidence, and at the peer's own records of the same moment.",
    rule: not_yet,
};

/// The cause with this code.
pub fn find(code: &str) -> Option<&'static Row> {
    ROWS.iter().chain([&UNKNOWN]).find(|row| row.code == code)
}

/// The rule of a cause that this version describes and does not recognise.
pub fn not_yet(_: &Reset) -> Option<CauseConfidence> {
    None
}

/// Whether this version recognises the cause.
pub fn is_recognised(row: &Row) -> bool {
    let none: Rule = not_yet;
    !std::ptr::fn_addr_eq(row.rule, none)
}

const CERTAIN: Option<CauseConfidence> = Some(CauseConfidence::Certain);

macro_rules! rows {
    ($($code:literal $direction:ident $sender:ident $fault:ident $rule:expr; $summary:literal $advice:literal)+) => {
        /// Every cause but `unknown`, in the order in which they are tried.
        pub static ROWS: &[Row] = &[$(Row {
            code: $code,
            direction: Some(Direction::$direction),
            sender: Sender::$sender,
            fault: Fault::$fault,
            summary: $summary,
            advice: $advice,
            rule: $rule,
        },)+];
    };
}

rows! {
    // Sent.
    "port-closed" Sent LocalKernel Peer port_closed;
        "The peer tried to connect to a port on which nothing listens."
        "Is the service down, or does the peer have the wrong port? One source and many ports is a scan."
    "port-scan" Sent LocalKernel Peer not_yet;
        "One peer tried many closed ports."
        "Drop its packets in the firewall if it should not do that."
    "no-connection" Sent LocalKernel Unknown no_connection;
        "A segment came for a connection that this host does not know."
        "Has the service restarted or failed over, does traffic take two paths, or does conntrack drop what it calls INVALID?"
    "time-wait" Sent LocalKernel None time_wait;
        "A late segment hit a connection that had ended."
        "Nothing; it is harmless."
    "data-after-close" Sent LocalKernel Local data_after_close;
        "The peer sent data after our process had closed the connection."
        "Let the process read to the end of the stream before it closes, or close later (lingering close)."
    "socket-destroyed" Sent LocalProcess Local socket_destroyed;
        "An administrator's tool ended the connection (ss -K, SOCK_DESTROY)."
        "The actor is the process that did it."
    "user-timeout" Sent LocalKernel Path user_timeout;
        "The peer did not answer for as long as TCP_USER_TIMEOUT allows."
        "Look for a silent peer or a path that drops packets."
    "keepalive-timeout" Sent LocalKernel Peer keepalive_timeout;
        "The peer answered no keep-alive probe."
        "The peer or something between has gone or forgotten the connection; lower the keep-alive time below its idle limit."
    "out-of-memory" Sent LocalKernel Local out_of_memory;
        "The kernel ran out of TCP memory or of orphaned sockets."
        "Look at net.ipv4.tcp_mem and net.ipv4.tcp_max_orphans, and at what holds so many sockets."
    "linger2-expired" Sent LocalKernel None linger2_expired;
        "The peer did not close in the time that TCP_LINGER2 allows."
        "Nothing; the process asked for it."
    "listener-closed" Sent LocalProcess Local listener_closed;
        "The listener was closed with connections still in its accept queue."
        "Stop taking connections in (drain the load balancer) before the service stops."
    "process-died" Sent LocalProcess Local process_died;
        "The process exited or was killed with the connection open."
        "Find out why it ended: its log, the out-of-memory killer, a deployment."
    "closed-with-unread-data" Sent LocalProcess Local closed_with_unread_data;
        "The process closed the connection with received data unread."
        "Let the process read what the peer sends before it closes."
    "linger-zero" Sent LocalProcess Local linger_zero;
        "The process aborted the connection (SO_LINGER 0 or a disconnect)."
        "If the peer should not see an error, let the process close without SO_LINGER 0."
    "listen-overflow" Sent LocalKernel Local listen_overflow;
        "The listener's accept queue was full, and net.ipv4.tcp_abort_on_overflow is set."
        "Accept faster, or raise the listener's backlog and net.core.somaxconn."
    "bad-segment" Sent LocalKernel Peer bad_segment;
        "The peer sent a segment that does not fit the state of the connection."
        "Look for an old connection on the same ports, a broken middlebox, or forged packets."
    "firewall-reject" Sent LocalFirewall Local not_yet;
        "A rule of this host's packet filter rejected the packet."
        "Change the rule if it should not."

    // Received.
    "connection-refused" Received Peer Peer connection_refused;
        "Nothing listens on the peer's port."
        "Is the service on the peer up, and is the port right?"
    "refused-by-firewall" Received Path Path not_yet;
        "Something before the peer refused the connection."
        "Look at the firewalls between."
    "after-close" Received Peer None after_close;
        "Our side had closed already; the peer discarded the rest."
        "Nothing; it is harmless."
    "reused-closed-connection" Received Peer Local not_yet;
        "The peer had closed the connection, and our side used it again."
        "Let the client's connection pool notice closed connections, or keep them for a shorter time than the server does."
    "keepalive-race" Received Peer Local not_yet;
        "Our request and the peer's idle timeout crossed."
        "Keep idle connections in the client's pool for a shorter time than the server does."
    "idle-timeout-path" Received Path Path not_yet;
        "A load balancer or NAT forgot the idle connection."
        "Send keep-alive probes more often than its idle timeout, or raise that."
    "idle-reset" Received Path Path not_yet;
        "Something ended an idle connection when its time was up."
        "Send keep-alive probes more often than the idle timeout, or raise that."
    "peer-closed-unread" Received Peer Peer not_yet;
        "The peer closed without reading what we were still sending."
        "Look for an early answer of the peer (413, 401), and let it read the request to its end."
    "peer-restarted" Received Peer Peer not_yet;
        "The peer's process ended: several of its connections broke at once."
        "Look at the peer's restarts and deployments."
    "accept-overflow" Received Peer Peer not_yet;
        "The peer's accept queue was full."
        "Raise the peer's backlog, or let it accept faster."
    "client-gave-up" Received Peer Local not_yet;
        "The client ended the connection before our answer."
        "Answer faster, or raise the client's timeout."
    "health-probe" Received Peer None not_yet;
        "A health check connected and reset at once."
        "Nothing; it is harmless."
    "injected" Received Path Path not_yet;
        "The reset did not come from the peer itself."
        "Look for a middlebox between that ends connections."
    "policy" Received Path Path not_yet;
        "Something ends connections right after their first data."
        "Look for a filter that reads the traffic."
    "keepalive-answer" Received Peer Peer not_yet;
        "The peer no longer knew the connection."
        "Look for a restart of the peer."
    "peer-aborted" Received Peer Peer not_yet;
        "The peer's process aborted the connection."
        "Look at the peer's log for this moment."
}

/// Whether the kernel gave this reason, or gives none at all.
fn reason_allows(reset: &Reset, reason: &str) -> bool {
    reset.reason.as_deref().is_none_or(|given| given == reason)
}

fn reason_is(reset: &Reset, reason: &str) -> bool {
    reset.reason.as_deref() == Some(reason)
}

/// A reset that answers a packet for which there was no socket at all; the flags of that packet.
fn without_socket(reset: &Reset) -> Option<u8> {
    (reset.direction == Direction::Sent && reset.socket.is_none()).then_some(reset.provoked_by?.flags.0)
}

fn port_closed(reset: &Reset) -> Option<CauseConfidence> {
    without_socket(reset).filter(|flags| flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN).and(CERTAIN)
}

fn no_connection(reset: &Reset) -> Option<CauseConfidence> {
    without_socket(reset).and(CERTAIN)
}

/// The sub-state tells the two kinds of TIME_WAIT sockets apart: in FIN_WAIT2 the peer has not closed yet.
fn time_wait(reset: &Reset) -> Option<CauseConfidence> {
    reset.facts.time_wait_substate.filter(|&substate| substate != tcp::FIN_WAIT2).and(CERTAIN)
}

fn data_after_close(reset: &Reset) -> Option<CauseConfidence> {
    if reset.facts.time_wait_substate == Some(tcp::FIN_WAIT2) {
        return CERTAIN;
    }
    // A socket that the kernel closes and then answers data for.
    (reset.direction == Direction::Sent && reset.provoked_by.is_some() && reset.facts.raw_state == tcp::CLOSE)
        .then_some(CauseConfidence::Certain)
}

/// A reset of our own accord, in answer to no packet.
fn own_accord(reset: &Reset) -> bool {
    reset.direction == Direction::Sent && reset.provoked_by.is_none() && reset.socket.is_some()
}

/// Of our own accord, while the connection was still open: nobody closed the socket.
fn while_open(reset: &Reset) -> bool {
    own_accord(reset) && reset.facts.raw_state != tcp::CLOSE
}

fn socket_destroyed(reset: &Reset) -> Option<CauseConfidence> {
    (while_open(reset) && reset.facts.holder.is_some() && reason_allows(reset, "TCP_STATE"))
        .then_some(CauseConfidence::Certain)
}

fn keepalive_expired(reset: &Reset) -> bool {
    while_open(reset)
        && reset.facts.holder.is_none()
        && (reason_is(reset, "TCP_KEEPALIVE_TIMEOUT")
            || reset.reason.is_none() && reset.facts.keepalive && reset.facts.probes_out > 0)
}

fn user_timeout(reset: &Reset) -> Option<CauseConfidence> {
    (keepalive_expired(reset) && reset.facts.user_timeout_ms > 0).then_some(CauseConfidence::Likely)
}

fn keepalive_timeout(reset: &Reset) -> Option<CauseConfidence> {
    keepalive_expired(reset).then_some(CauseConfidence::Certain)
}

fn out_of_memory(reset: &Reset) -> Option<CauseConfidence> {
    reason_is(reset, "TCP_ABORT_ON_MEMORY").then_some(CauseConfidence::Certain)
}

fn linger2_expired(reset: &Reset) -> Option<CauseConfidence> {
    reason_is(reset, "TCP_ABORT_ON_LINGER").then_some(CauseConfidence::Certain)
}

/// Of our own accord, by closing the socket.
fn by_close(reset: &Reset) -> bool {
    own_accord(reset) && reset.facts.raw_state == tcp::CLOSE
}

/// An accepted connection that never came to a process: no file, and not by the task that holds its lock.
fn listener_closed(reset: &Reset) -> Option<CauseConfidence> {
    let child = reset.socket.as_ref().is_some_and(|socket| socket.role == Some(Role::Server));
    (by_close(reset) && child && reset.facts.orphan && reset.facts.holder.is_none()).then_some(CauseConfidence::Certain)
}

fn process_died(reset: &Reset) -> Option<CauseConfidence> {
    (by_close(reset) && reset.facts.holder_exiting).then_some(CauseConfidence::Certain)
}

fn closed_with_unread_data(reset: &Reset) -> Option<CauseConfidence> {
    let unread = reset.socket.as_ref().and_then(|socket| socket.unread_bytes).is_some_and(|bytes| bytes > 0);
    (by_close(reset) && unread && reason_allows(reset, "TCP_ABORT_ON_CLOSE")).then_some(CauseConfidence::Certain)
}

fn linger_zero(reset: &Reset) -> Option<CauseConfidence> {
    let facts = &reset.facts;
    let lingering = facts.linger_zero && facts.shutdown != 0;
    let disconnected = facts.shutdown == 0 || reason_is(reset, "TCP_DISCONNECT_WITH_DATA");
    (by_close(reset) && facts.holder.is_some() && (lingering || disconnected)).then_some(CauseConfidence::Certain)
}

/// A reset that our listener sends.
fn by_listener(reset: &Reset) -> bool {
    reset.direction == Direction::Sent && reset.facts.raw_state == tcp::LISTEN
}

fn listen_overflow(reset: &Reset) -> Option<CauseConfidence> {
    let full = reset.socket.as_ref().is_some_and(|socket| socket.accept_queue > socket.accept_queue_limit);
    let no_syn = reset.provoked_by.is_some_and(|packet| packet.flags.0 & tcp_flag::SYN == 0);
    // A stray acknowledgement to a full listener is a TCP_FLAGS.
    (by_listener(reset) && full && no_syn && reason_allows(reset, "INVALID_SYN")).then_some(CauseConfidence::Likely)
}

fn bad_segment(reset: &Reset) -> Option<CauseConfidence> {
    let answered = reset.direction == Direction::Sent && reset.provoked_by.is_some();
    (answered && matches!(reset.facts.raw_state, tcp::LISTEN | tcp::SYN_SENT | tcp::SYN_RECV))
        .then_some(CauseConfidence::Certain)
}

fn received_in(reset: &Reset, states: &[u8]) -> bool {
    reset.direction == Direction::Received
        && reset.socket.as_ref().is_some_and(|socket| states.contains(&socket.state.0))
}

/// Who refused, the peer or something before it, does not show in the socket.
fn connection_refused(reset: &Reset) -> Option<CauseConfidence> {
    received_in(reset, &[tcp::SYN_SENT]).then_some(CauseConfidence::Likely)
}

fn after_close(reset: &Reset) -> Option<CauseConfidence> {
    received_in(reset, &[tcp::FIN_WAIT1, tcp::FIN_WAIT2, tcp::CLOSING, tcp::LAST_ACK])
        .then_some(CauseConfidence::Certain)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_texts_are_sentences() {
        let mut codes = HashSet::new();
        for row in ROWS {
            assert!(codes.insert(row.code), "{} stands twice", row.code);
            assert!(row.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
            for text in [row.summary, row.advice] {
                assert!(text.ends_with(['.', '?']) && text.starts_with(char::is_uppercase), "{}: {text}", row.code);
            }
        }
        assert!(!codes.contains(UNKNOWN.code));
    }
}
