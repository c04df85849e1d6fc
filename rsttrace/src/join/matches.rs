//! Which record of a sender and which record of a receiver are of one reset.

use std::cmp::Reverse;

use foldhash::{HashMap, HashSet};

use super::{
    clock_skew::ClockSkew,
    ends_fit::{EndsFit, KeyStrength, NumberKey},
    gathered_host::GatheredHost,
    own_filter, partial_matches,
    seen_reset::SeenReset,
};
use crate::model::Endpoint;

/// Most combinations of senders and receivers with equal numbers that are looked at: of one connection, and of several.
const EDGES_MAX: usize = 4_096;
const MIXED_EDGES_MAX: usize = 256;
/// Distance in time beyond which one equal number of 32 bits is taken for chance, nanoseconds.
const CHANCE_NS: i64 = 60_000_000_000;

/// Fewest records of one number and one end whose times have to agree before the clocks' difference follows from them, and how
/// closely, nanoseconds.
const AGREEING_MIN: usize = 3;
const AGREEING_NS: i64 = 1_000_000_000;

/// Place of a record: its host, and its number among that host's resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) host: u16,
    pub(super) index: u32,
}

/// How sure it is that two records are of one reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatchBasis {
    /// By the numbers, with the ends where one number is missing.
    Numbers,
    /// By one number and one end, and the time.
    NumberAndTime,
    /// By the ends and the time, and the numbers that are known: the receiver did not see the header.
    EndsAndTime,
    /// By one end and the time, as the only one at either host: the other end is translated.
    OneEndAndTime,
}

/// Two records of one reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Match {
    pub(super) sent: Place,
    pub(super) received: Place,
    pub(super) basis: MatchBasis,
}

/// All matches.
#[derive(Debug, Default)]
pub(super) struct Matches {
    pub(super) all: Vec<Match>,
    /// Places of both records of each match.
    matched: HashSet<Place>,
    /// Numbers of the matches.
    keys: HashSet<NumberKey>,
    /// Records that may be one of several.
    ambiguous: HashSet<Place>,
    /// Differences of the clocks of two hosts, in both orders.
    skews: HashMap<(u16, u16), ClockSkew>,
}

/// A combination of a sender's and a receiver's record.
#[derive(Clone, Copy)]
struct Edge {
    sent: Place,
    received: Place,
    fit: EndsFit,
    strength: KeyStrength,
}

/// A record and its numbers, in the order of which records are grouped.
type Keyed = (NumberKey, Place);

impl Matches {
    /// Matches the records of hosts.
    pub(super) fn of(hosts: &[GatheredHost]) -> Self {
        let mut sent: Vec<Keyed> = Vec::new();
        let mut received: Vec<Keyed> = Vec::new();
        let mut partial = Vec::new();
        for (host, gathered) in (0..).zip(hosts) {
            for (index, reset) in (0..).zip(&gathered.resets) {
                let place = Place { host, index };
                if gathered.is_within(reset) {
                    continue;
                }
                match NumberKey::of(reset).map(NumberKey::group) {
                    Some(key) if reset.is_sent => sent.push((key, place)),
                    Some(key) => received.push((key, place)),
                    None if reset.seq.is_none() && !reset.is_sent => partial.push(place),
                    None => {}
                }
            }
        }
        sent.sort_unstable();
        received.sort_unstable();
        let groups = Groups { hosts, sent, received };
        let mut matches = Self { skews: groups.skews(), ..Self::default() };
        for (pair, skew) in wire_skews(hosts) {
            matches.skews.entry(pair).or_insert(skew);
        }
        for own in own_filter::matches(hosts) {
            matches.add(hosts, own);
        }
        groups.each(|edges| matches.resolve(hosts, edges));
        if !partial.is_empty() {
            partial_matches::add(&mut matches, hosts, &partial);
        }
        matches
    }

    pub(super) fn is_matched(&self, place: Place) -> bool {
        self.matched.contains(&place)
    }

    pub(super) fn is_ambiguous(&self, place: Place) -> bool {
        self.ambiguous.contains(&place)
    }

    /// Whether a match has the numbers of a record.
    pub(super) fn has_key_of(&self, reset: &SeenReset) -> bool {
        let key = NumberKey::of(reset).map(|key| if reset.is_whole { key } else { key.group() });
        key.is_some_and(|key| self.keys.contains(&key))
    }

    /// Difference of the clock of `to` from that of `from`; `None` where no reset of both is matched.
    pub(super) fn skew(&self, from: u16, to: u16) -> Option<&ClockSkew> {
        self.skews.get(&(from, to))
    }

    /// The differences of all hosts' clocks.
    pub(super) fn skews(&self) -> impl Iterator<Item = (&(u16, u16), &ClockSkew)> {
        self.skews.iter().filter(|((host, other), _)| host < other)
    }

    pub(super) fn add(&mut self, hosts: &[GatheredHost], found: Match) {
        self.matched.extend([found.sent, found.received]);
        let key = seen(hosts, found.sent).and_then(NumberKey::of);
        self.keys.extend(key.into_iter().flat_map(|key| [key, key.group()]));
        self.all.push(found);
    }

    /// Chooses among the combinations that have equal numbers.
    fn resolve(&mut self, hosts: &[GatheredHost], edges: Result<Vec<Edge>, Vec<Place>>) {
        let mut edges: Vec<Edge> = match edges {
            // A recording stands for its host, and captures with its address are then places of the path.
            Ok(edges) => {
                edges.into_iter().filter(|edge| is_end(hosts, edge.sent) && is_end(hosts, edge.received)).collect()
            }
            Err(places) => return self.ambiguous.extend(places),
        };
        let captures =
            |edge: &Edge| [edge.sent, edge.received].iter().filter(|place| is_capture(hosts, **place)).count();
        let distance = |matches: &Self, edge: &Edge| matches.distance(hosts, edge);
        let time = |place: Place| seen(hosts, place).map_or(0, |reset| reset.time_ns);
        edges.sort_by_key(|edge| {
            // Without a difference of the clocks, equal resets of one connection come in the order of time at both ends.
            let apart = distance(self, edge).map_or((0, time(edge.sent), time(edge.received)), |apart| (apart, 0, 0));
            (captures(edge), Reverse(edge.fit), apart)
        });
        let is_one_connection = edges.windows(2).all(|pair| match pair {
            [one, other] => {
                connection(hosts, one.sent) == connection(hosts, other.sent)
                    && connection(hosts, one.received) == connection(hosts, other.received)
            }
            _ => true,
        });
        if !is_one_connection && edges.len() > MIXED_EDGES_MAX {
            return self.ambiguous.extend(edges.iter().flat_map(|edge| [edge.sent, edge.received]));
        }
        let mut place = 0;
        while let Some(edge) = edges.get(place).copied() {
            place += 1;
            if self.is_matched(edge.sent) || self.is_matched(edge.received) {
                continue;
            }
            let is_rival = |other: &&Edge| {
                let is_free = !self.is_matched(other.sent) && !self.is_matched(other.received);
                let is_other = other.received == edge.received
                    && connection(hosts, other.sent) != connection(hosts, edge.sent)
                    || other.sent == edge.sent && connection(hosts, other.received) != connection(hosts, edge.received);
                is_free && is_other && other.fit == edge.fit && captures(other) == captures(&edge)
            };
            let has_rival = !is_one_connection
                && edges.iter().any(|other| is_rival(&other) && self.is_in_time(hosts, other) != Some(false));
            match self.basis(hosts, &edge, has_rival) {
                Some(basis) => self.add(hosts, edge.matched(basis)),
                // It has equal numbers, and is not known to be another reset either.
                None => self.ambiguous.extend([edge.sent, edge.received]),
            }
        }
    }

    /// How sure a combination is; `None` where it is not sure enough.
    fn basis(&self, hosts: &[GatheredHost], edge: &Edge, has_rival: bool) -> Option<MatchBasis> {
        let is_in_time = self.is_in_time(hosts, edge);
        if has_rival {
            return None;
        }
        if !edge.strength.is_joined_by(edge.fit) {
            return (is_in_time == Some(true)).then_some(MatchBasis::NumberAndTime);
        }
        let by_chance = edge.strength == KeyStrength::OneNumber
            && self.distance(hosts, edge).is_some_and(|apart| apart > CHANCE_NS)
            && is_in_time == Some(false);
        (!by_chance).then_some(MatchBasis::Numbers)
    }

    /// Distance in time of two records, the difference of the clocks taken off, nanoseconds; `None` where that is not known.
    fn distance(&self, hosts: &[GatheredHost], edge: &Edge) -> Option<i64> {
        let skew = self.skew(edge.sent.host, edge.received.host)?;
        Some(skew.distance_ns(seen(hosts, edge.sent)?.time_ns, seen(hosts, edge.received)?.time_ns))
    }

    /// Whether two records are within the uncertainty of the clocks; `None` where that is not known.
    fn is_in_time(&self, hosts: &[GatheredHost], edge: &Edge) -> Option<bool> {
        self.are_in_time(hosts, edge.sent, edge.received)
    }

    /// Whether two records are within the uncertainty of the clocks; `None` where that is not known.
    pub(super) fn are_in_time(&self, hosts: &[GatheredHost], sent: Place, received: Place) -> Option<bool> {
        let skew = self.skew(sent.host, received.host)?;
        let (sent, received) = (seen(hosts, sent)?.time_ns, seen(hosts, received)?.time_ns);
        Some(skew.distance_ns(sent, received) <= skew.uncertainty_ns(sent))
    }

    /// Notes records that may be one of several.
    pub(super) fn doubt(&mut self, places: impl IntoIterator<Item = Place>) {
        self.ambiguous.extend(places);
    }
}

/// Records in groups of equal numbers.
struct Groups<'a> {
    hosts: &'a [GatheredHost],
    sent: Vec<Keyed>,
    received: Vec<Keyed>,
}

impl Groups<'_> {
    /// Calls a function with the combinations of each group that may be one reset; with the places alone where there are too
    /// many.
    fn each(&self, mut take: impl FnMut(Result<Vec<Edge>, Vec<Place>>)) {
        let mut received = self.received.as_slice();
        for senders in self.sent.chunk_by(|(one, _), (other, _)| one == other) {
            let Some(&(key, _)) = senders.first() else { continue };
            let behind = received.partition_point(|(other, _)| *other < key);
            received = received.get(behind..).unwrap_or_default();
            let end = received.partition_point(|(other, _)| *other == key);
            let receivers = received.get(..end).unwrap_or_default();
            if receivers.is_empty() {
                continue;
            }
            if senders.len().saturating_mul(receivers.len()) > EDGES_MAX {
                take(Err(senders.iter().chain(receivers).map(|(_, place)| *place).collect()));
                continue;
            }
            let edges =
                senders.iter().flat_map(|(_, sent)| receivers.iter().map(move |(_, received)| (*sent, *received)));
            let edges = edges.filter(|(sent, received)| sent.host != received.host).filter_map(|(sent, received)| {
                let (sender, receiver) = (seen(self.hosts, sent)?, seen(self.hosts, received)?);
                let strength = NumberKey::of(sender)?.common(NumberKey::of(receiver)?, receiver.is_whole)?;
                let fit = EndsFit::of(sender, receiver);
                strength.may_be_joined_by(fit).then_some(Edge { sent, received, fit, strength })
            });
            take(Ok(edges.collect()));
        }
    }

    /// Differences of the clocks, from the groups in which two hosts have one combination.
    fn skews(&self) -> HashMap<(u16, u16), ClockSkew> {
        let mut anchors: HashMap<(u16, u16), Anchors> = HashMap::default();
        self.each(|edges| {
            let edges = edges.unwrap_or_default();
            for edge in &edges {
                let hosts = edge.hosts();
                if edges.iter().filter(|other| other.hosts() == hosts).count() != 1 {
                    continue;
                }
                let [first, second] = if edge.sent.host < edge.received.host {
                    [edge.sent, edge.received]
                } else {
                    [edge.received, edge.sent]
                };
                let times = seen(self.hosts, first).zip(seen(self.hosts, second));
                let times = times.map(|(first, second)| (first.time_ns, second.time_ns));
                anchors.entry(hosts).or_default().kind_of(edge).extend(times);
            }
        });
        let known = anchors.into_iter().filter_map(|(hosts, anchors)| Some((hosts, anchors.skew()?)));
        known.flat_map(|((one, other), skew)| [((other, one), skew.reversed()), ((one, other), skew)]).collect()
    }
}

impl Edge {
    const fn matched(self, basis: MatchBasis) -> Match {
        Match { sent: self.sent, received: self.received, basis }
    }

    /// The two hosts, the lower number first.
    fn hosts(&self) -> (u16, u16) {
        (self.sent.host.min(self.received.host), self.sent.host.max(self.received.host))
    }
}

/// Times of two hosts' records of one reset, by what joins them.
#[derive(Default)]
struct Anchors {
    /// Both numbers.
    both: Vec<(i64, i64)>,
    /// One number and both ports.
    one: Vec<(i64, i64)>,
    /// One number and one end.
    weak: Vec<(i64, i64)>,
}

impl Anchors {
    fn kind_of(&mut self, edge: &Edge) -> &mut Vec<(i64, i64)> {
        match edge.strength {
            KeyStrength::Both => &mut self.both,
            KeyStrength::OneNumber if edge.strength.is_joined_by(edge.fit) => &mut self.one,
            KeyStrength::OneNumber => &mut self.weak,
        }
    }

    /// The difference, from the surest kind that there is; from weak ones only where several agree.
    fn skew(self) -> Option<ClockSkew> {
        let Self { both, one, weak } = self;
        if let Some(skew) = ClockSkew::of(if both.is_empty() { one } else { both }) {
            return Some(skew);
        }
        let skew = ClockSkew::of(weak.clone())?;
        let agreeing = weak.into_iter().filter(|(first, second)| skew.distance_ns(*first, *second) <= AGREEING_NS);
        let agreeing: Vec<(i64, i64)> = agreeing.collect();
        if agreeing.len() >= AGREEING_MIN { ClockSkew::of(agreeing) } else { None }
    }
}

/// Differences of the clocks of captures and recordings that have resets in one direction: a packet at the place of capture, and at
/// its end.
fn wire_skews(hosts: &[GatheredHost]) -> HashMap<(u16, u16), ClockSkew> {
    let mut on_wire: HashMap<NumberKey, Vec<Place>> = HashMap::default();
    for (host, gathered) in (0..).zip(hosts).filter(|(_, host)| host.is_capture()) {
        for (index, reset) in (0..).zip(&gathered.resets) {
            if let Some(key) = NumberKey::of(reset) {
                on_wire.entry(key.group()).or_default().push(Place { host, index });
            }
        }
    }
    let mut anchors: HashMap<(u16, u16), Vec<(i64, i64)>> = HashMap::default();
    for (host, gathered) in (0..).zip(hosts).filter(|(_, host)| !on_wire.is_empty() && !host.is_capture()) {
        for reset in &gathered.resets {
            let places =
                NumberKey::of(reset).and_then(|key| on_wire.get(&key.group())).map(Vec::as_slice).unwrap_or_default();
            let has_copies = |place: &Place| places.iter().filter(|other| other.host == place.host).count() != 1;
            for place in places.iter().filter(|place| !has_copies(place)) {
                let Some(captured) = seen(hosts, *place) else { continue };
                let ports = |reset: &SeenReset| (reset.is_sent, reset.local.port, reset.peer.port);
                if ports(captured) == ports(reset) && (!reset.is_whole || captured.ack == reset.ack) {
                    anchors.entry((host, place.host)).or_default().push((reset.time_ns, captured.time_ns));
                }
            }
        }
    }
    let known = anchors.into_iter().filter_map(|(hosts, anchors)| Some((hosts, ClockSkew::of(anchors)?)));
    known.flat_map(|((one, other), skew)| [((other, one), skew.reversed()), ((one, other), skew)]).collect()
}

/// The record at a place.
pub(super) fn seen(hosts: &[GatheredHost], place: Place) -> Option<&SeenReset> {
    hosts.get(usize::from(place.host))?.resets.get(usize::try_from(place.index).ok()?)
}

/// Whether a record stands for the end of a connection: that of a host does, and that of a capture where no recording is of the host
/// with its address.
pub(super) fn is_end(hosts: &[GatheredHost], place: Place) -> bool {
    let address = seen(hosts, place).map(|reset| reset.local.address);
    let is_recorded =
        || hosts.iter().any(|host| !host.is_capture() && address.is_some_and(|address| host.has_address(address)));
    !is_capture(hosts, place) || !is_recorded()
}

fn is_capture(hosts: &[GatheredHost], place: Place) -> bool {
    hosts.get(usize::from(place.host)).is_some_and(GatheredHost::is_capture)
}

fn connection(hosts: &[GatheredHost], place: Place) -> Option<(Endpoint, Endpoint)> {
    seen(hosts, place).map(|reset| (reset.local, reset.peer))
}
