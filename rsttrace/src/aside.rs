//! Resets that are none of this host's own: those that it ignored, and those that it only forwarded. Their records are
//! of types of their own, so that nobody counts them among the real ones.

use std::sync::Arc;

use jiff::Timestamp;
use rsttrace_common::abi::tcp;
use serde::Serialize;

use crate::{
    moment::timestamp,
    reset::{Endpoint, Family, Hook, Netns, Packet, Process, Reset, Socket},
};

/// A reset that arrived and that this host ignored.
#[derive(Clone, Debug, Serialize)]
pub struct Ignored {
    /// When it was thrown away, UTC.
    #[serde(serialize_with = "timestamp")]
    pub time: Timestamp,
    /// The same on `CLOCK_MONOTONIC`, nanoseconds.
    #[serde(skip)]
    pub ktime_ns: u64,
    /// This host's name.
    pub host: Arc<str>,
    /// The kernel hook that saw it.
    pub hook: Hook,
    /// IP version of the packet.
    pub family: Family,
    /// This host's end.
    pub local: Endpoint,
    /// The other end.
    pub peer: Endpoint,
    /// Network namespace, where the kernel still knew it.
    pub netns: Option<Netns>,
    /// The owner of the socket that it was for.
    pub process: Option<Process>,
    /// The socket that it was for, where the kernel says so.
    pub socket: Option<Socket>,
    /// The reset's own header.
    pub packet: Option<Packet>,
    /// The kernel's word (`enum skb_drop_reason`).
    pub reason: Option<Arc<str>>,
    /// What we make of it.
    pub why: Why,
}

/// Why a reset was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// Stable name.
    pub code: &'static str,
    /// One sentence.
    pub summary: &'static str,
}

/// Every code, for the documentation.
pub const WHYS: &[Why] =
    &[OUT_OF_WINDOW, CHALLENGED, BAD_ACKNOWLEDGEMENT, TIME_WAIT, HALF_OPEN, NO_CONNECTION, DROPPED];

const OUT_OF_WINDOW: Why = Why {
    code: "out-of-window",
    summary: "Its sequence number lay outside the receive window: too late, or a guess of somebody who is not the peer.",
};
const CHALLENGED: Why = Why {
    code: "challenged",
    summary: "Its sequence number was in the window but not the next one: the peer is asked to confirm it (RFC 5961).",
};
const BAD_ACKNOWLEDGEMENT: Why = Why {
    code: "bad-acknowledgement",
    summary: "It answered a connection attempt with a wrong acknowledgement number, or with none.",
};
const TIME_WAIT: Why =
    Why { code: "time-wait", summary: "It came for a connection that had ended and was waiting out its time." };
const HALF_OPEN: Why =
    Why { code: "half-open", summary: "It came to a listener: a client gave up in the middle of the handshake." };
const NO_CONNECTION: Why =
    Why { code: "no-connection", summary: "It came for a connection that this host does not have." };
const DROPPED: Why = Why { code: "dropped", summary: "It was thrown away for the reason that the kernel gives." };

/// Tells why, by the kernel's reason and the state of the socket where there is one.
fn why(reason: Option<&str>, state: Option<u8>) -> Why {
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
            ktime_ns: reset.facts.ktime_ns,
            host: reset.host,
            hook: reset.hook,
            family: reset.family,
            local: reset.local,
            peer: reset.peer,
            netns: reset.netns,
            process: reset.process,
            why: why(reset.reason.as_deref(), state),
            socket: reset.socket,
            packet: reset.packet,
            reason: reset.reason,
        }
    }
}

/// A reset that was on its way through this host.
#[derive(Clone, Debug, Serialize)]
pub struct Forwarded {
    /// When it came in, UTC.
    #[serde(serialize_with = "timestamp")]
    pub time: Timestamp,
    /// The same on `CLOCK_MONOTONIC`, nanoseconds.
    #[serde(skip)]
    pub ktime_ns: u64,
    /// This host's name.
    pub host: Arc<str>,
    /// IP version of the packet.
    pub family: Family,
    /// The interface that it came in by.
    pub interface: Interface,
    /// Where it came from, as it says.
    pub from: Endpoint,
    /// Where it went.
    pub to: Endpoint,
    /// Its header.
    pub packet: Packet,
    /// What made it, by its looks.
    pub maker: Maker,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name; none when it has gone.
    pub name: Option<Arc<str>>,
}

/// What made a reset, by what Linux puts into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Maker {
    /// Something that had a socket: an application that aborted its connection.
    Socket,
    /// Something that had none: a kernel that did not know the connection, or a firewall.
    Stateless,
}

impl Maker {
    /// A Linux socket sends a window, or timestamps, or an IP identification; what resets without one sends the bare
    /// 40 (60) bytes with zeros in all of these.
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
    use crate::reset::TcpFlags;

    #[test]
    fn the_state_goes_before_the_reason() {
        assert_eq!(why(Some("NOT_SPECIFIED"), Some(tcp::TIME_WAIT)), TIME_WAIT);
        assert_eq!(why(Some("TCP_RESET"), Some(tcp::LISTEN)), HALF_OPEN);
        assert_eq!(why(Some("TCP_RESET"), Some(tcp::ESTABLISHED)), CHALLENGED);
        assert_eq!(why(Some("TCP_RESET"), Some(tcp::SYN_SENT)), BAD_ACKNOWLEDGEMENT);
        assert_eq!(why(Some("TCP_INVALID_SEQUENCE"), Some(tcp::ESTABLISHED)), OUT_OF_WINDOW);
        assert_eq!(why(Some("NO_SOCKET"), None), NO_CONNECTION);
        assert_eq!(why(Some("NETFILTER_DROP"), None), DROPPED);
        assert_eq!(why(None, None), DROPPED);
    }

    #[test]
    fn a_socket_leaves_traces_in_a_reset() {
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
            Maker::of(&packet, family)
        };
        assert_eq!(made(Family::Ipv4, |_| {}), Maker::Stateless);
        assert_eq!(made(Family::Ipv6, |packet| (packet.length, packet.id) = (60, None)), Maker::Stateless);
        assert_eq!(made(Family::Ipv4, |packet| packet.id = Some(7)), Maker::Socket);
        assert_eq!(made(Family::Ipv4, |packet| packet.length = 52), Maker::Socket);
        assert_eq!(made(Family::Ipv4, |packet| packet.window = 64), Maker::Socket);
    }
}
