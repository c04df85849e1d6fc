//! What is known of a reset beyond its record: what the rooms inside need, and no reader of the output does.

use std::sync::Arc;

/// Of the event itself, and what was found out since.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Time of the event on `CLOCK_MONOTONIC`, nanoseconds.
    pub ktime_ns: u64,
    /// Cookie of the network namespace; 0 where the kernel has none.
    pub netns_cookie: u64,
    /// The owner as the kernel side knows it.
    pub owner: Option<KernelTask>,
    /// How the kernel side knows the owner (`PROVENANCE_*`).
    pub provenance: u8,
    /// Several processes hold the socket.
    pub shared: bool,
    /// The task that held the socket's lock.
    pub holder: Option<KernelTask>,
    /// That task was exiting.
    pub holder_exiting: bool,
    /// The socket is a TIME_WAIT mini-socket in this sub-state.
    pub time_wait_substate: Option<u8>,
    /// The state that the socket itself showed (CLOSE where `socket.state` has the one before).
    pub raw_state: u8,
    /// The socket belonged to no file any more.
    pub orphan: bool,
    /// The socket was dead (`SOCK_DEAD`): its last descriptor had been closed.
    pub dead: bool,
    /// `sk_shutdown`.
    pub shutdown: u8,
    /// `SO_LINGER` was on with a time of zero.
    pub linger_zero: bool,
    /// `SO_KEEPALIVE` was on.
    pub keepalive: bool,
    /// Keep-alive or zero-window probes without an answer.
    pub probes_out: u8,
    /// `TCP_USER_TIMEOUT` in milliseconds.
    pub user_timeout_ms: u32,
    /// The story of the connection was known.
    pub story: bool,
    /// Where netfilter was when it rejected a packet (`names::netfilter`); 0 when it did not.
    pub netfilter_hook: u8,
    /// Since the handshake was done, milliseconds.
    pub established_ms: Option<f64>,
    /// Since the first segment of our last burst of data, milliseconds.
    pub burst_ms: Option<f64>,
    /// The kernel's clock tick, milliseconds: as fine as the times are that it keeps in ticks.
    pub tick_ms: Option<f64>,
    /// What other resets shortly before have to do with this one.
    pub neighbours: Neighbours,
    /// References to the socket's file: 0 while the last descriptor is being closed; `None` when they were not counted.
    pub references: Option<u16>,
    /// The number under which the kernel side gathers who holds the socket; `None` when nobody does.
    pub findings: Option<u64>,
    /// What it has gathered.
    pub found: Found,
    /// The process that is remembered as the owner has ended.
    pub owner_ended: bool,
}

/// What the short memory of earlier resets knows that matters to this one. Zero where nothing was remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Neighbours {
    /// Other connections to the peer's address and port that broke within the second before.
    pub broken: u32,
    /// Of these, such as broke within a tenth of a second.
    pub broken_at_once: u32,
    /// Of those, such as had been silent for another time than this one: no timeout ends these together.
    pub silent_otherwise: u32,
    /// Since the first of them broke, milliseconds.
    pub broken_since_ms: f64,
    /// Since the peer's address and port last refused a connection; or since connections to it last broke, where this
    /// one was refused. Milliseconds.
    pub refused_ms: Option<f64>,
    /// Connections to the peer's address and port that broke with their handshake within the second before.
    pub newborn: u32,
    /// In a row, before this one: connections to the peer's address and port that broke on their first data.
    pub first_data: u32,
    /// Since the first of them, milliseconds.
    pub first_data_since_ms: f64,
    /// Connections that this peer opened to this port and reset without a word, before this one, not all at once.
    pub probes: u32,
    /// Since the last of them, milliseconds.
    pub probe_gap_ms: f64,
    /// Different closed ports that the peer has tried within a minute, this one among them.
    pub closed_ports: u32,
    /// Sockets of the same process that it reset within the tenth of a second before.
    pub same_process: u32,
    /// Since a listener on this local port closed or its process died, milliseconds.
    pub listener_gone_ms: Option<f64>,
    /// TTL of an earlier packet that is known to be the peer's own.
    pub peer_ttl: Option<u8>,
    /// The shortest round trip to the peer's address that was seen, microseconds.
    pub peer_rtt_us: Option<u32>,
}

/// Who was found with a socket after its reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The first process that a walk of all open files found with it.
    pub holder: Option<KernelTask>,
    /// That walk found another process with it as well.
    pub several: bool,
    /// Descriptors of it that that walk found.
    pub descriptors: u32,
    /// That walk found the remembered owner among them.
    pub known_holds: bool,
    /// The process that closed it for the last time.
    pub closer: Option<KernelTask>,
    /// The socket is gone: nothing more will be found.
    pub gone: bool,
}

/// A process as the kernel side describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTask {
    /// PID.
    pub tgid: u32,
    /// Start time on the boot clock, nanoseconds: with the PID it names a process for good.
    pub start_boottime_ns: u64,
    /// Real user id, when it was read.
    pub uid: Option<u32>,
    /// Name, with invalid UTF-8 replaced.
    pub comm: Arc<str>,
}
