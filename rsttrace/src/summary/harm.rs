//! Which cause hurts most: how many incidents it had that have to be mended, and how sure that is.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _, sync::Arc};

use jiff::Timestamp;

use crate::{
    diagnose::catalogue,
    model::{CauseConfidence, Direction, Endpoint, Fault, Finding, Reset, Role},
};

/// Longest time between two resets of one burst, nanoseconds: what breaks together is one incident.
const BURST_NS: u64 = 100_000_000;
/// Longest burst, and shortest pause between two of them, nanoseconds. What goes on for longer is a steady stream.
const BURST_MAX_NS: u64 = 1_000_000_000;

/// How much an incident with a likely cause weighs, in percent.
const LIKELY_WEIGHT: u64 = 90;
/// Most places of one cause that are counted.
const PLACES_MAX: usize = 64;
/// Causes of resets from ports on which no process listens.
const UNSERVED: [&str; 2] = ["port-closed", "port-scan"];
/// Most causes that the verdict names to look at.
const WORST_MAX: usize = 3;

/// Harm of each cause in each direction. The causes are those of the catalogue, so the memory is bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct HarmByCause(BTreeMap<(&'static str, bool), Harm>);

/// Harm of one cause in one direction.
#[derive(Clone, Debug, Default)]
struct Harm {
    resets: u64,
    /// Bursts of resets.
    incidents: u64,
    /// Sum over the incidents of how sure the cause is, in percent.
    weight: u64,
    /// Time of the first and of the last reset of the last burst, nanoseconds of `CLOCK_MONOTONIC`; 0 before the first.
    began_ns: u64,
    last_ns: u64,
    /// Whether resets came one after the other for longer than a burst takes, or with pauses shorter than that.
    is_steady: bool,
    /// Times of the first and the last reset on the wall clock; `None` before the first one.
    span: Option<(Timestamp, Timestamp)>,
    /// Resets of which the cause is certain, likely and a guess.
    confidences: [u64; 3],
    /// Side that has something to change by the last reset.
    fault: Option<Fault>,
    /// Resets by process and place, of the first [`PLACES_MAX`] different ones.
    places: Vec<(Example, u64)>,
}

/// Harm that was counted for one record, or for several of one cause and fault.
#[derive(Clone, Debug)]
pub(super) struct Harmed {
    key: (&'static str, bool),
    pub(super) fault: Fault,
    pub(super) resets: u64,
    /// Incidents that they began, and their weight; 0 for further resets of a burst.
    incidents: u64,
    weight: u64,
    /// Times of the first and the last one on the wall clock.
    span: (Timestamp, Timestamp),
    /// Those of which the cause is certain, likely and a guess.
    confidences: [u64; 3],
    /// Process and place of the first record.
    example: Example,
}

impl Harmed {
    /// Code of the cause.
    pub(super) const fn code(&self) -> &'static str {
        self.key.0
    }

    /// Adds what was counted for another record of this cause and fault.
    pub(super) fn add(&mut self, other: &Self) {
        self.resets += other.resets;
        self.incidents += other.incidents;
        self.weight += other.weight;
        self.span = joined(self.span, other.span);
        for (count, others) in self.confidences.iter_mut().zip(other.confidences) {
            *count += others;
        }
    }

    /// These resets, with the cause of this record.
    fn with_cause_of(&self, reset: &Reset) -> Self {
        let key = (reset.cause.code, reset.direction == Direction::Sent);
        let confidences = confidences(reset.cause.confidence, self.resets);
        Self { key, fault: reset.cause.fault, confidences, ..self.clone() }
    }
}

/// Process and service that a reset concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Example {
    /// Name of the process; `None` where it is not known. Untrusted.
    comm: Option<Arc<str>>,
    /// Whether the cause says that no process could answer, and not only that the owner is not known.
    is_unserved: bool,
    /// Address and port of the service that this host used; `None` for a service of this host.
    peer: Option<Endpoint>,
    /// Port of this host's service.
    local_port: u16,
}

impl Example {
    fn of(reset: &Reset) -> Self {
        let is_client = reset.role() == Some(Role::Client);
        Self {
            comm: reset.process.as_ref().map(|process| Arc::clone(&process.comm)),
            is_unserved: reset.process.is_none() && UNSERVED.contains(&reset.cause.code),
            peer: is_client.then_some(reset.peer.end()),
            local_port: if is_client { 0 } else { reset.local.port },
        }
    }
}

impl HarmByCause {
    /// Counts a record that passed the filters. Returns what was counted; `None` for a harmless one.
    pub(super) fn count(&mut self, reset: &Reset) -> Option<Harmed> {
        if reset.cause.fault == Fault::None {
            return None;
        }
        let key = (reset.cause.code, reset.direction == Direction::Sent);
        let harm = self.0.entry(key).or_default();
        let is_first = harm.begins_burst(reset);
        let (incidents, weight) = if is_first { (1, certainty(reset)) } else { (0, 0) };
        let example = Example::of(reset);
        let harmed = Harmed {
            key,
            fault: reset.cause.fault,
            resets: reset.count,
            incidents,
            weight,
            span: (reset.time, reset.time),
            confidences: confidences(reset.cause.confidence, reset.count),
            example,
        };
        harm.add(&harmed);
        Some(harmed)
    }

    /// Moves what was counted for records to the cause of a later one, to whose burst they belong.
    pub(super) fn move_to_burst(&mut self, harmed: &Harmed, of: &Reset) {
        self.retract(harmed);
        if of.cause.fault != Fault::None {
            let harm = self.0.entry((of.cause.code, of.direction == Direction::Sent)).or_default();
            harm.add(&Harmed { incidents: 0, weight: 0, ..harmed.with_cause_of(of) });
        }
    }

    /// Moves what was counted for a record to that of the other end. Returns what is counted for this.
    pub(super) fn move_to_end(&mut self, harmed: &Harmed, end: &Reset) -> Harmed {
        self.retract(harmed);
        let weight = harmed.incidents * certainty(end);
        let moved = Harmed { weight, example: Example::of(end), ..harmed.with_cause_of(end) };
        let harm = self.0.entry(moved.key).or_default();
        // Resets in close succession are one burst here as well.
        let is_first = harm.begins_burst(end);
        let moved = if is_first { moved } else { Harmed { incidents: 0, weight: 0, ..moved } };
        harm.add(&moved);
        moved
    }

    /// Moves what was counted for received resets to another cause, which is likely, and to its fault.
    pub(super) fn move_to_cause(&mut self, harmed: &Harmed, code: &'static str, fault: Fault) {
        let is_steady = self.0.get(&harmed.key).is_some_and(|harm| harm.is_steady);
        self.retract(harmed);
        let harm = self.0.entry((code, false)).or_default();
        harm.is_steady |= is_steady;
        let confidences = confidences(CauseConfidence::Likely, harmed.resets);
        harm.add(&Harmed { fault, confidences, weight: harmed.incidents * LIKELY_WEIGHT, ..harmed.clone() });
    }

    /// Takes back what was counted for a record, which has another cause than it seemed.
    fn retract(&mut self, harmed: &Harmed) {
        let Some(harm) = self.0.get_mut(&harmed.key) else { return };
        harm.resets = harm.resets.saturating_sub(harmed.resets);
        harm.incidents = harm.incidents.saturating_sub(harmed.incidents);
        harm.weight = harm.weight.saturating_sub(harmed.weight);
        if let Some((_, count)) = harm.places.iter_mut().find(|(place, _)| *place == harmed.example) {
            *count = count.saturating_sub(harmed.resets);
        }
        for (count, harmed) in harm.confidences.iter_mut().zip(harmed.confidences) {
            *count = count.saturating_sub(harmed);
        }
        if harm.resets == 0 {
            self.0.remove(&harmed.key);
        }
    }

    /// The causes with the most harm, the worst first, at most [`WORST_MAX`]; none where nothing has to be mended. What weighs
    /// less than a tenth of the worst is left out.
    pub(super) fn worst(&self) -> Vec<Finding> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(_, harm)| Reverse((harm.weight, harm.resets)));
        let least = all.first().map_or(0, |(_, harm)| harm.weight / 10);
        let worst = all.into_iter().take(WORST_MAX).take_while(|(_, harm)| harm.weight >= least);
        worst.filter_map(|(key, harm)| harm.finding(key)).collect()
    }
}

impl Harm {
    /// Adds the time of a reset. Returns whether it begins a burst.
    fn begins_burst(&mut self, reset: &Reset) -> bool {
        let now = reset.internals.ktime_ns;
        let pause = now.saturating_sub(self.last_ns);
        let is_known = self.last_ns != 0;
        let goes_on = is_known && pause <= BURST_NS && now.saturating_sub(self.began_ns) <= BURST_MAX_NS;
        // A record with a count stands for a part of a flood.
        self.is_steady |= is_known && !goes_on && pause <= BURST_MAX_NS || reset.count > 1;
        if !goes_on {
            self.began_ns = now;
        }
        self.last_ns = self.last_ns.max(now);
        !goes_on
    }

    fn add(&mut self, harmed: &Harmed) {
        self.resets += harmed.resets;
        self.incidents += harmed.incidents;
        self.weight += harmed.weight;
        self.span = Some(self.span.map_or(harmed.span, |span| joined(span, harmed.span)));
        self.fault = Some(harmed.fault);
        for (count, harmed) in self.confidences.iter_mut().zip(harmed.confidences) {
            *count += harmed;
        }
        if let Some((_, count)) = self.places.iter_mut().find(|(place, _)| *place == harmed.example) {
            *count += harmed.resets;
        } else if self.places.len() < PLACES_MAX {
            self.places.push((harmed.example.clone(), harmed.resets));
        }
    }

    fn finding(&self, &(code, is_sent): &(&'static str, bool)) -> Option<Finding> {
        let direction = if is_sent { Direction::Sent } else { Direction::Received };
        let spec = catalogue::find_in(code, direction)?;
        // The most frequent one; of several the first.
        let worst = self.places.iter().rev().max_by_key(|(_, count)| *count);
        let place = worst.map_or_else(String::new, |(example, count)| place(example, *count, self.resets));
        let (first, last) = self.span?;
        Some(Finding {
            code: spec.code,
            direction,
            fault: self.fault.unwrap_or(spec.fault),
            summary: spec.summary,
            advice: spec.advice,
            resets: self.resets,
            bursts: self.incidents,
            is_steady: self.is_steady,
            confidences: self.confidences,
            first,
            last,
            place,
        })
    }
}

/// The earlier begin and the later end of two spans of time.
fn joined(one: (Timestamp, Timestamp), other: (Timestamp, Timestamp)) -> (Timestamp, Timestamp) {
    (one.0.min(other.0), one.1.max(other.1))
}

/// Counts of certain, likely and guessed causes where all have this confidence.
const fn confidences(confidence: CauseConfidence, count: u64) -> [u64; 3] {
    match confidence {
        CauseConfidence::Certain => [count, 0, 0],
        CauseConfidence::Likely => [0, count, 0],
        CauseConfidence::Guess => [0, 0, count],
    }
}

/// How much an incident of this cause weighs, in percent: by how sure the cause is, and whether it is known who can mend it.
fn certainty(reset: &Reset) -> u64 {
    let weight = match reset.cause.confidence {
        CauseConfidence::Certain => 100,
        CauseConfidence::Likely => LIKELY_WEIGHT,
        CauseConfidence::Guess => 30,
    };
    if reset.cause.fault == Fault::Unknown { weight / 3 } else { weight }
}

fn place(example: &Example, count: u64, all: u64) -> String {
    let mut text = String::new();
    let none = if example.is_unserved { "no process" } else { "unknown process" };
    let comm = example.comm.as_deref().unwrap_or(none);
    let is_unknown = example.comm.is_none() && !example.is_unserved;
    // A string takes everything.
    _ = match (&example.peer, example.local_port) {
        (Some(peer), _) => write!(text, "{comm} → {peer}"),
        (None, 0) => write!(text, "{comm}"),
        (None, port) if is_unknown => write!(text, "port {port}"),
        (None, port) => write!(text, "{comm} on port {port}"),
    };
    if count < all {
        // A string takes everything.
        _ = write!(text, " ({count} of {all})");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn told(comm: Option<&str>, is_unserved: bool, peer: Option<Endpoint>, local_port: u16) -> String {
        place(&Example { comm: comm.map(Into::into), is_unserved, peer, local_port }, 1, 1)
    }

    #[test]
    fn an_unknown_owner_is_not_a_closed_port() {
        let peer = Endpoint { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 9001 };
        assert_eq!(told(None, false, None, 9001), "port 9001");
        assert_eq!(told(None, false, None, 0), "unknown process");
        assert_eq!(told(None, false, Some(peer), 0), "unknown process → 127.0.0.1:9001");
        assert_eq!(told(None, true, None, 9001), "no process on port 9001");
        assert_eq!(told(Some("nginx"), false, None, 80), "nginx on port 80");
    }
}
