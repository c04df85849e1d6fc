//! Why a reset came: rules over the socket that it hit, the story of the connection, and the resets shortly before.
//!
//! The kernel gives no reason for what it receives. What is asked first: had the peer closed before, is the reset the
//! answer to what we sent, how long was the silence, and did other connections break with this one?

use rsttrace_common::abi::tcp;

use super::{
    catalogue::table,
    crowd::{
        accept_overflow, broke_with_others, first_data_again, health_probe, peer_restarted, policy, probed_again,
        with_the_handshake,
    },
    evidence::{AFTER_SILENCE, span},
    story::{Order, Story, foreign_ttl},
    timeouts::{Kind, Timeouts},
};
use crate::model::{CauseConfidence, Evidence, Reset, Role};

/// From this silence on it is more likely that something on the path forgot the connection than that an end closed it.
const PATH_SILENCE_MS: f64 = 239_000.0;
/// A silence after which a foreign TTL means that something on the path forgot the connection.
const SOME_SILENCE_MS: f64 = 10_000.0;
/// A silence after which a peer that resets has probably been away, whatever the timeouts.
const LONG_SILENCE_MS: f64 = 300_000.0;
/// A reset so soon after the peer's last bytes belongs to them.
const AFTER_LAST_BYTES_MS: f64 = 100.0;
/// A request that has waited for as long is worth a word.
const WAITED_MS: f64 = 500.0;
/// A connection on which something happened so lately was at work.
const AT_WORK_MS: f64 = 1_000.0;
/// Below this round trip one cannot tell who answered sooner.
const MEASURABLE_RTT_US: u32 = 2_000;

const CERTAIN: Option<CauseConfidence> = Some(CauseConfidence::Certain);
const LIKELY: Option<CauseConfidence> = Some(CauseConfidence::Likely);
const GUESS: Option<CauseConfidence> = Some(CauseConfidence::Guess);

table! { Received:
    "refused-by-firewall" Path Path refused_by_firewall, not_the_peer;
        "Something before the peer refused the connection."
        "Look at the firewalls between: one of them rejects with a TCP reset."
        "As connection-refused, and the reset's TTL is not that of the peer's other packets, or it came sooner than the peer can answer."
    "connection-refused" Peer Peer connection_refused, broke_before;
        "Nothing listens on the peer's port."
        "Is the service on the peer up, and is the port right?"
        "SYN_SENT: the reset answers our SYN, about one round trip after it."
    "reused-closed-connection" Peer Local reused_closed_connection, sent_after_fin;
        "The peer had closed the connection, and our side used it again."
        "Let the client's connection pool notice closed connections before it takes one, or keep them for a shorter time than the server does."
        "We are the client, the peer's FIN had come, then we sent, and the reset answers that. A FIN that came after our data were sent does not count, nor one in the middle of an upload that the peer has answered early."
    "after-close" Peer None after_close, silence;
        "Our side had closed already; the peer discarded the rest."
        "Nothing; it is harmless."
        "Our process had closed the connection or shut it down both ways (FIN_WAIT, CLOSING, LAST_ACK). One that is shut down for sending only still waits for the answer and does not count."
    "idle-timeout-path" Path Path idle_timeout_path, silence;
        "A load balancer or NAT on the way had forgotten the idle connection."
        "Send keep-alive probes more often than its idle timeout, or raise that."
        "The reset answers data that we sent after a silence of at least 240 s that matches a load balancer's or NAT's timeout, or after a silence, with a TTL that is not the peer's. No FIN had come."
    "keepalive-race" Peer Local keepalive_race, silence;
        "Our request and the peer's idle timeout crossed."
        "Keep idle connections in the client's pool for a shorter time than the server does, and repeat such requests where that is safe."
        "We are the client, had exchanged data before, and our request after a silence that matches a known timeout was answered with a reset at once. No FIN had come when it was sent, and no connection with another silence broke at the same time."
    "keepalive-answer" Peer Peer keepalive_answer, silence;
        "The peer no longer knew the connection."
        "Look for a restart or failover of the peer, or a path that forgets connections; send keep-alive probes more often."
        "The reset answers a keep-alive probe, or data sent after more than five minutes of silence that match no timeout."
    "idle-reset" Path Path idle_reset, silence;
        "Something ended an idle connection when its time was up."
        "Send keep-alive probes more often than the idle timeout, or raise that."
        "Nothing was in flight, the last question had its answer, and the silence matches a known timeout. Connections that break together after different silences do not count."
    "policy" Path Path policy, first_data_again;
        "Something ends connections to this place right after their first data."
        "Look for a filter that reads the traffic (SNI, host name, protocol), or a server that closes without an answer."
        "We are the client, nothing ever came back, and the third such connection in a row to one address and port was reset on its first data, over more than a second."
    "injected" Path Path injected, not_the_peer;
        "The reset did not come from the peer itself."
        "Look for a middlebox on the way that ends connections."
        "The reset's TTL is off the peer's own by more than 2, or it has a window as no system sends it."
    "accept-overflow" Peer Peer accept_overflow, with_the_handshake;
        "The peer's accept queue was full."
        "Let the peer accept faster, or raise its backlog and net.core.somaxconn."
        "We are the client, the handshake was done, and nothing came: the reset answers the handshake, several such within a second make it likely; or the peer never acknowledged a byte."
    "peer-restarted" Peer Peer peer_restarted, broke_with_others;
        "The peer's process ended: several of its connections broke at once."
        "Look at the peer's restarts and deployments, and let it drain connections before it stops."
        "Connections of different ages to one address and port broke within a second. The first to break cannot know; from the second on it shows."
    "health-probe" Peer None health_probe, probed_again;
        "A health check connected and reset at once."
        "Nothing; it is harmless. To keep it out of the output: --no-benign."
        "We are the server, no byte went either way, and the same source has done so before at a distance."
    "client-gave-up" Peer Local client_gave_up, waited;
        "The client ended the connection before our answer."
        "Answer faster, or raise the client's timeout."
        "We are the server, and the client reset while we were sending, before our first byte, or after its FIN when the answer came too late."
    "peer-closed-unread" Peer Peer peer_closed_unread, closed_while_sending;
        "The peer closed without reading what we were still sending."
        "Look for an early answer of the peer (413, 401), and let it read the request to its end before it closes."
        "Our data were on their way when the peer's FIN or its last bytes came, and the reset followed within milliseconds; or our process went on sending while the answer lay there unread."
    "peer-aborted" Peer Peer peer_aborted, waited;
        "The peer's process aborted the connection."
        "Look at the peer's log for this moment."
        "A connection in use was reset, and nothing else in this catalogue fits."
}

fn in_syn_sent(reset: &Reset) -> Option<Story<'_>> {
    Story::of(reset).filter(|story| story.state() == tcp::SYN_SENT)
}

/// A connection that its process was using.
fn in_use(reset: &Reset) -> Option<Story<'_>> {
    Story::of(reset).filter(|story| story.in_use())
}

/// Sooner than light comes to the peer and back: half of the shortest round trip to it that was seen.
fn too_soon(reset: &Reset) -> Option<(f64, f64)> {
    let rtt = f64::from(reset.facts.neighbours.peer_rtt_us.filter(|&rtt| rtt >= MEASURABLE_RTT_US)?) / 1000.0;
    let answered = reset.socket.as_ref()?.age_ms?;
    (answered < rtt / 2.0).then_some((answered, rtt))
}

fn refused_by_firewall(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    in_syn_sent(reset)?;
    match (foreign_ttl(reset), too_soon(reset)) {
        (Some(true), _) => LIKELY,
        (None, Some(_)) => GUESS,
        _ => None,
    }
}

/// Why the peer cannot have sent it.
fn not_the_peer(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let Some((answered, rtt)) = too_soon(reset) {
        evidence.push(format_args!("it came {} after our SYN, and the peer is {} away", span(answered), span(rtt)));
    }
    if let Some(packet) = reset.packet.as_ref().filter(|packet| odd_window(packet.ack, packet.window)) {
        evidence.push(format_args!("it has a window of {} and acknowledges nothing", packet.window));
    }
}

/// Who refused, the peer or something before it, does not show in the socket.
fn connection_refused(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    in_syn_sent(reset)?;
    if foreign_ttl(reset) == Some(false) { CERTAIN } else { LIKELY }
}

fn broke_before(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    if let Some(ms) = reset.facts.neighbours.refused_ms {
        evidence.push(format_args!("connections to this address and port broke {} before", span(ms)));
    }
    if reset.socket.as_ref().and_then(|socket| socket.retransmits).is_some_and(|count| count > 0) {
        evidence.push("earlier SYNs had no answer at all");
    }
}

fn after_close(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = Story::of(reset)?;
    let closed = matches!(story.state(), tcp::FIN_WAIT1 | tcp::FIN_WAIT2 | tcp::CLOSING | tcp::LAST_ACK);
    (closed && !story.in_use()).then_some(CauseConfidence::Certain)
}

fn reused_closed_connection(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = Story::of(reset).filter(|story| story.is(Role::Client) && !story.talks_over_the_answer())?;
    let answered = story.answers_our_send() || story.answers_late();
    let sent = story.order() == Order::FinFirst && answered && story.foreign_ttl() != Some(true);
    match story.state() {
        tcp::CLOSE_WAIT if sent && !story.may_be_closing_alert() => LIKELY,
        // A farewell that the peer did not want.
        tcp::CLOSE_WAIT if sent => GUESS,
        tcp::LAST_ACK if sent && !story.may_be_closing_alert() => GUESS,
        _ => None,
    }
}

fn sent_after_fin(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let Some(story) = Story::of(reset) else { return };
    let bytes = story.socket.unacked_bytes.unwrap_or(0);
    match story.socket.fin_received_ms {
        Some(fin) => evidence.push(format_args!(
            "the peer's FIN had come {} before the reset, and only then were {bytes} bytes sent",
            span(fin)
        )),
        None => evidence.push(format_args!(
            "the peer's FIN had come before rsttrace was started, and {bytes} bytes were sent since"
        )),
    }
    if story.may_be_closing_alert() {
        evidence.push(format_args!("{bytes} bytes may be a TLS closing alert, with which nothing is lost"));
    }
}

/// The reset answers what was sent after a silence, and no FIN had come when that was sent.
fn answered_after_silence(reset: &Reset) -> Option<(Story<'_>, f64)> {
    let story = in_use(reset).filter(|story| story.answers_our_send() && story.order() != Order::FinFirst)?;
    Some((story, story.socket.idle_before_send_ms?))
}

fn idle_timeout_path(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let (story, idle) = answered_after_silence(reset)?;
    if story.foreign_ttl() == Some(true) && idle >= SOME_SILENCE_MS {
        return LIKELY;
    }
    let alone = reset.facts.neighbours.silent_otherwise == 0;
    (alone && idle >= PATH_SILENCE_MS && timeouts.matches(idle, &[Kind::Path])).then_some(CauseConfidence::Likely)
}

fn keepalive_race(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let (story, idle) = answered_after_silence(reset)?;
    let known = story.is(Role::Client) && story.has_received() && timeouts.matches(idle, &[Kind::Server, Kind::Client]);
    let alone = reset.facts.neighbours.silent_otherwise == 0;
    (known && alone && story.foreign_ttl() != Some(true)).then_some(CauseConfidence::Likely)
}

fn keepalive_answer(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = in_use(reset)?;
    if reset.facts.keepalive && reset.facts.probes_out > 0 && !story.sending() {
        return LIKELY;
    }
    let (_, idle) = answered_after_silence(reset)?;
    (idle >= LONG_SILENCE_MS).then_some(CauseConfidence::Guess)
}

fn idle_reset(reset: &Reset, timeouts: &Timeouts) -> Option<CauseConfidence> {
    let story = in_use(reset).filter(|story| !story.sending() && !story.awaits_answer())?;
    let silence = story.silence_ms()?;
    if story.state() != tcp::ESTABLISHED || reset.facts.neighbours.silent_otherwise > 0 {
        return None;
    }
    if timeouts.matches(silence, &[Kind::Path]) || story.foreign_ttl() == Some(true) && silence >= SOME_SILENCE_MS {
        LIKELY
    } else if timeouts.matches(silence, &[Kind::Server, Kind::Client]) {
        GUESS
    } else {
        None
    }
}

/// What the silence matches.
fn silence(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    let Some(story) = Story::of(reset) else { return };
    let Some(silence) = story.telling_silence_ms().filter(|&silence| silence >= AT_WORK_MS) else { return };
    let what = if story.in_flight() { AFTER_SILENCE } else { "nothing had gone either way for" };
    let time = span(silence);
    match timeouts.names(silence) {
        Some(names) => evidence.push(format_args!("{what} {time} ({names})")),
        None => evidence.push(format_args!("{what} {time}, which is no timeout that is known")),
    }
    if reset.facts.probes_out > 0 {
        evidence.push("it answers a keep-alive probe");
    }
}

/// Linux and the others send resets without acknowledgement and without window, or with both.
fn odd_window(ack: u32, window: u16) -> bool {
    ack == 0 && window != 0
}

fn injected(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    in_use(reset)?;
    if foreign_ttl(reset) == Some(true) {
        return LIKELY;
    }
    let packet = reset.packet.as_ref()?;
    odd_window(packet.ack, packet.window).then_some(CauseConfidence::Guess)
}

fn client_gave_up(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = in_use(reset).filter(|story| story.is(Role::Server))?;
    if story.state() == tcp::CLOSE_WAIT {
        // Its FIN, then our answer; a closing alert is no answer.
        return if story.sending() && story.may_be_closing_alert() { GUESS } else { LIKELY };
    }
    (story.sending() || story.has_unread() || story.awaits_answer()).then_some(CauseConfidence::Likely)
}

/// How long a question had waited for its answer.
fn waited(reset: &Reset, timeouts: &Timeouts, evidence: &mut Evidence) {
    let Some(story) = Story::of(reset) else { return };
    let asked = match story.socket.role {
        Some(Role::Server) => story.socket.since_receive_ms,
        _ => story.socket.since_send_ms,
    };
    match asked.filter(|&asked| story.awaits_answer() && asked >= WAITED_MS) {
        Some(asked) => {
            let round = if is_round(asked) { ", a round figure, as timeouts have" } else { "" };
            evidence.push(format_args!("the last request had waited {} for an answer{round}", span(asked)));
        }
        None => silence(reset, timeouts, evidence),
    }
}

/// Whether a time is close to one that people choose for a timeout.
fn is_round(ms: f64) -> bool {
    [1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0]
        .iter()
        .any(|seconds| (ms / 1000.0 - seconds).abs() <= (seconds / 50.0).min(0.5))
}

fn peer_closed_unread(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = in_use(reset).filter(|story| !story.is(Role::Server))?;
    if story.talks_over_the_answer() {
        return LIKELY;
    }
    if !story.sending() {
        return None;
    }
    match story.order() {
        Order::SendFirst => LIKELY,
        Order::FinFirst => None,
        // The answer came while we were sending, and with it the end.
        Order::NoFin => {
            let tick = story.tick_ms();
            let answered = story.socket.since_receive_ms?;
            let began = reset.facts.burst_ms?;
            // What has not even been sent belongs to a long burst, whatever a full window has done to its clock.
            let during = story.has_unsent() || answered <= began + tick;
            (story.has_received() && answered <= AFTER_LAST_BYTES_MS + tick && during)
                .then_some(CauseConfidence::Likely)
        }
    }
}

fn closed_while_sending(reset: &Reset, _: &Timeouts, evidence: &mut Evidence) {
    let Some(story) = Story::of(reset) else { return };
    if let Some(fin) = story.socket.fin_received_ms {
        evidence.push(format_args!(
            "the peer's FIN came {} before the reset, and our data were on their way by then",
            span(fin)
        ));
    }
}

fn peer_aborted(reset: &Reset, _: &Timeouts) -> Option<CauseConfidence> {
    let story = Story::of(reset).filter(|story| story.in_use() || story.state() == tcp::CLOSE_WAIT)?;
    let lately = |since: Option<f64>| since.is_some_and(|since| since <= AT_WORK_MS);
    let at_work = lately(story.socket.since_send_ms) || lately(story.socket.since_receive_ms);
    Some(if at_work { CauseConfidence::Likely } else { CauseConfidence::Guess })
}
