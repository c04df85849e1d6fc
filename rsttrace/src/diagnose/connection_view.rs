//! View of a received reset together with the connection that it hit: questions that several rules ask.

use rsttrace_common::abi::{tcp, tcp_flag};

use super::tls_alerts;
use crate::model::{Direction, Reset, Role, RstOrigin, Socket};

/// Clock tick that is assumed if the kernel's is not known, milliseconds: the longest (`CONFIG_HZ=100`).
const TICK_MAX_MS: f64 = 10.0;
/// Longest time of an answer if no round trip was measured, milliseconds.
const UNMEASURED_ANSWER_MS: f64 = 50.0;
/// Time that an answer may take beyond two round trips, milliseconds: the peer's own.
const ANSWER_SLACK_MS: f64 = 5.0;
/// Shortest retransmission timeout of Linux, milliseconds (`TCP_RTO_MIN`).
const RTO_MIN_MS: f64 = 200.0;
/// Time that the answer of a peer's *kernel* may take beyond one and a half round trips, milliseconds.
const KERNEL_ANSWER_SLACK_MS: f64 = 0.1;
/// Largest difference between TTLs of one peer: paths change by a hop or two.
const TTL_TOLERANCE: u8 = 2;
/// Shortest interval without data that is a pause in sending, milliseconds.
pub(super) const PAUSE_MIN_MS: f64 = 500.0;
/// Shortest interval without data after the peer's FIN that is a pause, milliseconds.
const PAUSE_AFTER_FIN_MS: f64 = 100.0;

/// Longest time for which a request has just been sent, milliseconds.
const JUST_SENT_MS: f64 = 1_000.0;
/// Longest delay of an acknowledgement, milliseconds (`TCP_DELACK_MAX`).
const DELAYED_ACK_MAX_MS: f64 = 200.0;

/// Order of the peer's FIN and the data that the reset answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinOrder {
    /// No FIN came.
    None,
    /// The FIN came before the data were sent.
    BeforeSend,
    /// The FIN came after the data were sent: they crossed.
    AfterSend,
}

/// A received reset with the socket that it hit.
#[derive(Clone, Copy)]
pub(crate) struct ReceivedReset<'a> {
    pub(crate) reset: &'a Reset,
    pub(crate) socket: &'a Socket,
}

impl<'a> ReceivedReset<'a> {
    /// View of a reset; `None` if it was sent, or hit no socket.
    pub(crate) fn of(reset: &'a Reset) -> Option<Self> {
        let socket = reset.socket.as_ref().filter(|_| reset.direction == Direction::Received)?;
        Some(Self { reset, socket })
    }

    /// State of the connection (`TCP_*`).
    pub(crate) fn state(self) -> u8 {
        self.socket.state.0
    }

    /// Returns whether this host's end has this role; `false` if the role is not known.
    pub(crate) fn has_role(self, role: Role) -> bool {
        self.socket.role == Some(role)
    }

    /// Returns whether a request of this side, the client, was unanswered when its process closed after the peer.
    pub(crate) fn closed_with_request(self) -> bool {
        matches!(self.state(), tcp::LAST_ACK | tcp::CLOSING)
            && self.has_role(Role::Client)
            && self.has_unacked()
            && !self.may_be_closing_alert()
    }

    /// Silence after the peer's last data, or after the handshake without any, until its FIN, milliseconds, where the FIN had come
    /// before this side sent again.
    pub(crate) fn silence_before_fin_ms(self) -> Option<f64> {
        let heard = self.socket.since_receive_ms.or(self.reset.internals.established_ms);
        let (heard, fin) = heard.zip(self.socket.fin_received_ms)?;
        (self.fin_order() == FinOrder::BeforeSend).then(|| (heard - fin).max(0.0))
    }

    /// Returns whether the process was using the connection: it was open, and the process had not closed it. A shutdown
    /// for sending alone is no close: the process waits for the response.
    pub(crate) fn in_use(self) -> bool {
        match self.state() {
            tcp::ESTABLISHED | tcp::CLOSE_WAIT | tcp::SYN_RECV => true,
            tcp::FIN_WAIT1 | tcp::FIN_WAIT2 => !self.is_closed(),
            _ => false,
        }
    }

    /// Returns whether the process had closed the connection, or shut it down for receiving (`RCV_SHUTDOWN`).
    fn is_closed(self) -> bool {
        let internals = &self.reset.internals;
        internals.dead || internals.orphan || internals.shutdown & 1 != 0
    }

    /// Clock tick of the kernel, the resolution of the times of sending and receiving, milliseconds.
    pub(crate) fn tick_ms(self) -> f64 {
        self.reset.internals.tick_ms.unwrap_or(TICK_MAX_MS)
    }

    /// Smoothed round trip of the connection, milliseconds; `None` if it was not measured.
    pub(crate) fn rtt_ms(self) -> Option<f64> {
        self.socket.rtt_us.map(|rtt| f64::from(rtt) / 1000.0)
    }

    /// Returns whether sent data were not acknowledged.
    pub(crate) fn has_unacked(self) -> bool {
        self.unacked_bytes() > 0
    }

    fn unacked_bytes(self) -> u64 {
        self.socket.unacked_bytes.unwrap_or(0)
    }

    /// Returns whether the process was still sending: data were unsent or not acknowledged.
    pub(crate) fn is_sending(self) -> bool {
        self.has_unacked() || self.has_unsent()
    }

    /// Returns whether the process had written data that were not sent yet.
    pub(crate) fn has_unsent(self) -> bool {
        self.socket.unsent_bytes.is_some_and(|bytes| bytes > 0)
    }

    /// Returns whether received data had not been read by the process.
    pub(crate) fn has_unread(self) -> bool {
        self.socket.unread_bytes.is_some_and(|bytes| bytes > 0)
    }

    /// Returns whether the process goes on sending, without a pause, while the response lies in its buffer unread: the
    /// peer responded early. Data that came before a pause, such as an unasked 408 or the last words of a session, are no
    /// response to what is sent after it.
    pub(crate) fn sends_despite_unread_response(self) -> bool {
        let socket = self.socket;
        let sent_later =
            socket.since_send_ms.zip(socket.since_receive_ms).is_some_and(|(send, receive)| send <= receive);
        let has_ended = self.fin_order() == FinOrder::BeforeSend;
        let pause = if has_ended { PAUSE_AFTER_FIN_MS.max(2.0 * self.rtt_ms().unwrap_or(0.0)) } else { PAUSE_MIN_MS };
        let paused = socket.idle_before_send_ms.is_some_and(|idle| idle >= pause);
        self.has_unread() && sent_later && !paused
    }

    /// Returns whether this host ever sent data on the connection.
    pub(crate) fn has_sent(self) -> bool {
        self.socket.bytes_sent.is_some_and(|bytes| bytes > 0)
    }

    /// Returns whether the peer ever sent data on the connection.
    pub(crate) fn has_received(self) -> bool {
        self.socket.bytes_received.is_some_and(|bytes| bytes > 0)
    }

    /// Returns whether no data were sent either way.
    pub(crate) fn exchanged_no_data(self) -> bool {
        !self.has_sent() && !self.has_received()
    }

    /// Returns whether the reset came within about two round trips after the data that were sent last.
    pub(crate) fn is_prompt(self) -> bool {
        let limit = self.rtt_ms().map_or(UNMEASURED_ANSWER_MS, |rtt| 2.0 * rtt + ANSWER_SLACK_MS) + self.tick_ms();
        self.socket.since_send_ms.is_some_and(|since| since <= limit)
    }

    /// Returns whether the reset may answer the data that were sent last: these are not acknowledged, and the reset
    /// came within about two round trips, or without an acknowledgement number. A reset that answers a packet has none
    /// (RFC 9293, 3.10.7.1), one of a process has.
    pub(crate) fn answers_our_send(self) -> bool {
        let has_no_ack = self.reset.packet.as_ref().is_some_and(|packet| packet.flags.0 & tcp_flag::ACK == 0);
        self.has_unacked() && (self.is_prompt() || has_no_ack)
    }

    /// Returns whether the reset may answer data that were sent to a peer that had closed: it came before they were
    /// sent again. A peer that still reads would have acknowledged them by then.
    pub(crate) fn answers_before_rto(self) -> bool {
        let sent_once = self.socket.retransmits == Some(0);
        self.has_unacked() && sent_once && self.socket.since_send_ms.is_some_and(|since| since <= RTO_MIN_MS)
    }

    /// Returns whether the reset came one round trip after the handshake: it is the answer of the peer's kernel to the
    /// last packet of the handshake, or to data right behind it.
    pub(crate) fn just_established(self) -> bool {
        let limit = 1.5 * self.rtt_ms().unwrap_or(0.0) + KERNEL_ANSWER_SLACK_MS;
        !self.has_received() && self.reset.internals.established_ms.is_some_and(|since| since <= limit)
    }

    /// Returns whether the data that were sent last may be a TLS closing alert, with which nothing is lost.
    pub(crate) fn may_be_closing_alert(self) -> bool {
        tls_alerts::is_closing_alert(self.unacked_bytes()) && !self.has_unsent()
    }

    /// Whether a socket that knew the connection made the reset: `Some(true)` for one with a timestamp, `Some(false)` for
    /// one without on a connection that has them. `None` where the connection has no timestamps, or it is not known.
    ///
    /// Linux answers a segment that meets no connection without any option, and so do packet filters. A process's reset
    /// has the connection's options (`tcp_send_active_reset`).
    pub(crate) fn timestamp(self) -> Option<bool> {
        self.reset.segment.timestamp
    }

    /// Returns whether something that did not know the connection made the reset, in answer to no FIN of it: its TCP had
    /// no FIN before. A peer that had closed, and answers what came too late, has no timestamp either.
    pub(crate) fn is_of_unknown_connection(self) -> bool {
        self.timestamp() == Some(false) && self.socket.fin_received_ms.is_none() && self.fin_order() == FinOrder::None
    }

    /// Returns whether the peer has sent nothing since this side began to send its last data.
    pub(crate) fn has_no_response(self) -> bool {
        let began = self.reset.internals.burst_ms.or(self.socket.since_send_ms);
        match (began, self.socket.since_receive_ms) {
            // What came within a round trip cannot answer it.
            (Some(began), Some(received)) => received > began - self.rtt_ms().unwrap_or(0.0) + self.tick_ms(),
            (began, _) => began.is_some(),
        }
    }

    /// Returns whether the peer's FIN and this side's last data crossed on the path: the peer had not seen the first of
    /// them when it closed. FIN and data then set out within a round trip.
    pub(crate) fn crossed_with_fin(self) -> bool {
        let Some((fin, began)) = self.socket.fin_received_ms.zip(self.reset.internals.burst_ms) else { return false };
        self.fin_order() == FinOrder::AfterSend && began - fin <= self.rtt_ms().unwrap_or(0.0) + 2.0 * self.tick_ms()
    }

    /// Returns whether something of this side's may have provoked the reset: data, a probe, or the acknowledgement of
    /// data that have just come.
    pub(crate) fn may_have_provoked(self) -> bool {
        let limit = self.rtt_ms().map_or(UNMEASURED_ANSWER_MS, |rtt| 2.0 * rtt + ANSWER_SLACK_MS)
            + DELAYED_ACK_MAX_MS
            + self.tick_ms();
        let lately = |since: Option<f64>| since.is_some_and(|since| since <= limit);
        self.has_unacked()
            || self.reset.internals.probes_out > 0
            || lately(self.socket.since_receive_ms)
            || lately(self.socket.since_send_ms)
            || lately(self.reset.internals.established_ms)
    }

    /// Order of the peer's FIN and the data that the reset answers.
    ///
    /// The times of sending have the resolution of a tick. Where that does not decide, the round trip does: FIN and
    /// reset keep their order on the path, so the reset follows the FIN at the interval at which the peer sent them,
    /// and data that were sent after the FIN came are answered a whole round trip after it. Of a long upload, some data
    /// are always in flight.
    pub(crate) fn fin_order(self) -> FinOrder {
        if !matches!(self.state(), tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING) {
            return FinOrder::None;
        }
        // A FIN without a time came before the start of the trace.
        let Some(fin) = self.socket.fin_received_ms else { return FinOrder::BeforeSend };
        let Some(began) = self.reset.internals.burst_ms.or(self.socket.since_send_ms) else {
            return FinOrder::BeforeSend;
        };
        let tick = self.tick_ms();
        if began - tick > fin {
            FinOrder::AfterSend
        } else if began + tick < fin || !self.has_unsent() && self.rtt_ms().is_none_or(|rtt| fin > rtt) {
            FinOrder::BeforeSend
        } else {
            FinOrder::AfterSend
        }
    }

    /// Time since data were last sent either way, milliseconds; of a connection without data, since the handshake. Where the
    /// peer's FIN has come since, the time until that. `None` if that is not known.
    pub(crate) fn idle_ms(self) -> Option<f64> {
        let socket = self.socket;
        let since = match (socket.since_send_ms, socket.since_receive_ms) {
            (Some(send), Some(receive)) => send.min(receive),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => self.reset.internals.established_ms?,
        };
        Some(since - socket.fin_received_ms.filter(|&fin| fin <= since).unwrap_or(0.0))
    }

    /// Returns whether this side had sent data last, which were not acknowledged or had waited for an answer for a second at
    /// most.
    pub(crate) fn has_just_sent(self) -> bool {
        self.has_unacked()
            || self.request_outstanding()
                && self.has_role(Role::Client)
                && self.socket.since_send_ms.is_some_and(|since| since <= JUST_SENT_MS)
    }

    /// Idle time that a timeout would have to match, milliseconds: the one before the peer's FIN if this side sent after
    /// that, the one before the last send if that was just now, otherwise the one before the reset.
    pub(crate) fn relevant_idle_ms(self) -> Option<f64> {
        match self.silence_before_fin_ms() {
            Some(silence) if self.has_unacked() => Some(silence),
            _ if self.has_just_sent() => self.socket.idle_before_send_ms,
            _ => self.idle_ms(),
        }
    }

    /// Returns whether the last data were a request: the client had sent and received no response, or the server owed
    /// one. `false` if the role is not known.
    pub(crate) fn request_outstanding(self) -> bool {
        let socket = self.socket;
        let (asked, answered) = match socket.role {
            Some(Role::Client) => (socket.since_send_ms, socket.since_receive_ms),
            Some(Role::Server) => (socket.since_receive_ms, socket.since_send_ms),
            _ => return false,
        };
        match (asked, answered) {
            (Some(asked), Some(answered)) => asked + self.tick_ms() < answered,
            (asked, answered) => asked.is_some() && answered.is_none(),
        }
    }

    /// [`has_foreign_ttl`] of this reset.
    pub(crate) fn has_foreign_ttl(self) -> Option<bool> {
        has_foreign_ttl(self.reset)
    }

    /// Window of the reset; `None` if its header was not seen. The kernel of a peer that knows no such connection sends
    /// 0, a process that aborts one mostly sends more.
    pub(crate) fn window(self) -> Option<u16> {
        self.reset.packet.as_ref().map(|packet| packet.window)
    }
}

/// Returns whether the TTL of a reset differs from that of the peer's own packets; `None` if one of the two is not
/// known.
///
/// What was made without a socket, from a hop nearer than the peer, is foreign: NATs, load balancers and firewalls are often
/// one hop before the peer. Any other reset may have taken another route.
pub(crate) fn has_foreign_ttl(reset: &Reset) -> Option<bool> {
    let packet = reset.packet.as_ref()?;
    let own = packet.handshake_ttl.or(reset.internals.correlation.peer_ttl)?;
    let is_stateless = RstOrigin::of(packet, reset.family) == RstOrigin::Stateless;
    Some(is_stateless && packet.ttl > own || packet.ttl.abs_diff(own) > TTL_TOLERANCE)
}
