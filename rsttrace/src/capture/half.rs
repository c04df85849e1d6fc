//! What one end of a followed connection has sent, and what the other has acknowledged of it.

use rsttrace_common::abi::tcp_flag;

use super::tcp_segment::TcpSegment;

/// Longest time between a packet and its copy, as a mirror port or the device `any` makes them, nanoseconds.
const COPY_MAX_NS: u64 = 5_000_000;
/// Longest time by which an acknowledgement follows data that were sent with it, nanoseconds.
const ACKNOWLEDGEMENT_NS: u64 = 10_000_000;
/// Least distance from the acknowledged data at which a segment is far ahead, bytes.
const AHEAD_MIN: u32 = 1 << 20;
/// Segments of each end that are remembered: those that a reset may answer.
const RECENT: usize = 4;

/// Whether sequence number `a` lies behind `b` (RFC 9293, 3.4).
pub(super) const fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// A segment that was sent lately.
#[derive(Clone, Copy, Default)]
pub(super) struct SentSegment {
    pub(super) time_ns: u64,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) length: u32,
    pub(super) ttl: u8,
    id: Option<u16>,
    timestamp: Option<(u32, u32)>,
    /// Whether a reset has answered it.
    is_answered: bool,
    /// Copies of it that were captured.
    copies: u8,
}

impl SentSegment {
    fn of(segment: &TcpSegment) -> Self {
        Self {
            time_ns: segment.time_ns,
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: segment.window,
            length: segment.length,
            ttl: segment.ttl,
            id: segment.id,
            timestamp: segment.timestamp(),
            is_answered: false,
            copies: 0,
        }
    }

    /// Whether a segment is the same packet, captured a second time. The TTL may differ: a router lies between.
    fn is_copied_by(&self, segment: &TcpSegment) -> bool {
        segment.time_ns.saturating_sub(self.time_ns) <= COPY_MAX_NS
            && (self.seq, self.ack, self.flags, self.window, self.length)
                == (segment.seq, segment.ack, segment.flags, segment.window, segment.length)
            && (self.id, self.timestamp) == (segment.id, segment.timestamp())
    }
}

/// Time from a segment to its acknowledgement, as far as the capture sees it.
#[derive(Clone, Copy, Default)]
pub(super) struct RoundTrip {
    /// Smoothed as TCP does (RFC 6298), nanoseconds; `None` before the first.
    pub(super) smoothed_ns: Option<u64>,
    /// The shortest, nanoseconds.
    pub(super) shortest_ns: Option<u64>,
    /// The segment whose acknowledgement is awaited: its end, and when it was sent.
    awaited: Option<(u32, u64)>,
}

impl RoundTrip {
    fn acknowledged(&mut self, ack: u32, time_ns: u64) {
        let Some((_, sent_ns)) = self.awaited.filter(|(end, _)| !is_after(*end, ack)) else { return };
        self.awaited = None;
        let sample = time_ns.saturating_sub(sent_ns);
        self.shortest_ns = Some(self.shortest_ns.map_or(sample, |shortest| shortest.min(sample)));
        self.smoothed_ns = Some(self.smoothed_ns.map_or(sample, |smoothed| smoothed - smoothed / 8 + sample / 8));
    }
}

/// The last data that were sent without a break: while some of them were not acknowledged.
#[derive(Clone, Copy)]
pub(super) struct DataBurst {
    pub(super) began_ns: u64,
    /// What its first segment acknowledged: what had reached this end when it was sent, wherever it was captured.
    pub(super) ack: u32,
    /// Silence before it; `None` for the first data.
    pub(super) idle_ns: Option<u64>,
}

/// One end's half of a connection. Times are nanoseconds since 1970, `None` for what did not happen or was not captured.
#[derive(Clone, Default)]
pub(super) struct Half {
    /// Whether a segment of it was captured.
    pub(super) is_seen: bool,
    /// Whether its sequence numbers are known, by a segment of its own or by an acknowledgement.
    has_base: bool,
    /// Sequence number of its SYN.
    pub(super) isn: Option<u32>,
    /// When the first SYN was sent.
    pub(super) syn_ns: Option<u64>,
    /// What it sends next.
    pub(super) next: u32,
    /// What the other end has acknowledged.
    pub(super) acked: u32,
    pub(super) bytes_sent: u64,
    pub(super) bytes_acked: u64,
    /// Sequence number behind its FIN.
    pub(super) fin_end: Option<u32>,
    pub(super) fin_ns: Option<u64>,
    /// Whether its FIN acknowledged the other end's.
    pub(super) fin_acknowledges_fin: bool,
    /// When data were last sent.
    pub(super) data_ns: Option<u64>,
    /// When data were last sent that the other end took: before it closed, or with its acknowledgement since.
    pub(super) taken_ns: Option<u64>,
    pub(super) bytes_taken: u64,
    /// When data were last sent, and how many by then, of which the other end has acknowledged all.
    confirmed: (Option<u64>, u64),
    pub(super) burst: Option<DataBurst>,
    /// When data were last acknowledged.
    pub(super) acked_ns: Option<u64>,
    /// Window that it has offered last, bytes; `None` where the scale is not known.
    pub(super) window: Option<u32>,
    window_scale: Option<u8>,
    pub(super) retransmits: u32,
    /// Keep-alive probes that nothing has answered.
    pub(super) probes: u8,
    /// When the last probe was sent.
    pub(super) probe_ns: Option<u64>,
    /// TTL of its segment that completed the handshake.
    pub(super) handshake_ttl: Option<u8>,
    /// TTL of its last segment.
    pub(super) ttl: Option<u8>,
    /// Whether its last segment has a timestamp; `None` where that is not known.
    pub(super) timestamps: Option<bool>,
    /// Whether it has sent one behind the handshake: both ends have agreed on them then (RFC 7323, 3.2).
    pub(super) has_agreed: bool,
    /// Its last timestamp, and when it was sent.
    pub(super) timestamp: Option<(u32, u64)>,
    /// Round trip from the place of capture to the other end and back.
    pub(super) round_trip: RoundTrip,
    recent: [SentSegment; RECENT],
    sent: usize,
    /// Most copies of one of its segments.
    pub(super) copies_max: u8,
}

impl Half {
    /// Payload bytes in flight; `None` where this end's segments were not captured.
    pub(super) fn unacked_bytes(&self) -> Option<u64> {
        let in_flight = self.next.wrapping_sub(self.acked);
        let fin = u32::from(self.fin_end.is_some() && in_flight > 0);
        self.is_seen.then(|| u64::from(in_flight - fin))
    }

    /// Whether the other end has acknowledged its FIN.
    pub(super) fn is_fin_acked(&self) -> bool {
        self.fin_end.is_some_and(|end| !is_after(end, self.acked))
    }

    /// Whether a segment is the copy of one that was captured before; notes that if so.
    pub(super) fn is_copy(&mut self, segment: &TcpSegment) -> bool {
        let copied = self.recent.iter_mut().find(|recent| recent.time_ns != 0 && recent.is_copied_by(segment));
        let Some(copied) = copied else { return false };
        copied.copies = copied.copies.saturating_add(1);
        self.copies_max = self.copies_max.max(copied.copies);
        true
    }

    /// Whether a reset is the copy of one before, where each packet has so many of them. Resets that answer several segments are
    /// alike to the last bit.
    pub(super) fn is_copied_reset(&mut self, reset: &TcpSegment, copies_max: u8) -> bool {
        let is_copied =
            |recent: &&mut SentSegment| recent.time_ns != 0 && recent.copies < copies_max && recent.is_copied_by(reset);
        let Some(copied) = self.recent.iter_mut().find(is_copied) else { return false };
        copied.copies += 1;
        true
    }

    /// Remembers a segment.
    pub(super) fn remember(&mut self, segment: &TcpSegment) {
        if let Some(slot) = self.recent.get_mut(self.sent % RECENT) {
            *slot = SentSegment::of(segment);
        }
        self.sent = self.sent.wrapping_add(1);
    }

    /// The remembered segment that a reset most probably answers, which is answered from here on: the newest one for which this
    /// holds and that no reset has answered yet, rather one with data than an acknowledgement right behind it.
    pub(super) fn answer(&mut self, is_it: impl Fn(&SentSegment) -> bool) -> Option<SentSegment> {
        let is_candidate = |segment: &&mut SentSegment| segment.time_ns != 0 && is_it(segment);
        let answered = self.recent.iter_mut().filter(is_candidate).max_by_key(|segment| {
            let is_acknowledgement = segment.length == 0 && segment.flags & (tcp_flag::SYN | tcp_flag::FIN) == 0;
            let advantage = if is_acknowledgement { 0 } else { ACKNOWLEDGEMENT_NS };
            (!segment.is_answered, segment.time_ns + advantage)
        })?;
        answered.is_answered = true;
        Some(*answered)
    }

    /// Takes a segment of this end, other than a reset; `other_data_ns` is when the other end last sent data that this one took,
    /// `window` the window that it offers, where both are known.
    pub(super) fn send(&mut self, segment: &TcpSegment, other_data_ns: Option<u64>, window: Option<u32>) {
        self.ttl = Some(segment.ttl);
        self.timestamps = segment.has_timestamp().or(self.timestamps);
        self.has_agreed |= !segment.has(tcp_flag::SYN) && segment.has_timestamp() == Some(true);
        if let Some((value, _)) = segment.timestamp() {
            self.timestamp = Some((value, segment.time_ns));
        }
        if segment.has(tcp_flag::SYN) {
            self.send_syn(segment);
        }
        if !self.has_base {
            (self.has_base, self.next, self.acked) = (true, segment.seq, segment.seq);
        }
        self.is_seen = true;
        if self.is_far_ahead(segment, window) {
            return;
        }
        if !segment.has(tcp_flag::SYN) {
            self.window = self.window_scale.map(|scale| u32::from(segment.window) << scale);
        }
        self.send_data(segment, other_data_ns);
        if segment.has(tcp_flag::FIN) && self.fin_end.is_none() {
            self.fin_end = Some(segment.end());
            self.fin_ns = Some(segment.time_ns);
        }
    }

    fn send_syn(&mut self, segment: &TcpSegment) {
        if self.isn == Some(segment.seq) {
            self.retransmits += 1;
            return;
        }
        self.isn = Some(segment.seq);
        self.syn_ns = Some(segment.time_ns);
        self.window_scale = segment.options.map(|options| options.window_scale.unwrap_or(0));
        self.window = Some(segment.window.into());
        let next = segment.seq.wrapping_add(1);
        (self.has_base, self.next, self.acked) = (true, next, next);
        self.round_trip.awaited = Some((next, segment.time_ns));
    }

    /// Whether a segment lies beyond everything that the other end would take: it is forged, or of another connection. Data that were
    /// not captured do not lead there, since their acknowledgements move what is known to be sent.
    fn is_far_ahead(&self, segment: &TcpSegment, window: Option<u32>) -> bool {
        let limit = window.map(|window| window.saturating_mul(2).max(AHEAD_MIN));
        limit.is_some_and(|limit| is_after(segment.seq, self.next) && segment.seq.wrapping_sub(self.acked) > limit)
    }

    fn send_data(&mut self, segment: &TcpSegment, other_data_ns: Option<u64>) {
        let end = segment.end();
        let is_new = is_after(end, self.next);
        // A keep-alive probe repeats the last byte, or has none of its own.
        let is_probe = segment.length <= 1 && segment.seq == self.next.wrapping_sub(1) && !is_new;
        if is_probe && segment.flags & (tcp_flag::SYN | tcp_flag::FIN) == 0 {
            self.probes = self.probes.saturating_add(1);
            self.probe_ns = Some(segment.time_ns);
            return;
        }
        let has_data = segment.length > 0;
        if has_data && !is_new {
            self.retransmits += 1;
            self.round_trip.awaited = None;
        }
        if is_new {
            if has_data && self.next == self.acked {
                let last = self.acked_ns.max(other_data_ns);
                let idle_ns = last.map(|last| segment.time_ns.saturating_sub(last));
                self.burst = Some(DataBurst { began_ns: segment.time_ns, ack: segment.ack, idle_ns });
            }
            // What lies between was sent as well, and not captured.
            let bytes = end.wrapping_sub(self.next).saturating_sub(u32::from(segment.has(tcp_flag::FIN)));
            self.bytes_sent += u64::from(bytes);
            self.next = end;
            if self.round_trip.awaited.is_none() {
                self.round_trip.awaited = Some((end, segment.time_ns));
            }
        }
        if has_data {
            self.data_ns = Some(segment.time_ns);
        }
    }

    /// Takes an acknowledgement by the other end. Returns whether it acknowledges new data.
    pub(super) fn acknowledge(&mut self, ack: u32, time_ns: u64) -> bool {
        self.probes = 0;
        if !self.has_base {
            (self.has_base, self.next, self.acked) = (true, ack, ack);
            return false;
        }
        self.round_trip.acknowledged(ack, time_ns);
        if !is_after(ack, self.acked) {
            return false;
        }
        let is_fin_new = self.fin_end == Some(ack);
        let bytes = ack.wrapping_sub(self.acked).saturating_sub(u32::from(is_fin_new));
        self.acked = ack;
        if is_after(ack, self.next) {
            // It was sent, and not captured.
            self.bytes_sent += u64::from(ack.wrapping_sub(self.next));
            self.next = ack;
        }
        self.bytes_acked += u64::from(bytes);
        if bytes > 0 {
            self.acked_ns = Some(time_ns);
        }
        if ack == self.next {
            self.confirmed = (self.data_ns, self.bytes_sent);
        }
        bytes > 0
    }

    /// Notes that the other end has taken what was sent so far.
    pub(super) const fn take_all(&mut self) {
        self.taken_ns = self.data_ns;
        self.bytes_taken = self.bytes_sent;
    }

    /// Notes that the other end had received nothing beyond this when it closed: the rest was on its way.
    pub(super) fn take_no_more_than(&mut self, ack: u32) {
        if is_after(self.next, ack) {
            (self.taken_ns, self.bytes_taken) = self.confirmed;
        }
    }
}
