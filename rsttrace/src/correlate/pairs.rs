//! The two ends of one reset, both on this host.

use rsttrace_common::abi::tcp;

use super::slots::Slots;
use crate::{
    diagnose::joined::{self, SenderCause},
    model::{Container, Endpoint, IncidentRole, Netns, OtherEnd, OtherProcess, Reset, Translated, TranslationSource},
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

/// One end of a reset, as far as the other end's record tells it.
struct End {
    ktime_ns: u64,
    local: Endpoint,
    peer: Endpoint,
    netns: Option<Netns>,
    /// Whether the segment has a timestamp; `None` where that is not known.
    timestamp: Option<bool>,
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
            peer: reset.peer.end(),
            netns: reset.netns,
            timestamp: reset.segment.timestamp,
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
        // The answer to a later segment has the number of a reset that was lost, and no timestamp.
        let differs = self.timestamp.zip(reset.segment.timestamp).is_some_and(|(own, other)| own != other);
        at_once && !differs && (self.local == reset.peer.end() || self.peer == reset.local)
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
    cause: SenderCause,
}

/// End that received a reset.
pub(super) struct ReceivedEnd {
    end: End,
    /// Keys under which it is in the table.
    keys: [Option<Key>; 2],
}

impl SentEnds {
    /// Inserts a sent reset. `cause` is that of the reset which it belongs to: its own where it is the first of its connection.
    pub(super) fn insert(&mut self, sent: &Reset, cause: SenderCause) {
        if let Some(key) = Key::of_sent(sent) {
            self.0.insert(key, SentEnd { end: End::of(sent), cause });
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
            self.0.insert(key, ReceivedEnd { end: End::of(received), keys });
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

    pub(super) const fn incident(&self) -> u64 {
        self.end.incident
    }

    pub(super) fn other_end(&self) -> OtherEnd {
        self.end.other_end()
    }
}

impl SentEnd {
    pub(super) const fn record(&self) -> u64 {
        self.end.record
    }

    pub(super) const fn incident(&self) -> u64 {
        self.end.incident
    }

    /// Joins a received reset with this end.
    pub(super) fn complete(&self, received: &mut Reset) {
        received.other_end = Some(self.end.other_end());
        received.internals.other_record = self.end.record;
        received.translated = translation(received, &self.end).or(received.translated);
        join(received, self.end.incident, self.cause);
    }
}

/// Names the receiver in the record of the sender.
pub(super) fn tell_receiver(sent: &mut Reset, received: &Reset) {
    let receiver = End::of(received);
    sent.other_end = Some(receiver.other_end());
    sent.internals.other_record = receiver.record;
    sent.translated = translation(sent, &receiver);
}

/// The ends as the other end has them, where they are translated between the two.
fn translation(reset: &Reset, other: &End) -> Option<Translated> {
    let is_translated = (reset.local, reset.peer.end()) != (other.peer, other.local);
    is_translated.then_some(Translated { local: other.peer, peer: other.local, by: TranslationSource::OtherEnd })
}

/// Joins the records of both ends.
pub(super) fn complete(sent: &mut Reset, received: &mut Reset) {
    let (sender, receiver) = (End::of(sent), End::of(received));
    (sent.other_end, received.other_end) = (Some(receiver.other_end()), Some(sender.other_end()));
    (sent.internals.other_record, received.internals.other_record) = (receiver.record, sender.record);
    sent.translated = translation(sent, &receiver).or(sent.translated);
    received.translated = translation(received, &sender).or(received.translated);
    joined::note_redirection(sent);
    join(received, sender.incident, SenderCause::of(sent));
}

fn join(received: &mut Reset, incident: u64, sender: SenderCause) {
    (received.internals.incident, received.incident_role) = (incident, IncidentRole::OtherEnd);
    joined::take_from_other_end(received, sender);
    joined::note_redirection(received);
}
