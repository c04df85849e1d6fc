//! The host's own TCP counters beside the observed resets. A difference is shown and explained, never hidden.

use std::{borrow::Cow, collections::HashMap, fs, os::unix::fs::MetadataExt as _};

use rsttrace_common::abi::tcp;

use crate::{
    model::{CounterCoverage, Coverage, Direction, Hook, NamespaceCoverage, NamespaceId, Reset},
    util::{counted, process_key::ProcessKey},
};

/// The counters of `/proc/net/snmp` that resets increase.
const COUNTERS: [&str; 3] = ["OutRsts", "EstabResets", "AttemptFails"];

/// Most network namespaces beside our own that are compared: those with the most resets.
const MAX_OTHERS: usize = 16;
/// Most network namespaces in which resets are counted.
const MAX_NAMESPACES: usize = 1024;

pub(crate) type SnmpCounters = HashMap<&'static str, u64>;

/// The counters of each network namespace at the start, and the resets that were observed since.
#[derive(Debug, Default)]
pub struct CounterBaseline {
    own_netns: Option<u32>,
    at_start: HashMap<u32, NamespaceBaseline>,
    observed: HashMap<NamespaceId, ObservedResets>,
    /// Whether this kernel reports resets for which it has no socket.
    without_socket: bool,
}

/// The counters of one namespace at the start.
#[derive(Debug, Default)]
struct NamespaceBaseline {
    counters: SnmpCounters,
    /// A process that was in the namespace. As long as it still is, the inode number names this namespace.
    witness: Option<ProcessKey>,
}

/// Relation between the counters of a namespace now and those that its inode number had at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BaselineMatch {
    /// Both are counters of one namespace.
    SameNamespace,
    /// The namespace is younger than the run, or had no process at the start: its counters began at 0.
    NewNamespace,
    /// The inode number may have been reused since.
    Uncertain,
}

/// Resets that were observed in one namespace.
#[derive(Clone, Copy, Debug, Default)]
struct ObservedResets {
    /// Time of the last one, `CLOCK_MONOTONIC` nanoseconds.
    last_ns: u64,
    total: u64,
    sent: u64,
    established: u64,
    attempts: u64,
}

impl CounterBaseline {
    /// Reads the counters of every namespace that has a process; resets that are observed from now on are compared with
    /// their increase. `without_socket` says whether this kernel reports resets for which it has no socket. Reads
    /// `/proc`, and blocks for it.
    pub fn start(without_socket: bool) -> Self {
        let at_start = namespaces().into_iter().filter_map(|(netns, pid)| {
            let counters = read_in(netns, &pid)?;
            Some((netns, NamespaceBaseline { counters, witness: pid.parse().ok().and_then(ProcessKey::of_running) }))
        });
        Self { own_netns: netns_of("self"), at_start: at_start.collect(), observed: HashMap::new(), without_socket }
    }

    /// Inode number of the namespace that rsttrace runs in; `None` where it could not be read.
    pub const fn own_netns(&self) -> Option<u32> {
        self.own_netns
    }

    /// Counts a reset, whether or not it passes the filters.
    pub fn observe(&mut self, reset: &Reset) {
        let namespace = reset.namespace();
        if namespace.inode == 0 || self.observed.len() >= MAX_NAMESPACES && !self.observed.contains_key(&namespace) {
            return;
        }
        let observed = self.observed.entry(namespace).or_default();
        observed.last_ns = observed.last_ns.max(reset.internals.ktime_ns);
        let state = reset.socket.as_ref().map(|socket| socket.state.0);
        observed.total += reset.count;
        if reset.hook == Hook::TcpSendReset {
            observed.sent += reset.count;
        }
        // `tcp_set_state` counts each connection that goes from one of these states to CLOSE, whichever side reset it.
        if matches!(state, Some(tcp::ESTABLISHED | tcp::CLOSE_WAIT)) {
            observed.established += reset.count;
        }
        if matches!(state, Some(tcp::SYN_SENT | tcp::SYN_RECV)) && reset.direction == Direction::Received {
            observed.attempts += reset.count;
        }
    }

    /// Compares the counters of our own namespace and of others. `lost` is the number of resets that the hooks reported and that
    /// were lost; `None` where some were filtered out, without a comparison. Reads `/proc`, and blocks for it.
    pub fn compare_all(&self, lost: Option<u64>) -> Coverage {
        let now = namespaces();
        let mut others: Vec<(u32, ObservedResets, usize)> =
            self.latest().into_iter().filter(|&(netns, ..)| Some(netns) != self.own_netns).collect();
        others.sort_by_key(|&(netns, observed, _)| (std::cmp::Reverse(observed.total), netns));
        let others = others.into_iter().filter_map(|(netns, observed, namespaces)| {
            let counters = read_in(netns, now.get(&netns)?)?;
            let baseline_match = self.baseline_match(netns, &counters, namespaces > 1);
            Some(NamespaceCoverage { netns, counters: self.compare(netns, &counters, observed, baseline_match, lost) })
        });
        Coverage { others: others.take(MAX_OTHERS).collect(), ..self.compare_own(lost) }
    }

    /// Compares the counters of our own namespace alone, without looking at another process.
    pub fn compare_own(&self, lost: Option<u64>) -> Coverage {
        let own = self.own_netns.and_then(|own| {
            // This process has been in the namespace all the time.
            let observed = self.latest().into_iter().find(|&(netns, ..)| netns == own);
            let observed = observed.map_or_else(ObservedResets::default, |(_, observed, _)| observed);
            Some(self.compare(own, &read("self")?, observed, BaselineMatch::SameNamespace, lost))
        });
        Coverage { netns: self.own_netns, counters: own.unwrap_or_default(), others: Vec::new() }
    }

    /// For each inode number, the resets of the namespace that had it last, and how many namespaces had it during the
    /// run.
    fn latest(&self) -> Vec<(u32, ObservedResets, usize)> {
        let mut latest: HashMap<u32, (ObservedResets, usize)> = HashMap::new();
        for (namespace, &observed) in &self.observed {
            let (last, namespaces) = latest.entry(namespace.inode).or_default();
            *namespaces += 1;
            if observed.last_ns >= last.last_ns {
                *last = observed;
            }
        }
        latest.into_iter().map(|(netns, (observed, namespaces))| (netns, observed, namespaces)).collect()
    }

    /// Relates the counters of the namespace with this inode number to those at the start.
    fn baseline_match(&self, netns: u32, now: &SnmpCounters, used_again: bool) -> BaselineMatch {
        let Some(NamespaceBaseline { counters, witness }) = self.at_start.get(&netns) else {
            return BaselineMatch::NewNamespace;
        };
        if used_again || counters.iter().any(|(name, &before)| now.get(name).is_none_or(|&now| now < before)) {
            return BaselineMatch::NewNamespace;
        }
        let is_there = |witness: ProcessKey| witness.is_running() && netns_of(&witness.pid.to_string()) == Some(netns);
        if witness.is_some_and(is_there) { BaselineMatch::SameNamespace } else { BaselineMatch::Uncertain }
    }

    fn compare(
        &self,
        netns: u32,
        now: &SnmpCounters,
        observed: ObservedResets,
        baseline_match: BaselineMatch,
        lost: Option<u64>,
    ) -> Vec<CounterCoverage> {
        let at_start = self.at_start.get(&netns).filter(|_| baseline_match != BaselineMatch::NewNamespace);
        let observed =
            [("OutRsts", observed.sent), ("EstabResets", observed.established), ("AttemptFails", observed.attempts)];
        let compare = |(name, observed): (&'static str, u64)| {
            let before = at_start.and_then(|at_start| at_start.counters.get(name)).copied();
            let delta = now.get(name)?.saturating_sub(before.unwrap_or(0));
            let explanation = lost.and_then(|lost| self.explanation(name, delta, observed, baseline_match, lost));
            Some(CounterCoverage { name: format!("Tcp{name}"), delta, observed: lost.map(|_| observed), explanation })
        };
        observed.into_iter().filter_map(compare).collect()
    }

    /// Why a counter and the observed resets differ; `None` where they agree.
    fn explanation(
        &self,
        name: &str,
        delta: u64,
        observed: u64,
        baseline_match: BaselineMatch,
        lost: u64,
    ) -> Option<String> {
        if delta == observed {
            return None;
        }
        let mut reasons: Vec<Cow<'_, str>> = Vec::new();
        if lost > 0 && delta > observed {
            reasons.push(format!("{} in all namespaces", were_lost(lost)).into());
        }
        match baseline_match {
            BaselineMatch::SameNamespace => {}
            BaselineMatch::NewNamespace => {
                reasons.push(
                    "no process was in the namespace at the start, so its counter runs from the namespace's creation"
                        .into(),
                );
            }
            BaselineMatch::Uncertain => {
                reasons
                    .push("its processes of the start have ended: it may be another one with the same number".into());
            }
        }
        if delta < observed {
            reasons.push("some arrived after the counter was read, or are of a kind that it does not count".into());
        } else if lost < delta - observed {
            reasons.push(Cow::Borrowed(match name {
                "OutRsts" if !self.without_socket => {
                    "before Linux 6.10 resets from closed ports and TIME_WAIT sockets are counted and not reported"
                }
                "OutRsts" => "the others were counted before the probes were there, or never came to be sent",
                "EstabResets" => "the rest were not resets: connections that timed out, or were destroyed without one",
                _ => "the others timed out, met an ICMP error, or were half open when their reset came",
            }));
        }
        Some(reasons.join("; "))
    }
}

/// How many resets were lost, as a sentence.
fn were_lost(lost: u64) -> String {
    format!("{} {} lost", counted(lost, "reset"), if lost == 1 { "was" } else { "were" })
}

/// The PID of one process in each network namespace.
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

/// The counters of a namespace, as a process that was in it sees them; `None` when the PID is in another namespace by
/// now.
fn read_in(netns: u32, pid: &str) -> Option<SnmpCounters> {
    let counters = read(pid)?;
    (netns_of(pid) == Some(netns)).then_some(counters)
}

/// The counters as a process sees them; `None` when it has ended.
fn read(pid: &str) -> Option<SnmpCounters> {
    fs::read_to_string(format!("/proc/{pid}/net/snmp")).ok().map(|snmp| parse(&snmp))
}

/// Parses `/proc/net/snmp`: two lines a protocol, names and then values.
pub(crate) fn parse(snmp: &str) -> SnmpCounters {
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
    fn finds_counters_by_name() {
        let snmp = "Ip: a b\nIp: 1 2\nTcp: RtoMin AttemptFails EstabResets OutRsts InCsumErrors\nTcp: 200 3 4 5 0\n";
        assert_eq!(parse(snmp), HashMap::from([("AttemptFails", 3), ("EstabResets", 4), ("OutRsts", 5)]));
        assert_eq!(parse("Tcp: OutRsts\n"), HashMap::new());
        assert_eq!(parse("Tcp: OutRsts\nTcp: x\n"), HashMap::new());
    }

    #[test]
    fn explains_differences_only() {
        let baseline = CounterBaseline { without_socket: true, ..CounterBaseline::default() };
        assert_eq!(baseline.explanation("OutRsts", 3, 3, BaselineMatch::SameNamespace, 9), None);
        for (name, delta) in [("OutRsts", 4), ("EstabResets", 4), ("AttemptFails", 4), ("OutRsts", 2)] {
            assert!(
                baseline
                    .explanation(name, delta, 3, BaselineMatch::SameNamespace, 0)
                    .is_some_and(|why| !why.contains("at the start"))
            );
        }
        assert!(
            CounterBaseline::default()
                .explanation("OutRsts", 4, 3, BaselineMatch::SameNamespace, 0)
                .is_some_and(|why| why.contains("6.10"))
        );
        assert!(
            baseline
                .explanation("OutRsts", 4, 3, BaselineMatch::NewNamespace, 0)
                .is_some_and(|why| why.contains("at the start"))
        );
        assert!(
            baseline
                .explanation("OutRsts", 4, 3, BaselineMatch::Uncertain, 0)
                .is_some_and(|why| why.contains("same number"))
        );
        let with_losses = |delta, lost| baseline.explanation("OutRsts", delta, 3, BaselineMatch::SameNamespace, lost);
        assert_eq!(with_losses(4, 1).as_deref(), Some("1 reset was lost in all namespaces"));
        assert!(
            with_losses(9, 2).is_some_and(|why| why.starts_with("2 resets were lost in all namespaces; the others"))
        );
    }

    fn seen(sent: u64, last_ns: u64) -> ObservedResets {
        ObservedResets { total: sent, sent, last_ns, ..ObservedResets::default() }
    }

    /// The inode number of a namespace that was there at the start is reused.
    #[test]
    fn ignores_the_baseline_of_a_namespace_that_is_gone() {
        let own = netns_of("self").unwrap();
        let counters = |resets| HashMap::from([("OutRsts", resets)]);
        let baseline_with = |witness, seen: &[(NamespaceId, ObservedResets)]| CounterBaseline {
            at_start: HashMap::from([(own, NamespaceBaseline { counters: counters(5), witness })]),
            observed: seen.iter().copied().collect(),
            without_socket: true,
            ..CounterBaseline::default()
        };
        let id = |cookie| NamespaceId { inode: own, cookie };
        let witness = ProcessKey::of_running(std::process::id());
        // The process is still in it, and only one namespace had the number.
        let baseline = baseline_with(witness, &[(id(1), seen(3, 10))]);
        assert_eq!(baseline.baseline_match(own, &counters(8), false), BaselineMatch::SameNamespace);
        assert_eq!(
            baseline.compare(own, &counters(8), seen(3, 10), BaselineMatch::SameNamespace, Some(0))[0].explanation,
            None
        );
        // The counters have decreased.
        assert_eq!(baseline.baseline_match(own, &counters(4), false), BaselineMatch::NewNamespace);
        // Two namespaces had the number: the resets of the first are not those of the second.
        let baseline = baseline_with(witness, &[(id(1), seen(3, 10)), (id(2), seen(7, 20))]);
        let latest: Vec<(u64, usize)> = baseline.latest().iter().map(|(_, seen, many)| (seen.sent, *many)).collect();
        assert_eq!(latest, [(7, 2)]);
        assert_eq!(baseline.baseline_match(own, &counters(7), true), BaselineMatch::NewNamespace);
        assert_eq!(baseline.compare(own, &counters(7), seen(7, 20), BaselineMatch::NewNamespace, Some(0))[0].delta, 7);
        // The process has ended.
        assert_eq!(baseline_with(None, &[]).baseline_match(own, &counters(8), false), BaselineMatch::Uncertain);
        // The namespace was not there at the start.
        assert_eq!(baseline.baseline_match(own ^ 1, &counters(8), false), BaselineMatch::NewNamespace);
    }

    #[test]
    fn the_own_namespace_has_a_process() {
        let own = netns_of("self").expect("every process has one");
        assert!(namespaces().contains_key(&own));
    }
}
