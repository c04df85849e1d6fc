//! What is kept of a record for joining: a few of its fields, with texts that many records share.

use std::sync::Arc;

use foldhash::HashSet;
use jiff::Timestamp;

use crate::model::{
    CauseConfidence, Direction, Endpoint, Fault, Hook, Ignored, OtherProcess, PairCause, PairEnd, PairNumbers, Reset,
    State,
};

/// Most different texts that are shared; further ones have a copy for each record.
const TEXTS_MAX: usize = 65_536;

/// A code of the catalogue, which is of the program.
type Code = &'static str;

/// A reset that a host sent, received or ignored.
#[derive(Clone, Debug)]
pub(super) struct SeenReset {
    /// Time by that host's clock, nanoseconds since 1970.
    pub(super) time_ns: i64,
    /// `seq` of the record; 0 without one.
    pub(super) record: u64,
    /// Place of its run among the host's; `None` without one.
    pub(super) run: Option<u32>,
    pub(super) count: u64,
    pub(super) is_sent: bool,
    /// Why it was ignored; `None` where it was not.
    pub(super) ignored: Option<Code>,
    pub(super) local: Endpoint,
    pub(super) peer: Endpoint,
    /// Local end and peer on the other side of a translation.
    pub(super) translated: Option<Box<(Endpoint, Endpoint)>>,
    pub(super) seq: Option<u32>,
    pub(super) ack: Option<u32>,
    /// Whether a missing acknowledgement number means that the segment has none.
    pub(super) is_whole: bool,
    /// Whether the numbers are those of a packet that a capture has.
    pub(super) is_lent: bool,
    /// Inode number of the network namespace.
    pub(super) netns: Option<u32>,
    process: Option<(u32, Arc<str>)>,
    cause: (Code, Fault, CauseConfidence, Arc<str>),
    state: Option<State>,
    pub(super) ttl: Option<u8>,
    pub(super) handshake_ttl: Option<u8>,
    /// Whether the record of the other end is one of this host.
    pub(super) is_within_host: bool,
    /// Whether the packet filter sent it, which may do so in the name of another host.
    pub(super) is_of_filter: bool,
    /// Whether the socket had data that were not sent, and none that were on their way.
    pub(super) is_held_back: bool,
}

/// Texts that many records have.
#[derive(Default)]
pub(super) struct SharedTexts(HashSet<Arc<str>>);

impl SharedTexts {
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = text.into();
        if self.0.len() < TEXTS_MAX {
            self.0.insert(Arc::clone(&shared));
        }
        shared
    }
}

impl SeenReset {
    pub(super) fn of_reset(reset: &Reset, texts: &mut SharedTexts) -> Self {
        let packet = reset.packet.as_ref();
        let is_sent = reset.direction == Direction::Sent;
        // Only a process that connects takes an answer of which the acknowledgement alone is known, and it has no sequence number.
        let (seq, ack) = match (reset.segment.seq, reset.segment.ack) {
            (None, Some(ack)) => (Some(0), Some(ack)),
            numbers => numbers,
        };
        Self {
            time_ns: nanoseconds(reset.time),
            record: reset.seq,
            run: None,
            count: reset.count,
            is_sent,
            ignored: None,
            local: reset.local,
            peer: reset.peer.end(),
            translated: reset.translated.map(|other| Box::new((other.local, other.peer))),
            seq,
            ack,
            is_whole: is_sent || packet.is_some() || ack.is_some(),
            is_lent: false,
            netns: reset.netns.map(|netns| netns.inode),
            process: reset.process.as_ref().map(|process| (process.pid, texts.share(&process.comm))),
            cause: (reset.cause.code, reset.cause.fault, reset.cause.confidence, texts.share(&reset.cause.summary)),
            state: reset.socket.as_ref().map(|socket| socket.state),
            ttl: packet.map(|packet| packet.ttl),
            handshake_ttl: packet.and_then(|packet| packet.handshake_ttl),
            is_within_host: reset.other_end.is_some(),
            is_of_filter: matches!(reset.hook, Hook::NfSendReset | Hook::NfSendReset6),
            is_held_back: reset.socket.as_ref().is_some_and(|socket| {
                socket.unsent_bytes.is_some_and(|unsent| unsent > 0) && socket.unacked_bytes == Some(0)
            }),
        }
    }

    pub(super) fn of_ignored(ignored: &Ignored, texts: &mut SharedTexts) -> Self {
        let packet = ignored.packet.as_ref();
        let has_ack = packet.is_some_and(|packet| packet.flags.0 & rsttrace_common::abi::tcp_flag::ACK != 0);
        Self {
            time_ns: nanoseconds(ignored.time),
            record: 0,
            run: None,
            count: 1,
            is_sent: false,
            ignored: Some(ignored.ignored_because.code),
            local: ignored.local,
            peer: ignored.peer.end(),
            translated: None,
            seq: packet.map(|packet| packet.seq),
            ack: packet.filter(|_| has_ack).map(|packet| packet.ack),
            is_whole: packet.is_some(),
            is_lent: false,
            netns: ignored.netns.map(|netns| netns.inode),
            process: ignored.process.as_ref().map(|process| (process.pid, texts.share(&process.comm))),
            cause: ("unknown", Fault::Unknown, CauseConfidence::Guess, texts.share("")),
            state: ignored.socket.as_ref().map(|socket| socket.state),
            ttl: packet.map(|packet| packet.ttl),
            handshake_ttl: packet.and_then(|packet| packet.handshake_ttl),
            is_within_host: false,
            is_of_filter: false,
            is_held_back: false,
        }
    }

    /// Whether two are one record, which two inputs have.
    pub(super) fn is_copy_of(&self, other: &Self) -> bool {
        (self.time_ns, self.record, self.is_sent, self.ignored)
            == (other.time_ns, other.record, other.is_sent, other.ignored)
            && (self.local, self.peer, self.seq, self.ack) == (other.local, other.peer, other.seq, other.ack)
    }

    /// What copies are sorted by.
    pub(super) fn order(&self) -> (i64, u64, bool, Endpoint, Endpoint) {
        (self.time_ns, self.record, self.is_sent, self.local, self.peer)
    }

    pub(super) fn time(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.time_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    pub(super) const fn numbers(&self) -> PairNumbers {
        PairNumbers { seq: self.seq, ack: self.ack }
    }

    /// The cause as the record has it.
    pub(super) fn pair_cause(&self) -> PairCause {
        let (code, fault, confidence, summary) = &self.cause;
        PairCause { code, fault: *fault, confidence: *confidence, summary: Arc::clone(summary) }
    }

    /// The record as a pair shows it.
    pub(super) fn pair_end(&self, host: &Arc<str>) -> PairEnd {
        PairEnd {
            host: Arc::clone(host),
            time: self.time(),
            seq: (self.record > 0).then_some(self.record),
            count: self.count,
            local: self.local,
            peer: self.peer,
            process: self.process.as_ref().map(|(pid, comm)| OtherProcess { pid: *pid, comm: Arc::clone(comm) }),
            state: self.state,
            cause: self.ignored.is_none().then_some(self.cause.0),
            ignored_because: self.ignored,
            ttl: self.ttl,
            handshake_ttl: self.handshake_ttl,
        }
    }
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}
