//! Resets of one process that follow from each other, and processes that end together.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;

use crate::{
    model::{Direction, Endpoint, IncidentRole, RelayedReset, Reset, Role, internals::Ending},
    util::set_table::SetTable,
};

/// Longest time between a reset and the end of the connection on which it is passed on, nanoseconds. A process that does it
/// answers one event with the other.
const RELAY_NS: u64 = 20_000_000;
/// Largest error of the time at which this side closed, or of one at which a connection was opened, nanoseconds: records have
/// microseconds.
const CLOSE_ERROR_NS: u64 = 20_000;
/// Largest error of the time at which a connection was opened, nanoseconds.
const OPENED_NS: u64 = 10_000_000;
/// Processes, by side, whose resets are remembered.
const PROCESSES: usize = 1024;
/// Resets of one process and side that are remembered.
const SOURCES_MAX: usize = 16;
/// Longest time between the opening of a connection and the start of a process that is forked for it, nanoseconds.
const FORK_NS: u64 = 50_000_000;
/// Longest time between the start of such a process and its reset, nanoseconds: later, its parent has closed its own copy of the
/// connection and does not end it any more.
const YOUNG_NS: u64 = 1_000_000_000;
/// Resets of young processes that are remembered.
const FORKED_MAX: usize = 16;
/// Longest time between the end of a process and of those that follow it, nanoseconds.
const GROUP_NS: u64 = 1_000_000_000;
/// Groups of processes that are remembered.
const GROUPS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// Causes of sent resets with which a process passes on what happened to another connection: it ends its connection itself.
const RELAYING: &[&str] = &[
    "closed-with-unread-data",
    "linger-zero",
    "turned-away",
    "data-after-close",
    "keepalive-race",
    "gave-up-waiting",
    "client-cancelled",
    "process-exited",
];

/// Whether the process ended a connection that it had accepted, alive and without a reset of another connection before it.
pub(super) fn may_be_forwarded(sent: &Reset) -> bool {
    RELAYING.contains(&sent.cause.code) && sent.cause.code != "process-exited" && role(sent) == Some(Role::Server)
}

/// A process: PID and start time on the boot clock, nanoseconds.
type ProcessId = (u32, u64);

/// Owner of a record's socket; `None` where it or its start is not known.
fn owner(reset: &Reset) -> Option<ProcessId> {
    let pid = reset.process.as_ref()?.pid;
    let internals = &reset.internals;
    let found = &internals.holder_findings;
    let tasks = [&internals.owner, &internals.holder, &found.holder, &found.closer];
    let task = tasks.into_iter().flatten().find(|task| task.tgid == pid)?;
    Some((pid, task.start_boottime_ns))
}

/// The side that this host is, if it opened or accepted a connection.
fn role(reset: &Reset) -> Option<Role> {
    let of_ending = || reset.internals.ending.as_ref().and_then(Ending::role);
    let role = reset.socket.as_ref().and_then(|socket| socket.role).or_else(of_ending);
    role.filter(|role| matches!(role, Role::Client | Role::Server))
}

/// Received resets that a process may pass on.
#[derive(Default)]
pub(super) struct RelaySources {
    /// By the process and the side that it is.
    of_processes: SetTable<(ProcessId, bool), VecDeque<Source>, PROCESSES>,
    /// Those of servers' resets that a process received which had just started: its parent may end the client's connection.
    of_children: VecDeque<(Child, Source)>,
}

/// A process that had just started.
struct Child {
    /// On the boot clock, which is the one of records where the host was not suspended: times that do not fit make it no child.
    start_ns: u64,
    comm: Arc<str>,
    cgroup: u64,
}

impl Child {
    /// The owner of a received reset, if it had just started.
    fn of(reset: &Reset, (_, start_ns): ProcessId) -> Option<Self> {
        let age_ns = reset.internals.ktime_ns.checked_sub(start_ns)?;
        let comm = Arc::clone(&reset.process.as_ref()?.comm);
        (age_ns <= YOUNG_NS).then(|| Self { start_ns, comm, cgroup: cgroup(reset) })
    }

    /// Whether it may have been forked for a connection by the owner of that: a process of its name, in its cgroup, that is older
    /// than the connection, after which it started itself.
    fn is_of(&self, sent: &Reset, (_, parent_start_ns): ProcessId) -> bool {
        let opened_ns = opened_ns(sent);
        let is_named = sent.process.as_ref().is_some_and(|process| process.comm == self.comm);
        let is_forked_for_it = self.start_ns.checked_sub(opened_ns).is_some_and(|after_ns| after_ns <= FORK_NS);
        is_named && opened_ns >= parent_start_ns && is_forked_for_it && self.cgroup == cgroup(sent)
    }
}

/// Id of the socket's cgroup; 0 if that is not known.
fn cgroup(reset: &Reset) -> u64 {
    reset.cgroup.as_ref().map_or(0, |cgroup| cgroup.id)
}

/// A reset that a process received and has not passed on.
#[derive(Clone)]
struct Source {
    ktime_ns: u64,
    record: u64,
    incident: u64,
    /// This host's end of its connection.
    local: Endpoint,
    /// When its connection was opened, nanoseconds; 0 if that was before the trace.
    opened_ns: u64,
    relayed: RelayedReset,
}

impl Source {
    fn of(reset: &Reset) -> Self {
        let relayed = RelayedReset {
            peer: reset.peer.end(),
            is_of_child: false,
            code: reset.cause.code,
            fault: reset.cause.fault,
            confidence: reset.cause.confidence,
            before_ms: 0.0,
        };
        let Reset { internals, .. } = reset;
        let (ktime_ns, record, incident) = (internals.ktime_ns, internals.record, internals.incident);
        Self { ktime_ns, record, incident, local: reset.local, opened_ns: opened_ns(reset), relayed }
    }

    /// Whether it came just before this side ended a connection.
    fn is_just_before(&self, ended_ns: u64) -> bool {
        let before_ns = (ended_ns + CLOSE_ERROR_NS).checked_sub(self.ktime_ns);
        before_ns.is_some_and(|before_ns| before_ns <= RELAY_NS)
    }

    fn is_alike(&self, other: &Self) -> bool {
        (self.relayed.peer, self.relayed.code) == (other.relayed.peer, other.relayed.code)
    }
}

/// When the connection was opened, nanoseconds; 0 if that is not known.
fn opened_ns(reset: &Reset) -> u64 {
    let of_ending = || reset.internals.ending.as_ref().and_then(|ending| Some(ending.closed_ms + ending.lifetime_ms?));
    let age_ms = reset.socket.as_ref().and_then(|socket| socket.age_ms).or_else(of_ending);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "ages are positive, and fit as clocks do"
    )]
    let age_ns = age_ms.map(|age_ms| (age_ms * 1e6) as u64);
    age_ns.map_or(0, |age_ns| reset.internals.ktime_ns.saturating_sub(age_ns))
}

/// When this side ended the connection, nanoseconds: with the reset, or before, where that answers late data.
fn ended_ns(sent: &Reset) -> u64 {
    let of_ending = sent.internals.ending.as_ref().map(|ending| ending.closed_ms);
    let of_socket = || sent.socket.as_ref().and_then(|socket| socket.fin_sent_ms);
    let closed_ms = sent.provoked_by.and(of_ending.or_else(of_socket));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times before now fit as clocks do")]
    let ago_ns = closed_ms.map(|closed_ms| (closed_ms * 1e6) as u64);
    sent.internals.ktime_ns.saturating_sub(ago_ns.unwrap_or(0))
}

/// Whether the process that received a reset had sent it: it has both ends of the connection, and passes on nothing.
fn is_by_itself(reset: &Reset, (pid, _): ProcessId) -> bool {
    let sender = reset.other_end.as_ref().and_then(|other| other.process.as_ref());
    sender.is_some_and(|sender| sender.pid == pid)
}

impl RelaySources {
    /// Remembers a received reset, or what has become known of it since.
    pub(super) fn remember(&mut self, reset: &Reset) {
        if reset.direction != Direction::Received || reset.incident_role == IncidentRole::Aftermath {
            return;
        }
        let (Some(owner), Some(role)) = (owner(reset), role(reset)) else { return };
        if is_by_itself(reset, owner) {
            self.forget(reset.internals.record, (owner, role == Role::Client));
            return;
        }
        let new = Source::of(reset);
        if let Some(child) = Child::of(reset, owner).filter(|_| role == Role::Client) {
            self.of_children.retain(|(_, source)| source.record != new.record);
            if self.of_children.len() >= FORKED_MAX {
                self.of_children.pop_front();
            }
            let relayed = RelayedReset { is_of_child: true, ..new.relayed };
            self.of_children.push_back((child, Source { relayed, ..new.clone() }));
        }
        let key = (owner, role == Role::Client);
        let Some(sources) = self.of_processes.get_mut(&key) else {
            self.of_processes.insert(key, VecDeque::from([new]));
            return;
        };
        if let Some(known) = sources.iter_mut().find(|source| source.record == new.record) {
            *known = new;
            return;
        }
        if sources.len() >= SOURCES_MAX {
            sources.pop_front();
        }
        sources.push_back(new);
    }

    /// Forgets a received reset.
    fn forget(&mut self, record: u64, key: (ProcessId, bool)) {
        self.of_children.retain(|(_, source)| source.record != record);
        if let Some(sources) = self.of_processes.get_mut(&key) {
            sources.retain(|source| source.record != record);
        }
    }

    /// Incident and reset that this sent one passes on; `None` if it passes on none, or it is not known which.
    pub(super) fn source_of(&mut self, sent: &Reset) -> Option<(u64, RelayedReset)> {
        if !RELAYING.contains(&sent.cause.code) {
            return None;
        }
        let (owner, role) = (owner(sent)?, role(sent)?);
        // It passes on to a client what a server did, and to a server what a client did.
        let is_towards_client = role == Role::Server;
        let (own_ns, ended_ns) = (opened_ns(sent), ended_ns(sent));
        // What happened before there was this connection did not end it.
        let is_in_time = |source: &Source| {
            own_ns <= source.ktime_ns.saturating_add(CLOSE_ERROR_NS) && source.is_just_before(ended_ns)
        };
        let own = self.of_processes.get(&(owner, is_towards_client));
        // What a process did to its own connection comes to its other end before its record.
        let is_other_end = |source: &Source| (source.local, source.relayed.peer) == (sent.peer.end(), sent.local);
        let of_process = own.into_iter().flatten();
        let of_process = of_process.filter(|source| is_in_time(source) && !is_other_end(source));
        let is_childs =
            |child: &Child, source: &Source| is_towards_client && is_in_time(source) && child.is_of(sent, owner);
        let of_children = self.of_children.iter().filter(|(child, source)| is_childs(child, source));
        let mut sources = of_process.chain(of_children.map(|(_, source)| source));
        let first = sources.next()?.clone();
        // The client's connection came first: connections of a pool are not opened for one client.
        let (client_ns, server_ns) =
            if is_towards_client { (own_ns, first.opened_ns) } else { (first.opened_ns, own_ns) };
        let is_in_order = client_ns <= server_ns.saturating_add(OPENED_NS) || server_ns == 0;
        if !is_in_order || sources.any(|source| !source.is_alike(&first)) {
            return None;
        }
        self.forget(first.record, (owner, is_towards_client));
        let before_ms = Duration::from_nanos(ended_ns.saturating_sub(first.ktime_ns)).as_secs_f64() * 1000.0;
        Some((first.incident, RelayedReset { before_ms, ..first.relayed }))
    }
}

/// Processes that ended with connections open.
pub(super) struct EndedProcesses(LruCache<(Arc<str>, u64), EndedProcess>);

/// The last process of a group that ended: of one name in one cgroup.
struct EndedProcess {
    ktime_ns: u64,
    incident: u64,
}

impl Default for EndedProcesses {
    fn default() -> Self {
        Self(LruCache::new(GROUPS))
    }
}

impl EndedProcesses {
    /// Group of a record of a process that ended; `None` for any other record.
    fn key(reset: &Reset) -> Option<(Arc<str>, u64)> {
        if !matches!(reset.cause.code, "process-died" | "process-exited") {
            return None;
        }
        let process = reset.process.as_ref()?;
        Some((Arc::clone(&process.comm), reset.cgroup.as_ref().map_or(0, |cgroup| cgroup.id)))
    }

    /// Incident of the group that ends with this process: it began with a process that a signal killed.
    pub(super) fn group_of(&mut self, sent: &Reset) -> Option<u64> {
        let group = self.0.get(&Self::key(sent)?)?;
        (sent.internals.ktime_ns.abs_diff(group.ktime_ns) <= GROUP_NS).then_some(group.incident)
    }

    /// Remembers the end of a process that a signal killed, and of those that follow it.
    pub(super) fn remember(&mut self, reset: &Reset) {
        let begins = reset.cause.code == "process-died" || reset.incident_role == IncidentRole::Relayed;
        if let Some(key) = Self::key(reset).filter(|_| begins) {
            let ended = EndedProcess { ktime_ns: reset.internals.ktime_ns, incident: reset.internals.incident };
            self.0.put(key, ended);
        }
    }
}
