//! Follows the connections of a capture, and makes a record of each reset.

use std::{fmt, num::NonZeroUsize};

use lru::LruCache;
use rsttrace_common::abi::{tcp, tcp_flag};

use super::{
    captured_path::{CapturedConnection, CapturedPath, CapturedSide},
    followed::{End, Followed},
    half::{SentSegment, is_after},
    perspective::{Inference, Perspective},
    tcp_segment::TcpSegment,
    vantage::{Handshake, Vantage},
    wire_reset::{Sent, WireReset},
};
use crate::model::{Endpoint, Ignored, Reset};

/// Open connections that are followed at once: beyond that the one without packets for the longest time is forgotten. Each takes
/// about a kilobyte.
const OPEN: NonZeroUsize = NonZeroUsize::new(131_072).unwrap();
/// Closed connections that are remembered for what comes late.
const CLOSED: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// Connections by their two ends, the lower one first.
type Connections = LruCache<(Endpoint, Endpoint), Box<Followed>, foldhash::fast::RandomState>;

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
    /// Segments with an earlier time than the one before.
    pub disordered: u64,
}

/// Follows connections.
pub struct Follower {
    open: Connections,
    closed: Connections,
    perspective: Perspective,
    /// Number of the capture.
    capture: u64,
    /// Time of the last segment, nanoseconds since 1970.
    last_ns: u64,
    /// Earliest and latest time of a segment.
    span_ns: Option<(u64, u64)>,
    counts: FollowedCounts,
    vantage: Vantage,
}

impl Follower {
    /// Begins with nothing. `capture` is a number that no other capture of the run has.
    pub fn new(perspective: Perspective, capture: u64) -> Self {
        let connections = |most| LruCache::with_hasher(most, foldhash::fast::RandomState::default());
        Self {
            open: connections(OPEN),
            closed: connections(CLOSED),
            perspective,
            capture,
            last_ns: 0,
            span_ns: None,
            counts: FollowedCounts::default(),
            vantage: Vantage::default(),
        }
    }

    /// Which host is this one.
    pub const fn perspective(&self) -> &Perspective {
        &self.perspective
    }

    /// Changes which host is this one.
    pub fn look_from(&mut self, perspective: Perspective) {
        self.perspective = perspective;
    }

    /// Earliest and latest time of a segment, nanoseconds since 1970; `None` before the first.
    pub const fn span_ns(&self) -> Option<(u64, u64)> {
        self.span_ns
    }

    /// What has passed so far.
    pub fn path(&self) -> CapturedPath {
        let connections = self.open.iter().chain(self.closed.iter()).map(|(_, connection)| captured(connection));
        CapturedPath {
            span_ns: self.span_ns,
            perspective: self.perspective.clone(),
            connections: connections.collect(),
            forgotten: self.counts.forgotten,
        }
    }

    /// What was followed so far.
    pub const fn counts(&self) -> &FollowedCounts {
        &self.counts
    }

    /// Where it was captured, as a sentence without a stop; empty where that does not show.
    pub fn vantage(&self) -> String {
        let is_marked = matches!(self.perspective, Perspective::Inferred { by: Inference::Direction, .. });
        self.vantage.describe(is_marked)
    }

    /// Takes the next segment, and hands on the records that it makes: none, or up to two where both ends are this host's.
    pub fn follow(&mut self, segment: &TcpSegment, out: &mut impl FnMut(Captured)) {
        self.counts.segments += 1;
        self.counts.disordered += u64::from(segment.time_ns < self.last_ns);
        self.last_ns = segment.time_ns;
        let (first, last) = self.span_ns.unwrap_or((segment.time_ns, segment.time_ns));
        self.span_ns = Some((first.min(segment.time_ns), last.max(segment.time_ns)));
        let key = (segment.from.min(segment.to), segment.from.max(segment.to));
        let mut following = Following {
            perspective: &self.perspective,
            counts: &mut self.counts,
            vantage: &mut self.vantage,
            capture: self.capture,
        };
        let Some(connection) = self.open.get_mut(&key) else {
            // One that was closed may be opened again, or hear what comes late.
            let mut connection = self.closed.pop(&key).unwrap_or_else(|| Box::new(Followed::new(key.0, key.1)));
            following.segment(&mut connection, segment, out);
            return self.keep(key, connection);
        };
        following.segment(connection, segment, out);
        if connection.is_closed()
            && let Some(connection) = self.open.pop(&key)
        {
            self.keep(key, connection);
        }
    }

    /// Keeps a connection among those of its kind.
    fn keep(&mut self, key: (Endpoint, Endpoint), connection: Box<Followed>) {
        if connection.is_closed() {
            // What is forgotten of these is over.
            drop(self.closed.push(key, connection));
        } else {
            self.counts.forgotten += u64::from(self.open.push(key, connection).is_some());
        }
    }
}

/// A connection as it is known outside.
fn captured(connection: &Followed) -> CapturedConnection {
    let side = |end| {
        let half = connection.half(end);
        CapturedSide {
            end: connection.endpoint(end),
            is_seen: half.is_seen,
            next: half.next,
            ttl: half.handshake_ttl.or(half.ttl),
        }
    };
    CapturedConnection { sides: [side(End::A), side(End::B)] }
}

/// What a segment of any connection needs.
struct Following<'a> {
    perspective: &'a Perspective,
    counts: &'a mut FollowedCounts,
    vantage: &'a mut Vantage,
    capture: u64,
}

impl Following<'_> {
    fn segment(&mut self, connection: &mut Followed, segment: &TcpSegment, out: &mut impl FnMut(Captured)) {
        if segment.has(tcp_flag::RST) {
            return self.reset(connection, segment, out);
        }
        let from = connection.sender(segment);
        if connection.half_mut(from).is_copy(segment) {
            self.counts.copies += 1;
            return;
        }
        let was_established = connection.established_ns.is_some();
        connection.take(segment);
        if !was_established && connection.established_ns.is_some() {
            self.observe_handshake(connection);
        }
    }

    /// Takes what a handshake shows of the place of capture, where one of its ends is this host.
    fn observe_handshake(&mut self, connection: &Followed) {
        let is_host = |end| self.perspective.is_host(connection.endpoint(end).address);
        let host = match (is_host(End::A), is_host(End::B)) {
            (true, false) => End::A,
            (false, true) => End::B,
            _ => return,
        };
        if let Some(handshake) = Handshake::of(connection, host) {
            self.vantage.observe(handshake);
        }
    }

    fn reset(&mut self, connection: &mut Followed, segment: &TcpSegment, out: &mut impl FnMut(Captured)) {
        // An answer to the SYN of a new attempt is one to a new connection.
        connection.take_attempt(segment);
        let from = connection.sender(segment);
        let to = from.other();
        let copies_max = connection.half(from).copies_max.max(connection.half(to).copies_max);
        if connection.half_mut(from).is_copied_reset(segment, copies_max) {
            self.counts.copies += 1;
            return;
        }
        connection.half_mut(from).remember(segment);
        let sent = sent_as(connection, from, segment);
        self.counts.resets += 1;
        let is_host = |end| self.perspective.is_host(connection.endpoint(end).address);
        let is_other = !is_host(from) && !is_host(to);
        if is_other && !self.perspective.has_others() {
            self.counts.of_others += 1;
            return end(connection, from, &sent, segment);
        }
        // What refuses a SYN is all that its sender sends.
        let is_refusal = connection.half(to).is_seen && connection.state(to) == tcp::SYN_SENT;
        self.counts.one_sided += u64::from(connection.is_known() && !connection.is_two_sided() && !is_refusal);
        let (seen, capture) = (&*connection, self.capture);
        let of = |end| WireReset { connection: seen, segment, end, capture };
        if is_host(from) {
            out(Captured::Reset(Box::new(of(from).sent(&sent))));
        }
        if is_host(to) || is_other {
            match refusal(connection, to, segment) {
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
        end(connection, from, &sent, segment);
    }
}

/// Ends a connection, of which later segments are the aftermath.
fn end(connection: &mut Followed, from: End, sent: &Sent, segment: &TcpSegment) {
    if connection.ended.is_none() && connection.is_known() {
        connection.end(from, matches!(sent, Sent::Active), segment.time_ns);
    }
}

/// How the end came to send a reset: one with an acknowledgement is that of a socket, unless it acknowledges a segment that had
/// none itself (RFC 9293, 3.10.7.1).
fn sent_as(connection: &mut Followed, from: End, reset: &TcpSegment) -> Sent {
    let may_be_answer = !reset.has(tcp_flag::ACK) || reset.seq == 0;
    let answered = || connection.half_mut(from.other()).answer(|segment| answers(reset, segment));
    match may_be_answer.then(answered).flatten() {
        None if reset.has(tcp_flag::ACK) => Sent::Active,
        answered => Sent::Answer(answered),
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
        let Self { copies, of_others, ignored, one_sided, forgotten, disordered, .. } = *self;
        let parts = [
            (copies, "packet was there twice", "packets were there twice"),
            (
                of_others,
                "reset was between other hosts than --local names",
                "resets were between other hosts than --local names",
            ),
            (
                ignored,
                "reset ended nothing: too late, or with numbers that no system takes (--ignored shows it)",
                "resets ended nothing: too late, or with numbers that no system takes (--ignored shows them)",
            ),
            (
                one_sided,
                "reset was of a connection of which one direction alone was captured",
                "resets were of connections of which one direction alone was captured",
            ),
            (
                forgotten,
                "open connection was forgotten, since too many were open at once",
                "open connections were forgotten, since too many were open at once",
            ),
            (
                disordered,
                "packet is out of the order of time, which may change a cause (reordercap mends that)",
                "packets are out of the order of time, which may change causes (reordercap mends that)",
            ),
        ];
        write_counts(&parts, formatter).map(|_any| ())
    }
}

/// Writes counts with what they count, in the singular or the plural; those of 0 are left out. Returns whether any was written.
pub(super) fn write_counts(
    parts: &[(u64, &str, &str)],
    formatter: &mut fmt::Formatter<'_>,
) -> Result<bool, fmt::Error> {
    let mut separator = "";
    for (count, one, many) in parts.iter().filter(|(count, ..)| *count > 0) {
        write!(formatter, "{separator}{count} {}", if *count == 1 { one } else { many })?;
        separator = "; ";
    }
    Ok(!separator.is_empty())
}
