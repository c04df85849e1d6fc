//! The two ends of one reset, both on this host.

use super::slots::Slots;
use crate::{
    diagnose::joined,
    model::{CauseConfidence, Container, Endpoint, IncidentRole, Netns, OtherEnd, OtherProcess, Reset},
};

/// Longest time between the reports of both ends, nanoseconds. The sender's may be the later one, because the kernel
/// reports it after transmission; on a path with a delay it is the earlier one.
const PAIR_NS: u64 = 2_000_000_000;

/// Number by which a reset is the same at both ends: translation of addresses and ports leaves it as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// Sequence number.
    Seq(u32),
    /// Acknowledgement number, of a reset that answers a packet without one: its sequence number is 0 (RFC 9293, 3.10.7.1).
    Ack(u32),
}

impl Key {
    fn of_sent(reset: &Reset) -> Option<Self> {
        match (reset.segment.seq?, reset.segment.ack) {
            (0, Some(ack)) => Some(Self::Ack(ack)),
            (seq, _) => Some(Self::Seq(seq)),
        }
    }

    fn of_received(reset: &Reset) -> Option<Self> {
        match (reset.segment.seq, reset.segment.ack) {
            (None | Some(0), Some(ack)) => Some(Self::Ack(ack)),
            (Some(seq), _) => Some(Self::Seq(seq)),
            (None, None) => reset.internals.expected_seq.map(Self::Seq),
        }
    }
}

/// One end of a reset, as far as the other end's record tells it.
struct End {
    ktime_ns: u64,
    local: Endpoint,
    peer: Endpoint,
    netns: Option<Netns>,
    process: Option<OtherProcess>,
    container: Option<Container>,
    record: u64,
    incident: u64,
    code: &'static str,
}

impl End {
    fn of(reset: &Reset) -> Self {
        Self {
            ktime_ns: reset.internals.ktime_ns,
            local: reset.local,
            peer: reset.peer,
            netns: reset.netns,
            process: reset
                .process
                .as_ref()
                .map(|process| OtherProcess { pid: process.pid, comm: process.comm.clone() }),
            container: reset.container.clone(),
            record: reset.internals.record,
            incident: reset.internals.incident,
            code: reset.cause.code,
        }
    }

    /// Whether this is the other end of a reset with an equal [`Key`]. One of the ends may be translated between the two;
    /// where both are, the number alone would decide.
    fn is_opposite(&self, reset: &Reset) -> bool {
        let at_once = self.ktime_ns.abs_diff(reset.internals.ktime_ns) <= PAIR_NS;
        at_once && (self.local == reset.peer || self.peer == reset.local)
    }

    fn other_end(&self) -> OtherEnd {
        OtherEnd {
            seq: None,
            process: self.process.clone(),
            container: self.container.clone(),
            netns: self.netns,
            cause: self.code,
        }
    }
}

/// Sent resets whose other end has not been seen.
#[derive(Default)]
pub(super) struct SentEnds(Slots<Key, SentEnd>);

/// Received resets whose other end has not been seen.
#[derive(Default)]
pub(super) struct ReceivedEnds(Slots<Key, ReceivedEnd>);

/// End that sent a reset.
pub(super) struct SentEnd {
    end: End,
    confidence: CauseConfidence,
}

/// End that received a reset.
pub(super) struct ReceivedEnd {
    end: End,
    pub(super) record: u64,
    pub(super) incident: u64,
}

impl SentEnds {
    pub(super) fn insert(&mut self, sent: &Reset) {
        if let Some(key) = Key::of_sent(sent) {
            self.0.insert(key, SentEnd { end: End::of(sent), confidence: sent.cause.confidence });
        }
    }

    /// The sender of a received reset, which is then forgotten.
    pub(super) fn take(&mut self, received: &Reset) -> Option<SentEnd> {
        self.0.take_if(&Key::of_received(received)?, |sent| sent.end.is_opposite(received))
    }
}

impl ReceivedEnds {
    pub(super) fn insert(&mut self, received: &Reset) {
        if let Some(key) = Key::of_received(received) {
            let Reset { internals, .. } = received;
            let end = ReceivedEnd { end: End::of(received), record: internals.record, incident: internals.incident };
            self.0.insert(key, end);
        }
    }

    /// The receiver of a sent reset, which is then forgotten.
    pub(super) fn take(&mut self, sent: &Reset) -> Option<ReceivedEnd> {
        self.0.take_if(&Key::of_sent(sent)?, |received| received.end.is_opposite(sent))
    }
}

impl ReceivedEnd {
    pub(super) fn other_end(&self) -> OtherEnd {
        self.end.other_end()
    }
}

impl SentEnd {
    /// Joins a received reset with this end.
    pub(super) fn complete(&self, received: &mut Reset) {
        received.other_end = Some(self.end.other_end());
        received.internals.other_record = self.end.record;
        join(received, self.end.incident, self.end.code, self.confidence);
    }
}

/// Joins a received reset with the record of its sender.
pub(super) fn complete(received: &mut Reset, sent: &Reset) {
    received.other_end = Some(End::of(sent).other_end());
    received.internals.other_record = sent.internals.record;
    join(received, sent.internals.incident, sent.cause.code, sent.cause.confidence);
}

fn join(received: &mut Reset, incident: u64, code: &'static str, confidence: CauseConfidence) {
    (received.internals.incident, received.incident_role) = (incident, IncidentRole::OtherEnd);
    joined::take_from_other_end(received, code, confidence);
}
