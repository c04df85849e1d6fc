//! The record of a reset.
//!
//! Its JSON form is the contract of `docs/output.md`: serde writes the fields in this order under these names, and what
//! is not known is `null`.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::Timestamp;
use rsttrace_common::abi::tcp_flag;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Cause, IncidentRole, OtherEnd, Segment, Translated, timestamp};
use crate::{
    cgroup_path::CgroupPath,
    model::internals::{Ending, Internals},
};

/// Longest clock tick, milliseconds (`CONFIG_HZ=100`).
const TICK_MAX_MS: f64 = 10.0;

/// One reset, or several identical ones in one record.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reset {
    /// Time when the kernel reported it, UTC.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// Name of this host.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub host: Arc<str>,
    /// Sequence number in the order of output, from 1 on.
    // 0 before the record passes the filters.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub seq: u64,
    /// Number of resets that the record stands for, at least 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u64,
    /// Whether this host sent or received the reset.
    pub direction: Direction,
    /// Kernel hook that reported it; `capture` for a packet of a capture.
    // A text in the schema: another hook does not raise its version.
    #[cfg_attr(feature = "schema", schemars(with = "String", length(min = 1)))]
    pub hook: Hook,
    /// IP version of the packets.
    pub family: Family,
    /// This host's end of the connection.
    pub local: Endpoint,
    /// The peer's end.
    pub peer: Peer,
    /// Network namespace of the socket, or of the interface by which the packet arrived.
    pub netns: Option<Netns>,
    /// Owner of the socket; `None` where there is no socket, or its owner is not known.
    pub process: Option<Process>,
    /// Process that triggered the reset; `None` where it is the owner, a bystander, or not known.
    pub actor: Option<Actor>,
    /// cgroup of the socket.
    pub cgroup: Option<Cgroup>,
    /// systemd unit of the owner; where that is not known, of the socket.
    pub unit: Option<Arc<str>>,
    /// Container of the owner; where that is not known, of the socket.
    pub container: Option<Container>,
    /// Kubernetes pod of that container; `None` outside Kubernetes, and where this host does not tell its name.
    pub pod: Option<Arc<Pod>>,
    /// Socket at the moment of the reset; `None` when the kernel had none.
    pub socket: Option<Socket>,
    /// Numbers of the reset's own segment.
    #[serde(rename = "reset")]
    pub segment: Segment,
    /// Header of the reset itself; `None` where no hook shows it.
    pub packet: Option<Packet>,
    /// Packet to which this host's reset is the answer; `None` for any other reset.
    pub provoked_by: Option<ProvokingPacket>,
    /// The ends on the other side of an address translation; `None` where there is none, or where none was looked up.
    pub translated: Option<Translated>,
    /// The kernel's reason (`enum sk_rst_reason`), by name.
    pub reason: Option<Arc<str>>,
    /// Likely cause.
    pub cause: Cause,
    /// `seq` of the first record of the incident that this one belongs to: its own where it is the only one.
    // 0 before the record passes the filters.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub incident: u64,
    /// Part that it has in the incident.
    pub incident_role: IncidentRole,
    /// The other end of the connection, where the same reset was seen at both ends on this host.
    pub other_end: Option<OtherEnd>,
    /// Per-reset state for the stages, not serialized; recordings have it as `facts`.
    #[serde(skip_serializing, default, rename(deserialize = "facts"))]
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub internals: Internals,
}

/// Direction of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// This host put the reset on the wire.
    Sent,
    /// The reset arrived, from the peer or in its name.
    Received,
}

/// Kernel hook that reports a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// Tracepoint `tcp:tcp_send_reset`.
    TcpSendReset,
    /// Tracepoint `tcp:tcp_receive_reset`.
    TcpReceiveReset,
    /// Function `tcp_v4_send_reset`, where the tracepoint omits resets without a full socket (up to 6.9).
    #[serde(rename = "tcp_v4_send_reset")]
    TcpV4SendReset,
    /// Function `tcp_v6_send_reset`, for IPv6 in place of `tcp_v4_send_reset`.
    #[serde(rename = "tcp_v6_send_reset")]
    TcpV6SendReset,
    /// Tracepoint `skb:kfree_skb`: a packet that was dropped.
    KfreeSkb,
    /// Function `nf_send_reset`: a rule of the packet filter, IPv4.
    NfSendReset,
    /// Function `nf_send_reset6`: a rule of the packet filter, IPv6.
    #[serde(rename = "nf_send_reset6")]
    NfSendReset6,
    /// No hook: a packet of a capture.
    Capture,
}

/// IP version on the wire. An IPv6 socket with IPv4-mapped addresses speaks IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Endpoint {
    /// Address; an IPv4-mapped one is given as IPv4.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
}

/// As `10.0.0.1:80` or `[2001:db8::1]:80`.
impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(formatter)
    }
}

/// The peer's end of a connection, with the name that this host knows for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Peer {
    /// Address; an IPv4-mapped one is given as IPv4.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
    /// Name of the address, from `--names`, the containers and pods of this host, or `/etc/hosts`; `None` where none of
    /// them has one. Untrusted.
    pub name: Option<Arc<str>>,
}

impl Peer {
    /// Address and port alone.
    pub const fn end(&self) -> Endpoint {
        Endpoint { address: self.address, port: self.port }
    }
}

impl From<Endpoint> for Peer {
    fn from(end: Endpoint) -> Self {
        Self { address: end.address, port: end.port, name: None }
    }
}

/// As the [`Endpoint`], without the name.
impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end().fmt(formatter)
    }
}

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Netns {
    /// Inode number, as `readlink /proc/PID/ns/net` shows it.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub inode: u32,
}

/// Identity of a network namespace since boot. The kernel reuses the inode number of a namespace that is gone; the
/// cookie tells the two apart, where the kernel has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamespaceId {
    /// Inode number; 0 when the namespace is unknown.
    pub inode: u32,
    /// `net.net_cookie`; 0 where the kernel has none.
    pub cookie: u64,
}

impl Reset {
    /// Identity of the reset's network namespace.
    pub fn namespace(&self) -> NamespaceId {
        NamespaceId { inode: self.netns.map_or(0, |netns| netns.inode), cookie: self.internals.netns_cookie }
    }

    /// Side of the connection that this host is: by the socket, by the segment that was answered, or by the connection that was
    /// closed before. `None` where it is not known.
    pub fn role(&self) -> Option<Role> {
        let of_socket = self.socket.as_ref().and_then(|socket| socket.role);
        let of_segment = self.provoked_by.and_then(|segment| match segment.flags.0 & (tcp_flag::SYN | tcp_flag::ACK) {
            tcp_flag::SYN => Some(Role::Server),
            0 | tcp_flag::ACK => None,
            // Both flags: the answer to a SYN of this host.
            _ => Some(Role::Client),
        });
        of_socket.or(of_segment).or_else(|| self.internals.ending.as_ref().and_then(Ending::role))
    }

    /// Time since this side closed, and the silence before that, milliseconds; `None` where they are not known, or it has not
    /// closed.
    pub fn closing_times(&self) -> (Option<f64>, Option<f64>) {
        if let Some(socket) = self.socket.as_ref().filter(|socket| socket.bytes_sent.is_some()) {
            let last = [socket.since_send_ms, socket.since_receive_ms].into_iter().flatten().reduce(f64::min);
            let silence = last.zip(socket.fin_sent_ms).map(|(last, fin)| (last - fin).max(0.0));
            return (socket.fin_sent_ms, silence);
        }
        let Some(ending) = &self.internals.ending else { return (None, None) };
        (Some(ending.closed_ms), ending.idle_ms)
    }

    /// Silence before the peer's FIN where that came before this side's last data, otherwise before these; milliseconds. The
    /// kernel stamps a FIN as it stamps an acknowledgement, so that `idle_before_send_ms` begins with the FIN there.
    pub fn idle_ms(&self) -> Option<f64> {
        let socket = self.socket.as_ref()?;
        let began = self.internals.burst_ms.or(socket.since_send_ms);
        // Where the beginning of the last burst is not known, its silence tells: it began with the FIN's stamp, or before.
        let is_since_fin = |fin: f64| {
            self.internals.burst_ms.is_some() || socket.idle_before_send_ms.is_none_or(|idle| idle <= fin + TICK_MAX_MS)
        };
        let is_first = |&fin: &f64| began.is_some_and(|began| began < fin) && is_since_fin(fin);
        match socket.fin_received_ms.filter(is_first) {
            Some(fin) => {
                let heard = socket.since_receive_ms.or(self.internals.established_ms)?;
                Some((heard - fin).max(0.0))
            }
            None => socket.idle_before_send_ms,
        }
    }

    /// Whether it is the first record of its incident in the output.
    pub const fn begins_incident(&self) -> bool {
        self.incident == self.seq
    }
}

/// Owner of a socket.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Process {
    /// PID (thread group id) in the initial PID namespace.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub pid: u32,
    /// Name of the process: the `comm` of its main thread. Untrusted.
    pub comm: Arc<str>,
    /// Path of the executable. Untrusted, and `None` where `/proc` did not show it.
    pub executable: Option<Arc<str>>,
    /// Arguments joined by spaces. Untrusted, and `None` where `/proc` did not show them.
    pub command_line: Option<Arc<str>>,
    /// Real user id; `None` where it was not read.
    pub uid: Option<u32>,
    /// Name of the user in `/etc/passwd` of this host.
    pub user: Option<Arc<str>>,
    /// Path of the process's own cgroup, which may differ from the socket's.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub cgroup: Option<CgroupPath>,
    /// How the owner was found.
    pub provenance: Provenance,
    /// How certain the owner is.
    pub confidence: OwnerConfidence,
}

/// How the owner of a socket was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The process called `connect`.
    Connect,
    /// The process called `accept`.
    Accept,
    /// The process called `listen` on the socket, or on the listener of the connection.
    Listen,
    /// The process held the socket when rsttrace started.
    Snapshot,
    /// The process used the socket at the reset: it held the socket's lock in its own context, or closed it just after.
    SocketUser,
    /// The process held a descriptor of the socket just after the reset.
    Lookup,
}

impl Provenance {
    /// Description for people, as a phrase after "the owner is known".
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Connect => "from connect()",
            Self::Accept => "from accept()",
            Self::Listen => "from listen()",
            Self::Snapshot => "from the sockets open at the start",
            Self::SocketUser => "from its use of the socket at the reset",
            Self::Lookup => "from its open descriptor after the reset",
        }
    }
}

/// How certain the owner of a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OwnerConfidence {
    /// The kernel showed the owner.
    Exact,
    /// Another process may hold the socket as well, or instead.
    Likely,
}

/// Process that triggered a reset without owning the socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Actor {
    /// PID (thread group id) in the initial PID namespace.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub pid: u32,
    /// Name of the process. Untrusted.
    pub comm: Arc<str>,
}

/// A cgroup of version 2.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cgroup {
    /// Inode number of the cgroup.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub id: u64,
    /// Path below the root of the hierarchy; `None` where it could not be found.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub path: Option<CgroupPath>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Container {
    /// Container runtime: `docker`, `containerd`, `cri-o`, `podman`, …; `None` where the path does not show it.
    pub runtime: Option<Arc<str>>,
    /// Identifier of the container.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub id: Arc<str>,
    /// UID of the Kubernetes pod; `None` outside Kubernetes.
    pub pod_uid: Option<Arc<str>>,
    /// Name of the container, in Kubernetes within its pod; `None` where this host does not tell it. Untrusted.
    pub name: Option<Arc<str>>,
    /// Image as the runtime was told it, such as `nginx:1.27`; `None` where this host does not tell it. Untrusted.
    pub image: Option<Arc<str>>,
    /// Service that the container is a part of: `PROJECT/SERVICE` of Docker Compose, or the service of Docker Swarm.
    /// `None` without one. Untrusted.
    pub service: Option<Arc<str>>,
}

/// A Kubernetes pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pod {
    /// Namespace. Untrusted.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub namespace: Arc<str>,
    /// Name. Untrusted.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub name: Arc<str>,
    /// UID; of a static pod a hash.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub uid: Arc<str>,
    /// Name of the container within the pod; `None` for the pod's own (pause) container, and where it is not known.
    pub container: Option<Arc<str>>,
}

/// As `NAMESPACE/NAME`.
impl fmt::Display for Pod {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// A socket at the moment of the reset. Times are milliseconds before the reset, as fine as the kernel's clock tick (1
/// to 10 ms) where the kernel keeps them in ticks. `None` is what the kernel does not have or rsttrace did not see.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Socket {
    /// The kernel's socket cookie (`sk_cookie`); `None` where none has been assigned.
    pub cookie: Option<u64>,
    /// State in which the reset was decided.
    pub state: State,
    /// Side of the connection that this host is.
    pub role: Option<Role>,
    /// Time since the connection was opened.
    pub age_ms: Option<f64>,
    /// Idle time before the last send of this side.
    pub idle_before_send_ms: Option<f64>,
    /// Time since this side last sent data.
    pub since_send_ms: Option<f64>,
    /// Time since data were last received.
    pub since_receive_ms: Option<f64>,
    /// Time since the peer's FIN arrived; `None` without one.
    pub fin_received_ms: Option<f64>,
    /// Time since this side closed, or shut down for sending; `None` if it did not.
    pub fin_sent_ms: Option<f64>,
    /// Payload bytes sent, without retransmissions.
    pub bytes_sent: Option<u64>,
    /// Payload bytes that the peer acknowledged.
    pub bytes_acked: Option<u64>,
    /// Payload bytes received.
    pub bytes_received: Option<u64>,
    /// Payload bytes sent and not acknowledged.
    pub unacked_bytes: Option<u64>,
    /// Payload bytes written by the process and not sent.
    pub unsent_bytes: Option<u64>,
    /// Payload bytes received and not read by the process.
    pub unread_bytes: Option<u64>,
    /// Smoothed round trip time (`srtt_us`), microseconds.
    pub rtt_us: Option<u32>,
    /// Retransmitted segments.
    pub retransmits: Option<u32>,
    /// Connections in a listener's accept queue; `None` for other sockets.
    pub accept_queue: Option<u32>,
    /// Limit of a listener's accept queue; `None` for other sockets.
    pub accept_queue_limit: Option<u32>,
}

/// TCP state by its number. Unknown numbers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(pub u8);

impl State {
    /// Name of the state in the kernel, without `TCP_`; `None` for an unknown number.
    pub const fn name(self) -> Option<&'static str> {
        rsttrace_common::abi::tcp::name(self.0)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let named = || (0..=u8::MAX).map(Self).find(|state| state.name() == Some(&text));
        let numbered = || text.strip_prefix("STATE_").and_then(|number| number.parse().ok()).map(Self);
        named().or_else(numbered).ok_or_else(|| de::Error::custom("expected a TCP state"))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for State {
    fn schema_name() -> Cow<'static, str> {
        "State".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = (0..=u8::MAX).filter_map(|number| Self(number).name()).collect();
        schemars::json_schema!({"type": "string", "anyOf": [{"enum": names}, {"pattern": "^STATE_[0-9]+$"}]})
    }
}

/// Side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The host opened the connection.
    Client,
    /// The host accepted the connection.
    Server,
    /// The socket is a listener.
    Listener,
}

/// Header of a reset: of one that was received, and in captures of one that was sent as well.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Packet {
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// TTL or hop limit of the packet of its sender that completed the handshake (in a capture that lacks it, of the last one);
    /// `None` when none was seen.
    pub handshake_ttl: Option<u8>,
    /// TCP flags, serialized as `RST,ACK`.
    pub flags: TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, not scaled.
    pub window: u16,
    /// IP identification; 0 in a reset that a Linux kernel sends without a socket. `None` for IPv6, which has none.
    pub id: Option<u16>,
    /// Length of the IP packet in bytes: 40 (IPv6: 60) for a reset without TCP options.
    pub length: u16,
}

/// Packet to which a reset is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProvokingPacket {
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// TCP flags, serialized as `SYN,ACK`.
    pub flags: TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, not scaled.
    pub window: u16,
    /// Payload bytes.
    pub length: u16,
}

/// Flags byte of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// Names of the bits, the lowest first.
    const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

    /// Text of the combinations that nearly every packet has; `None` for any other. Saves the formatting.
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

impl fmt::Display for TcpFlags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (bit, name) in Self::NAMES.iter().enumerate() {
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

impl<'de> Deserialize<'de> for TcpFlags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let mut flags = 0;
        for name in text.split(',').filter(|name| !name.is_empty()) {
            let bit = Self::NAMES.iter().position(|known| *known == name);
            flags |= 1 << bit.ok_or_else(|| de::Error::custom("expected flags such as RST,ACK"))?;
        }
        Ok(Self(flags))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for TcpFlags {
    fn schema_name() -> Cow<'static, str> {
        "TcpFlags".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^([A-Z]{3}(,[A-Z]{3})*)?$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_flags_have_the_text_of_all_flags() {
        let mut usual = (0..=u8::MAX).map(TcpFlags).filter_map(|flags| Some((flags.to_string(), flags.usual()?)));
        assert!(usual.all(|(all, usual)| all == usual));
    }
}
