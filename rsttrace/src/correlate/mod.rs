//! Incidents: which records tell of one event.
//!
//! Records are joined where
//! - they are the two ends of one reset, both on this host: by its sequence number and the connection's ends ([`pairs`]),
//! - one is a further reset of a connection that another has ended,
//! - a process passes on what happened to another of its connections, or several processes end together ([`relay`]).
//!
//! Pure over records: a recording gives the same incidents. A record waits for that of the other end for [`HOLD_NS`] at most:
//! the kernel reports the received reset first, and the owner of either may have to be looked up. All memory is bounded;
//! where it does not suffice, records stay single.

mod held;
mod numbers;
mod pairs;
mod relay;

use std::sync::Arc;

use self::{
    held::HeldRecords,
    numbers::{RecordNumbers, Shown},
    pairs::{Ends, Side},
    relay::{EndedProcesses, RelaySources},
};
use crate::{
    diagnose::{
        self,
        joined::{self, SenderCause},
        not_translated,
    },
    model::{
        AFTERMATH, Direction, Endpoint, IncidentRole, NamespaceId, Reset,
        translation::{ConntrackEntry, translated_ends},
    },
};

/// Longest wait of a record for that of the other end, nanoseconds from the reset on.
const HOLD_NS: u64 = 10_000_000;

/// Longest time after the reset of a connection in which further ones, for what its peer sends again, belong to its incident,
/// milliseconds.
const AFTERMATH_MS: f64 = 60_000.0;
/// Longest time from the close of a connection to the report of its reset, milliseconds.
const CLOSE_MS: f64 = 10.0;
/// Most connections whose translation is asked for at once.
const LOOKUPS_MAX: usize = 256;

/// Correlates records, in the order in which they are finished. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Default)]
pub struct Correlator {
    held: HeldRecords,
    numbers: RecordNumbers,
    ends: Ends,
    sources: RelaySources,
    ended: EndedProcesses,
    /// Records whose translation is asked for; `None` where it cannot be.
    lookups: Option<Vec<TranslationRequest>>,
}

/// What a record was joined with: records that had waited, and are to be admitted with it.
#[derive(Default)]
pub struct Joined {
    other_end: Option<Arc<Reset>>,
    early_answer: Option<Arc<Reset>>,
    must_wait: bool,
}

/// What ended a connection.
#[derive(Clone, Copy)]
struct EndedConnection {
    /// Its incident, by the number of the first record.
    incident: u64,
    /// Cause of that record.
    cause: SenderCause,
}

/// A connection whose translation is asked for.
#[derive(Clone, Copy, Debug)]
pub struct TranslationRequest {
    /// Number of the record, for the answer.
    pub id: u64,
    /// Namespace of the socket.
    pub namespace: NamespaceId,
    /// This host's end.
    pub local: Endpoint,
    /// The peer's end.
    pub peer: Endpoint,
}

impl Correlator {
    /// Joins a record with those of its incident. It is to be admitted next ([`Self::admit`]).
    pub fn join(&mut self, reset: &mut Reset) -> Joined {
        let internals = &mut reset.internals;
        internals.incident = internals.record;
        self.numbers.begin(internals.record);
        // A record of many resets is an incident of its own.
        if reset.count > 1 {
            return Joined::default();
        }
        let earlier = self.numbers.ended(reset.internals.correlation.same_connection_record);
        self.join_earlier(reset, earlier);
        let early_answer = earlier.and_then(|ended| self.take_early_answer(reset, ended.incident));
        let other_end = match reset.direction {
            Direction::Sent => self.join_received(reset, earlier),
            Direction::Received => self.join_sent(reset),
        };
        self.remember(reset, earlier);
        // What answers a segment of an ended connection has no receiver.
        let is_complete = reset.other_end.is_some() || reset.incident_role == IncidentRole::Aftermath;
        let first = self.numbers.root(reset.internals.incident);
        let must_wait = !is_complete || self.numbers.shown(first) == Shown::Held;
        Joined { other_end, early_answer, must_wait }
    }

    /// Takes a record that was joined, and hands on those that need not wait any longer, in the order of output.
    pub fn admit(&mut self, record: Arc<Reset>, joined: Joined, emit: &mut impl FnMut(&mut Self, Arc<Reset>)) {
        let Joined { other_end, early_answer, must_wait } = joined;
        let is_sent = record.direction == Direction::Sent;
        // The sender's record first: it has the cause.
        let both = if is_sent { [Some(record), other_end] } else { [other_end, Some(record)] };
        for record in both.into_iter().chain([early_answer]).flatten() {
            if must_wait {
                self.numbers.hold(record.internals.record);
                self.ask(&record);
                if let Some(oldest) = self.held.push(record, HOLD_NS) {
                    self.keep(&oldest);
                    emit(self, oldest);
                }
            } else {
                self.keep(&record);
                emit(self, record);
            }
        }
    }

    /// Lets the translations of connections be asked for ([`Self::take_lookups`]).
    pub fn enable_lookups(&mut self) {
        self.lookups = Some(Vec::new());
    }

    /// The connections whose translation is to be asked for, of records that still wait.
    pub fn take_lookups(&mut self) -> Vec<TranslationRequest> {
        let mut lookups = self.lookups.as_mut().map(std::mem::take).unwrap_or_default();
        lookups.retain(|lookup| self.numbers.shown(lookup.id) == Shown::Held);
        lookups
    }

    /// Notes that a connection's translation will be answered ([`Self::answer`]): its record waits for that for 100 ms longer.
    pub fn await_answer(&mut self, id: u64) {
        self.held.set_asked(id, true);
    }

    /// Takes the answer on a connection that was asked for: its entry, if there is one and it came in time.
    pub fn answer(&mut self, id: u64, entry: Option<&ConntrackEntry>) {
        self.held.set_asked(id, false);
        let Some(entry) = entry else { return };
        let Some(reset) = self.held.get_mut(id).filter(|reset| reset.translated.is_none()) else { return };
        reset.internals.conntrack = Some(*entry);
        if is_answer_without_connection(reset) {
            not_translated::note_untranslated(reset, entry);
            // What the receiver's record is to take from it.
            self.ends.insert_sent(Side::Answer, reset, SenderCause::of(reset));
        } else {
            reset.translated = translated_ends(entry, reset.local, reset.peer.end());
            if reset.translated.is_some() {
                self.join_translated(id);
            }
        }
    }

    /// Joins a waiting record, whose translation has become known, with that of the other end: both of its ends may have been
    /// translated.
    fn join_translated(&mut self, id: u64) -> Option<()> {
        let reset = self.held.get(id).filter(|reset| reset.other_end.is_none() && !is_answer(reset))?;
        let is_sent = reset.direction == Direction::Sent;
        let other = if is_sent { self.ends.take_receiver(reset) } else { self.ends.take_sender(Side::Sender, reset) }?;
        self.ends.remove(reset);
        let (sent, received) = if is_sent { (id, other.record()) } else { (other.record(), id) };
        if let Some([sent, received]) = self.held.get_pair_mut(sent, received) {
            self.numbers.merge(received.internals.incident, sent.internals.incident);
            pairs::complete(sent, received);
            self.sources.remember(received);
        } else {
            // It was output without this one.
            other.complete(self.held.get_mut(id)?, None);
        }
        Some(())
    }

    /// Notes that the translation of a record's connection is to be asked for: of one that had a socket, and of a segment that
    /// may belong to a connection which this host only translates.
    fn ask(&mut self, record: &Reset) {
        if let Some(lookups) = self.lookups.as_mut().filter(|lookups| lookups.len() < LOOKUPS_MAX)
            && (record.socket.is_some() || is_answer_without_connection(record))
            && record.other_end.is_none()
        {
            let (id, local, peer) = (record.internals.record, record.local, record.peer.end());
            lookups.push(TranslationRequest { id, namespace: record.namespace(), local, peer });
        }
    }

    /// Notes that the records that wait have been seen to wait at this time, as [`Self::release`] does.
    pub fn see(&mut self, now_ns: u64) {
        self.held.see(now_ns);
    }

    /// Hands on the records whose wait is over at this time; all for [`u64::MAX`].
    pub fn release(&mut self, now_ns: u64, emit: &mut impl FnMut(&mut Self, Arc<Reset>)) {
        self.held.see(now_ns);
        while let Some(record) = self.held.pop_due(now_ns) {
            for record in self.with_answer(record).into_iter().flatten() {
                self.keep(&record);
                emit(self, record);
            }
        }
    }

    /// When [`Self::release`] is due; `None` if no record waits.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.held.deadline_ns()
    }

    /// Fills in the numbers by which a record refers to others, which is about to be output under the number `seq`.
    pub fn number(&mut self, reset: &mut Reset, seq: u64) {
        self.numbers.output(reset.internals.record, seq);
        let incident = self.numbers.root(reset.internals.incident);
        reset.incident = self.numbers.first_of(incident, seq);
        if let Some(other) = &mut reset.other_end {
            other.seq = self.numbers.seq(reset.internals.other_record);
        }
    }

    /// Notes that a record is not output.
    pub fn discard(&mut self, reset: &Reset) {
        self.numbers.discard(reset.internals.record);
    }

    /// Joins a record to an incident that began before: `of_connection`, the one between its ends, or one of its process.
    fn join_earlier(&mut self, reset: &mut Reset, of_connection: Option<EndedConnection>) {
        if let Some(ended) = of_connection.filter(|_| is_of_ended_connection(reset)) {
            (reset.internals.incident, reset.incident_role) = (ended.incident, IncidentRole::Aftermath);
            return;
        }
        if reset.direction != Direction::Sent {
            return;
        }
        if let Some((incident, relayed)) = self.sources.source_of(reset) {
            (reset.internals.incident, reset.incident_role) = (incident, IncidentRole::Relayed);
            reset.internals.relayed = Some(relayed);
            joined::relay(reset);
        } else if relay::may_be_forwarded(reset) && joined::relay_unseen(reset) {
            // Its record is the first that is known of the incident.
        } else if let Some(incident) = self.ended.group_of(reset) {
            (reset.internals.incident, reset.incident_role) = (incident, IncidentRole::Relayed);
        } else {
            diagnose::leave(reset);
        }
    }

    /// Takes a waiting answer to a segment of the connection that this reset aborts: on another CPU the kernel had answered
    /// that before it reported the abort. It becomes the aftermath of this reset.
    fn take_early_answer(&mut self, abort: &Reset, record: u64) -> Option<Arc<Reset>> {
        if abort.direction != Direction::Sent || abort.provoked_by.is_some() {
            return None;
        }
        self.held.get(record).filter(|held| is_answer(held) || held.cause.code == AFTERMATH)?;
        let mut answer = self.take_held(record)?;
        self.numbers.merge(record, abort.internals.incident);
        let reset = Arc::make_mut(&mut answer);
        (reset.internals.incident, reset.incident_role) = (abort.internals.incident, IncidentRole::Aftermath);
        joined::become_aftermath(reset);
        // What it is the answer of is known now.
        self.ends.insert_sent(Side::Answer, reset, SenderCause::of(abort));
        Some(answer)
    }

    /// Joins a sent reset with the received one at the other end. Returns that record if it waited for this one.
    fn join_received(&mut self, sent: &mut Reset, ended: Option<EndedConnection>) -> Option<Arc<Reset>> {
        if is_answer(sent) {
            // One that comes later than the rest of the connection can meets a peer that does not know of its end.
            let cause = ended.filter(|_| sent.cause.code == AFTERMATH).map(|ended| ended.cause);
            self.ends.insert_sent(Side::Answer, sent, cause.unwrap_or_else(|| SenderCause::of(sent)));
            return None;
        }
        let Some(end) = self.ends.take_receiver(sent) else {
            self.ends.insert_sent(Side::Sender, sent, SenderCause::of(sent));
            return None;
        };
        if let Some(mut record) = self.take_held(end.record()) {
            self.join_ends(sent, Arc::make_mut(&mut record));
            return Some(record);
        }
        // It was output without this one.
        end.complete(sent, None);
        None
    }

    /// Joins a received reset with the sent one at the other end. Returns that record if it waited for this one.
    fn join_sent(&mut self, received: &mut Reset) -> Option<Arc<Reset>> {
        let Some(sent) = self.ends.take_sender(Side::Sender, received) else {
            self.ends.insert_received(received);
            return None;
        };
        if let Some(mut record) = self.take_held(sent.record()) {
            self.join_ends(Arc::make_mut(&mut record), received);
            return Some(record);
        }
        sent.complete(received, None);
        None
    }

    /// Joins a received reset whose wait is over with the answer to a segment of its connection. Returns both, the answer if it
    /// waits, too.
    fn with_answer(&mut self, mut record: Arc<Reset>) -> [Option<Arc<Reset>>; 2] {
        let received = Arc::make_mut(&mut record);
        let is_single = received.direction == Direction::Received && received.other_end.is_none();
        let Some(answer) =
            Some(received).filter(|_| is_single).and_then(|received| self.ends.take_sender(Side::Answer, received))
        else {
            return [None, Some(record)];
        };
        let received = Arc::make_mut(&mut record);
        let mut sent = self.take_held(answer.record());
        if let Some(sent) = &mut sent {
            pairs::tell_receiver(Arc::make_mut(sent), received);
        }
        self.numbers.merge(received.internals.incident, answer.incident());
        answer.complete(received, sent.as_deref());
        [sent, Some(record)]
    }

    /// Keeps what the other end is to show of a record that is output without it.
    fn keep(&mut self, record: &Reset) {
        if record.other_end.is_none() {
            let side = match record.direction {
                Direction::Received => Side::Receiver,
                Direction::Sent if is_answer(record) => Side::Answer,
                Direction::Sent => Side::Sender,
            };
            self.ends.keep(side, record);
        }
    }

    /// Takes a record that waits.
    fn take_held(&mut self, record: u64) -> Option<Arc<Reset>> {
        let held = self.held.take(record)?;
        self.numbers.discard(record);
        Some(held)
    }

    /// Joins the records of both ends.
    fn join_ends(&mut self, sent: &mut Reset, received: &mut Reset) {
        // Others may refer to either of them already.
        self.numbers.merge(received.internals.incident, sent.internals.incident);
        pairs::complete(sent, received);
        // What it is told as now is what a process passes on.
        self.sources.remember(received);
    }

    /// Remembers what later records may belong to. `earlier`: what had ended its connection before.
    fn remember(&mut self, reset: &Reset, earlier: Option<EndedConnection>) {
        let earlier = earlier.filter(|_| reset.incident_role == IncidentRole::Aftermath);
        let own = || EndedConnection { incident: reset.internals.incident, cause: SenderCause::of(reset) };
        self.numbers.set_ended(reset.internals.record, earlier.unwrap_or_else(own));
        self.sources.remember(reset);
        self.ended.remember(reset);
    }
}

/// Whether a sent reset answers the rest of a connection.
fn is_answer(sent: &Reset) -> bool {
    sent.incident_role == IncidentRole::Aftermath || is_answer_without_connection(sent)
}

/// Whether a sent reset answers a segment of a connection that this host does not know, or does not know any more.
fn is_answer_without_connection(sent: &Reset) -> bool {
    not_translated::answers_unknown_connection(sent.cause.code) && sent.provoked_by.is_some()
}

/// Whether the connection had been reset before, and no other one has been between its ends since.
fn is_of_ended_connection(reset: &Reset) -> bool {
    // A reset ends the socket, so any further one answers a segment.
    if reset.direction != Direction::Sent || reset.provoked_by.is_none() {
        return false;
    }
    let Some(since_ms) = reset.internals.correlation.same_connection_ms else { return reset.cause.code == AFTERMATH };
    let closed_since = reset.internals.ending.as_ref().is_some_and(|ending| ending.closed_ms < since_ms - CLOSE_MS);
    since_ms <= AFTERMATH_MS && !closed_since
}
