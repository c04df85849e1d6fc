//! Follows the connections of a capture, and makes a record of each reset.

use std::{fmt, num::NonZeroUsize};

use lru::LruCache;
use rsttrace_common::abi::{tcp, tcp_flag};

use super::{
    followed::{End, Followed},
    half::{SentSegment, is_after},
    perspective::Perspective,
    tcp_segment::TcpSegment,
    wire_reset::{Sent, WireReset},
};
use crate::model::{Endpoint, Ignored, Reset};

/// Connections that are followed at once, closed ones included: the one without packets for the longest time is forgotten.
/// Each takes about half a kilobyte.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(131_072).unwrap();

/// What a segment has shown.
#[derive(Debug)]
pub enum Captured {
    /// A reset that ended a connection, or answered what belongs to none.
    Reset(Box<Reset>),
    /// A reset that ended nothing.
    Ignored(Box<Ignored>),
}

/// What was followed, and what was left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct FollowedCounts {
    /// Segments of TCP.
    pub segments: u64,
    /// Copies of packets that were there already.
    pub copies: u64,
    /// Segments with the reset flag, without copies.
    pub resets: u64,
    /// Those of them between other hosts than `--local` names.
    pub of_others: u64,
    /// Those of them that ended nothing.
    pub ignored: u64,
    /// Those of them of connections of which only one end's packets were captured.
    pub one_sided: u64,
    /// Connections that were forgotten while they were open.
    pub forgotten: u64,
}

/// Follows connections.
pub struct Follower {
    connections: LruCache<(Endpoint, Endpoint), Followed, foldhash::fast::RandomState>,
    perspective: Perspective,
    /// Number of the capture.
    capture: u64,
    counts: FollowedCounts,
}

impl Follower {
    /// Begins with nothing. `capture` is a number that no other capture of the run has.
    pub fn new(perspective: Perspective, capture: u64) -> Self {
        let connections = LruCache::with_hasher(CONNECTIONS, foldhash::fast::RandomState::default());
        Self { connections, perspective, capture, counts: FollowedCounts::default() }
    }

    /// Which host is this one.
    pub const fn perspective(&self) -> &Perspective {
        &self.perspective
    }

    /// What was followed so far.
    pub const fn counts(&self) -> &FollowedCounts {
        &self.counts
    }

    /// Takes the next segment, and hands on the records that it makes: none, or up to two where both ends are this host's.
    pub fn follow(&mut self, segment: &TcpSegment, out: &mut impl FnMut(Captured)) {
        self.counts.segments += 1;
        let key = (segment.from.min(segment.to), segment.from.max(segment.to));
        let is_reset = segment.has(tcp_flag::RST);
        let connection = match self.connections.get_mut(&key) {
            Some(_) => self.connections.get_mut(&key),
            None => {
                let oldest = self.connections.push(key, Followed::new(key.0, key.1));
                let was_open = oldest.is_some_and(|(_, oldest)| oldest.ended.is_none());
                self.counts.forgotten += u64::from(was_open);
                self.connections.peek_mut(&key)
            }
        };
        let Some(connection) = connection else { return };
        if !is_reset {
            let from = connection.sender(segment);
            if connection.half_mut(from).is_copy(segment) {
                self.counts.copies += 1;
            } else {
                connection.take(segment);
            }
            return;
        }
        let mut following =
            ResetFollowing { connection, perspective: &self.perspective, counts: &mut self.counts, capture: self.capture };
        following.reset(segment, out);
    }
}

/// The parts of [`Follower`] that a reset needs.
struct ResetFollowing<'a> {
    connection: &'a mut Followed,
    perspective: &'a Perspective,
    counts: &'a mut FollowedCounts,
    capture: u64,
}

impl ResetFollowing<'_> {
    fn reset(&mut self, segment: &TcpSegment, out: &mut impl FnMut(Captured)) {
        // An answer to the SYN of a new attempt is one to a new connection.
        self.connection.take_attempt(segment);
        let from = self.connection.sender(segment);
        let to = from.other();
        let sent = sent_as(self.connection, from, segment);
        let copies_max = self.connection.half(from).copies_max.max(self.connection.half(to).copies_max);
        if self.connection.half_mut(from).is_copied_reset(segment, copies_max) {
            self.counts.copies += 1;
            return;
        }
        self.connection.half_mut(from).remember(segment);
        if let Sent::Answer(Some(_)) = &sent {
            mark_answered(self.connection, from, segment);
        }
        self.counts.resets += 1;
        let is_host = |end| self.perspective.is_host(self.connection.endpoint(end).address);
        let is_other = !is_host(from) && !is_host(to);
        if is_other && !self.perspective.has_others() {
            self.counts.of_others += 1;
            return self.end(from, &sent, segment);
        }
        self.counts.one_sided += u64::from(self.connection.is_known() && !self.connection.is_two_sided());
        let of = |end| WireReset { connection: self.connection, segment, end, capture: self.capture };
        if is_host(from) {
            out(Captured::Reset(Box::new(of(from).sent(&sent))));
        }
        if is_host(to) || is_other {
            match refusal(self.connection, to, segment) {
                None => out(Captured::Reset(Box::new(of(to).received()))),
                Some(refusal) => {
                    self.counts.ignored += 1;
                    let mut ignored = of(to).received();
                    ignored.reason = Some(refusal.into());
                    out(Captured::Ignored(Box::new(ignored.into())));
                    if !is_host(from) {
                        return;
                    }
                }
            }
        }
        self.end(from, &sent, segment);
    }

    /// Ends the connection.
    fn end(&mut self, from: End, sent: &Sent, segment: &TcpSegment) {
        // What refuses a SYN ends the attempt, and later segments are its aftermath.
        if self.connection.ended.is_none() && self.connection.is_known() {
            self.connection.end(from, matches!(sent, Sent::Active), segment.time_ns);
        }
    }
}

/// How the end came to send a reset: one with an acknowledgement is that of a socket, unless it acknowledges a segment that had
/// none itself (RFC 9293, 3.10.7.1).
fn sent_as(connection: &mut Followed, from: End, reset: &TcpSegment) -> Sent {
    let other = connection.half_mut(from.other());
    if !reset.has(tcp_flag::ACK) {
        return Sent::Answer(other.find_answered(|segment| answers(reset, segment)).map(|segment| *segment));
    }
    if reset.seq == 0
        && let Some(provoking) = other.find_answered(|segment| answers(reset, segment))
    {
        return Sent::Answer(Some(*provoking));
    }
    Sent::Active
}

fn mark_answered(connection: &mut Followed, from: End, reset: &TcpSegment) {
    if let Some(provoking) = connection.half_mut(from.other()).find_answered(|segment| answers(reset, segment)) {
        provoking.is_answered = true;
    }
}

/// Whether the numbers of a reset are those of an answer to this segment.
fn answers(reset: &TcpSegment, segment: &SentSegment) -> bool {
    if segment.flags & tcp_flag::RST != 0 {
        return false;
    }
    if segment.flags & tcp_flag::ACK != 0 {
        return !reset.has(tcp_flag::ACK) && reset.seq == segment.ack;
    }
    let flags = u32::from(segment.flags & tcp_flag::SYN != 0) + u32::from(segment.flags & tcp_flag::FIN != 0);
    reset.has(tcp_flag::ACK) && reset.ack == segment.seq.wrapping_add(segment.length).wrapping_add(flags)
}

/// Why the receiver takes no notice of a reset, as Linux names it (`enum skb_drop_reason`); `None` where it ends the connection
/// (RFC 5961, 3.2).
fn refusal(connection: &Followed, to: End, reset: &TcpSegment) -> Option<&'static str> {
    if connection.ended.is_some() {
        return Some("NO_SOCKET");
    }
    let (own, other) = (connection.half(to), connection.half(to.other()));
    match connection.state(to) {
        _ if !connection.is_known() => return None,
        tcp::CLOSE | tcp::LISTEN => return Some("NO_SOCKET"),
        tcp::SYN_SENT => {
            let is_for_syn = reset.has(tcp_flag::ACK) && reset.ack == own.next;
            return if is_for_syn { None } else { Some("TCP_RESET") };
        }
        // A listener has only a request of it.
        tcp::SYN_RECV | tcp::TIME_WAIT => return Some("TCP_RESET"),
        _ => {}
    }
    if !other.is_seen {
        return None;
    }
    // What the receiver expects next lies between what it has acknowledged last and what was sent.
    let is_next = !is_after(other.acked, reset.seq) && !is_after(reset.seq, other.next);
    let is_fin = other.fin_end.is_some_and(|fin| reset.seq == fin.wrapping_sub(1));
    if is_next || is_fin {
        return None;
    }
    let window = own.window.unwrap_or(u32::from(u16::MAX));
    let is_in_window = reset.seq.wrapping_sub(other.next) <= window;
    Some(if is_in_window { "TCP_RESET" } else { "TCP_INVALID_SEQUENCE" })
}

/// What was left out, in sentences; nothing where that is nothing.
impl fmt::Display for FollowedCounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { copies, of_others, ignored, one_sided, forgotten, .. } = *self;
        let mut separator = "";
        for (count, what) in [
            (copies, "packets were there twice"),
            (of_others, "resets were between other hosts than --local names"),
            (ignored, "resets ended nothing: too late, or with numbers that no system takes (--ignored shows them)"),
            (one_sided, "resets were of connections of which one direction alone was captured"),
            (forgotten, "open connections were forgotten, since too many were open at once"),
        ] {
            if count > 0 {
                write!(formatter, "{separator}{count} {what}")?;
                separator = "; ";
            }
        }
        Ok(())
    }
}
