//! What a whole run comes to.

pub(crate) mod coverage;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Display, Formatter},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    degraded::Degraded,
    reset::{Direction, Fault, Reset, timestamp},
    summary::coverage::Coverage,
};

/// Peers that are counted one by one; the rest share one count.
const PEERS: usize = 4096;
/// Peers that the summary shows.
const TOP_PEERS: usize = 10;

/// Counts while the run goes on.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) resets: u64,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    by_cause: BTreeMap<&'static str, u64>,
    by_fault: BTreeMap<Fault, u64>,
    by_peer: HashMap<IpAddr, u64>,
    other_peers: u64,
}

impl Tally {
    /// Counts a record that was let out.
    pub(crate) fn count(&mut self, reset: &Reset) {
        self.resets += reset.count;
        if reset.direction == Direction::Sent {
            self.sent += reset.count;
        }
        *self.by_cause.entry(reset.cause.code).or_default() += reset.count;
        *self.by_fault.entry(reset.cause.fault).or_default() += reset.count;
        let known = self.by_peer.len();
        match self.by_peer.get_mut(&reset.peer.address) {
            Some(count) => *count += reset.count,
            None if known < PEERS => {
                self.by_peer.insert(reset.peer.address, reset.count);
            }
            None => self.other_peers += reset.count,
        }
    }

    /// The summary of the run.
    pub(crate) fn summary(
        &self,
        time: Timestamp,
        duration: Duration,
        coverage: Coverage,
        degraded: &[Degraded],
    ) -> Summary {
        let mut by_peer: Vec<PeerCount> =
            self.by_peer.iter().map(|(&address, &count)| PeerCount { address, count }).collect();
        by_peer.sort_by(|one, other| other.count.cmp(&one.count).then(one.address.cmp(&other.address)));
        by_peer.truncate(TOP_PEERS);
        Summary {
            time,
            duration_s: duration.as_secs_f64(),
            resets: self.resets,
            sent: self.sent,
            received: self.resets - self.sent,
            lost: self.lost,
            by_cause: self.by_cause.clone(),
            by_fault: self.by_fault.clone(),
            by_peer,
            by_peer_approximate: self.other_peers > 0,
            patterns: Vec::new(),
            coverage,
            degraded: degraded.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The last record of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// When the run ended.
    #[serde(serialize_with = "timestamp")]
    pub time: Timestamp,
    /// How long it was.
    pub duration_s: f64,
    /// Resets that were let out: the sum of the counts of all records.
    pub resets: u64,
    /// Of these, sent by this host.
    pub sent: u64,
    /// Of these, received.
    pub received: u64,
    /// Resets that the kernel reported and that were lost on the way.
    pub lost: u64,
    /// Resets by the code of their cause.
    pub by_cause: BTreeMap<&'static str, u64>,
    /// Resets by who has something to change.
    pub by_fault: BTreeMap<Fault, u64>,
    /// The peers with the most resets.
    pub by_peer: Vec<PeerCount>,
    /// There were more peers than could be counted one by one.
    pub by_peer_approximate: bool,
    /// Patterns over many resets.
    pub patterns: Vec<String>,
    /// The host's own counters beside what was seen.
    pub coverage: Coverage,
    /// What worked less well than it could.
    pub degraded: Vec<String>,
}

/// Resets of one peer.
#[derive(Clone, Debug, Serialize)]
pub struct PeerCount {
    /// Its address.
    pub address: IpAddr,
    /// Its resets.
    pub count: u64,
}

impl Display for Summary {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { resets, sent, received, lost, duration_s, .. } = self;
        write!(formatter, "{resets} resets in {duration_s:.1} s ({sent} sent, {received} received), {lost} lost")?;
        let list = |formatter: &mut Formatter<'_>, name: &str, items: Vec<String>| {
            if items.is_empty() { Ok(()) } else { write!(formatter, "\n  {name:<9} {}", items.join(", ")) }
        };
        let mut causes: Vec<_> = self.by_cause.iter().collect();
        causes.sort_by(|one, other| other.1.cmp(one.1));
        list(formatter, "causes", causes.iter().map(|(code, count)| format!("{code} {count}")).collect())?;
        list(formatter, "peers", self.by_peer.iter().map(|peer| format!("{} {}", peer.address, peer.count)).collect())?;
        // Beside a part of the resets the counters say nothing.
        let compared = self.coverage.counters.iter().filter(|counter| counter.seen.is_some());
        list(formatter, "counters", compared.map(ToString::to_string).collect())?;
        for degraded in &self.degraded {
            write!(formatter, "\n  degraded  {degraded}")?;
        }
        Ok(())
    }
}
