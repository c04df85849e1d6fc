//! A connection as the packets of a capture show it.

use rsttrace_common::abi::{tcp, tcp_flag};

use super::{
    half::{Half, is_after},
    tcp_segment::TcpSegment,
};
use crate::model::Endpoint;

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The first of the connection's ends.
    A,
    /// The second.
    B,
}

impl End {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// How a connection was ended by a reset.
#[derive(Clone, Copy)]
pub(super) struct EndedByReset {
    pub(super) at_ns: u64,
    /// The end whose address the reset has.
    pub(super) by: End,
    /// Whether a socket of that end made it, rather than in answer to a segment.
    pub(super) is_active: bool,
    /// States of the two ends at that moment (`TCP_*`).
    states: [u8; 2],
}

/// An attempt to open a connection on the ports of one that is known.
#[derive(Clone, Copy)]
struct NewAttempt {
    from: End,
    syn: TcpSegment,
}

/// A connection.
#[derive(Clone)]
pub(super) struct Followed {
    ends: [Endpoint; 2],
    halves: [Half; 2],
    /// The end that sent the first SYN.
    pub(super) opener: Option<End>,
    /// When the SYN-ACK came, and when the handshake was done.
    pub(super) accepted_ns: Option<u64>,
    pub(super) established_ns: Option<u64>,
    pub(super) ended: Option<EndedByReset>,
    attempt: Option<Box<NewAttempt>>,
}

impl Followed {
    /// A connection between the ends of a segment, of which nothing is known.
    pub(super) fn new(a: Endpoint, b: Endpoint) -> Self {
        Self {
            ends: [a, b],
            halves: [Half::default(), Half::default()],
            opener: None,
            accepted_ns: None,
            established_ns: None,
            ended: None,
            attempt: None,
        }
    }

    pub(super) const fn endpoint(&self, end: End) -> Endpoint {
        self.ends[end as usize]
    }

    pub(super) const fn half(&self, end: End) -> &Half {
        &self.halves[end as usize]
    }

    pub(super) const fn half_mut(&mut self, end: End) -> &mut Half {
        &mut self.halves[end as usize]
    }

    /// The end that sent a segment.
    pub(super) fn sender(&self, segment: &TcpSegment) -> End {
        if segment.from == self.ends[0] { End::A } else { End::B }
    }

    /// Whether segments of both ends were captured.
    pub(super) const fn is_two_sided(&self) -> bool {
        self.halves[0].is_seen && self.halves[1].is_seen
    }

    /// Whether anything was captured of it.
    pub(super) const fn is_known(&self) -> bool {
        self.halves[0].is_seen || self.halves[1].is_seen
    }

    /// State of an end (`TCP_*`), after what was captured.
    pub(super) fn state(&self, end: End) -> u8 {
        if let Some(ended) = &self.ended {
            return ended.states[end as usize];
        }
        self.live_state(end)
    }

    fn live_state(&self, end: End) -> u8 {
        if self.attempt.as_ref().is_some_and(|attempt| attempt.from == end) {
            return tcp::SYN_SENT;
        }
        if let Some(opener) = self.opener.filter(|_| self.established_ns.is_none()) {
            let is_opener = opener == end;
            match self.accepted_ns {
                None if is_opener => return tcp::SYN_SENT,
                None => return tcp::LISTEN,
                Some(_) if !is_opener => return tcp::SYN_RECV,
                // The SYN-ACK has made the connection for the end that opened it.
                Some(_) => {}
            }
        }
        let (own, other) = (self.half(end), self.half(end.other()));
        match (own.fin_end.is_some(), other.fin_end.is_some()) {
            (false, false) => tcp::ESTABLISHED,
            (false, true) => tcp::CLOSE_WAIT,
            (true, false) if own.is_fin_acked() => tcp::FIN_WAIT2,
            (true, false) => tcp::FIN_WAIT1,
            (true, true) if own.fin_acknowledges_fin => {
                if own.is_fin_acked() {
                    tcp::CLOSE
                } else {
                    tcp::LAST_ACK
                }
            }
            (true, true) if own.is_fin_acked() => tcp::TIME_WAIT,
            (true, true) => tcp::CLOSING,
        }
    }

    /// Whether both ends have closed and nothing is left of it but TIME_WAIT, or a reset has ended it.
    pub(super) fn is_closed(&self) -> bool {
        let is_over = |end| matches!(self.live_state(end), tcp::TIME_WAIT | tcp::CLOSE);
        self.ended.is_some() || is_over(End::A) && is_over(End::B)
    }

    /// Ends it by a reset.
    pub(super) fn end(&mut self, by: End, is_active: bool, at_ns: u64) {
        let states = [self.live_state(End::A), self.live_state(End::B)];
        self.ended = Some(EndedByReset { at_ns, by, is_active, states });
    }

    /// Takes a segment other than a reset, and not the copy of one before.
    pub(super) fn take(&mut self, segment: &TcpSegment) {
        let from = self.sender(segment);
        if segment.is_syn() {
            let is_first = !self.is_known();
            let is_repeated = self.half(from).isn == Some(segment.seq) && self.ended.is_none();
            if !is_first && !is_repeated {
                if !self.is_closed() {
                    // The other end may still have the connection, and decides whether a new one begins.
                    let is_repeated = |attempt: &NewAttempt| attempt.syn.seq == segment.seq;
                    if !self.attempt.as_deref().is_some_and(is_repeated) {
                        self.attempt = Some(Box::new(NewAttempt { from, syn: *segment }));
                    }
                    self.half_mut(from).remember(segment);
                    return;
                }
                self.begin_anew();
            }
            self.opener = self.opener.or(Some(from));
        } else if segment.has(tcp_flag::SYN | tcp_flag::ACK) {
            self.accept(from, segment);
        }
        self.follow(from, segment);
    }

    /// Forgets the connection: another begins on its ports.
    fn begin_anew(&mut self) {
        let [a, b] = self.ends;
        *self = Self::new(a, b);
    }

    /// Begins the connection of an attempt, if this segment's acknowledgement is for its SYN. Returns whether it is.
    pub(super) fn take_attempt(&mut self, segment: &TcpSegment) -> bool {
        let from = self.sender(segment);
        let is_for = |attempt: &NewAttempt| {
            attempt.from != from && segment.ack == attempt.syn.seq.wrapping_add(1) && segment.has(tcp_flag::ACK)
        };
        let Some(attempt) = self.attempt.take_if(|attempt| is_for(attempt)) else { return false };
        self.begin_anew();
        self.opener = Some(attempt.from);
        self.follow(attempt.from, &attempt.syn);
        true
    }

    /// Takes a SYN-ACK.
    fn accept(&mut self, from: End, segment: &TcpSegment) {
        self.take_attempt(segment);
        // A capture that begins here has not seen the SYN.
        self.opener = self.opener.or(Some(from.other()));
        if self.accepted_ns.is_none() {
            self.accepted_ns = Some(segment.time_ns);
            self.half_mut(from).handshake_ttl = Some(segment.ttl);
        }
    }

    fn follow(&mut self, from: End, segment: &TcpSegment) {
        let to = from.other();
        if segment.has(tcp_flag::ACK) {
            let has_new_data = self.half_mut(to).acknowledge(segment.ack, segment.time_ns);
            // What an end acknowledges after its FIN, it has taken: it had closed for sending alone.
            if has_new_data && self.half(from).fin_end.is_some() {
                self.half_mut(to).take_all();
            }
            if self.opener == Some(from) && self.accepted_ns.is_some() && self.established_ns.is_none() {
                self.established_ns = Some(segment.time_ns);
                self.half_mut(from).handshake_ttl = Some(segment.ttl);
            }
        }
        let (other_data_ns, window) = (self.half(to).taken_ns, self.half(to).window);
        let half = self.half_mut(from);
        half.send(segment, other_data_ns, window);
        half.remember(segment);
        if self.half(to).fin_end.is_none() {
            self.half_mut(from).take_all();
        }
        if segment.has(tcp_flag::FIN) {
            let other_fin = self.half(to).fin_end;
            let acknowledges = other_fin.is_some_and(|fin| !is_after(fin, segment.ack));
            let half = self.half_mut(from);
            if half.fin_end == Some(segment.end()) && half.fin_ns == Some(segment.time_ns) {
                half.fin_acknowledges_fin = acknowledges;
                self.half_mut(to).take_no_more_than(segment.ack);
            }
        }
    }
}
