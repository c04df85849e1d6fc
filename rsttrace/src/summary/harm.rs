//! Which cause hurts most: how many incidents it had that have to be mended, and how sure that is.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _, sync::Arc};

use jiff::Timestamp;

use crate::{
    diagnose::catalogue,
    model::{CauseConfidence, Direction, Endpoint, Fault, Finding, Reset, Role, internals::Ending},
};

/// Longest time between two resets of one burst, nanoseconds: what breaks together is one incident.
const BURST_NS: u64 = 100_000_000;

/// Most places of one cause that are counted.
const PLACES_MAX: usize = 64;
/// Most causes that the verdict names to look at.
const WORST_MAX: usize = 3;

/// Harm of each cause in each direction. The causes are those of the catalogue, so the memory is bounded.
#[derive(Debug, Default)]
pub(super) struct HarmByCause(BTreeMap<(&'static str, bool), Harm>);

/// Harm of one cause in one direction.
#[derive(Debug, Default)]
struct Harm {
    resets: u64,
    /// Bursts of resets.
    incidents: u64,
    /// Sum over the incidents of how sure the cause is, in percent.
    weight: u64,
    /// Time of the last reset, nanoseconds of `CLOCK_MONOTONIC`.
    last_ns: u64,
    /// Times of the first and the last reset on the wall clock; `None` before the first one.
    span: Option<(Timestamp, Timestamp)>,
    /// Resets of which the cause is certain, likely and a guess.
    confidences: [u64; 3],
    /// Side that has something to change by the last reset.
    fault: Option<Fault>,
    /// Resets by process and place, of the first [`PLACES_MAX`] different ones.
    places: Vec<(Example, u64)>,
}

/// Harm that was counted for one record.
#[derive(Debug)]
pub(super) struct Harmed {
    key: (&'static str, bool),
    pub(super) fault: Fault,
    pub(super) resets: u64,
    /// Weight of the incident that it began; `None` if it was a further one of its burst.
    incident: Option<u64>,
    /// Index of its confidence.
    confidence: usize,
    example: Example,
}

/// Process and service that a reset concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Example {
    /// Name of the process; `None` where it is not known. Untrusted.
    comm: Option<Arc<str>>,
    /// Address and port of the service that this host used; `None` for a service of this host.
    peer: Option<Endpoint>,
    /// Port of this host's service.
    local_port: u16,
}

impl Example {
    fn of(reset: &Reset) -> Self {
        let role = reset
            .socket
            .as_ref()
            .and_then(|socket| socket.role)
            .or_else(|| reset.internals.ending.as_ref().and_then(Ending::role));
        let is_client = role == Some(Role::Client);
        Self {
            comm: reset.process.as_ref().map(|process| Arc::clone(&process.comm)),
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
        let now = reset.internals.ktime_ns;
        harm.resets += reset.count;
        let is_first = harm.last_ns == 0 || now.saturating_sub(harm.last_ns) > BURST_NS;
        let incident = is_first.then(|| certainty(reset));
        if let Some(weight) = incident {
            harm.incidents += 1;
            harm.weight += weight;
        }
        harm.last_ns = harm.last_ns.max(now);
        let (first, last) = harm.span.get_or_insert((reset.time, reset.time));
        (*first, *last) = (reset.time.min(*first), reset.time.max(*last));
        harm.confidences[index(reset.cause.confidence)] += reset.count;
        harm.fault = Some(reset.cause.fault);
        let example = Example::of(reset);
        if let Some((_, count)) = harm.places.iter_mut().find(|(place, _)| *place == example) {
            *count += reset.count;
        } else if harm.places.len() < PLACES_MAX {
            harm.places.push((example.clone(), reset.count));
        }
        let confidence = index(reset.cause.confidence);
        Some(Harmed { key, fault: reset.cause.fault, resets: reset.count, incident, confidence, example })
    }

    /// Takes back what was counted for a record, which has another cause than it seemed.
    pub(super) fn retract(&mut self, harmed: &Harmed) {
        let Some(harm) = self.0.get_mut(&harmed.key) else { return };
        harm.resets = harm.resets.saturating_sub(harmed.resets);
        if let Some(weight) = harmed.incident {
            harm.incidents = harm.incidents.saturating_sub(1);
            harm.weight = harm.weight.saturating_sub(weight);
        }
        if let Some((_, count)) = harm.places.iter_mut().find(|(place, _)| *place == harmed.example) {
            *count = count.saturating_sub(harmed.resets);
        }
        let sure = &mut harm.confidences[harmed.confidence];
        *sure = sure.saturating_sub(harmed.resets);
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
            confidences: self.confidences,
            first,
            last,
            place,
        })
    }
}

/// Index of a confidence among the counts: certain, likely, a guess.
const fn index(confidence: CauseConfidence) -> usize {
    match confidence {
        CauseConfidence::Certain => 0,
        CauseConfidence::Likely => 1,
        CauseConfidence::Guess => 2,
    }
}

/// How much an incident of this cause weighs, in percent: by how sure the cause is, and whether it is known who can mend it.
fn certainty(reset: &Reset) -> u64 {
    let weight = match reset.cause.confidence {
        CauseConfidence::Certain => 100,
        CauseConfidence::Likely => 90,
        CauseConfidence::Guess => 30,
    };
    if reset.cause.fault == Fault::Unknown { weight / 3 } else { weight }
}

fn place(example: &Example, count: u64, all: u64) -> String {
    let mut text = String::new();
    let comm = example.comm.as_deref().unwrap_or("no process");
    // A string takes everything.
    _ = match (&example.peer, example.local_port) {
        (Some(peer), _) => write!(text, "{comm} → {peer}"),
        (None, 0) => write!(text, "{comm}"),
        (None, port) => write!(text, "{comm} on port {port}"),
    };
    if count < all {
        // A string takes everything.
        _ = write!(text, " ({count} of {all})");
    }
    text
}
