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
    matches::{Matches, Place, seen},
    recorder_cover::{CoverProof, OWN_FILTER, moment},
    seen_reset::SeenReset,
    wire_cover::{WireCover, WireView},
};
use crate::{
    model::{CauseConfidence, Direction, PairClock, PairVerdict, RecordingContext},
    util::human_duration,
};

/// Uncertainty of two clocks that follow time servers by their own account, where no reset of both hosts is matched, nanoseconds.
const SYNCHRONIZED_NS: i64 = 5_000_000_000;
/// Time by which a record that stands for several resets may come later than the first of them, nanoseconds.
const AGGREGATE_NS: i64 = 2_000_000_000;
/// Most records of an instant that are looked at.
const CANDIDATES_MAX: usize = 10_000;

/// What a recording may lack without lacking a reset: beginnings of the texts of `degraded`. Any other text forbids conclusions.
const HARMLESS_LIMITS: [&str; 14] = [
    "a program that rsttrace is made to run",
    "all of them are kept",
    "an attacker who takes rsttrace over",
    "containers and peers that are named",
    "of connections of the others, translations",
    "owners ",
    "the process that accepted",
    "forged resets are recognised",
    "the headers of received resets",
    "events of different CPUs",
    "a reset that interrupts another is counted as lost",
    "those of processes",
    "forwarded resets are not seen",
    "the other side of translated connections",
];
/// Further ones where sent resets are looked for, and where received ones are.
const HARMLESS_FOR_SENT: [&str; 2] = ["received resets are not seen", "ignored resets are not seen"];
const HARMLESS_FOR_RECEIVED: [&str; 2] = ["sent resets are not seen", "resets from closed ports"];

/// What is said of a host whose own packet filter is not ruled out as the sender.
pub(super) const FILTER_OPEN: &str = "its recording does not see resets of its own packet filter (reject rules), which is the one sender \
                                      there that is not ruled out";

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
    /// Whether the other host's own packet filter is not ruled out as the sender.
    pub(super) may_be_filter: bool,
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
            may_be_filter: false,
        }
    }
}

/// Everything that verdicts are drawn from.
pub(super) struct Judge<'a> {
    pub(super) hosts: &'a [GatheredHost],
    pub(super) matches: &'a Matches,
    /// Pairs of addresses, and a port at either, between which nothing is translated, by the matches.
    direct: HashSet<(IpAddr, IpAddr, u16)>,
    /// Hosts that matched resets have come from, by the address that the other host saw.
    behind: HashMap<IpAddr, HashSet<u16>>,
}

/// The other end's host, and how it was found.
struct OtherHost {
    number: u16,
    /// Whether a match or a record of the connection confirms that the address is this host's.
    is_confirmed: bool,
}

/// A span of the other host's time.
struct Window {
    from_ns: i64,
    to_ns: i64,
    at_ns: i64,
    clock: Option<PairClock>,
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
    pub(super) fn new(hosts: &'a [GatheredHost], matches: &'a Matches) -> Self {
        let mut judge = Self { hosts, matches, direct: HashSet::default(), behind: HashMap::default() };
        for joined in &matches.all {
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

    /// The host at the other end. Fails with the reason, and with whether no input is of it.
    fn other_host(&self, own: u16, reset: &SeenReset) -> Result<OtherHost, (String, bool)> {
        let translated = reset.translated.as_deref().map(|(_, peer)| peer.address);
        let peer = translated.unwrap_or(reset.peer.address);
        let others = || (0_u16..).zip(self.hosts).filter(move |(number, _)| *number != own);
        let has = |(_, host): &(u16, &GatheredHost)| host.has_address(peer) || host.may_be_seen_as(peer);
        let mut found: Vec<u16> = others().filter(has).map(|(number, _)| number).collect();
        // A capture of the path has the addresses of both ends.
        if found.iter().any(|number| !self.is_capture(*number)) {
            found.retain(|number| !self.is_capture(*number));
        }
        let knows = |number: u16| self.host(number).is_some_and(|host| host.knows_peer(reset.local));
        match found.as_slice() {
            [number] => {
                let is_matched = self.behind.get(&peer).is_some_and(|hosts| hosts.len() == 1 && hosts.contains(number));
                Ok(OtherHost { number: *number, is_confirmed: is_matched || knows(*number) })
            }
            [] => {
                let behind =
                    self.behind.get(&peer).map(|hosts| hosts.iter().copied().collect::<Vec<_>>()).unwrap_or_default();
                match behind.as_slice() {
                    [] => Err((format!("no input is of the host with the address {peer}"), true)),
                    [number] if *number != own && knows(*number) => {
                        Ok(OtherHost { number: *number, is_confirmed: false })
                    }
                    _ => {
                        let why = "which has matched resets, is translated, and other hosts may be behind it";
                        Err((format!("the address {peer}, {why}"), false))
                    }
                }
            }
            several => {
                let names: Vec<&str> = several.iter().map(|number| self.name(*number)).collect();
                Err((format!("{} have the address {peer}", names.join(" and ")), false))
            }
        }
    }

    /// Judges a received reset by what the other host shows.
    fn not_sent(&self, place: Place, reset: &SeenReset, other: &OtherHost) -> Result<Judgement, Judgement> {
        let host = self.host(other.number).ok_or_else(|| Judgement::unknown("there is no such host".into()))?;
        let window = self.window(place.host, other.number, reset)?;
        if let Some(wire) = &host.wire {
            return Self::not_passed(reset, host, wire, &window);
        }
        let is_direct = self.is_direct(reset);
        let hides = |context: &RecordingContext| hides(context, Direction::Sent, reset, is_direct);
        let proof = Self::proof(host, &window, &hides)?;
        self.no_candidate(reset, other.number, &window, true)?;
        let (counters, is_counted) = counted(&proof, host, reset.peer.address);
        let is_certain = is_counted && other.is_confirmed && window.clock.is_some() && proof.sees_filter;
        let mut reasons = vec![
            format!(
                "{} has no record of a sent reset with these numbers, nor of another on this connection",
                host.name
            ),
            format!(
                "its recording covers {} of its time: marks at {} and {}, nothing lost between them",
                span(&window),
                moment(proof.signs_ns.0),
                moment(proof.signs_ns.1)
            ),
            counters,
            clock_sentence(&window, &host.name),
            ttl_sentence(reset),
        ];
        if !proof.sees_filter {
            reasons.push(FILTER_OPEN.to_owned());
        }
        if !other.is_confirmed {
            reasons.push(format!("that {} is {} is known from its address alone", reset.peer.address, host.name));
        }
        Ok(Judgement {
            verdict: PairVerdict::NotSent,
            confidence: if is_certain { CauseConfidence::Certain } else { CauseConfidence::Likely },
            reasons,
            may_be_filter: !proof.sees_filter,
            ..Judgement::unknown(String::new())
        })
    }

    /// Judges a received reset by a capture near the other end, which it would have passed.
    fn not_passed(
        reset: &SeenReset,
        host: &GatheredHost,
        wire: &WireCover,
        window: &Window,
    ) -> Result<Judgement, Judgement> {
        let ttl = whole_view(reset, host, wire, window)?;
        let ttl = ttl.map_or_else(String::new, |ttl| format!("; the sender's packets have the TTL {ttl} there"));
        Ok(Judgement {
            verdict: PairVerdict::NotSent,
            confidence: CauseConfidence::Likely,
            reasons: vec![
                format!("{} has both directions of the connection, and not this reset{ttl}", host.name),
                format!("it covers {} of its time; packets that a capture drops are not in it", span(window)),
                clock_sentence(window, &host.name),
                ttl_sentence(reset),
            ],
            ..Judgement::unknown(String::new())
        })
    }

    /// Judges a sent reset by what the other host shows.
    fn never_arrived(&self, place: Place, reset: &SeenReset, other: &OtherHost) -> Result<Judgement, Judgement> {
        let host = self.host(other.number).ok_or_else(|| Judgement::unknown("there is no such host".into()))?;
        let window = self.window(place.host, other.number, reset)?;
        let mut reasons = if let Some(wire) = &host.wire {
            let _ttl = whole_view(reset, host, wire, &window)?;
            vec![
                format!("{} has both directions of the connection, and not this reset", host.name),
                format!("it covers {} of its time; packets that a capture drops are not in it", span(&window)),
            ]
        } else {
            let is_direct = self.is_direct(reset);
            let hides = |context: &RecordingContext| hides(context, Direction::Received, reset, is_direct);
            let proof = Self::proof(host, &window, &hides)?;
            self.no_candidate(reset, other.number, &window, false)?;
            vec![
                format!("{} has no record of a reset with these numbers, received or ignored", host.name),
                format!(
                    "its recording covers {} of its time: marks at {} and {}, nothing lost between them, with --ignored",
                    span(&window),
                    moment(proof.signs_ns.0),
                    moment(proof.signs_ns.1)
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
                let reason = format!(
                    "no reset of {} and {} is matched, so the difference of their clocks is not known",
                    names.0, names.1
                );
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
        host: &GatheredHost,
        window: &Window,
        hides: &dyn Fn(&RecordingContext) -> Option<String>,
    ) -> Result<CoverProof, Judgement> {
        if matches!(host.identity, Identity::Named(_)) {
            return Err(Judgement::unknown(format!("{} has no marks, which show what it covers", host.name)));
        }
        let proof = host.cover.proof(window.from_ns, window.to_ns, hides);
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

    pub(super) fn host(&self, number: u16) -> Option<&GatheredHost> {
        self.hosts.get(usize::from(number))
    }

    pub(super) fn name(&self, number: u16) -> &str {
        self.host(number).map_or("", |host| &host.name)
    }

    fn is_capture(&self, number: u16) -> bool {
        self.host(number).is_some_and(GatheredHost::is_capture)
    }
}

/// Why a run would not have recorded a reset at the other end; `None` where it would have.
fn hides(context: &RecordingContext, direction: Direction, reset: &SeenReset, is_direct: bool) -> Option<String> {
    let (sent, received) = (&HARMLESS_FOR_SENT[..], &HARMLESS_FOR_RECEIVED[..]);
    let more = if direction == Direction::Sent { sent } else { received };
    let is_harmless = |text: &String| {
        text.starts_with(OWN_FILTER) || HARMLESS_LIMITS.iter().chain(more).any(|beginning| text.starts_with(beginning))
    };
    if let Some(limit) = context.degraded.iter().find(|text| !is_harmless(text)) {
        return Some(format!("was limited: {}", crate::util::sanitize::truncate(limit, 200)));
    }
    if direction == Direction::Received && context.ignored != Some(true) {
        return Some("was made without --ignored, so a reset that was ignored is not in it".to_owned());
    }
    let Some(filters) = &context.filters else {
        let why = "was made with filters that it does not name, by an earlier version";
        return context.filtered.then(|| why.to_owned());
    };
    if !is_direct && filters.goes_by_ends() {
        let why = "was made with filters by address or port, which a translation of addresses changes";
        return Some(why.to_owned());
    }
    filters.may_hide(direction, reset.peer, reset.local).map(|why| format!("was {why}"))
}

/// Whether what a run could not see forbids no conclusion from a missing reset of either direction.
pub(super) fn is_harmless_limit(text: &str) -> bool {
    HARMLESS_LIMITS.iter().any(|beginning| text.starts_with(beginning))
}

/// What a capture shows of the connection in a window: the sender's TTL. Fails where it does not have both directions of it.
fn whole_view(
    reset: &SeenReset,
    host: &GatheredHost,
    wire: &WireCover,
    window: &Window,
) -> Result<Option<u8>, Judgement> {
    if !wire.covers(window.from_ns, window.to_ns) {
        return Err(Judgement::unknown(format!("{} does not cover {} of its time", host.name, span(window))));
    }
    let (from, to) = if reset.is_sent { (reset.local, reset.peer) } else { (reset.peer, reset.local) };
    match wire.view(from, to, reset.seq, reset.ack) {
        WireView::Whole(ttl) => Ok(ttl),
        WireView::Unknown => {
            let why = "does not show both directions of this connection, or shows it under other addresses";
            Err(Judgement::unknown(format!("{} {why}", host.name)))
        }
        WireView::OtherNumbers => {
            let reason =
                format!("{} shows this connection with other numbers: they are rewritten on the way", host.name);
            Err(Judgement {
                verdict: PairVerdict::NotJoinable,
                confidence: CauseConfidence::Likely,
                ..Judgement::unknown(reason)
            })
        }
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

fn span(window: &Window) -> String {
    let half = human_duration(milliseconds(window.to_ns.saturating_sub(window.at_ns)));
    format!("{} ± {half}", moment(window.at_ns))
}

fn clock_sentence(window: &Window, name: &str) -> String {
    match window.clock {
        Some(clock) => format!("the clock of {name} is {}", skew_in_words(clock)),
        None => "no reset is matched; both clocks follow time servers by their own account".to_owned(),
    }
}

/// A difference of clocks in words, as a part of a sentence.
pub(super) fn skew_in_words(clock: PairClock) -> String {
    let PairClock { skew_us, least_us, most_us, matches } = clock;
    let ahead = if skew_us < 0 { "behind" } else { "ahead" };
    let apart = |us: i64| human_duration(milliseconds(us.saturating_abs().saturating_mul(1_000))).to_string();
    let spread = apart(most_us.saturating_sub(least_us));
    let (of, is) = if matches == 1 { ("match", "") } else { ("matches", ", median") };
    format!("{} {ahead} (spread {spread}{is} of {matches} {of})", apart(skew_us))
}

fn ttl_sentence(reset: &SeenReset) -> String {
    match (reset.ttl, reset.handshake_ttl) {
        (Some(ttl), Some(handshake)) if ttl == handshake => {
            format!("its TTL is {ttl}, as that of the peer's handshake")
        }
        (Some(ttl), Some(handshake)) => format!("its TTL is {ttl}, and that of the peer's handshake {handshake}"),
        (Some(ttl), None) => format!("its TTL is {ttl}; that of the peer's handshake was not seen"),
        _ => "its TTL was not seen".to_owned(),
    }
}

fn milliseconds(ns: i64) -> f64 {
    std::time::Duration::from_nanos(ns.unsigned_abs()).as_secs_f64() * 1e3
}
