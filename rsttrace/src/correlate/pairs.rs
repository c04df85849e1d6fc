//! The two ends of one reset, both on this host.

use std::hash::{Hash, Hasher};

use rsttrace_common::abi::{netfilter, tcp};

use crate::{
    diagnose::joined::{self, SenderCause},
    model::{Direction, Endpoint, IncidentRole, OtherEnd, OtherProcess, Reset, Translated, TranslationSource},
    util::set_table::SetTable,
};

/// Ends that are remembered.
const ENDS: usize = 2048;

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

/// The ends of a record as its segment has them, this side's first. A filter that rejects a packet which this host sends answers in
/// the peer's name: its record has the ends of that packet.
fn ends(reset: &Reset) -> (Endpoint, Endpoint) {
    let (local, peer) = (reset.local, reset.peer.end());
    if reset.internals.netfilter_hook == netfilter::LOCAL_OUT { (peer, local) } else { (local, peer) }
}

impl End {
    fn of(reset: &Reset) -> Self {
        let (local, peer) = ends(reset);
        Self {
            ktime_ns: reset.internals.ktime_ns,
            local,
            peer,
            timestamp: reset.segment.timestamp,
            record: reset.internals.record,
            incident: reset.internals.incident,
        }
    }

    /// Whether this is the other end of a reset with an equal [`Key`]. One of the ends may be translated between the two;
    /// where both are, the number alone would decide, unless the translation is known.
    fn is_opposite(&self, reset: &Reset) -> bool {
        let at_once = self.ktime_ns.abs_diff(reset.internals.ktime_ns) <= PAIR_NS;
        // The answer to a later segment has the number of a reset that was lost, and no timestamp.
        let differs = self.timestamp.zip(reset.segment.timestamp).is_some_and(|(own, other)| own != other);
        let (local, peer) = ends(reset);
        let is_translated = |translated: Translated| (self.local, self.peer) == (translated.peer, translated.local);
        let fits = self.local == peer || self.peer == local || reset.translated.is_some_and(is_translated);
        at_once && !differs && fits
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

/// Kind of an end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// It sent the first reset of its connection.
    Sender,
    /// It sent a reset that answers the rest of a connection. The first reset has that number too, and is the one that was
    /// received unless it was lost: these are looked at last.
    Answer,
    /// It received a reset.
    Receiver,
}

/// Key of an end in the table. Both ends of a reset have one place: what was looked for in vain is inserted there.
#[derive(PartialEq, Eq)]
struct EndKey {
    side: Side,
    key: Key,
}

impl Hash for EndKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// Ends of resets whose other end has not been seen.
#[derive(Default)]
pub(super) struct Ends(SetTable<EndKey, SingleEnd, ENDS>);

/// An end that waits for the other one, or has waited in vain.
pub(super) struct SingleEnd {
    end: End,
    role: EndRole,
    /// What the other end shows of it, of a record that waits no longer.
    shown: Option<Box<OtherEnd>>,
}

enum EndRole {
    /// Cause of the reset that it belongs to.
    Sender(SenderCause),
    /// Keys under which it is in the table.
    Receiver([Option<Key>; 2]),
}

impl Ends {
    /// Inserts the end of a sent reset. `cause` is that of the reset which it belongs to: its own where it is the first of its
    /// connection.
    pub(super) fn insert_sent(&mut self, side: Side, sent: &Reset, cause: SenderCause) {
        if let Some(key) = Key::of_sent(sent) {
            let end = SingleEnd { end: End::of(sent), role: EndRole::Sender(cause), shown: None };
            self.0.insert(EndKey { side, key }, end);
        }
    }

    /// Inserts the end of a received reset.
    pub(super) fn insert_received(&mut self, received: &Reset) {
        let keys = Key::of_received(received);
        for key in keys.into_iter().flatten() {
            let end = SingleEnd { end: End::of(received), role: EndRole::Receiver(keys), shown: None };
            self.0.insert(EndKey { side: Side::Receiver, key }, end);
        }
    }

    /// Keeps what the other end is to show of a record that is output without it.
    pub(super) fn keep(&mut self, side: Side, record: &Reset) {
        let keys = if side == Side::Receiver { Key::of_received(record) } else { [Key::of_sent(record), None] };
        for key in keys.into_iter().flatten() {
            let end = self.0.get_mut(&EndKey { side, key });
            if let Some(end) = end.filter(|end| end.record() == record.internals.record) {
                end.shown = Some(Box::new(other_end(record)));
            }
        }
    }

    /// Forgets the end of a record, which has been joined.
    pub(super) fn remove(&mut self, record: &Reset) {
        let (side, keys) = match record.direction {
            Direction::Sent => (Side::Sender, [Key::of_sent(record), None]),
            Direction::Received => (Side::Receiver, Key::of_received(record)),
        };
        for key in keys.into_iter().flatten() {
            self.0.take_if(&EndKey { side, key }, |end| end.record() == record.internals.record);
        }
    }

    /// The sender of a received reset, which is then forgotten.
    pub(super) fn take_sender(&mut self, side: Side, received: &Reset) -> Option<SingleEnd> {
        let keys = Key::of_received(received).into_iter().flatten();
        keys.into_iter().find_map(|key| self.0.take_if(&EndKey { side, key }, |sent| sent.end.is_opposite(received)))
    }

    /// The receiver of a sent reset, which is then forgotten.
    pub(super) fn take_receiver(&mut self, sent: &Reset) -> Option<SingleEnd> {
        let of_receiver = |key| EndKey { side: Side::Receiver, key };
        let end = self.0.take_if(&of_receiver(Key::of_sent(sent)?), |received| received.end.is_opposite(sent))?;
        if let EndRole::Receiver(keys) = end.role {
            for key in keys.into_iter().flatten() {
                self.0.take_if(&of_receiver(key), |other| other.record() == end.record());
            }
        }
        Some(end)
    }
}

impl SingleEnd {
    pub(super) const fn record(&self) -> u64 {
        self.end.record
    }

    pub(super) const fn incident(&self) -> u64 {
        self.end.incident
    }

    /// Names this end, whose record was output before or is `held`, in the record of the other one.
    pub(super) fn complete(self, reset: &mut Reset, held: Option<&Reset>) {
        reset.other_end = held.map(other_end).or(self.shown.map(|shown| *shown));
        reset.internals.other_record = self.end.record;
        reset.translated = translation(reset, &self.end).or(reset.translated);
        match self.role {
            EndRole::Sender(cause) => join(reset, self.end.incident, cause),
            EndRole::Receiver(_) if reset.incident_role == IncidentRole::First => {
                (reset.internals.incident, reset.incident_role) = (self.end.incident, IncidentRole::OtherEnd);
            }
            EndRole::Receiver(_) => {}
        }
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
    let is_translated = ends(reset) != (other.peer, other.local);
    is_translated.then_some(Translated { local: other.peer, peer: other.local, by: TranslationSource::OtherEnd })
}

/// Joins the records of both ends.
pub(super) fn complete(sent: &mut Reset, received: &mut Reset) {
    tell_receiver(sent, received);
    received.other_end = Some(other_end(sent));
    received.internals.other_record = sent.internals.record;
    received.translated = translation(received, &End::of(sent)).or(received.translated);
    joined::note_redirection(sent);
    join(received, sent.internals.incident, SenderCause::of(sent));
}

fn join(received: &mut Reset, incident: u64, sender: SenderCause) {
    (received.internals.incident, received.incident_role) = (incident, IncidentRole::OtherEnd);
    joined::take_from_other_end(received, sender);
    joined::note_redirection(received);
}
