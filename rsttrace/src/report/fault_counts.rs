//! Counts by fault, and how faults are named, in all parts of a report.

use crate::model::Fault;

/// Every fault, in the order of legends, bars and tables.
pub(super) const FAULTS: [Fault; 5] = [Fault::Local, Fault::Peer, Fault::Path, Fault::Unknown, Fault::None];

/// Numbers of incidents by fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FaultCounts([u64; 5]);

const fn index(fault: Fault) -> usize {
    match fault {
        Fault::Local => 0,
        Fault::Peer => 1,
        Fault::Path => 2,
        Fault::Unknown => 3,
        Fault::None => 4,
    }
}

impl FaultCounts {
    /// Adds incidents.
    pub(super) const fn add(&mut self, fault: Fault, count: u64) {
        self.0[index(fault)] += count;
    }

    /// Takes incidents away; 0 where there are fewer.
    pub(super) const fn remove(&mut self, fault: Fault, count: u64) {
        let of = &mut self.0[index(fault)];
        *of = of.saturating_sub(count);
    }

    /// Incidents of a fault.
    pub(super) const fn of(&self, fault: Fault) -> u64 {
        self.0[index(fault)]
    }

    /// All incidents.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Incidents that are not harmless.
    pub(super) fn harmful(&self) -> u64 {
        self.total() - self.of(Fault::None)
    }

    /// The most frequent fault; of equally frequent ones the first.
    pub(super) fn main(&self) -> Fault {
        FAULTS.into_iter().rev().max_by_key(|&fault| self.of(fault)).unwrap_or(Fault::Unknown)
    }

    /// Adds other counts.
    pub(super) fn merge(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own += other);
    }
}

/// Class of a fault in style sheets, and its value in the fragment of the address.
pub(super) const fn class(fault: Fault) -> &'static str {
    match fault {
        Fault::Local => "local",
        Fault::Peer => "peer",
        Fault::Path => "path",
        Fault::Unknown => "unknown",
        Fault::None => "none",
    }
}

/// Name of a fault for people: who has to change something.
pub(super) const fn label(fault: Fault) -> &'static str {
    match fault {
        Fault::Local => "this host",
        Fault::Peer => "the peer",
        Fault::Path => "the path between",
        Fault::Unknown => "not known",
        Fault::None => "harmless",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_apart() {
        let mut counts = FaultCounts::default();
        assert_eq!((counts.total(), counts.main()), (0, Fault::Local));
        for (number, fault) in (1..).zip(FAULTS) {
            counts.add(fault, number);
        }
        counts.merge(counts);
        counts.remove(Fault::Local, 7);
        assert_eq!(FAULTS.map(|fault| counts.of(fault)), [0, 4, 6, 8, 10]);
        assert_eq!((counts.total(), counts.harmful(), counts.main()), (28, 18, Fault::None));
    }
}
