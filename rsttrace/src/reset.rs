//! The one record that every room passes on and every sink prints.
//!
//! Its JSON form is the contract of `docs/output.md`: serde writes the fields in this order under these names, and
//! absent knowledge is `null`.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::{evidence::Evidence, facts::Facts, moment::timestamp};

/// One reset, or several identical ones folded into one record.
#[derive(Clone, Debug, Serialize)]
pub struct Reset {
    /// When the kernel reported it, UTC.
    #[serde(serialize_with = "timestamp")]
    pub time: Timestamp,
    /// This host's name.
    pub host: Arc<str>,
    /// 1, 2, 3 … in the order of output.
    pub seq: u64,
    /// How many resets the record stands for.
    pub count: u64,
    /// Whether this host put the reset on the wire.
    pub direction: Direction,
    /// The kernel hook that saw it.
    pub hook: Hook,
    /// IP version of the packets.
    pub family: Family,
    /// This host's end.
    pub local: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// Network namespace of the socket, or of the interface that the packet came in by.
    pub netns: Option<Netns>,
    /// The owner of the socket.
    pub process: Option<Process>,
    /// Who made the kernel do it, where that is known to be no bystander and not the owner.
    pub actor: Option<Actor>,
    /// cgroup of the socket.
    pub cgroup: Option<Cgroup>,
    /// systemd unit of the owner, or where that cannot be told, of the socket.
    pub unit: Option<Arc<str>>,
    /// Container of the owner, or where that cannot be told, of the socket.
    pub container: Option<Container>,
    /// The socket at the moment of the reset; none when the kernel had none.
    pub socket: Option<Socket>,
    /// The reset's own header, where a hook shows it.
    pub packet: Option<Packet>,
    /// The packet that provoked a reset of ours.
    pub provoked_by: Option<ProvokingPacket>,
    /// The kernel's own word.
    pub reason: Option<Arc<str>>,
    /// What we make of it.
    pub cause: Cause,
    /// What only the rooms inside need.
    #[serde(skip)]
    pub facts: Facts,
}

/// Which way the reset went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// This host put it on the wire.
    Sent,
    /// It came from the peer, or from somebody who spoke for it.
    Received,
}

/// The kernel hook that reports a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// Tracepoint `tcp:tcp_send_reset`.
    TcpSendReset,
    /// Tracepoint `tcp:tcp_receive_reset`.
    TcpReceiveReset,
    /// Function `tcp_v4_send_reset`, where the tracepoint leaves out what has no full socket (up to 6.9).
    #[serde(rename = "tcp_v4_send_reset")]
    TcpV4SendReset,
    /// Function `tcp_v6_send_reset`, as above.
    #[serde(rename = "tcp_v6_send_reset")]
    TcpV6SendReset,
    /// Tracepoint `skb:kfree_skb`: a packet thrown away.
    KfreeSkb,
    /// Function `nf_send_reset`: a rule of the packet filter.
    NfSendReset,
    /// Function `nf_send_reset6`, as above.
    #[serde(rename = "nf_send_reset6")]
    NfSendReset6,
}

/// IP version on the wire. A socket of the other family with mapped addresses speaks IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Endpoint {
    /// IPv4-mapped addresses stand as IPv4.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
}

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Netns {
    /// What `readlink /proc/PID/ns/net` shows.
    pub inode: u32,
}

/// Identity of a network namespace since boot. The kernel gives the inode number of one that is gone to the next; the cookie
/// tells them apart, where there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamespaceId {
    /// Inode number; 0 when the namespace is unknown.
    pub inode: u32,
    /// `net.net_cookie`; 0 where the kernel has none.
    pub cookie: u64,
}

impl Reset {
    /// Identity of the network namespace that it happened in.
    pub fn namespace(&self) -> NamespaceId {
        NamespaceId { inode: self.netns.map_or(0, |netns| netns.inode), cookie: self.facts.netns_cookie }
    }
}

/// A process, as the owner of a socket.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// As the host's first PID namespace counts.
    pub pid: u32,
    /// Name of the process (of its first thread).
    pub comm: Arc<str>,
    /// Path of the program.
    pub executable: Option<Arc<str>>,
    /// Arguments joined by spaces.
    pub command_line: Option<Arc<str>>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Its name in this host's `/etc/passwd`.
    pub user: Option<Arc<str>>,
    /// Path of the process's cgroup, which need not be the socket's.
    pub cgroup: Option<Arc<str>>,
    /// How we know.
    pub provenance: Provenance,
    /// How sure we are.
    pub confidence: OwnerConfidence,
}

/// How the owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provenance {
    /// It called connect.
    Connect,
    /// It called accept.
    Accept,
    /// It called listen, or its listener did for the connection.
    Listen,
    /// It held the socket when we started.
    Snapshot,
    /// It was seen working on the socket in its own context.
    Current,
    /// It held the descriptor when we looked for it.
    Lookup,
}

/// How sure the owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerConfidence {
    /// The kernel showed it.
    Exact,
    /// Somebody else may hold the socket as well, or instead.
    Likely,
}

/// Who triggered a reset without owning the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// As the host's first PID namespace counts.
    pub pid: u32,
    /// Name of the process.
    pub comm: Arc<str>,
}

/// A cgroup of version 2.
#[derive(Clone, Debug, Serialize)]
pub struct Cgroup {
    /// Its inode number.
    pub id: u64,
    /// Its path below the root of the hierarchy.
    pub path: Option<Arc<str>>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// `docker`, `containerd`, `cri-o`, `podman`, …
    pub runtime: Option<Arc<str>>,
    /// Its id.
    pub id: Arc<str>,
    /// Kubernetes pod.
    pub pod_uid: Option<Arc<str>>,
}

/// A socket at the moment of the reset. Times are milliseconds before the reset, as fine as the kernel's clock tick
/// (1 to 10 ms) where the kernel keeps them in ticks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Socket {
    /// The kernel's lasting identity of the socket, when somebody has asked for one.
    pub cookie: Option<u64>,
    /// The state in which the connection was when the reset was decided.
    pub state: State,
    /// Which side opened the connection.
    pub role: Option<Role>,
    /// Since it was opened.
    pub age_ms: Option<f64>,
    /// The silence that came before our last send.
    pub idle_before_send_ms: Option<f64>,
    /// Since we last sent data.
    pub since_send_ms: Option<f64>,
    /// Since we last received data.
    pub since_receive_ms: Option<f64>,
    /// Since the peer's FIN came.
    pub fin_received_ms: Option<f64>,
    /// Since this side closed or shut down for sending.
    pub fin_sent_ms: Option<f64>,
    /// Payload sent, each byte once.
    pub bytes_sent: Option<u64>,
    /// Payload that the peer acknowledged.
    pub bytes_acked: Option<u64>,
    /// Payload received.
    pub bytes_received: Option<u64>,
    /// Payload sent and not acknowledged.
    pub unacked_bytes: Option<u64>,
    /// Payload written by the process and not sent.
    pub unsent_bytes: Option<u64>,
    /// Payload received and not read by the process.
    pub unread_bytes: Option<u64>,
    /// Smoothed round trip time.
    pub rtt_us: Option<u32>,
    /// Segments sent again.
    pub retransmits: Option<u32>,
    /// Connections waiting in a listener's accept queue.
    pub accept_queue: Option<u32>,
    /// Limit of that queue.
    pub accept_queue_limit: Option<u32>,
}

/// A TCP state by its number; unknown numbers survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(pub u8);

impl State {
    /// As the kernel calls it.
    pub const fn name(self) -> Option<&'static str> {
        rsttrace_common::abi::tcp::name(self.0)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => formatter.pad(name),
            None => formatter.pad(&format!("STATE_{}", self.0)),
        }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => serializer.serialize_str(name),
            None => serializer.collect_str(self),
        }
    }
}

/// Which side of a connection this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It opened the connection.
    Client,
    /// It accepted the connection.
    Server,
    /// The socket listens.
    Listener,
}

/// The reset's own header.
#[derive(Clone, Debug, Serialize)]
pub struct Packet {
    /// TTL or hop limit as it arrived.
    pub ttl: u8,
    /// What the packet had with which the peer finished the handshake.
    pub handshake_ttl: Option<u8>,
    /// TCP flags, as `RST,ACK`.
    pub flags: TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, unscaled.
    pub window: u16,
    /// IP identification: 0 for a reset that a Linux kernel sends without a socket. None for IPv6, which has none.
    pub id: Option<u16>,
    /// Length of the IP packet in bytes: 40 (60 for IPv6) when the reset has no TCP options.
    pub length: u16,
}

/// The packet to which a reset is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ProvokingPacket {
    /// TTL or hop limit as it arrived.
    pub ttl: u8,
    /// TCP flags, as `SYN,ACK`.
    pub flags: TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, unscaled.
    pub window: u16,
}

/// The flags byte of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// Those that nearly every packet has.
    pub const fn usual(self) -> Option<&'static str> {
        Some(match self.0 {
            0x02 => "SYN",
            0x04 => "RST",
            0x10 => "ACK",
            0x11 => "FIN,ACK",
            0x14 => "RST,ACK",
            0x18 => "PSH,ACK",
            _ => return None,
        })
    }
}

impl std::fmt::Display for TcpFlags {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let mut separator = "";
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 >> bit & 1 != 0 {
                write!(formatter, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl Serialize for TcpFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.usual() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_str(self),
        }
    }
}

/// What the diagnosis says.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// Stable name of the cause, see `rsttrace explain`.
    pub code: &'static str,
    /// Who put the reset on the wire.
    pub sender: Sender,
    /// Who has something to change.
    pub fault: Fault,
    /// How sure the diagnosis is.
    pub confidence: CauseConfidence,
    /// Whether it is nothing to worry about.
    pub benign: bool,
    /// One sentence.
    pub summary: Cow<'static, str>,
    /// What decided it, with figures; empty until [`crate::diagnose::Diagnosis::explain`] has been asked for it.
    pub evidence: Evidence,
    /// What to do, with the setting of the owner's program where that is known.
    pub advice: Cow<'static, str>,
}

/// Who put the reset on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sender {
    /// A process of this host, by closing a socket.
    LocalProcess,
    /// The kernel of this host.
    LocalKernel,
    /// The packet filter of this host.
    LocalFirewall,
    /// The other end.
    Peer,
    /// Something in between.
    Path,
    /// Not known.
    Unknown,
}

impl Sender {
    /// For a person.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::LocalProcess => "a process of this host",
            Self::LocalKernel => "this host's kernel",
            Self::LocalFirewall => "this host's packet filter",
            Self::Peer => "the peer",
            Self::Path => "something between the two ends",
            Self::Unknown => "nobody that is known",
        }
    }
}

/// Who has something to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// This host.
    Local,
    /// The other end.
    Peer,
    /// Something in between.
    Path,
    /// Nobody: it is harmless.
    None,
    /// Not known.
    Unknown,
}

impl Fault {
    /// For a person.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Local => "this host's side has something to change",
            Self::Peer => "the peer's side has something to change",
            Self::Path => "something between the two ends has something to change",
            Self::None => "it is harmless",
            Self::Unknown => "whose side has something to change is not known",
        }
    }
}

/// How sure the diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseConfidence {
    /// The kernel's state proves it.
    Certain,
    /// The fingerprint fits and nothing contradicts.
    Likely,
    /// The best of several explanations.
    Guess,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_flags_are_called_what_all_are() {
        let mut usual = (0..=u8::MAX).map(TcpFlags).filter_map(|flags| Some((flags.to_string(), flags.usual()?)));
        assert!(usual.all(|(all, usual)| all == usual));
    }
}
