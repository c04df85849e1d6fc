//! Causes of received resets: rules over the socket that was hit, its connection's history, and earlier resets.
//!
//! The kernel gives no reason for a reset that it receives. The rules ask: had the peer closed before, does the reset
//! answer data that was sent, how long was the connection idle, and did other connections break with it?

use std::fmt;

use rsttrace_common::abi::tcp;

use super::{
    catalogue::{CERTAIN, CauseSpec, GUESS, LIKELY},
    client_ended,
    connection_view::{FinOrder, ReceivedReset, has_foreign_ttl},
    evidence::{AFTER_SILENCE, pluralize},
    keepalive,
    lost_state::{self, is_unprovoked, no_timestamp},
    mptcp,
    serving::{self, waiting_time},
    timeouts::{TimeoutKind, TimeoutOwner, Timeouts},
    tls_alerts, turned_away,
};
use crate::{
    model::{CauseConfidence, Direction, Evidence, Fault, Reset, Role, Sender},
    util::human_duration,
};

/// Longest time for the answer of this host itself to a SYN, milliseconds. A neighbour in the network takes that long as well.
const OWN_ANSWER_MS: f64 = 0.1;
/// Idle time from which on a middlebox is more likely to have forgotten the connection than an end to have closed it.
const PATH_IDLE_MIN_MS: f64 = 239_000.0;
/// Idle time from which on a foreign TTL means that a middlebox forgot the connection.
const FOREIGN_TTL_IDLE_MIN_MS: f64 = 10_000.0;
/// Idle time from which on the peer has probably been away, even if no timeout is known that matches.
const LONG_IDLE_MS: f64 = 300_000.0;
/// Longest time between the peer's last data and a reset that belongs to them.
const AFTER_LAST_DATA_MS: f64 = 100.0;
/// Longest time since the last data on a connection that was at work.
pub(super) const AT_WORK_MS: f64 = 1_000.0;
/// Round trip below which the source of an answer cannot be told by its time: a busy CPU makes milliseconds of microseconds.
const MEASURABLE_RTT_US: u32 = 10_000;
/// Connections in a row, this one among them, that are reset on their first data from which on it is on purpose.
const POLICY_MIN_STREAK: u32 = 3;
/// Shortest time over which the connections of such a streak come; faster ones are a burst.
const POLICY_MIN_MS: f64 = 1_000.0;
/// Shortest age of a connection whose data a listener with a full accept queue dropped: it answers them only once it
/// has forgotten the connection.
const NEVER_ACCEPTED_MIN_MS: f64 = 500.0;
/// Largest difference of two timestamps of a peer that is a time, in milliseconds: two days.
const CLOCK_DELTA_MAX: u32 = 172_800_000;
/// Silence below which a connection is in use: no server has so short an idle timeout.
pub(super) const BUSY_MS: f64 = 500.0;
/// Longest time between a refusal and a reset of one event.
const REFUSED_MAX_MS: f64 = 1_000.0;

/// Noun for connections that broke before, see [`pluralize`].
const OTHER_CONNECTION: &str = "other connection to this address and port";

/// Causes of received resets, in the order in which they are tried.
pub(super) static CAUSES: &[&CauseSpec] = &[
    &REFUSED_BY_FIREWALL,
    &CONNECTION_REFUSED,
    &mptcp::SUBFLOW_RECEIVED,
    &tls_alerts::GOODBYE_RECEIVED,
    &serving::HEALTH_PROBE,
    &turned_away::TURNED_AWAY_RECEIVED,
    &keepalive::REUSED_CLOSED_CONNECTION,
    &IDLE_TIMEOUT_PATH,
    &keepalive::RACE_RECEIVED,
    &serving::LEAKED_SOCKET,
    &client_ended::CLIENT_ENDED_RECEIVED,
    &serving::CLIENT_GAVE_UP,
    &serving::CLIENT_CANCELLED,
    &AFTER_CLOSE,
    &KEEPALIVE_ANSWER,
    &IDLE_RESET,
    &lost_state::STOPPED_READING,
    &POLICY,
    &lost_state::PATH_LOST_STATE,
    &INJECTED,
    &ACCEPT_OVERFLOW,
    &PEER_RESTARTED,
    &lost_state::PEER_LOST_STATE,
    &PEER_CLOSED_UNREAD,
    &PEER_ABORTED,
];

/// The view of a reset in SYN_SENT.
fn in_syn_sent(reset: &Reset) -> Option<ReceivedReset<'_>> {
    ReceivedReset::of(reset).filter(|view| view.state() == tcp::SYN_SENT)
}

/// The view of a reset of a connection that its process was using.
pub(super) fn in_use(reset: &Reset) -> Option<ReceivedReset<'_>> {
    ReceivedReset::of(reset).filter(|view| view.in_use())
}

/// The view of a reset of a connection that its process was using, and that this host had opened or may have.
fn client_in_use(reset: &Reset) -> Option<ReceivedReset<'_>> {
    in_use(reset).filter(|view| !view.has_role(Role::Server))
}

static REFUSED_BY_FIREWALL: CauseSpec = CauseSpec {
    code: "refused-by-firewall",
    direction: Some(Direction::Received),
    sender: Sender::Path,
    fault: Fault::Path,
    rule: refused_by_firewall,
    evidence: not_from_peer,
    summary: "Something before the peer refused the connection.",
    advice: "Look at the firewalls between: one of them rejects with a TCP reset.",
    shows_by: "Like connection-refused, but the reset's TTL is not that of the peer's other packets, or it came sooner than the peer can answer; or this host's packet filter reports that it sent the reset; or the reset came by the loopback interface, and the peer's address is another host's.",
};

fn refused_by_firewall(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    in_syn_sent(reset)?;
    if is_refused_here(reset) {
        return LIKELY;
    }
    match (has_foreign_ttl(reset), sooner_than_peer(reset)) {
        (Some(true), _) => LIKELY,
        (None, Some(_)) => GUESS,
        _ => None,
    }
}

/// Whether this host itself refused the connection: the reset did not come from a network.
pub(super) fn is_refused_here(reset: &Reset) -> bool {
    let peer = reset.peer.address;
    let is_own = peer == reset.local.address || peer.is_loopback();
    in_syn_sent(reset).is_some() && reset.internals.via_loopback == Some(true) && !is_own
}

/// Advice where this host itself refused the connection.
pub(super) const REFUSED_HERE: &str = "Look at this host's own rules (nft list ruleset, iptables-save): one of them rejects the connection with a TCP reset, or redirects it to a port on which nothing listens.";

/// Time of the answer to the SYN and round trip to the peer, milliseconds, if the answer came within half of the
/// shortest round trip to the peer that was measured: not even a packet one way takes less.
fn sooner_than_peer(reset: &Reset) -> Option<(f64, f64)> {
    let rtt = f64::from(reset.internals.correlation.peer_rtt_us.filter(|&rtt| rtt >= MEASURABLE_RTT_US)?) / 1000.0;
    let answered = reset.socket.as_ref()?.age_ms?;
    (answered < rtt / 2.0).then_some((answered, rtt))
}

/// Tells why the peer cannot have sent the reset.
fn not_from_peer(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if is_refused_here(reset) {
        evidence.push("it came by the loopback interface, so it was made on this host");
    }
    if let Some((answered, rtt)) = sooner_than_peer(reset) {
        let (answered, rtt) = (human_duration(answered), human_duration(rtt));
        evidence.push(format_args!("it came {answered} after our SYN, and the peer is {rtt} away"));
    }
    if let Some(packet) = reset.packet.as_ref().filter(|packet| is_odd_window(packet.ack, packet.window)) {
        evidence.push(format_args!("it has a window of {} and acknowledges nothing", packet.window));
    }
}

/// Returns whether no known system sends a reset with this window: Linux and the others send resets with neither
/// acknowledgement nor window, or with both.
fn is_odd_window(ack: u32, window: u16) -> bool {
    ack == 0 && window != 0
}

static CONNECTION_REFUSED: CauseSpec = CauseSpec {
    code: "connection-refused",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Peer,
    rule: connection_refused,
    evidence: broken_before,
    summary: "Nothing listens on the peer's port.",
    advice: "Is the service on the peer up, and is the port right?",
    shows_by: "SYN_SENT: the reset answers our SYN, about one round trip after it.",
};

/// Fires for every reset in SYN_SENT. Certain only if the TTL is the peer's: the socket does not show whether a
/// firewall on the path answered.
fn connection_refused(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    in_syn_sent(reset)?;
    if has_foreign_ttl(reset) == Some(false) {
        CERTAIN
    } else if soon_as_own(reset).is_some() {
        GUESS
    } else {
        LIKELY
    }
}

/// Time of the answer to the SYN, milliseconds, where it came as soon as this host itself answers, in the name of another host,
/// and nothing shows by which interface.
fn soon_as_own(reset: &Reset) -> Option<f64> {
    let peer = reset.peer.address;
    let is_own = peer == reset.local.address || peer.is_loopback();
    let is_seen = reset.internals.via_loopback.is_some();
    reset.socket.as_ref()?.age_ms.filter(|&age| age < OWN_ANSWER_MS && !is_own && !is_seen)
}

fn broken_before(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let Some(answered) = soon_as_own(reset).filter(|_| reset.other_end.is_none()) {
        let answered = human_duration(answered);
        evidence.push(format_args!(
            "it came {answered} after our SYN, as soon as a rule of this host's own packet filter would refuse it"
        ));
    }
    if let Some(ms) = reset.internals.correlation.refused_ms {
        evidence.push(format_args!("connections to this address and port broke {} before", human_duration(ms)));
    }
    if reset.socket.as_ref().and_then(|socket| socket.retransmits).is_some_and(|count| count > 0) {
        evidence.push("earlier SYNs had no answer at all");
    }
}

static AFTER_CLOSE: CauseSpec = CauseSpec {
    code: "after-close",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::None,
    rule: after_close,
    evidence: idle_time,
    summary: "Our side had closed already; the peer discarded the rest.",
    advice: "Nothing; it is harmless.",
    shows_by: "Our process had closed the connection or shut it down both ways (FIN_WAIT, CLOSING, LAST_ACK). One that is shut down for sending only still waits for the answer and does not count.",
};

fn after_close(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = ReceivedReset::of(reset)?;
    let closed = matches!(view.state(), tcp::FIN_WAIT1 | tcp::FIN_WAIT2 | tcp::CLOSING | tcp::LAST_ACK);
    if !closed || view.in_use() {
        return None;
    }
    // What a client had sent may be a request that the peer never took.
    match view.state() {
        _ if !view.is_sending() || view.has_role(Role::Server) => CERTAIN,
        tcp::CLOSING | tcp::LAST_ACK => None,
        _ => GUESS,
    }
}

/// Tells how long the connection was idle, and the known timeouts that match.
pub(super) fn idle_time(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    let Some(view) = ReceivedReset::of(reset) else { return };
    let Some(idle) = view.relevant_idle_ms().filter(|&idle| idle >= AT_WORK_MS) else { return };
    let what = if view.has_just_sent() { AFTER_SILENCE } else { "nothing had gone either way for" };
    let (time, known) = (human_duration(idle), timeouts.describe(idle, TimeoutOwner::of_peer(reset)));
    evidence.push(format_args!("{what} {time} ({known})"));
    if reset.internals.probes_out > 0 {
        evidence.push("it answers a keep-alive probe");
    }
}

static IDLE_TIMEOUT_PATH: CauseSpec = CauseSpec {
    code: "idle-timeout-path",
    direction: Some(Direction::Received),
    sender: Sender::Path,
    fault: Fault::Path,
    rule: idle_timeout_path,
    evidence: idle_time,
    summary: "A load balancer or NAT on the way had forgotten the idle connection.",
    advice: "Send keep-alive probes more often than its idle timeout, or raise that.",
    shows_by: "The reset answers data that we sent after a silence of at least 240 s that matches a load balancer's or NAT's timeout, or after a silence, with a TTL that is not the peer's. No FIN had come.",
};

fn idle_timeout_path(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let (view, idle) = answered_after_idle(reset)?;
    if view.has_foreign_ttl() == Some(true) && idle >= FOREIGN_TTL_IDLE_MIN_MS {
        return LIKELY;
    }
    let alone = reset.internals.correlation.silent_otherwise == 0;
    (alone && idle >= PATH_IDLE_MIN_MS && timeouts.matches(idle, &[TimeoutKind::Path]))
        .then_some(CauseConfidence::Likely)
}

/// The view of a reset that answers data sent after an idle time, and that time, milliseconds. `None` if a FIN had come
/// before the data were sent.
fn answered_after_idle(reset: &Reset) -> Option<(ReceivedReset<'_>, f64)> {
    let view = in_use(reset).filter(|view| view.answers_our_send() && view.fin_order() != FinOrder::BeforeSend)?;
    Some((view, view.socket.idle_before_send_ms?))
}

static KEEPALIVE_ANSWER: CauseSpec = CauseSpec {
    code: "keepalive-answer",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Peer,
    rule: keepalive_answer,
    evidence: idle_time,
    summary: "The peer no longer knew the connection.",
    advice: "Look for a restart or failover of the peer, or a path that forgets connections; send keep-alive probes more often.",
    shows_by: "The reset answers a keep-alive probe, or data sent after more than five minutes of silence that match no timeout.",
};

fn keepalive_answer(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = in_use(reset)?;
    if reset.internals.keepalive && reset.internals.probes_out > 0 && !view.is_sending() {
        return LIKELY;
    }
    let (_, idle) = answered_after_idle(reset)?;
    (idle >= LONG_IDLE_MS).then_some(CauseConfidence::Guess)
}

static IDLE_RESET: CauseSpec = CauseSpec {
    code: "idle-reset",
    direction: Some(Direction::Received),
    sender: Sender::Path,
    fault: Fault::Path,
    rule: idle_reset,
    evidence: idle_time,
    summary: "Something ended an idle connection when its time was up.",
    advice: "Send keep-alive probes more often than the idle timeout, or raise that.",
    shows_by: "Nothing was in flight, the last request had been answered, and the silence matches a known timeout. Connections that break together after different silences do not count.",
};

fn idle_reset(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let view = in_use(reset).filter(|view| !view.is_sending() && !view.request_outstanding())?;
    let idle = view.idle_ms()?;
    if view.state() != tcp::ESTABLISHED || reset.internals.correlation.silent_otherwise > 0 {
        return None;
    }
    if timeouts.matches(idle, &[TimeoutKind::Path])
        || view.has_foreign_ttl() == Some(true) && idle >= FOREIGN_TTL_IDLE_MIN_MS
    {
        LIKELY
    } else if timeouts.matches(idle, &[TimeoutKind::Server, TimeoutKind::Client]) && !view.is_of_unknown_connection() {
        GUESS
    } else {
        None
    }
}

static POLICY: CauseSpec = CauseSpec {
    code: "policy",
    direction: Some(Direction::Received),
    sender: Sender::Path,
    fault: Fault::Path,
    rule: policy,
    evidence: first_data_again,
    summary: "Something ends connections to this place right after their first data.",
    advice: "Look for a filter that reads the traffic (SNI, host name, protocol), or a server that closes without an answer.",
    shows_by: "We are the client, nothing ever came back, and the third such connection in a row to one address and port was reset on its first data, over more than a second; no FIN had come, and no reset has the peer's timestamp.",
};

fn policy(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = client_in_use(reset)?;
    let earlier = &reset.internals.correlation;
    // A peer's process that ends or closes each time, say at the request that makes it crash, is nothing on the path.
    let of_process = view.timestamp() == Some(true) || view.state() == tcp::CLOSE_WAIT;
    let on_first_data = view.has_sent() && !view.has_received() && view.answers_our_send() && !of_process;
    let repeated = earlier.first_data + 1 >= POLICY_MIN_STREAK && earlier.first_data_since_ms >= POLICY_MIN_MS;
    if !on_first_data || !repeated {
        return None;
    }
    match (view.has_foreign_ttl(), view.window()) {
        (Some(true), _) => LIKELY,
        // Only a reset of an application has a window.
        (_, Some(1..)) => None,
        _ => GUESS,
    }
}

fn first_data_again(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let earlier = &reset.internals.correlation;
    evidence.push(format_args!(
        "{} connections in a row to this address and port were reset on their first data, within {}",
        earlier.first_data + 1,
        human_duration(earlier.first_data_since_ms)
    ));
}

static INJECTED: CauseSpec = CauseSpec {
    code: "injected",
    direction: Some(Direction::Received),
    sender: Sender::Path,
    fault: Fault::Path,
    rule: injected,
    evidence: injected_evidence,
    summary: "The reset did not come from the peer itself.",
    advice: "Look for a middlebox on the way that ends connections.",
    shows_by: "The reset's TTL is off the peer's own by more than 2, or it has a window that no known system sends; or it has no timestamp, though the connection has them, and nothing of ours can have provoked it.",
};

fn injected_evidence(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    if is_unprovoked(reset) {
        no_timestamp(reset, timeouts, evidence);
    }
    not_from_peer(reset, timeouts, evidence);
}

fn injected(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    in_use(reset)?;
    if is_unprovoked(reset) {
        return LIKELY;
    }
    if has_foreign_ttl(reset) == Some(true) {
        return LIKELY;
    }
    let packet = reset.packet.as_ref()?;
    is_odd_window(packet.ack, packet.window).then_some(CauseConfidence::Guess)
}

static ACCEPT_OVERFLOW: CauseSpec = CauseSpec {
    code: "accept-overflow",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Peer,
    rule: accept_overflow,
    evidence: broke_with_handshake,
    summary: "The peer's accept queue was full.",
    advice: "Make the peer accept faster, or raise its backlog and net.core.somaxconn.",
    shows_by: "We are the client, the handshake was done, and nothing arrived: the reset answers the handshake (several such within a second make it likely); or the peer never acknowledged a byte.",
};

fn accept_overflow(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = client_in_use(reset).filter(|view| view.has_role(Role::Client) && !view.has_received())?;
    // The reset of a process that aborts has a window, that of a listener with a full queue has none.
    let of_process = view.window().is_some_and(|window| window > 0) || view.timestamp() == Some(true);
    // A connection that no process accepted has no FIN, and its data are not acknowledged.
    let was_accepted = view.socket.fin_received_ms.is_some() || view.socket.bytes_acked.is_some_and(|bytes| bytes > 0);
    if view.has_foreign_ttl() == Some(true) || of_process || was_accepted {
        return None;
    }
    if was_never_accepted(view) {
        return LIKELY;
    }
    match reset.internals.correlation.newborn {
        _ if !view.just_established() => None,
        0 if view.has_sent() => None,
        0 => GUESS,
        1 if view.has_sent() => GUESS,
        _ => LIKELY,
    }
}

/// Returns whether the peer never acknowledged a byte, however often it was sent.
fn was_never_accepted(view: ReceivedReset<'_>) -> bool {
    let socket = view.socket;
    view.has_unacked()
        && socket.bytes_acked == Some(0)
        && socket.retransmits.is_some_and(|count| count > 0)
        && view.reset.internals.established_ms.is_some_and(|since| since >= NEVER_ACCEPTED_MIN_MS)
}

fn broke_with_handshake(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let Some(view) = ReceivedReset::of(reset) else { return };
    if was_never_accepted(view) {
        evidence.push("the peer had agreed to the connection and acknowledged none of our data");
    } else if let Some(since) = reset.internals.established_ms {
        let since = human_duration(since);
        evidence.push(format_args!("it came {since} after the handshake, as its answer would"));
    }
    match reset.internals.correlation.newborn {
        0 => {}
        others => {
            let broke = "broke so within a second";
            evidence.push(pluralize(others.into(), OTHER_CONNECTION, broke, broke));
        }
    }
}

static PEER_RESTARTED: CauseSpec = CauseSpec {
    code: "peer-restarted",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Peer,
    rule: peer_restarted,
    evidence: broke_with_others,
    summary: "The peer's process ended: several of its connections broke at once.",
    advice: "Look at the peer's restarts and deployments, and let it drain connections before it stops.",
    shows_by: "Connections of different ages to one address and port broke within a second, by a reset or, beside those, by a FIN that our next data met. The first one cannot be recognised; later ones can.",
};

fn peer_restarted(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let is_client = |view: &ReceivedReset<'_>| !view.has_role(Role::Server) && !view.just_established();
    let view = ReceivedReset::of(reset).filter(|view| view.in_use() || view.closed_with_request()).filter(is_client)?;
    let earlier = &reset.internals.correlation;
    let refused = earlier.refused_ms.is_some_and(|ms| ms <= REFUSED_MAX_MS);
    // Something between that forgets all connections at once breaks several as well; it does not refuse new ones.
    let together = (earlier.broken_at_once >= 1 || earlier.broken >= 2) && !view.is_of_unknown_connection();
    (view.has_foreign_ttl() != Some(true) && (together || refused)).then_some(CauseConfidence::Likely)
}

/// Returns whether the peer's FIN on this connection belongs to the end of its process, and not to an idle timeout: at that
/// moment it aborted other connections, which were not idle for equally long; or no server is so impatient, and it ended or
/// refused others as well.
pub(super) fn closed_by_end_of_peer(view: ReceivedReset<'_>) -> bool {
    let earlier = &view.reset.internals.correlation;
    let is_busy = view.relevant_idle_ms().is_some_and(|idle| idle < BUSY_MS);
    let refused = earlier.refused_ms.is_some_and(|ms| ms <= REFUSED_MAX_MS);
    let is_recent = view.socket.fin_received_ms.is_some_and(|fin| fin <= REFUSED_MAX_MS);
    // On a path with a delay every connection may meet the FIN of the ending process alone.
    let together = earlier.aborted_at_once > 0 || earlier.broken_at_once > 0 || refused;
    is_recent && (earlier.aborted_otherwise > 0 || is_busy && together)
}

fn broke_with_others(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let earlier = &reset.internals.correlation;
    if earlier.broken > 0 {
        let since = human_duration(earlier.broken_since_ms);
        let broke = fmt::from_fn(|formatter| write!(formatter, "broke in the {since} before"));
        evidence.push(pluralize(earlier.broken.into(), OTHER_CONNECTION, &broke, &broke));
    }
    if let Some(ms) = earlier.refused_ms.filter(|&ms| ms <= REFUSED_MAX_MS) {
        evidence.push(format_args!("it refused a connection {} before", human_duration(ms)));
    }
}

static PEER_CLOSED_UNREAD: CauseSpec = CauseSpec {
    code: "peer-closed-unread",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Peer,
    rule: peer_closed_unread,
    evidence: closed_while_sending,
    summary: "The peer closed without reading what we were still sending.",
    advice: "Look for an early answer of the peer (413, 401), and let it read the request to its end before it closes.",
    shows_by: "Our data were on their way when the peer's FIN or its last bytes came, and the reset followed within milliseconds; or our process went on sending while the answer was unread.",
};

fn peer_closed_unread(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view =
        ReceivedReset::of(reset).filter(|view| !view.has_role(Role::Server) && !view.is_of_unknown_connection())?;
    if !view.in_use() && !matches!(view.state(), tcp::LAST_ACK | tcp::CLOSING) {
        return None;
    }
    // Data that did not fit into one window are an upload, which goes on beside the answer.
    if view.sends_despite_unread_response() || view.has_unread() && view.has_unsent() {
        return LIKELY;
    }
    if !view.is_sending() {
        return None;
    }
    match view.fin_order() {
        FinOrder::AfterSend => LIKELY,
        FinOrder::BeforeSend => None,
        // The response came while data were being sent, and the reset with it.
        FinOrder::None => {
            let tick = view.tick_ms();
            let answered = view.socket.since_receive_ms?;
            let began = reset.internals.burst_ms?;
            // Unsent data belong to a long burst, even if a full window has restarted the clock of its beginning.
            let during = view.has_unsent() || answered <= began + tick;
            (view.has_received() && answered <= AFTER_LAST_DATA_MS + tick && during).then_some(CauseConfidence::Likely)
        }
    }
}

fn closed_while_sending(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let Some(view) = ReceivedReset::of(reset) else { return };
    // The rule also holds of data that were sent after the FIN, beside an unread response.
    if let Some(fin) = view.socket.fin_received_ms.filter(|_| view.fin_order() == FinOrder::AfterSend) {
        evidence.push(format_args!(
            "the peer's FIN came {} before the reset, and our data were on their way by then",
            human_duration(fin)
        ));
    }
    if view.sends_despite_unread_response() {
        evidence.push("our process sent data while received data were unread");
    }
}

static PEER_ABORTED: CauseSpec = CauseSpec {
    code: "peer-aborted",
    direction: Some(Direction::Received),
    sender: Sender::Peer,
    fault: Fault::Peer,
    rule: peer_aborted,
    evidence: by_process,
    summary: "The peer's process aborted the connection.",
    advice: "Look at the peer's log for this moment.",
    shows_by: "A connection in use was reset, and nothing else in this catalogue fits.",
};

fn peer_aborted(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let view = ReceivedReset::of(reset).filter(|view| view.in_use() || view.state() == tcp::CLOSE_WAIT)?;
    match view.timestamp() {
        Some(true) => CERTAIN,
        Some(false) => None,
        None => {
            let lately = |since: Option<f64>| since.is_some_and(|since| since <= AT_WORK_MS);
            let at_work = lately(view.socket.since_send_ms) || lately(view.socket.since_receive_ms);
            if at_work { LIKELY } else { GUESS }
        }
    }
}

fn by_process(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    if reset.segment.timestamp == Some(true) {
        match reset.internals.peer_clock_delta.filter(|&delta| delta < CLOCK_DELTA_MAX) {
            Some(delta) => evidence.push(format_args!(
                "the reset carries the peer's timestamp: a process there ended the connection, {} after its last segment \
                 by its own clock",
                human_duration(delta.into())
            )),
            None => evidence.push("the reset carries the peer's timestamp: a process there ended the connection"),
        }
    }
    waiting_time(reset, timeouts, evidence);
}
