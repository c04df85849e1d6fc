//! The host's own counters beside what was seen: a difference is shown and explained, never hidden.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
    fs,
    os::unix::fs::MetadataExt as _,
};

use rsttrace_common::names::tcp;
use serde::Serialize;

use crate::reset::{Direction, Hook, Reset};

/// The counters of `/proc/net/snmp` that resets move.
const COUNTERS: [&str; 3] = ["OutRsts", "EstabResets", "AttemptFails"];

/// Network namespaces beside our own that are compared: those with the most resets.
const OTHERS: usize = 16;
/// Network namespaces in which resets are counted.
const NAMESPACES: usize = 1024;

pub(crate) type Counters = HashMap<&'static str, u64>;

/// The counters at the start, and what was seen since, in each network namespace.
#[derive(Debug, Default)]
pub struct Watch {
    own: Option<u32>,
    at_start: HashMap<u32, Counters>,
    seen: HashMap<u32, Seen>,
    /// Whether this kernel reports resets for which it has no socket.
    without_socket: bool,
}

/// What was seen in one namespace.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    total: u64,
    sent: u64,
    established: u64,
    attempts: u64,
}

impl Watch {
    /// Reads the counters; what is seen from now on is compared with their movement. `without_socket` tells whether this
    /// kernel reports resets for which it has no socket.
    pub fn start(without_socket: bool) -> Self {
        let at_start = namespaces().into_iter().filter_map(|(netns, pid)| Some((netns, read(&pid)?))).collect();
        Self { own: netns_of("self"), at_start, seen: HashMap::new(), without_socket }
    }

    /// Counts a reset, wanted or not.
    pub fn see(&mut self, reset: &Reset) {
        let Some(netns) = reset.netns.map(|netns| netns.inode) else { return };
        if self.seen.len() >= NAMESPACES && !self.seen.contains_key(&netns) {
            return;
        }
        let seen = self.seen.entry(netns).or_default();
        let state = reset.socket.as_ref().map(|socket| socket.state.0);
        seen.total += reset.count;
        if reset.hook == Hook::TcpSendReset {
            seen.sent += reset.count;
        }
        // `tcp_set_state` counts a connection that goes to CLOSE from one of these, whoever reset it.
        if matches!(state, Some(tcp::ESTABLISHED | tcp::CLOSE_WAIT)) {
            seen.established += reset.count;
        }
        if matches!(state, Some(tcp::SYN_SENT | tcp::SYN_RECV)) && reset.direction == Direction::Received {
            seen.attempts += reset.count;
        }
    }

    /// The comparison. `complete` tells whether everything that the hooks reported was let through to be counted.
    pub fn finish(&self, complete: bool) -> Coverage {
        let now = namespaces();
        let mut others: Vec<(u32, Seen)> = self
            .seen
            .iter()
            .filter(|&(&netns, _)| Some(netns) != self.own)
            .map(|(&netns, &seen)| (netns, seen))
            .collect();
        others.sort_by_key(|&(netns, seen)| (std::cmp::Reverse(seen.total), netns));
        let others = others.into_iter().filter_map(|(netns, seen)| {
            let counters = read(now.get(&netns)?)?;
            Some(Namespace { netns, counters: self.compare(netns, &counters, seen, complete) })
        });
        Coverage { others: others.take(OTHERS).collect(), ..self.own(complete) }
    }

    /// The comparison of our own namespace alone, for which no other process is looked at.
    pub fn own(&self, complete: bool) -> Coverage {
        let own = self.own.and_then(|own| {
            let seen = self.seen.get(&own).copied().unwrap_or_default();
            Some(self.compare(own, &read("self")?, seen, complete))
        });
        Coverage { netns: self.own, counters: own.unwrap_or_default(), others: Vec::new() }
    }

    fn compare(&self, netns: u32, now: &Counters, seen: Seen, complete: bool) -> Vec<Counter> {
        let at_start = self.at_start.get(&netns);
        let seen = [("OutRsts", seen.sent), ("EstabResets", seen.established), ("AttemptFails", seen.attempts)];
        let compare = |(name, seen): (&'static str, u64)| {
            let before = at_start.and_then(|counters| counters.get(name)).copied();
            let moved = now.get(name)?.saturating_sub(before.unwrap_or(0));
            let explanation = complete.then(|| self.explanation(name, moved, seen, at_start.is_some())).flatten();
            Some(Counter { name: format!("Tcp{name}"), moved, seen: complete.then_some(seen), explanation })
        };
        seen.into_iter().filter_map(compare).collect()
    }

    /// Why a counter and what was seen differ.
    fn explanation(&self, name: &str, moved: u64, seen: u64, was_there: bool) -> Option<String> {
        if moved == seen {
            return None;
        }
        let mut reasons = Vec::new();
        if !was_there {
            reasons.push("the namespace had no process at the start, so its counter is taken from its beginning");
        }
        if moved < seen {
            reasons.push("some came after the counter was read, or ended no connection that it counts");
        } else {
            reasons.push(match name {
                "OutRsts" if !self.without_socket => {
                    "before Linux 6.10 resets from closed ports and TIME_WAIT sockets are counted and not reported"
                }
                "OutRsts" => "the others were counted before the probes were there, or never came to be sent",
                "EstabResets" => "the others were no resets: connections that timed out or were destroyed without one",
                _ => "the others timed out, met an ICMP error, or were half open when their reset came",
            });
        }
        Some(reasons.join("; "))
    }
}

/// Counters beside what was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Coverage {
    /// The namespace that rsttrace runs in.
    pub netns: Option<u32>,
    /// Its counters, one by one.
    pub counters: Vec<Counter>,
    /// Other namespaces in which resets were seen and whose counters could be read, those with the most resets first.
    pub others: Vec<Namespace>,
}

/// The counters of another namespace.
#[derive(Clone, Debug, Serialize)]
pub struct Namespace {
    /// Which.
    pub netns: u32,
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
    /// Why the two differ.
    pub explanation: Option<String>,
}

impl Display for Counter {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, moved, seen, explanation } = self;
        write!(formatter, "{name} moved by {moved}")?;
        seen.map_or(Ok(()), |seen| write!(formatter, ", {seen} seen"))?;
        explanation.as_ref().map_or(Ok(()), |explanation| write!(formatter, " ({explanation})"))
    }
}

/// A process of each network namespace that has one.
fn namespaces() -> HashMap<u32, String> {
    let mut namespaces = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        if let Some(netns) = netns_of(pid) {
            namespaces.entry(netns).or_insert_with(|| pid.to_owned());
        }
    }
    namespaces
}

fn netns_of(pid: &str) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino().try_into().ok()
}

/// The counters as a process sees them.
fn read(pid: &str) -> Option<Counters> {
    fs::read_to_string(format!("/proc/{pid}/net/snmp")).ok().map(|snmp| parse(&snmp))
}

/// Two lines a protocol: names, then values.
pub(crate) fn parse(snmp: &str) -> Counters {
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

    #[test]
    fn a_difference_is_explained_and_agreement_is_not() {
        let watch = Watch { without_socket: true, at_start: HashMap::from([(1, HashMap::new())]), ..Watch::default() };
        assert_eq!(watch.explanation("OutRsts", 3, 3, true), None);
        for (name, moved) in [("OutRsts", 4), ("EstabResets", 4), ("AttemptFails", 4), ("OutRsts", 2)] {
            assert!(watch.explanation(name, moved, 3, true).is_some_and(|why| !why.contains("at the start")));
        }
        assert!(Watch::default().explanation("OutRsts", 4, 3, true).is_some_and(|why| why.contains("6.10")));
        assert!(watch.explanation("OutRsts", 4, 3, false).is_some_and(|why| why.contains("at the start")));
    }

    #[test]
    fn the_own_namespace_has_a_process() {
        let own = netns_of("self").expect("every process has one");
        assert!(namespaces().contains_key(&own));
    }
}
