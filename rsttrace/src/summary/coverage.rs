//! The host's own counters beside what was seen: a difference is shown, never hidden.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
    fs,
    os::unix::fs::MetadataExt as _,
};

use rsttrace_common::names::tcp;
use serde::Serialize;

use crate::reset::{Direction, Reset};

/// The counters of `/proc/net/snmp` that resets move.
const COUNTERS: [&str; 3] = ["OutRsts", "EstabResets", "AttemptFails"];

/// The counters at the start, and what was seen since, in the network namespace that rsttrace runs in.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    netns: Option<u32>,
    at_start: HashMap<&'static str, u64>,
    sent: u64,
    established: u64,
    attempts: u64,
}

impl Watch {
    /// Reads the counters; what is seen from now on is compared with their movement.
    pub(crate) fn start() -> Self {
        let netns = fs::metadata("/proc/self/ns/net").ok().and_then(|metadata| metadata.ino().try_into().ok());
        Self { netns, at_start: read(), ..Self::default() }
    }

    /// Counts a reset, wanted or not.
    pub(crate) fn see(&mut self, reset: &Reset) {
        if self.netns.is_none() || reset.netns.map(|netns| netns.inode) != self.netns {
            return;
        }
        let state = reset.socket.as_ref().map(|socket| socket.state.0);
        if reset.direction == Direction::Sent {
            self.sent += reset.count;
        }
        // `tcp_set_state` counts a connection that goes to CLOSE from one of these, whoever reset it.
        if matches!(state, Some(tcp::ESTABLISHED | tcp::CLOSE_WAIT)) {
            self.established += reset.count;
        }
        if matches!(state, Some(tcp::SYN_SENT | tcp::SYN_RECV)) && reset.direction == Direction::Received {
            self.attempts += reset.count;
        }
    }

    /// The comparison. `complete` tells whether everything that the hooks reported was let through to be counted.
    pub(crate) fn finish(&self, complete: bool) -> Coverage {
        let now = read();
        let seen = [("OutRsts", self.sent), ("EstabResets", self.established), ("AttemptFails", self.attempts)];
        let counters = seen
            .into_iter()
            .filter_map(|(name, seen)| {
                let moved = now.get(name)?.saturating_sub(*self.at_start.get(name)?);
                Some(Counter { name: format!("Tcp{name}"), moved, seen: complete.then_some(seen) })
            })
            .collect();
        Coverage { netns: self.netns, counters }
    }
}

/// Counters of one network namespace.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Coverage {
    /// The namespace: the one that rsttrace runs in.
    pub netns: Option<u32>,
    /// One by one.
    pub counters: Vec<Counter>,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// As `nstat` has it.
    pub name: String,
    /// How far it moved during the run.
    pub moved: u64,
    /// How many of these were seen; `None` where filters kept the kernel side from reporting all.
    pub seen: Option<u64>,
}

impl Display for Counter {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, moved, seen } = self;
        write!(formatter, "{name} moved by {moved}")?;
        seen.map_or(Ok(()), |seen| write!(formatter, " ({seen} seen)"))
    }
}

fn read() -> HashMap<&'static str, u64> {
    parse(&fs::read_to_string("/proc/self/net/snmp").unwrap_or_default())
}

/// Two lines a protocol: names, then values.
fn parse(snmp: &str) -> HashMap<&'static str, u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return HashMap::new() };
    names
        .split(' ')
        .zip(values.split(' '))
        .filter_map(|(name, value)| Some((COUNTERS.into_iter().find(|&counter| counter == name)?, value.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let snmp = "Ip: a b\nIp: 1 2\nTcp: RtoMin AttemptFails EstabResets OutRsts InCsumErrors\nTcp: 200 3 4 5 0\n";
        assert_eq!(parse(snmp), HashMap::from([("AttemptFails", 3), ("EstabResets", 4), ("OutRsts", 5)]));
        assert_eq!(parse("Tcp: OutRsts\n"), HashMap::new());
        assert_eq!(parse("Tcp: OutRsts\nTcp: x\n"), HashMap::new());
    }
}
