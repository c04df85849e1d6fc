//! Resets that were not applied to a socket of this host: ignored and forwarded ones. They have types of their own, so
//! that they cannot be counted among the real ones.

use std::sync::Arc;

use jiff::Timestamp;
use rsttrace_common::abi::tcp;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::code::{self, Code};
use crate::model::{
    Cause, Direction, Endpoint, Family, Hook, IncidentRole, Netns, Packet, Peer, Process, Reset, Segment, Socket,
    internals::Internals, timestamp,
};

/// A reset that arrived and that this host ignored.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ignored {
    /// Time when the packet was dropped, UTC.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// Time on `CLOCK_MONOTONIC`, nanoseconds.
    #[serde(skip)]
    pub ktime_ns: u64,
    /// Name of this host.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub host: Arc<str>,
    /// Kernel hook that reported it.
    // A text in the schema: another hook does not raise its version.
    #[cfg_attr(feature = "schema", schemars(with = "String", length(min = 1)))]
    pub hook: Hook,
    /// IP version of the packet.
    pub family: Family,
    /// This host's end of the connection.
    pub local: Endpoint,
    /// The peer's end.
    pub peer: Peer,
    /// Network namespace; `None` where the kernel did not show it.
    pub netns: Option<Netns>,
    /// Owner of the socket for which the reset was.
    pub process: Option<Process>,
    /// Socket for which the reset was; `None` where the kernel does not show it (before Linux 6.11).
    pub socket: Option<Socket>,
    /// Header of the reset.
    pub packet: Option<Packet>,
    /// The kernel's reason (`enum skb_drop_reason`), by name.
    pub reason: Option<Arc<str>>,
    /// Why the reset was ignored.
    pub ignored_because: IgnoreReason,
}

/// Why a reset was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IgnoreReason {
    /// Stable code.
    #[cfg_attr(feature = "schema", schemars(schema_with = "ignore_codes"))]
    pub code: &'static str,
    /// Description in one sentence.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub summary: &'static str,
}

/// Every reason, for the documentation.
pub const IGNORE_REASONS: &[IgnoreReason] =
    &[OUT_OF_WINDOW, CHALLENGED, BAD_ACKNOWLEDGEMENT, TIME_WAIT, HALF_OPEN, NO_CONNECTION, DROPPED];

/// JSON Schema of [`IgnoreReason::code`].
#[cfg(feature = "schema")]
fn ignore_codes(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let codes: Vec<&str> = IGNORE_REASONS.iter().map(|reason| reason.code).collect();
    schemars::json_schema!({"enum": codes})
}

impl<'de> Deserialize<'de> for IgnoreReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(deserialize_with = "code::deserialize")]
            code: Code,
        }
        let Named { code } = Named::deserialize(deserializer)?;
        let known = IGNORE_REASONS.iter().find(|reason| reason.code == code);
        known.copied().ok_or_else(|| de::Error::custom(format_args!("unknown reason '{code}'")))
    }
}

const OUT_OF_WINDOW: IgnoreReason = IgnoreReason {
    code: "out-of-window",
    summary: "Its sequence number lay outside the receive window: too late, or guessed by a host that is not the peer.",
};
const CHALLENGED: IgnoreReason = IgnoreReason {
    code: "challenged",
    summary: "Its sequence number was in the window but not the next one: the peer is asked to confirm it (RFC 5961).",
};
const BAD_ACKNOWLEDGEMENT: IgnoreReason = IgnoreReason {
    code: "bad-acknowledgement",
    summary: "It answered a connection attempt with a wrong acknowledgement number, or with none.",
};
const TIME_WAIT: IgnoreReason = IgnoreReason {
    code: "time-wait",
    summary: "It came for a connection that had ended and was waiting out its time.",
};
const HALF_OPEN: IgnoreReason = IgnoreReason {
    code: "half-open",
    summary: "It came to a listener: a client gave up in the middle of the handshake.",
};
const NO_CONNECTION: IgnoreReason =
    IgnoreReason { code: "no-connection", summary: "It came for a connection that this host does not have." };
const DROPPED: IgnoreReason =
    IgnoreReason { code: "dropped", summary: "It was thrown away for the reason that the kernel gives." };

/// Classifies an ignored reset by the kernel's reason and the state of the socket, where there are any. The state has
/// priority.
fn classify(reason: Option<&str>, state: Option<u8>) -> IgnoreReason {
    match (reason, state) {
        (_, Some(tcp::TIME_WAIT)) => TIME_WAIT,
        (_, Some(tcp::LISTEN | tcp::NEW_SYN_RECV | tcp::SYN_RECV)) => HALF_OPEN,
        (Some("TCP_INVALID_SEQUENCE" | "TCP_INVALID_END_SEQUENCE" | "TCP_OLD_SEQUENCE"), _) => OUT_OF_WINDOW,
        (Some("TCP_INVALID_ACK_SEQUENCE"), _) | (Some("TCP_RESET"), Some(tcp::SYN_SENT)) => BAD_ACKNOWLEDGEMENT,
        (Some("TCP_RESET"), _) => CHALLENGED,
        (Some("NO_SOCKET"), _) => NO_CONNECTION,
        _ => DROPPED,
    }
}

impl From<Reset> for Ignored {
    fn from(reset: Reset) -> Self {
        let state = reset.socket.as_ref().map(|socket| socket.state.0);
        Self {
            time: reset.time,
            ktime_ns: reset.internals.ktime_ns,
            host: reset.host,
            hook: reset.hook,
            family: reset.family,
            local: reset.local,
            peer: reset.peer,
            netns: reset.netns,
            process: reset.process,
            ignored_because: classify(reset.reason.as_deref(), state),
            socket: reset.socket,
            packet: reset.packet,
            reason: reset.reason,
        }
    }
}

impl Ignored {
    /// The reset as the filters see it: what it has in common with one that was applied.
    pub fn as_reset(&self) -> Reset {
        Reset {
            time: self.time,
            host: Arc::clone(&self.host),
            seq: 0,
            count: 1,
            direction: Direction::Received,
            hook: self.hook,
            family: self.family,
            local: self.local,
            peer: self.peer.clone(),
            netns: self.netns,
            process: self.process.clone(),
            actor: None,
            cgroup: None,
            unit: None,
            container: None,
            pod: None,
            socket: self.socket.clone(),
            segment: Segment::default(),
            packet: self.packet.clone(),
            provoked_by: None,
            translated: None,
            reason: self.reason.clone(),
            cause: Cause::undiagnosed(),
            incident: 0,
            incident_role: IncidentRole::First,
            other_end: None,
            internals: Internals { ktime_ns: self.ktime_ns, ..Internals::default() },
        }
    }
}

/// A reset that this host forwarded.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Forwarded {
    /// Time when the packet came in, UTC.
    #[serde(with = "timestamp")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "timestamp::schema"))]
    pub time: Timestamp,
    /// Time on `CLOCK_MONOTONIC`, nanoseconds.
    #[serde(skip)]
    pub ktime_ns: u64,
    /// Name of this host.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub host: Arc<str>,
    /// IP version of the packet.
    pub family: Family,
    /// Interface by which the packet came in.
    pub interface: Interface,
    /// Network namespace of the interface; `None` where it is not known.
    pub netns: Option<Netns>,
    /// Source address and port of the packet.
    pub from: Endpoint,
    /// Destination address and port of the packet.
    pub to: Endpoint,
    /// Header of the reset.
    pub packet: Packet,
    /// Kind of sender that its header shows.
    pub origin: RstOrigin,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Interface {
    /// Index of the interface.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub index: u32,
    /// Name of the interface; `None` when it is gone.
    pub name: Option<Arc<str>>,
}

/// Kind of sender of a reset, by what Linux writes into the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RstOrigin {
    /// A sender with a socket: an application that aborted its connection.
    Socket,
    /// A sender without a socket: a kernel that did not know the connection, or a firewall.
    Stateless,
}

impl RstOrigin {
    /// Classifies a reset by its header. With a socket, Linux sends a window, timestamps or an IP identification;
    /// without one it sends the bare 40 (IPv6: 60) bytes with zeros in all of these.
    pub fn of(packet: &Packet, family: Family) -> Self {
        let bare = match family {
            Family::Ipv4 => 40,
            Family::Ipv6 => 60,
        };
        if packet.window == 0 && packet.id.unwrap_or(0) == 0 && packet.length == bare {
            Self::Stateless
        } else {
            Self::Socket
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TcpFlags;

    #[test]
    fn the_state_has_priority_over_the_reason() {
        assert_eq!(classify(Some("NOT_SPECIFIED"), Some(tcp::TIME_WAIT)), TIME_WAIT);
        assert_eq!(classify(Some("TCP_RESET"), Some(tcp::LISTEN)), HALF_OPEN);
        assert_eq!(classify(Some("TCP_RESET"), Some(tcp::ESTABLISHED)), CHALLENGED);
        assert_eq!(classify(Some("TCP_RESET"), Some(tcp::SYN_SENT)), BAD_ACKNOWLEDGEMENT);
        assert_eq!(classify(Some("TCP_INVALID_SEQUENCE"), Some(tcp::ESTABLISHED)), OUT_OF_WINDOW);
        assert_eq!(classify(Some("NO_SOCKET"), None), NO_CONNECTION);
        assert_eq!(classify(Some("NETFILTER_DROP"), None), DROPPED);
        assert_eq!(classify(None, None), DROPPED);
    }

    #[test]
    fn classifies_the_origin_by_the_header() {
        let made = |family, change: fn(&mut Packet)| {
            let mut packet = Packet {
                ttl: 64,
                handshake_ttl: None,
                flags: TcpFlags(4),
                seq: 1,
                ack: 0,
                window: 0,
                id: Some(0),
                length: 40,
            };
            change(&mut packet);
            RstOrigin::of(&packet, family)
        };
        assert_eq!(made(Family::Ipv4, |_| {}), RstOrigin::Stateless);
        assert_eq!(made(Family::Ipv6, |packet| (packet.length, packet.id) = (60, None)), RstOrigin::Stateless);
        assert_eq!(made(Family::Ipv4, |packet| packet.id = Some(7)), RstOrigin::Socket);
        assert_eq!(made(Family::Ipv4, |packet| packet.length = 52), RstOrigin::Socket);
        assert_eq!(made(Family::Ipv4, |packet| packet.window = 64), RstOrigin::Socket);
    }
}
