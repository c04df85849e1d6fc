//! What a capture covers: its own time, and the connections of which both directions passed it.

use std::net::IpAddr;

use foldhash::HashMap;

use crate::{
    capture::{CapturedPath, CapturedSide, INITIAL_TTLS, Inference, Perspective},
    model::Endpoint,
};

/// Largest distance of a reset's number from those of its connection, bytes: a window, and what was sent since.
const NUMBERS_APART_MAX: u32 = 1 << 24;

/// What a capture covers.
#[derive(Debug)]
pub(super) struct WireCover {
    span_ns: Option<(i64, i64)>,
    perspective: Perspective,
    connections: HashMap<(Endpoint, Endpoint), [CapturedSide; 2]>,
}

/// What a capture shows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireView {
    /// Nothing, or one direction alone.
    Unknown,
    /// Both directions, with numbers that the reset's does not belong to.
    OtherNumbers,
    /// Both directions, with the TTL of the sender's packets.
    Whole(Option<u8>),
}

impl WireCover {
    pub(super) fn new(path: &CapturedPath) -> Self {
        let time = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        let ends = |sides: &[CapturedSide; 2]| (sides[0].end, sides[1].end);
        Self {
            span_ns: path.span_ns.map(|(first, last)| (time(first), time(last))),
            perspective: path.perspective.clone(),
            connections: path
                .connections
                .iter()
                .map(|connection| (ends(&connection.sides), connection.sides))
                .collect(),
        }
    }

    /// Times of the first and the last segment, nanoseconds since 1970.
    pub(super) const fn span_ns(&self) -> Option<(i64, i64)> {
        self.span_ns
    }

    /// Whether the capture is seen from this address.
    pub(super) fn is_of(&self, address: IpAddr) -> bool {
        self.perspective.is_host(address)
    }

    /// Whether a span of time lies within it.
    pub(super) fn covers(&self, from_ns: i64, to_ns: i64) -> bool {
        self.span_ns.is_some_and(|(first, last)| first <= from_ns && to_ns <= last)
    }

    /// What it shows of the connection of a reset. `seq` and `ack` are those of the reset.
    pub(super) fn view(&self, from: Endpoint, to: Endpoint, seq: Option<u32>, ack: Option<u32>) -> WireView {
        let Some([a, b]) = self.connections.get(&(from.min(to), from.max(to))) else { return WireView::Unknown };
        // Of other hosts' resets a capture with `--local` tells nothing.
        if !self.perspective.has_others() && !self.is_of(from.address) && !self.is_of(to.address) {
            return WireView::Unknown;
        }
        let (sender, receiver) = if a.end == from { (a, b) } else { (b, a) };
        if !(sender.is_seen && receiver.is_seen) {
            return WireView::Unknown;
        }
        let is_near = |number: u32, next: u32| {
            let apart = number.wrapping_sub(next);
            apart.min(apart.wrapping_neg()) <= NUMBERS_APART_MAX
        };
        // A refusal has no sequence number of its own.
        let is_own = seq.filter(|seq| *seq != 0).is_none_or(|seq| is_near(seq, sender.next));
        let is_answer = ack.is_none_or(|ack| is_near(ack, receiver.next));
        if is_own && is_answer { WireView::Whole(sender.ttl) } else { WireView::OtherNumbers }
    }

    /// Whether the capture was taken on the host with the sender's address, by all that it shows: it marks its packets as sent (or
    /// `--local` names it), and they had passed no router.
    pub(super) fn is_at(&self, from: Endpoint, to: Endpoint) -> bool {
        let is_own = match &self.perspective {
            Perspective::Given(_) => true,
            Perspective::Inferred { by, .. } => *by == Inference::Direction,
        };
        let sides = self.connections.get(&(from.min(to), from.max(to)));
        let ttl = sides.and_then(|sides| sides.iter().find(|side| side.end == from)).and_then(|side| side.ttl);
        is_own && self.is_of(from.address) && ttl.is_some_and(|ttl| INITIAL_TTLS.contains(&ttl))
    }
}
