//! The host's own counters beside what was seen: a difference is shown and explained, never hidden.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
    fs,
    os::unix::fs::MetadataExt as _,
};

use rsttrace_common::names::tcp;
use serde::Serialize;

use crate::{
    attribute::ProcessKey,
    reset::{Direction, Hook, NamespaceId, Reset},
};

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
    at_start: HashMap<u32, AtStart>,
    seen: HashMap<NamespaceId, Seen>,
    /// Whether this kernel reports resets for which it has no socket.
    without_socket: bool,
}

/// The counters of a namespace at the start.
#[derive(Debug, Default)]
struct AtStart {
    counters: Counters,
    /// A process that was in it. As long as it still is, the inode number names the same namespace.
    witness: Option<ProcessKey>,
}

/// What relates the counters of a namespace now to those that its inode number had at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    /// They are of the same namespace.
    Same,
    /// The namespace is younger than the run, or had no process at the start: its counters begin at 0.
    None,
    /// The inode number may have been used again since.
    Unsure,
}

/// What was seen in one namespace.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// When the last was, nanoseconds of `CLOCK_MONOTONIC`.
    last_ns: u64,
    total: u64,
    sent: u64,
    established: u64,
    attempts: u64,
}

impl Watch {
    /// Reads the counters; what is seen from now on is compared with their movement. `without_socket` tells whether this
    /// kernel reports resets for which it has no socket.
    pub fn start(without_socket: bool) -> Self {
        let at_start = namespaces().into_iter().filter_map(|(netns, pid)| {
            let counters = read_in(netns, &pid)?;
            Some((netns, AtStart { counters, witness: pid.parse().ok().and_then(ProcessKey::of_running) }))
        });
        Self { own: netns_of("self"), at_start: at_start.collect(), seen: HashMap::new(), without_socket }
    }

    /// Counts a reset, wanted or not.
    pub fn see(&mut self, reset: &Reset) {
        let namespace = reset.namespace();
        if namespace.inode == 0 || self.seen.len() >= NAMESPACES && !self.seen.contains_key(&namespace) {
            return;
        }
        let seen = self.seen.entry(namespace).or_default();
        seen.last_ns = seen.last_ns.max(reset.facts.ktime_ns);
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
        let mut others: Vec<(u32, Seen, usize)> =
            self.latest().into_iter().filter(|&(netns, ..)| Some(netns) != self.own).collect();
        others.sort_by_key(|&(netns, seen, _)| (std::cmp::Reverse(seen.total), netns));
        let others = others.into_iter().filter_map(|(netns, seen, namespaces)| {
            let counters = read_in(netns, now.get(&netns)?)?;
            let past = self.past(netns, &counters, namespaces > 1);
            Some(Namespace { netns, counters: self.compare(netns, &counters, seen, past, complete) })
        });
        Coverage { others: others.take(OTHERS).collect(), ..self.own(complete) }
    }

    /// The comparison of our own namespace alone, for which no other process is looked at.
    pub fn own(&self, complete: bool) -> Coverage {
        let own = self.own.and_then(|own| {
            // This process has been in it all the time.
            let seen = self.latest().into_iter().find(|&(netns, ..)| netns == own);
            let seen = seen.map_or_else(Seen::default, |(_, seen, _)| seen);
            Some(self.compare(own, &read("self")?, seen, Past::Same, complete))
        });
        Coverage { netns: self.own, counters: own.unwrap_or_default(), others: Vec::new() }
    }

    /// For each inode number, what was seen in the namespace that had it last, and how many had it during the run.
    fn latest(&self) -> Vec<(u32, Seen, usize)> {
        let mut latest: HashMap<u32, (Seen, usize)> = HashMap::new();
        for (namespace, &seen) in &self.seen {
            let (last, namespaces) = latest.entry(namespace.inode).or_default();
            *namespaces += 1;
            if seen.last_ns >= last.last_ns {
                *last = seen;
            }
        }
        latest.into_iter().map(|(netns, (seen, namespaces))| (netns, seen, namespaces)).collect()
    }

    /// What relates the counters of the namespace with this inode number to those at the start.
    fn past(&self, netns: u32, now: &Counters, used_again: bool) -> Past {
        let Some(AtStart { counters, witness }) = self.at_start.get(&netns) else { return Past::None };
        if used_again || counters.iter().any(|(name, &before)| now.get(name).is_none_or(|&now| now < before)) {
            return Past::None;
        }
        let is_there = |witness: ProcessKey| witness.is_running() && netns_of(&witness.pid.to_string()) == Some(netns);
        if witness.is_some_and(is_there) { Past::Same } else { Past::Unsure }
    }

    fn compare(&self, netns: u32, now: &Counters, seen: Seen, past: Past, complete: bool) -> Vec<Counter> {
        let at_start = self.at_start.get(&netns).filter(|_| past != Past::None);
        let seen = [("OutRsts", seen.sent), ("EstabResets", seen.established), ("AttemptFails", seen.attempts)];
        let compare = |(name, seen): (&'static str, u64)| {
            let before = at_start.and_then(|at_start| at_start.counters.get(name)).copied();
            let moved = now.get(name)?.saturating_sub(before.unwrap_or(0));
            let explanation = complete.then(|| self.explanation(name, moved, seen, past)).flatten();
            Some(Counter { name: format!("Tcp{name}"), moved, seen: complete.then_some(seen), explanation })
        };
        seen.into_iter().filter_map(compare).collect()
    }

    /// Why a counter and what was seen differ.
    fn explanation(&self, name: &str, moved: u64, seen: u64, past: Past) -> Option<String> {
        if moved == seen {
            return None;
        }
        let mut reasons = Vec::new();
        match past {
            Past::Same => {}
            Past::None => {
                reasons.push("the namespace had no process at the start, so its counter is taken from its beginning");
            }
            Past::Unsure => {
                reasons.push("its processes of the start have ended: it may be another one with the same number");
            }
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

/// The counters of a namespace, as a process that was in it sees them; `None` when the PID is in another by now.
fn read_in(netns: u32, pid: &str) -> Option<Counters> {
    let counters = read(pid)?;
    (netns_of(pid) == Some(netns)).then_some(counters)
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
        let watch = Watch { without_socket: true, ..Watch::default() };
        assert_eq!(watch.explanation("OutRsts", 3, 3, Past::Same), None);
        for (name, moved) in [("OutRsts", 4), ("EstabResets", 4), ("AttemptFails", 4), ("OutRsts", 2)] {
            assert!(watch.explanation(name, moved, 3, Past::Same).is_some_and(|why| !why.contains("at the start")));
        }
        assert!(Watch::default().explanation("OutRsts", 4, 3, Past::Same).is_some_and(|why| why.contains("6.10")));
        assert!(watch.explanation("OutRsts", 4, 3, Past::None).is_some_and(|why| why.contains("at the start")));
        assert!(watch.explanation("OutRsts", 4, 3, Past::Unsure).is_some_and(|why| why.contains("same number")));
    }

    fn seen(sent: u64, last_ns: u64) -> Seen {
        Seen { total: sent, sent, last_ns, ..Seen::default() }
    }

    /// Another namespace has the inode number of one that was there at the start.
    #[test]
    fn counters_of_a_namespace_that_is_gone_are_not_compared_with() {
        let own = netns_of("self").unwrap();
        let counters = |resets| HashMap::from([("OutRsts", resets)]);
        let watch_with = |witness, seen: &[(NamespaceId, Seen)]| Watch {
            at_start: HashMap::from([(own, AtStart { counters: counters(5), witness })]),
            seen: seen.iter().copied().collect(),
            without_socket: true,
            ..Watch::default()
        };
        let id = |cookie| NamespaceId { inode: own, cookie };
        let witness = ProcessKey::of_running(std::process::id());
        // The process is still in it, and no other namespace was seen under the number.
        let watch = watch_with(witness, &[(id(1), seen(3, 10))]);
        assert_eq!(watch.past(own, &counters(8), false), Past::Same);
        assert_eq!(watch.compare(own, &counters(8), seen(3, 10), Past::Same, true)[0].explanation, None);
        // The counters have gone back.
        assert_eq!(watch.past(own, &counters(4), false), Past::None);
        // Two were seen under it: what the first was told is not the second's.
        let watch = watch_with(witness, &[(id(1), seen(3, 10)), (id(2), seen(7, 20))]);
        let latest: Vec<(u64, usize)> = watch.latest().iter().map(|(_, seen, many)| (seen.sent, *many)).collect();
        assert_eq!(latest, [(7, 2)]);
        assert_eq!(watch.past(own, &counters(7), true), Past::None);
        assert_eq!(watch.compare(own, &counters(7), seen(7, 20), Past::None, true)[0].moved, 7);
        // Its process has ended.
        assert_eq!(watch_with(None, &[]).past(own, &counters(8), false), Past::Unsure);
        // It was not there at the start.
        assert_eq!(watch.past(own ^ 1, &counters(8), false), Past::None);
    }

    #[test]
    fn the_own_namespace_has_a_process() {
        let own = netns_of("self").expect("every process has one");
        assert!(namespaces().contains_key(&own));
    }
}
