//! The verdict on a reset of which one end alone has a record: who sent it, or whether it arrived.
//!
//! Silence of the other end is a proof only where its recording would have shown the reset. Each condition that is not met ends in
//! "cannot be told", with that condition as the reason.

use std::net::IpAddr;

use foldhash::{HashMap, HashSet};

use super::{
    clock_skew::ClockSkew,
    ends_fit::{EndsFit, NumberKey},
    gathered_host::{GatheredHost, Identity},
    hidden::hides,
    matches::{Matches, Place, seen},
    other_host::OtherHost,
    recorder_cover::CoverProof,
    seen_reset::SeenReset,
    sentences::OpenFilters,
    wire_cover::{WireCover, WireView},
    wording::{Moments, apart, clock_sentence, lent_sentence, ttl_sentence},
};
use crate::model::{CauseConfidence, Direction, PairClock, PairVerdict, RecordingContext};

/// Uncertainty of two clocks that follow time servers by their own account, where no reset of both hosts is matched, nanoseconds.
const SYNCHRONIZED_NS: i64 = 5_000_000_000;
/// Time by which a record that stands for several resets may come later than the first of them, nanoseconds.
const AGGREGATE_NS: i64 = 2_000_000_000;
/// Time around a received reset in which its host would have the record of its own packet filter, nanoseconds.
const RECORDS_APART_NS: i64 = 1_000_000_000;
/// Most records of an instant that are looked at.
const CANDIDATES_MAX: usize = 10_000;

/// A verdict.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    pub(super) verdict: PairVerdict,
    pub(super) confidence: CauseConfidence,
    pub(super) reasons: Vec<String>,
    /// The other end's host, where it is known.
    pub(super) other: Option<u16>,
    /// Clock of the other host less that of the record's.
    pub(super) clock: Option<PairClock>,
    /// Whether no input is of the other end's host.
    pub(super) is_with_others: bool,
    /// Whose own packet filter is not ruled out as the sender.
    pub(super) filters: OpenFilters,
}

impl Judgement {
    pub(super) fn unknown(reason: String) -> Self {
        Self {
            verdict: PairVerdict::CannotBeTold,
            confidence: CauseConfidence::Certain,
            reasons: vec![reason],
            other: None,
            clock: None,
            is_with_others: false,
            filters: OpenFilters::default(),
        }
    }
}

/// Everything that verdicts are drawn from.
pub(super) struct Judge<'a> {
    pub(super) hosts: &'a [GatheredHost],
    pub(super) matches: &'a Matches,
    pub(super) moments: &'a Moments,
    /// Pairs of addresses, and a port at either, between which nothing is translated, by the matches.
    direct: HashSet<(IpAddr, IpAddr, u16)>,
    /// Hosts that matched resets have come from, by the address that the other host saw.
    pub(super) behind: HashMap<IpAddr, HashSet<u16>>,
}

/// A span of the other host's time.
pub(super) struct Window {
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
    pub(super) at_ns: i64,
    pub(super) clock: Option<PairClock>,
}

/// Records of the other host that may be the reset under other numbers.
enum Candidate {
    /// One of this connection.
    Connection,
    /// One of this connection, of which no number is known.
    Unnumbered,
    /// One that stands for several resets of this port.
    Aggregate,
    /// So many of connections that may be this one, behind a translation.
    Translated(usize),
    /// More than are looked at.
    TooMany,
}

impl<'a> Judge<'a> {
    pub(super) fn new(hosts: &'a [GatheredHost], matches: &'a Matches, moments: &'a Moments) -> Self {
        let mut judge = Self { hosts, matches, moments, direct: HashSet::default(), behind: HashMap::default() };
        // What a host's own packet filter made in the name of its peer tells nothing of that peer.
        for joined in matches.all.iter().filter(|joined| joined.sent.host != joined.received.host) {
            let Some((sent, received)) = seen(hosts, joined.sent).zip(seen(hosts, joined.received)) else { continue };
            if received.peer == sent.local && received.local == sent.peer {
                let (one, other) = (received.local, received.peer);
                for port in [one.port, other.port] {
                    judge.direct.insert((one.address, other.address, port));
                    judge.direct.insert((other.address, one.address, port));
                }
            }
            judge.behind.entry(received.peer.address).or_default().insert(joined.sent.host);
            judge.behind.entry(sent.peer.address).or_default().insert(joined.received.host);
        }
        judge
    }

    /// Who sent a reset that was received, and that no record of a sender matches.
    pub(super) fn received(&self, place: Place) -> Judgement {
        let Some(reset) = seen(self.hosts, place) else { return Judgement::unknown("there is no such record".into()) };
        if let Some(reason) = self.not_a_key(place, reset) {
            return Judgement::unknown(reason);
        }
        self.of_other(place, reset, |other| self.not_sent(place, reset, other))
    }

    /// Whether a reset that was sent, and that no record of a receiver matches, has arrived.
    pub(super) fn sent(&self, place: Place) -> Judgement {
        let Some(reset) = seen(self.hosts, place) else { return Judgement::unknown("there is no such record".into()) };
        if reset.count > 1 {
            let reason = format!("the record stands for {} resets, of which it has the numbers of one", reset.count);
            return Judgement::unknown(reason);
        }
        if let Some(reason) = self.not_a_key(place, reset) {
            return Judgement::unknown(reason);
        }
        self.of_other(place, reset, |other| self.never_arrived(place, reset, other))
    }

    /// Why the numbers of a record cannot be compared; `None` where they can.
    fn not_a_key(&self, place: Place, reset: &SeenReset) -> Option<String> {
        if self.matches.is_ambiguous(place) {
            let why = "several resets may be this one by their numbers, and the times do not tell which: the clocks' difference is \
                       not known, or they are too near";
            return Some(why.to_owned());
        }
        if NumberKey::of(reset).is_none() {
            let why = if reset.seq.is_some() {
                "its numbers are 0, as those of many resets"
            } else {
                "its numbers are not known"
            };
            return Some(why.to_owned());
        }
        self.matches.has_key_of(reset).then(|| {
            let further = "a reset with equal numbers is matched with another record";
            if reset.is_sent {
                format!("{further}: this is a further one, for what was still on its way")
            } else {
                further.to_owned()
            }
        })
    }

    /// Judges with the other end's host, if that is known.
    fn of_other(
        &self,
        place: Place,
        reset: &SeenReset,
        judge: impl Fn(&OtherHost) -> Result<Judgement, Judgement>,
    ) -> Judgement {
        match self.other_host(place.host, reset) {
            Ok(other) => {
                let (Ok(judgement) | Err(judgement)) = judge(&other);
                let clock = self.matches.skew(place.host, other.number).map(ClockSkew::shown);
                Judgement { other: Some(other.number), clock, ..judgement }
            }
            Err((reason, is_with_others)) => Judgement { is_with_others, ..Judgement::unknown(reason) },
        }
    }

    /// Judges a received reset by what the other host shows.
    fn not_sent(&self, place: Place, reset: &SeenReset, other: &OtherHost) -> Result<Judgement, Judgement> {
        let host = self.host(other.number).ok_or_else(|| Judgement::unknown("there is no such host".into()))?;
        let window = self.window(place.host, other.number, reset)?;
        if let Some(wire) = &host.wire {
            return self.not_passed(place, reset, wire, &window, other.number);
        }
        let is_direct = self.is_direct(reset);
        let hides = |context: &RecordingContext| hides(context, Direction::Sent, reset, is_direct);
        let proof = self.proof(host, &window, &hides)?;
        self.no_candidate(reset, other.number, &window, true)?;
        let (counters, is_counted) = counted(&proof, host, reset.peer.address);
        let filters = OpenFilters { sender: !proof.sees_filter, receiver: self.may_be_of_receiver(place, reset) };
        let is_certain = is_counted && other.is_confirmed && window.clock.is_some() && !filters.any() && !reset.is_lent;
        let mut reasons = vec![
            format!(
                "{} has no record of a sent reset with these numbers, nor of another on this connection",
                host.name
            ),
            format!(
                "its recording covers {} of its time: marks at {} and {}, nothing lost between them",
                self.moments.span(&window),
                self.moments.of(proof.signs_ns.0),
                self.moments.of(proof.signs_ns.1)
            ),
            counters,
            clock_sentence(&window, &host.name),
            ttl_sentence(reset),
        ];
        reasons.extend(lent_sentence(reset));
        if !other.is_confirmed {
            reasons.push(format!("that {} is {} is known from its address alone", reset.peer.address, host.name));
        }
        Ok(Judgement {
            verdict: PairVerdict::NotSent,
            confidence: if is_certain { CauseConfidence::Certain } else { CauseConfidence::Likely },
            reasons,
            filters,
            ..Judgement::unknown(String::new())
        })
    }

    /// Judges a received reset by a capture near the other end, which it would have passed.
    fn not_passed(
        &self,
        place: Place,
        reset: &SeenReset,
        wire: &WireCover,
        window: &Window,
        other: u16,
    ) -> Result<Judgement, Judgement> {
        let name = self.name(other);
        let ttl = self.whole_view(reset, name, wire, window)?;
        let ttl = ttl.map_or_else(String::new, |ttl| format!("; the sender's packets have the TTL {ttl} there"));
        Ok(Judgement {
            verdict: PairVerdict::NotSent,
            confidence: CauseConfidence::Likely,
            reasons: vec![
                format!("{name} has both directions of the connection, and not this reset{ttl}"),
                self.covers(window),
                clock_sentence(window, name),
                ttl_sentence(reset),
            ],
            filters: OpenFilters { sender: false, receiver: self.may_be_of_receiver(place, reset) },
            ..Judgement::unknown(String::new())
        })
    }

    /// What a capture covers, in a sentence.
    fn covers(&self, window: &Window) -> String {
        format!("it covers {} of its time; packets that a capture drops are not in it", self.moments.span(window))
    }

    /// Whether the packet filter of the receiving host itself may have made a reset, because that host's recording would not show it.
    pub(super) fn may_be_of_receiver(&self, place: Place, reset: &SeenReset) -> bool {
        let Some(host) = self.host(place.host).filter(|host| matches!(host.identity, Identity::Recorded { .. })) else {
            return true;
        };
        let is_direct = self.is_direct(reset);
        let hides = |context: &RecordingContext| hides(context, Direction::Sent, reset, is_direct);
        let (from_ns, to_ns) =
            (reset.time_ns.saturating_sub(RECORDS_APART_NS), reset.time_ns.saturating_add(RECORDS_APART_NS));
        let proof = host.cover.proof(from_ns, to_ns, self.moments, &hides);
        !proof.is_ok_and(|proof| proof.sees_filter)
    }

    /// Judges a sent reset by what the other host shows.
    fn never_arrived(&self, place: Place, reset: &SeenReset, other: &OtherHost) -> Result<Judgement, Judgement> {
        let host = self.host(other.number).ok_or_else(|| Judgement::unknown("there is no such host".into()))?;
        let window = self.window(place.host, other.number, reset)?;
        let mut reasons = if let Some(wire) = &host.wire {
            let _ttl = self.whole_view(reset, &host.name, wire, &window)?;
            vec![
                format!("{} has both directions of the connection, and not this reset", host.name),
                self.covers(&window),
            ]
        } else {
            let is_direct = self.is_direct(reset);
            let hides = |context: &RecordingContext| hides(context, Direction::Received, reset, is_direct);
            let proof = self.proof(host, &window, &hides)?;
            self.no_candidate(reset, other.number, &window, false)?;
            vec![
                format!("{} has no record of a reset with these numbers, received or ignored", host.name),
                format!(
                    "its recording covers {} of its time: marks at {} and {}, nothing lost between them, with --ignored",
                    self.moments.span(&window),
                    self.moments.of(proof.signs_ns.0),
                    self.moments.of(proof.signs_ns.1)
                ),
            ]
        };
        reasons.push(clock_sentence(&window, &host.name));
        Ok(Judgement {
            verdict: PairVerdict::NeverArrived,
            confidence: CauseConfidence::Likely,
            reasons,
            ..Judgement::unknown(String::new())
        })
    }

    /// The instant of a record by the other host's clock, with its uncertainty.
    fn window(&self, own: u16, other: u16, reset: &SeenReset) -> Result<Window, Judgement> {
        let hosts = self.host(own).zip(self.host(other));
        let jumps = hosts.map_or(0, |(own, other)| own.cover.jumps_ns().saturating_add(other.cover.jumps_ns()));
        let (at_ns, uncertainty, clock) = match self.matches.skew(own, other) {
            Some(skew) => {
                let is_wire = hosts.is_some_and(|(_, other)| other.is_capture());
                (skew.translate(reset.time_ns), skew.uncertainty_of_ns(reset.time_ns, is_wire), Some(skew.shown()))
            }
            None if hosts.is_some_and(|(own, other)| own.cover.is_synchronized() && other.cover.is_synchronized()) => {
                (reset.time_ns, SYNCHRONIZED_NS, None)
            }
            None => {
                let names = (self.name(own), self.name(other));
                let apart = hosts.and_then(|(own, other)| apart(own, other, self.moments));
                let reason = apart.unwrap_or_else(|| {
                    format!(
                        "no reset of {} and {} is matched, so the difference of their clocks is not known",
                        names.0, names.1
                    )
                });
                return Err(Judgement::unknown(reason));
            }
        };
        let uncertainty = uncertainty.saturating_add(jumps);
        Ok(Window {
            from_ns: at_ns.saturating_sub(uncertainty),
            to_ns: at_ns.saturating_add(uncertainty),
            at_ns,
            clock,
        })
    }

    fn proof(
        &self,
        host: &GatheredHost,
        window: &Window,
        hides: &dyn Fn(&RecordingContext) -> Option<String>,
    ) -> Result<CoverProof, Judgement> {
        if matches!(host.identity, Identity::Named(_)) {
            return Err(Judgement::unknown(format!("{} has no marks, which show what it covers", host.name)));
        }
        let proof = host.cover.proof(window.from_ns, window.to_ns, self.moments, hides);
        proof.map_err(|why| Judgement::unknown(format!("the recording of {} {why}", host.name)))
    }

    /// Fails where a record of the other host may be this reset under other numbers. `is_sender`: whether that host is the sender.
    fn no_candidate(&self, reset: &SeenReset, other: u16, window: &Window, is_sender: bool) -> Result<(), Judgement> {
        let name = self.name(other);
        let did = if is_sender { "sent" } else { "received" };
        let unknown = |reason: String| Err(Judgement::unknown(reason));
        match self.candidate(reset, other, window, is_sender) {
            None => Ok(()),
            Some(Candidate::Connection) => {
                let reason = format!(
                    "{name} {did} a reset on this connection at that time, with other numbers: a proxy or a firewall that rewrites \
                     them is between the hosts, or two resets crossed"
                );
                Err(Judgement {
                    verdict: PairVerdict::NotJoinable,
                    confidence: CauseConfidence::Likely,
                    ..Judgement::unknown(reason)
                })
            }
            Some(Candidate::Unnumbered) => unknown(format!(
                "{name} {did} a reset on this connection at that time, of which not all numbers are known"
            )),
            Some(Candidate::Aggregate) => {
                unknown(format!("{name} {did} resets of this port in a flood, of which one record stands for many"))
            }
            Some(Candidate::Translated(count)) => unknown(format!(
                "{name} {did} {count} {} at that time that {} matched: behind a translation of addresses this may be one",
                if count == 1 { "reset" } else { "resets" },
                if count == 1 { "is not" } else { "are not" }
            )),
            Some(Candidate::TooMany) => {
                unknown(format!("{name} {did} too many resets at that time to tell them apart"))
            }
        }
    }

    /// A record of the other host, in the other direction, that may be this reset.
    fn candidate(&self, reset: &SeenReset, other: u16, window: &Window, is_sender: bool) -> Option<Candidate> {
        let host = self.host(other)?;
        let is_direct = self.is_direct(reset);
        let to_ns = window.to_ns.saturating_add(AGGREGATE_NS);
        let mut translated = 0;
        for (looked_at, (index, seen)) in host.between(window.from_ns, to_ns).enumerate() {
            if looked_at >= CANDIDATES_MAX {
                return Some(Candidate::TooMany);
            }
            if seen.is_sent != is_sender || host.is_within(seen) {
                continue;
            }
            if seen.count > 1 && (seen.local.port == reset.peer.port || !is_direct) {
                return Some(Candidate::Aggregate);
            }
            let place = Place { host: other, index: u32::try_from(index).unwrap_or(u32::MAX) };
            if seen.time_ns > window.to_ns || self.matches.is_matched(place) {
                continue;
            }
            match if is_sender { EndsFit::of(seen, reset) } else { EndsFit::of(reset, seen) } {
                EndsFit::Mirrored if seen.seq.is_none() || reset.seq.is_none() => return Some(Candidate::Unnumbered),
                EndsFit::Mirrored => return Some(Candidate::Connection),
                // Between addresses that are not translated, other ends are another connection.
                _ if is_direct => {}
                _ => translated += 1,
            }
        }
        (translated > 0).then_some(Candidate::Translated(translated))
    }

    /// Whether a matched reset of this service, between these addresses, was not translated. The client's port is another each time.
    fn is_direct(&self, reset: &SeenReset) -> bool {
        let (local, peer) = (reset.local, reset.peer);
        [local.port, peer.port].iter().any(|port| self.direct.contains(&(local.address, peer.address, *port)))
    }

    /// What a capture shows of the connection in a window: the sender's TTL. Fails where it does not have both directions of it.
    fn whole_view(
        &self,
        reset: &SeenReset,
        name: &str,
        wire: &WireCover,
        window: &Window,
    ) -> Result<Option<u8>, Judgement> {
        if !wire.covers(window.from_ns, window.to_ns) {
            return Err(Judgement::unknown(format!("{name} does not cover {} of its time", self.moments.span(window))));
        }
        let (from, to) = if reset.is_sent { (reset.local, reset.peer) } else { (reset.peer, reset.local) };
        match wire.view(from, to, reset.seq, reset.ack) {
            WireView::Whole(ttl) => Ok(ttl),
            WireView::Unknown => {
                let why = "does not show both directions of this connection, or shows it under other addresses";
                Err(Judgement::unknown(format!("{name} {why}")))
            }
            WireView::OtherNumbers => {
                let reason = format!("{name} shows this connection with other numbers: they are rewritten on the way");
                Err(Judgement {
                    verdict: PairVerdict::NotJoinable,
                    confidence: CauseConfidence::Likely,
                    ..Judgement::unknown(reason)
                })
            }
        }
    }

    pub(super) fn host(&self, number: u16) -> Option<&GatheredHost> {
        self.hosts.get(usize::from(number))
    }

    pub(super) fn name(&self, number: u16) -> &str {
        self.host(number).map_or("", |host| &host.name)
    }

    pub(super) fn is_capture(&self, number: u16) -> bool {
        self.host(number).is_some_and(GatheredHost::is_capture)
    }
}

/// What the counter of sent resets says, and whether it is that of the end's network namespace.
fn counted(proof: &CoverProof, host: &GatheredHost, address: IpAddr) -> (String, bool) {
    let namespace = host.namespace_of(address);
    match proof.counted {
        None => (
            "its counter of sent resets (TcpOutRsts) is not compared, since it was recorded with filters".to_owned(),
            false,
        ),
        Some((counted, observed)) => {
            let is_own = proof.netns.is_some() && namespace == proof.netns;
            let of = if is_own { "" } else { ", of another network namespace than that of its end" };
            (format!("TcpOutRsts between the marks: +{counted}, {observed} seen{of}"), is_own)
        }
    }
}
