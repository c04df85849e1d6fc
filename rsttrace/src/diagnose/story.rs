//! What the figures of a received reset say of the story of its connection: questions that several rules ask.

use rsttrace_common::abi::{tcp, tcp_flag};

use crate::model::{Direction, Reset, Role, Socket};

/// A tick where the kernel's rate is not known: the longest there is.
const LONGEST_TICK_MS: f64 = 10.0;
/// A quick answer where no round trip was measured.
const SOME_ROUND_TRIP_MS: f64 = 50.0;
/// How much longer than two round trips an answer may take and still be one: the peer's own time.
const ANSWER_SLACK_MS: f64 = 5.0;
/// The shortest time after which Linux sends again (`TCP_RTO_MIN`).
const RTO_MIN_MS: f64 = 200.0;
/// How much longer than one and a half round trips the answer of a *kernel* may take.
const KERNEL_SLACK_MS: f64 = 0.1;
/// TTLs of one peer differ by no more than this: paths change by a hop or two.
const SAME_TTL: u8 = 2;
/// A silence that is no mere pause in sending.
const PAUSE_MS: f64 = 500.0;
/// What TLS says last: an encrypted closing alert, in the sizes of the ciphers in use.
const CLOSING_ALERTS: [u64; 5] = [23, 24, 31, 53, 69];

/// Which came first, the peer's FIN or the data to which the reset is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// No FIN came.
    NoFin,
    /// The FIN had come before the data were sent.
    FinFirst,
    /// The data were on their way when the FIN came.
    SendFirst,
}

/// A received reset with the socket that it hit.
#[derive(Clone, Copy)]
pub(crate) struct Story<'a> {
    pub(crate) reset: &'a Reset,
    pub(crate) socket: &'a Socket,
}

impl<'a> Story<'a> {
    /// The story of a received reset.
    pub(crate) fn of(reset: &'a Reset) -> Option<Self> {
        let socket = reset.socket.as_ref().filter(|_| reset.direction == Direction::Received)?;
        Some(Self { reset, socket })
    }

    pub(crate) fn state(self) -> u8 {
        self.socket.state.0
    }

    pub(crate) fn is(self, role: Role) -> bool {
        self.socket.role == Some(role)
    }

    /// The connection was in use: the process had not closed it. Shutting down for sending alone is no close, whoever
    /// does that waits for the answer.
    pub(crate) fn in_use(self) -> bool {
        match self.state() {
            tcp::ESTABLISHED | tcp::CLOSE_WAIT | tcp::SYN_RECV => true,
            tcp::FIN_WAIT1 | tcp::FIN_WAIT2 => !self.closed(),
            _ => false,
        }
    }

    /// The process had closed the connection, or shut it down for receiving too.
    fn closed(self) -> bool {
        let facts = &self.reset.facts;
        facts.dead || facts.orphan || facts.shutdown & 1 != 0
    }

    pub(crate) fn tick_ms(self) -> f64 {
        self.reset.facts.tick_ms.unwrap_or(LONGEST_TICK_MS)
    }

    pub(crate) fn rtt_ms(self) -> Option<f64> {
        self.socket.rtt_us.map(|rtt| f64::from(rtt) / 1000.0)
    }

    /// Sent data were not acknowledged.
    pub(crate) fn in_flight(self) -> bool {
        self.unacked() > 0
    }

    fn unacked(self) -> u64 {
        self.socket.unacked_bytes.unwrap_or(0)
    }

    /// The process was still sending.
    pub(crate) fn sending(self) -> bool {
        self.in_flight() || self.has_unsent()
    }

    /// The process had written more than could be sent.
    pub(crate) fn has_unsent(self) -> bool {
        self.socket.unsent_bytes.is_some_and(|bytes| bytes > 0)
    }

    /// Data had come that the process had not read.
    pub(crate) fn has_unread(self) -> bool {
        self.socket.unread_bytes.is_some_and(|bytes| bytes > 0)
    }

    /// The process goes on sending, without a pause, while the answer lies there unread: it has been answered early. What
    /// came unasked before a long silence, such as a 408, is no answer to what is sent after it.
    pub(crate) fn talks_over_the_answer(self) -> bool {
        let socket = self.socket;
        let sent_later =
            socket.since_send_ms.zip(socket.since_receive_ms).is_some_and(|(send, receive)| send <= receive);
        let paused = socket.idle_before_send_ms.is_some_and(|idle| idle >= PAUSE_MS);
        self.has_unread() && sent_later && !paused
    }

    pub(crate) fn has_sent(self) -> bool {
        self.socket.bytes_sent.is_some_and(|bytes| bytes > 0)
    }

    pub(crate) fn has_received(self) -> bool {
        self.socket.bytes_received.is_some_and(|bytes| bytes > 0)
    }

    /// Nothing was ever sent either way.
    pub(crate) fn wordless(self) -> bool {
        !self.has_sent() && !self.has_received()
    }

    /// The reset may be the answer to what we sent last: it came about one round trip after that, or it has no
    /// acknowledgement number, as a reset that answers a packet has not (RFC 9293, 3.10.7.1) and one of a process has.
    pub(crate) fn answers_our_send(self) -> bool {
        let limit = self.rtt_ms().map_or(SOME_ROUND_TRIP_MS, |rtt| 2.0 * rtt + ANSWER_SLACK_MS) + self.tick_ms();
        let at_once = self.socket.since_send_ms.is_some_and(|since| since <= limit);
        let says_so = self.reset.packet.as_ref().is_some_and(|packet| packet.flags.0 & tcp_flag::ACK == 0);
        self.in_flight() && (at_once || says_so)
    }

    /// The same for what was sent to a peer that had closed: it came before we had to send that again. A peer that still
    /// reads would have acknowledged it by then.
    pub(crate) fn answers_late(self) -> bool {
        let sent_once = self.socket.retransmits == Some(0);
        self.in_flight() && sent_once && self.socket.since_send_ms.is_some_and(|since| since <= RTO_MIN_MS)
    }

    /// The reset came one round trip after the handshake: it is the answer of the peer's kernel to its last packet, or
    /// to data that followed at once.
    pub(crate) fn newborn(self) -> bool {
        let round_trip = self.rtt_ms().unwrap_or(0.0);
        let limit = 1.5 * round_trip + KERNEL_SLACK_MS;
        !self.has_received() && self.reset.facts.established_ms.is_some_and(|since| since <= limit)
    }

    /// What was sent last may have been a TLS closing alert: nothing is lost with it.
    pub(crate) fn may_be_closing_alert(self) -> bool {
        CLOSING_ALERTS.contains(&self.unacked())
    }

    /// Whether the peer's FIN had come before the data that the reset answers were sent.
    ///
    /// The times of sending are as fine as a tick. Where that does not decide, the round trip does: FIN and reset keep
    /// their order, so the reset follows the FIN at the distance at which the peer sent them, and data that were sent
    /// only when the FIN was here are answered a whole round trip after it. Of a long upload, some are always on the way.
    pub(crate) fn order(self) -> Order {
        if !matches!(self.state(), tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING) {
            return Order::NoFin;
        }
        // A FIN that was not seen came before the start.
        let Some(fin) = self.socket.fin_received_ms else { return Order::FinFirst };
        let Some(began) = self.reset.facts.burst_ms.or(self.socket.since_send_ms) else { return Order::FinFirst };
        let tick = self.tick_ms();
        if began - tick > fin {
            Order::SendFirst
        } else if began + tick < fin || !self.has_unsent() && self.rtt_ms().is_none_or(|rtt| fin > rtt) {
            Order::FinFirst
        } else {
            Order::SendFirst
        }
    }

    /// Since anything last went either way; the age of a connection on which nothing ever did.
    pub(crate) fn silence_ms(self) -> Option<f64> {
        let socket = self.socket;
        match (socket.since_send_ms, socket.since_receive_ms) {
            (Some(send), Some(receive)) => Some(send.min(receive)),
            (Some(one), None) | (None, Some(one)) => Some(one),
            (None, None) => self.reset.facts.established_ms,
        }
    }

    /// The silence that a timeout would have to do with: before our last send if the reset answers that, else before
    /// the reset.
    pub(crate) fn telling_silence_ms(self) -> Option<f64> {
        if self.in_flight() { self.socket.idle_before_send_ms } else { self.silence_ms() }
    }

    /// The last word was a question: the client had sent and had no answer, or the server owed one.
    pub(crate) fn awaits_answer(self) -> bool {
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

    /// Whether the reset's own TTL is another than the peer's; `None` where one of the two is not known.
    pub(crate) fn foreign_ttl(self) -> Option<bool> {
        foreign_ttl(self.reset)
    }

    /// The window of the reset, where a hook shows it: the kernel of a peer that knows no connection has none to offer,
    /// a process that aborts one mostly has.
    pub(crate) fn window(self) -> Option<u16> {
        self.reset.packet.as_ref().map(|packet| packet.window)
    }
}

/// Whether a reset's own TTL is another than the peer's.
pub(crate) fn foreign_ttl(reset: &Reset) -> Option<bool> {
    let packet = reset.packet.as_ref()?;
    let own = packet.handshake_ttl.or(reset.facts.neighbours.peer_ttl)?;
    Some(packet.ttl.abs_diff(own) > SAME_TTL)
}
