//! The two ends of one reset, both on this host.

use rsttrace_common::abi::tcp;

use crate::{
    diagnose::joined::{self, SenderCause},
    model::{Endpoint, IncidentRole, OtherEnd, OtherProcess, Reset, Translated, TranslationSource},
    util::set_table::SetTable,
};

/// Ends that are remembered in each direction.
const ENDS: usize = 1024;

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

    /// The possible ones. After the peer's FIN the kernel accepts the number before that, too (`tcp_reset_check`): a reset that
    /// answers data which crossed the FIN has it.
    fn of_received(reset: &Reset) -> [Option<Self>; 2] {
        match (reset.segment.seq, reset.segment.ack) {
            (None | Some(0), Some(ack)) => [Some(Self::Ack(ack)), None],
            (Some(seq), _) => [Some(Self::Seq(seq)), None],
            (None, None) => {
                let state = reset.socket.as_ref().map_or(tcp::CLOSE, |socket| socket.state.0);
                let has_fin = matches!(state, tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING);
                let expected = reset.internals.expected_seq;
                let before_fin = expected.filter(|_| has_fin).map(|seq| Self::Seq(seq.wrapping_sub(1)));
                [expected.map(Self::Seq), before_fin]
            }
        }
    }
}

/// One end of a reset: what decides whether another record is its other end.
#[derive(Clone, Copy)]
struct End {
    ktime_ns: u64,
    local: Endpoint,
    peer: Endpoint,
    /// Whether the segment has a timestamp; `None` where that is not known.
    timestamp: Option<bool>,
    record: u64,
    incident: u64,
}

impl End {
    fn of(reset: &Reset) -> Self {
        Self {
            ktime_ns: reset.internals.ktime_ns,
            local: reset.local,
            peer: reset.peer.end(),
            timestamp: reset.segment.timestamp,
            record: reset.internals.record,
            incident: reset.internals.incident,
        }
    }

    /// Whether this is the other end of a reset with an equal [`Key`]. One of the ends may be translated between the two;
    /// where both are, the number alone would decide.
    fn is_opposite(&self, reset: &Reset) -> bool {
        let at_once = self.ktime_ns.abs_diff(reset.internals.ktime_ns) <= PAIR_NS;
        // The answer to a later segment has the number of a reset that was lost, and no timestamp.
        let differs = self.timestamp.zip(reset.segment.timestamp).is_some_and(|(own, other)| own != other);
        at_once && !differs && (self.local == reset.peer.end() || self.peer == reset.local)
    }
}

/// A record as its other end shows it.
fn other_end(reset: &Reset) -> OtherEnd {
    let process = reset.process.as_ref();
    OtherEnd {
        seq: None,
        process: process.map(|process| OtherProcess { pid: process.pid, comm: process.comm.clone() }),
        container: reset.container.clone(),
        netns: reset.netns,
        cause: reset.cause.code,
    }
}

/// Sent resets whose other end has not been seen.
#[derive(Default)]
pub(super) struct SentEnds(SetTable<Key, SentEnd, ENDS>);

/// Received resets whose other end has not been seen.
#[derive(Default)]
pub(super) struct ReceivedEnds(SetTable<Key, ReceivedEnd, ENDS>);

/// End that sent a reset.
pub(super) struct SentEnd {
    end: End,
    cause: SenderCause,
    /// What the other end shows of it, of a record that waits no longer.
    shown: Option<Box<OtherEnd>>,
}

/// End that received a reset.
pub(super) struct ReceivedEnd {
    end: End,
    /// Keys under which it is in the table.
    keys: [Option<Key>; 2],
    /// What the other end shows of it, of a record that waits no longer.
    shown: Option<Box<OtherEnd>>,
}

impl SentEnds {
    /// Inserts a sent reset. `cause` is that of the reset which it belongs to: its own where it is the first of its connection.
    pub(super) fn insert(&mut self, sent: &Reset, cause: SenderCause) {
        if let Some(key) = Key::of_sent(sent) {
            self.0.insert(key, SentEnd { end: End::of(sent), cause, shown: None });
        }
    }

    /// Keeps what the other end is to show of a record that is output without it.
    pub(super) fn keep(&mut self, sent: &Reset) {
        let end = Key::of_sent(sent).and_then(|key| self.0.get_mut(&key));
        if let Some(end) = end.filter(|end| end.record() == sent.internals.record) {
            end.shown = Some(Box::new(other_end(sent)));
        }
    }

    /// The sender of a received reset, which is then forgotten.
    pub(super) fn take(&mut self, received: &Reset) -> Option<SentEnd> {
        let keys = Key::of_received(received).into_iter().flatten();
        keys.into_iter().find_map(|key| self.0.take_if(&key, |sent| sent.end.is_opposite(received)))
    }
}

impl ReceivedEnds {
    pub(super) fn insert(&mut self, received: &Reset) {
        let keys = Key::of_received(received);
        for key in keys.into_iter().flatten() {
            self.0.insert(key, ReceivedEnd { end: End::of(received), keys, shown: None });
        }
    }

    /// Keeps what the other end is to show of a record that is output without it.
    pub(super) fn keep(&mut self, received: &Reset) {
        for key in Key::of_received(received).into_iter().flatten() {
            if let Some(end) = self.0.get_mut(&key).filter(|end| end.record() == received.internals.record) {
                end.shown = Some(Box::new(other_end(received)));
            }
        }
    }

    /// The receiver of a sent reset, which is then forgotten.
    pub(super) fn take(&mut self, sent: &Reset) -> Option<ReceivedEnd> {
        let end = self.0.take_if(&Key::of_sent(sent)?, |received| received.end.is_opposite(sent))?;
        for key in end.keys.iter().flatten() {
            self.0.take_if(key, |other| other.record() == end.record());
        }
        Some(end)
    }
}

impl ReceivedEnd {
    pub(super) const fn record(&self) -> u64 {
        self.end.record
    }

    /// Names the receiver, whose record was output before, in that of the sender.
    pub(super) fn complete(self, sent: &mut Reset) {
        sent.other_end = self.shown.map(|shown| *shown);
        sent.internals.other_record = self.end.record;
        sent.translated = translation(sent, &self.end).or(sent.translated);
        if sent.incident_role == IncidentRole::First {
            (sent.internals.incident, sent.incident_role) = (self.end.incident, IncidentRole::OtherEnd);
        }
    }
}

impl SentEnd {
    pub(super) const fn record(&self) -> u64 {
        self.end.record
    }

    pub(super) const fn incident(&self) -> u64 {
        self.end.incident
    }

    /// Joins a received reset with this end, whose record was output before, or is `held`.
    pub(super) fn complete(self, received: &mut Reset, held: Option<&Reset>) {
        received.other_end = held.map(other_end).or(self.shown.map(|shown| *shown));
        received.internals.other_record = self.end.record;
        received.translated = translation(received, &self.end).or(received.translated);
        join(received, self.end.incident, self.cause);
    }
}

/// Names the receiver in the record of the sender.
pub(super) fn tell_receiver(sent: &mut Reset, received: &Reset) {
    sent.other_end = Some(other_end(received));
    sent.internals.other_record = received.internals.record;
    sent.translated = translation(sent, &End::of(received)).or(sent.translated);
}

/// The ends as the other end has them, where they are translated between the two.
fn translation(reset: &Reset, other: &End) -> Option<Translated> {
    let is_translated = (reset.local, reset.peer.end()) != (other.peer, other.local);
    is_translated.then_some(Translated { local: other.peer, peer: other.local, by: TranslationSource::OtherEnd })
}

/// Joins the records of both ends.
pub(super) fn complete(sent: &mut Reset, received: &mut Reset) {
    tell_receiver(sent, received);
    received.other_end = Some(other_end(sent));
    received.internals.other_record = sent.internals.record;
    received.translated = translation(received, &End::of(sent)).or(received.translated);
    join(received, sent.internals.incident, SenderCause::of(sent));
}

fn join(received: &mut Reset, incident: u64, sender: SenderCause) {
    (received.internals.incident, received.incident_role) = (incident, IncidentRole::OtherEnd);
    joined::take_from_other_end(received, sender);
}
