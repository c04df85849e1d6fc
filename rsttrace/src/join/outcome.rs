//! The result: each reset of two hosts once, with its verdict.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use jiff::{Timestamp, tz::TimeZone};

use super::{
    clock_skew::ClockSkew,
    ends_fit::{EndsFit, KeyStrength, NumberKey},
    gathered_host::GatheredHost,
    judge::{Judge, Judgement},
    lent_numbers,
    matches::{MatchBasis, Matches, Place, is_end, seen},
    seen_reset::SeenReset,
    sentences::{Arrival, Known, Names, OpenFilters},
    wire_cover::WireView,
    wording::{Moments, apart, lent_sentence},
};
use crate::model::{
    CauseConfidence, Endpoint, HostClocks, JoinSummary, Pair, PairCapture, PairClock, PairNumbers, PairVerdict,
    VerdictCount,
};

/// Which pairs are wanted.
#[derive(Clone, Copy)]
pub struct PairFilter<'a> {
    /// Verdicts; empty for all.
    pub verdicts: &'a [PairVerdict],
    /// Whether pairs with this port at either end are wanted.
    pub is_port: &'a dyn Fn(u16) -> bool,
    /// Whether pairs whose peer's host is none of the inputs', and that no capture shows, are wanted, or these alone; `None` for
    /// all.
    pub with_others: Option<bool>,
    /// First of the times of pairs that are wanted; `None` for all before.
    pub since: Option<Timestamp>,
    /// End of these times, which does not belong to them; `None` for all after.
    pub until: Option<Timestamp>,
}

impl PairFilter<'_> {
    /// All pairs.
    pub const ALL: PairFilter<'static> =
        PairFilter { verdicts: &[], is_port: &|_| true, with_others: None, since: None, until: None };
}

/// One reset: places of its records, and what was concluded.
#[derive(Clone, Copy, Debug)]
struct Joint {
    sent: Option<Place>,
    received: Option<Place>,
    basis: Option<MatchBasis>,
    verdict: PairVerdict,
    /// Whether no input is of the other end's host.
    is_with_others: bool,
    /// Whether a capture that is neither end shows the reset or its connection.
    is_captured: bool,
}

/// What was joined.
#[derive(Debug)]
pub struct Joined {
    hosts: Vec<GatheredHost>,
    matches: Matches,
    joints: Vec<Joint>,
    /// Records of captures, by the numbers of the reset.
    on_wire: HashMap<NumberKey, Vec<Place>>,
    within_hosts: u64,
    moments: Moments,
}

impl Joined {
    /// Joins the records of hosts.
    pub(super) fn of(mut hosts: Vec<GatheredHost>) -> Self {
        let mut matches = Matches::of(&hosts);
        if lent_numbers::lend(&mut hosts, &matches) {
            matches = Matches::of(&hosts);
        }
        let mut joined = Self {
            hosts,
            matches,
            joints: Vec::new(),
            on_wire: HashMap::default(),
            within_hosts: 0,
            moments: Moments::default(),
        };
        joined.index_captures();
        for found in &joined.matches.all {
            joined.joints.push(Joint::new(Some(found.sent), Some(found.received), Some(found.basis)));
        }
        joined.add_single();
        let judge = Judge::new(&joined.hosts, &joined.matches, &joined.moments);
        let mut joints = std::mem::take(&mut joined.joints);
        for joint in &mut joints {
            let judgement = joined.judgement(&judge, joint);
            (joint.verdict, joint.is_with_others) = (judgement.verdict, judgement.is_with_others);
            joint.is_captured = judgement.is_with_others && !joined.on_wire.is_empty() && {
                let of = |place: Option<Place>| place.map(|place| place.host);
                !joined.captures(joint, &[of(joint.sent), of(joint.received)]).is_empty()
            };
        }
        joints.sort_by_key(|joint| joined.time_ns(joint));
        joined.joints = joints;
        joined
    }

    /// Has the moments in reasons in a zone, which is named elsewhere.
    #[must_use]
    pub fn in_zone(self, zone: TimeZone) -> Self {
        Self { moments: Moments(Some(zone)), ..self }
    }

    /// The pairs, in the order of time, that are wanted.
    pub fn pairs<'a>(&'a self, wanted: &'a PairFilter<'a>) -> impl Iterator<Item = Pair> + 'a {
        let judge = Judge::new(&self.hosts, &self.matches, &self.moments);
        self.joints
            .iter()
            .filter(|joint| self.is_wanted(wanted, joint))
            .filter_map(move |joint| self.pair(&judge, joint))
    }

    fn is_wanted(&self, wanted: &PairFilter<'_>, joint: &Joint) -> bool {
        let PairFilter { verdicts, is_port, with_others, since, until } = wanted;
        let time_ns = i128::from(self.time_ns(joint));
        let places = [joint.sent, joint.received];
        let mut ends = places.into_iter().flatten().filter_map(|place| seen(&self.hosts, place));
        (verdicts.is_empty() || verdicts.contains(&joint.verdict))
            && with_others.is_none_or(|with_others| with_others == (joint.is_with_others && !joint.is_captured))
            && since.is_none_or(|since| time_ns >= since.as_nanosecond())
            && until.is_none_or(|until| time_ns < until.as_nanosecond())
            && ends.any(|reset| is_port(reset.local.port) || is_port(reset.peer.port))
    }

    /// Number of pairs that are wanted.
    pub fn count(&self, wanted: &PairFilter<'_>) -> usize {
        self.joints.iter().filter(|joint| self.is_wanted(wanted, joint)).count()
    }

    /// Hosts, clocks and counts. `count` takes the verdicts of the pairs that are shown.
    pub fn summary(&self, verdicts: impl Iterator<Item = PairVerdict>) -> JoinSummary {
        let mut counts: HashMap<PairVerdict, u64> = HashMap::default();
        for verdict in verdicts {
            *counts.entry(verdict).or_default() += 1;
        }
        let clocks = self.matches.skews().filter_map(|((host, other), skew)| {
            Some(HostClocks { host: self.name(*host)?, other: self.name(*other)?, clock: skew.shown() })
        });
        let mut clocks: Vec<HostClocks> = clocks.collect();
        clocks.sort_by(|one, other| (&one.host, &one.other).cmp(&(&other.host, &other.other)));
        let last = self.hosts.iter().filter_map(|host| host.resets.last()).map(SeenReset::time).max();
        JoinSummary {
            time: last.unwrap_or(Timestamp::UNIX_EPOCH),
            hosts: self.hosts.iter().map(GatheredHost::shown).collect(),
            clocks,
            verdicts: PairVerdict::ALL
                .into_iter()
                .filter_map(|verdict| Some(VerdictCount { verdict, count: *counts.get(&verdict)? }))
                .collect(),
            within_hosts: self.within_hosts,
            with_others: u64::try_from(self.joints.iter().filter(|joint| joint.is_with_others).count())
                .unwrap_or(u64::MAX),
        }
    }

    /// That recordings do not overlap in time, of each two hosts without a matched reset: reasons of their pairs.
    pub(super) fn apart(&self) -> Vec<String> {
        let hosts = || (0_u16..).zip(&self.hosts);
        let pairs = hosts().flat_map(|one| hosts().skip(usize::from(one.0) + 1).map(move |other| (one, other)));
        let unmatched = pairs.filter(|((one, _), (other, _))| self.matches.skew(*one, *other).is_none());
        unmatched.filter_map(|((_, one), (_, other))| apart(one, other, &self.moments)).collect()
    }

    fn index_captures(&mut self) {
        for (number, host) in (0..).zip(&self.hosts).filter(|(_, host)| host.is_capture()) {
            for (index, reset) in (0..).zip(&host.resets) {
                if let Some(key) = NumberKey::of(reset) {
                    self.on_wire.entry(key.group()).or_default().push(Place { host: number, index });
                }
            }
        }
    }

    /// Adds what no record of another host matches; of captures what is not the reset of another host's record.
    fn add_single(&mut self) {
        let mut known: HashMap<NumberKey, Vec<Place>> = HashMap::default();
        let mut singles = Vec::new();
        for captures in [false, true] {
            for (number, host) in (0..).zip(&self.hosts).filter(|(_, host)| host.is_capture() == captures) {
                for (index, reset) in (0..).zip(&host.resets) {
                    let place = Place { host: number, index };
                    let key = NumberKey::of(reset).map(NumberKey::group);
                    let is_matched = self.matches.is_matched(place);
                    if host.is_within(reset) && !is_matched {
                        self.within_hosts = self.within_hosts.saturating_add(reset.count);
                        continue;
                    }
                    // A capture tells of the resets that pass it as well, which are not its host's.
                    let is_own = host.wire.as_ref().is_none_or(|wire| wire.is_of(reset.local.address))
                        && is_end(&self.hosts, place);
                    let same = key.and_then(|key| known.get(&key)).map(Vec::as_slice).unwrap_or_default();
                    let is_known = captures && (!is_own || same.iter().any(|other| self.is_one(place, *other)));
                    if !is_matched && !is_known {
                        singles.push(if reset.is_sent {
                            Joint::new(Some(place), None, None)
                        } else {
                            Joint::new(None, Some(place), None)
                        });
                    }
                    if let Some(key) = key.filter(|_| !captures || is_matched) {
                        known.entry(key).or_default().push(place);
                    }
                }
            }
        }
        self.joints.extend(singles);
    }

    /// Whether two records are of one packet, at two places of the path.
    fn is_one(&self, one: Place, other: Place) -> bool {
        let Some((first, second)) = seen(&self.hosts, one).zip(seen(&self.hosts, other)) else { return false };
        let Some(strength) = common(first, second) else { return false };
        let (from, to) = direction(first);
        let is_fitting = |(other_from, other_to): (Endpoint, Endpoint)| {
            let ports = (from.port == other_from.port, to.port == other_to.port);
            strength == KeyStrength::Both || ports == (true, true) || from == other_from || to == other_to
        };
        let in_time = self
            .matches
            .skew(one.host, other.host)
            .is_none_or(|skew| skew.distance_ns(first.time_ns, second.time_ns) <= skew.uncertainty_ns(first.time_ns));
        let translated = second
            .translated
            .as_deref()
            .map(|(local, peer)| if second.is_sent { (*local, *peer) } else { (*peer, *local) });
        in_time && (is_fitting(direction(second)) || translated.is_some_and(is_fitting))
    }

    fn time_ns(&self, joint: &Joint) -> i64 {
        joint.received.or(joint.sent).and_then(|place| seen(&self.hosts, place)).map_or(0, |reset| reset.time_ns)
    }

    fn judgement(&self, judge: &Judge<'_>, joint: &Joint) -> Judgement {
        match (joint.sent, joint.received) {
            (Some(sent), Some(received)) => self.matched(judge, sent, received, joint.basis),
            (Some(sent), None) => judge.sent(sent),
            (None, Some(received)) => self.by_captures(judge, judge.received(received), joint),
            (None, None) => unreachable_judgement(),
        }
    }

    /// The verdict on a received reset, with what captures on the way show: one that did not pass one of them was made behind it.
    fn by_captures(&self, judge: &Judge<'_>, judgement: Judgement, joint: &Joint) -> Judgement {
        let is_open = judgement.verdict == PairVerdict::CannotBeTold || judgement.filters.sender;
        if !is_open || joint.received.is_some_and(|place| self.matches.is_ambiguous(place)) {
            return judgement;
        }
        let ends = [judgement.other, joint.received.map(|place| place.host)];
        if self.captures(joint, &ends).iter().all(|capture| capture.passed) {
            return judgement;
        }
        Judgement {
            verdict: PairVerdict::NotSent,
            confidence: CauseConfidence::Likely,
            // One of the peer's packet filter would have passed as well; one of the receiver's own would not.
            filters: OpenFilters { sender: false, receiver: self.may_be_of_receiver(judge, joint) },
            is_with_others: false,
            ..judgement
        }
    }

    fn may_be_of_receiver(&self, judge: &Judge<'_>, joint: &Joint) -> bool {
        let received = joint.received.filter(|_| joint.sent.is_none());
        let reset = received.and_then(|place| Some((place, seen(&self.hosts, place)?)));
        reset.is_some_and(|(place, reset)| judge.may_be_of_receiver(place, reset))
    }

    /// The verdict on two records of one reset.
    fn matched(&self, judge: &Judge<'_>, sent: Place, received: Place, basis: Option<MatchBasis>) -> Judgement {
        let places = seen(&self.hosts, sent).zip(seen(&self.hosts, received));
        let Some((sender, receiver)) = places else { return unreachable_judgement() };
        let (from, to) = (judge.name(sent.host), judge.name(received.host));
        let mut reasons = vec![match basis {
            Some(MatchBasis::Numbers) | None => match common(sender, receiver) {
                Some(KeyStrength::Both) => {
                    "both records have the reset's sequence and acknowledgement number".to_owned()
                }
                _ if receiver.is_whole => "both records have the reset's only number, and its ports".to_owned(),
                _ => format!("both records have its sequence number and its ports; {to} did not see its header"),
            },
            Some(MatchBasis::NumberAndTime) => {
                "both records have the reset's only number and one end; the other is translated, and the times agree"
                    .to_owned()
            }
            Some(MatchBasis::EndsAndTime) => {
                format!("both records have its ends, and the times agree; {to} did not see its header")
            }
            Some(MatchBasis::OneEndAndTime) => format!(
                "both records have one of its ends, and no other record of either host does at that time; {to} did not see its header"
            ),
        }];
        let is_own = sent.host == received.host;
        if is_own {
            reasons.push(format!(
                "both records are of {to}: its packet filter answered in the name of {}, by a rule with reject",
                receiver.peer.address
            ));
        }
        let is_sure = matches!(basis, Some(MatchBasis::Numbers) | None);
        let mut confidence = if is_sure { CauseConfidence::Certain } else { CauseConfidence::Likely };
        if receiver.is_lent {
            confidence = CauseConfidence::Likely;
            reasons.extend(lent_sentence(receiver));
        }
        let fit = EndsFit::of(sender, receiver);
        if fit != EndsFit::Mirrored {
            reasons.push("its addresses or ports are translated on the way".to_owned());
        }
        let mut verdict = PairVerdict::Sent;
        if let Some(wire) = self.host(sent.host).and_then(|host| host.wire.as_ref()) {
            let end = sender.local;
            if wire.is_at(end, sender.peer) {
                confidence = CauseConfidence::Likely;
                reasons.push(format!(
                    "{from} was captured on the host with the address {}, by its marks and TTLs",
                    end.address
                ));
            } else {
                verdict = PairVerdict::CannotBeTold;
                reasons.push(format!(
                    "it passed {from}: {} sent it, or something between that host and the place of capture",
                    end.address
                ));
            }
        }
        if verdict == PairVerdict::Sent
            && let Some(why) = receiver.ignored
        {
            verdict = PairVerdict::NeverArrived;
            if self.host(received.host).is_some_and(GatheredHost::is_capture) {
                // A capture shows packets, and not what a host did with them.
                confidence = CauseConfidence::Likely;
                let end = receiver.local.address;
                reasons.push(format!("it passed {to}; by the packets there {end} would have ignored it: {why}"));
            } else {
                reasons.push(format!("it came to {to}, which ignored it: {why}"));
            }
        }
        if let (Some(ttl), Some(handshake)) = (receiver.ttl, receiver.handshake_ttl)
            && ttl != handshake
        {
            reasons.push(format!("its TTL at {to} is {ttl}, and that of the sender's handshake {handshake}"));
        }
        Judgement {
            verdict,
            confidence,
            reasons,
            clock: self.matches.skew(received.host, sent.host).map(ClockSkew::shown),
            ..Judgement::unknown(String::new())
        }
    }

    /// Everything that is shown of a joint.
    fn pair(&self, judge: &Judge<'_>, joint: &Joint) -> Option<Pair> {
        let judgement = self.judgement(judge, joint);
        let record = |place: Option<Place>| place.and_then(|place| Some((place.host, seen(&self.hosts, place)?)));
        let (sent, received) = (record(joint.sent), record(joint.received));
        let (_, shown) = received.or(sent)?;
        let host_of = |record: Option<(u16, &SeenReset)>| record.map(|(host, _)| host).or(judgement.other);
        let (sender_host, receiver_host) = (host_of(sent), host_of(received));
        let end = |record: Option<(u16, &SeenReset)>| {
            record.and_then(|(host, reset)| Some(reset.pair_end(&self.name(host)?)))
        };
        let captures = self.captures(joint, &[sender_host, receiver_host]);
        let is_sender_known = matches!(judgement.verdict, PairVerdict::Sent | PairVerdict::NeverArrived);
        // The clock of the judged record's other end, from the receiver's to the sender's.
        let clock = if joint.received.is_some() { judgement.clock } else { judgement.clock.map(PairClock::reversed) };
        // Behind a translation each host has its own address for itself.
        let (from, to) = direction(sent.map_or(shown, |(_, reset)| reset));
        let (_, to) = received.map_or((from, to), |(_, reset)| direction(reset));
        let names = Names { sender: self.end_name(sender_host, from), receiver: self.end_name(receiver_host, to) };
        let known = self.known(judge, joint, &judgement);
        let passed = sent.and_then(|(host, _)| self.host(host)).filter(|host| host.is_capture());
        let mut reasons = judgement.reasons;
        reasons.extend(names.open_sentences(Known { filters: judgement.filters, ..known }));
        reasons.extend(captures.iter().map(|capture| names.side(capture, known)));
        Some(Pair {
            time: shown.time(),
            verdict: judgement.verdict,
            confidence: judgement.confidence,
            summary: match passed {
                Some(host) if joint.received.is_none() => {
                    format!("it passed {}; {}", host.name, names.arrival(judgement.verdict))
                }
                _ => names.summary(Known { filters: judgement.filters, ..known }),
            },
            reasons,
            reset: received
                .map_or_else(|| shown.numbers(), |(_, reset)| best_numbers(reset, sent.map(|(_, reset)| reset))),
            sender_host: sender_host.and_then(|host| self.name(host)),
            receiver_host: receiver_host.and_then(|host| self.name(host)),
            cause: sent.filter(|_| is_sender_known).map(|(_, reset)| reset.pair_cause()),
            sender: end(sent),
            receiver: end(received),
            clock,
            captures,
        })
    }

    /// What sentences on a joint go by.
    fn known(&self, judge: &Judge<'_>, joint: &Joint, judgement: &Judgement) -> Known {
        let receiver = joint.received.and_then(|place| self.host(place.host));
        let receiver_filter = judgement.filters.receiver || self.may_be_of_receiver(judge, joint);
        Known {
            verdict: judgement.verdict,
            filters: OpenFilters { receiver: receiver_filter, ..judgement.filters },
            arrival: match receiver {
                None => Arrival::Unknown,
                Some(host) if host.is_capture() => Arrival::Captured,
                Some(_) => Arrival::Came,
            },
            has_sender: joint.sent.is_some(),
            is_held_back: joint.received.and_then(|place| seen(&self.hosts, place)).is_some_and(|it| it.is_held_back),
            is_own: joint.sent.map(|place| place.host) == joint.received.map(|place| place.host),
        }
    }

    /// What captures that are neither end show of a reset.
    fn captures(&self, joint: &Joint, ends: &[Option<u16>]) -> Vec<PairCapture> {
        let places: Vec<Place> = [joint.received, joint.sent].into_iter().flatten().collect();
        let Some((&place, reset)) = places.first().and_then(|place| Some((place, seen(&self.hosts, *place)?))) else {
            return Vec::new();
        };
        // Without a number it cannot be found among the packets.
        let Some(key) = NumberKey::of(reset).map(NumberKey::group) else { return Vec::new() };
        let mut shown = Vec::new();
        let mut passed = HashSet::default();
        for &other in self.on_wire.get(&key).map(Vec::as_slice).unwrap_or_default() {
            let is_end = ends.contains(&Some(other.host));
            if is_end || !places.iter().any(|place| self.is_one(*place, other)) || !passed.insert(other.host) {
                continue;
            }
            let ttls = seen(&self.hosts, other).map(|reset| (reset.ttl, reset.handshake_ttl));
            let (ttl, handshake_ttl) = ttls.unwrap_or_default();
            shown.extend(self.name(other.host).map(|capture| PairCapture {
                capture,
                passed: true,
                ttl,
                handshake_ttl,
            }));
        }
        for (number, host) in (0..).zip(&self.hosts) {
            let (Some(wire), false) = (&host.wire, passed.contains(&number) || ends.contains(&Some(number))) else {
                continue;
            };
            let Some(skew) = self.matches.skew(place.host, number) else { continue };
            let (at, around) = (skew.translate(reset.time_ns), skew.uncertainty_of_ns(reset.time_ns, true));
            let (from, to) = direction(reset);
            if wire.covers(at.saturating_sub(around), at.saturating_add(around))
                && let WireView::Whole(handshake_ttl) = wire.view(from, to, reset.seq, reset.ack)
            {
                shown.push(PairCapture { capture: Arc::clone(&host.name), passed: false, ttl: None, handshake_ttl });
            }
        }
        shown
    }

    fn host(&self, number: u16) -> Option<&GatheredHost> {
        self.hosts.get(usize::from(number))
    }

    fn name(&self, number: u16) -> Option<Arc<str>> {
        self.host(number).map(|host| Arc::clone(&host.name))
    }

    /// Name of an end's host; its address, where that is not known, or a capture stands for it.
    fn end_name(&self, number: Option<u16>, end: Endpoint) -> String {
        let host = number.and_then(|number| self.host(number)).filter(|host| !host.is_capture());
        host.map_or_else(|| end.address.to_string(), |host| host.name.to_string())
    }
}

impl Joint {
    const fn new(sent: Option<Place>, received: Option<Place>, basis: Option<MatchBasis>) -> Self {
        Self { sent, received, basis, verdict: PairVerdict::CannotBeTold, is_with_others: false, is_captured: false }
    }
}

/// What the numbers of two records have in common: of a sender and a receiver, or of two places of the path.
fn common(first: &SeenReset, second: &SeenReset) -> Option<KeyStrength> {
    NumberKey::of(first)?.common(NumberKey::of(second)?, first.is_whole && second.is_whole)
}

/// The verdict where a record is missing that was there: none.
fn unreachable_judgement() -> Judgement {
    Judgement { confidence: CauseConfidence::Guess, ..Judgement::unknown("the records are not there".to_owned()) }
}

/// Numbers of a received reset, with what its sender's record knows more.
fn best_numbers(received: &SeenReset, sent: Option<&SeenReset>) -> PairNumbers {
    match sent {
        Some(sent) if !received.is_whole => sent.numbers(),
        _ => received.numbers(),
    }
}

/// Sender's and receiver's end of a reset's packet.
const fn direction(reset: &SeenReset) -> (Endpoint, Endpoint) {
    if reset.is_sent { (reset.local, reset.peer) } else { (reset.peer, reset.local) }
}
