//! The packet that provoked a reset: the addresses where no socket has them, and its header as evidence.

use rsttrace_common::{
    event::{EVENT_HAS_PACKET, Header, ResetEvent},
    names::{IPPROTO_TCP, tcp_flag},
};

use crate::{
    fields::{
        DEV_NET, Fields, SKB_DEV, SKB_HEAD, SKB_NETWORK_HEADER, SKB_PROTOCOL, SKB_TRANSPORT_HEADER, Struct, copy_from,
    },
    sock::{Tuple, mapped},
};

/// Length of an IPv6 header, which the length in it does not count.
const IPV6_HEADER_BYTES: u16 = 40;

/// `ETH_P_IP` and `ETH_P_IPV6` of `include/uapi/linux/if_ether.h`, as packets carry them.
pub(crate) const ETH_P_IP: u16 = 0x0800_u16.to_be();
pub(crate) const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();

/// The header of IPv4 or IPv6, as long as the latter's: behind the shorter one comes that of TCP, and behind a packet's data
/// the kernel has more of its own in any case.
#[derive(Clone, Copy)]
pub(crate) struct Ip([u32; 10]);

impl Ip {
    #[inline(always)]
    fn at(address: u64) -> Self {
        let mut words = [0; 10];
        copy_from(address, &mut words);
        Self(words)
    }

    /// That of a packet that has come in.
    #[inline(always)]
    pub(crate) fn of(skb: impl Struct) -> Self {
        Self::at(network(skb))
    }

    /// A word, its first byte highest.
    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        u32::from_be(self.0[index])
    }

    /// 4 or 6; anything else is no such header, or could not be read.
    #[inline(always)]
    fn version(&self) -> u32 {
        self.word(0) >> 28
    }

    /// Whether it is a header of IPv4 or IPv6.
    #[inline(always)]
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.version(), 4 | 6)
    }

    /// TTL or hop limit.
    #[inline(always)]
    pub(crate) fn ttl(&self) -> u8 {
        if self.version() == 4 { (self.word(2) >> 24) as u8 } else { self.word(1) as u8 }
    }
}

/// The header of TCP, without options.
#[derive(Clone, Copy)]
pub(crate) struct Tcp([u32; 5]);

impl Tcp {
    #[inline(always)]
    fn at(address: u64) -> Self {
        let mut words = [0; 5];
        copy_from(address, &mut words);
        Self(words)
    }

    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        u32::from_be(self.0[index])
    }

    #[inline(always)]
    fn flags(&self) -> u8 {
        (self.word(3) >> 16) as u8
    }
}

/// The headers of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Headers {
    ip: Ip,
    tcp: Tcp,
}

#[inline(always)]
fn network(skb: impl Struct) -> u64 {
    skb.field::<u64>(&SKB_HEAD) + u64::from(skb.field::<u16>(&SKB_NETWORK_HEADER))
}

impl Headers {
    /// Those of a packet that has come in. The transport header's place comes from the `sk_buff`, so IP options and
    /// extension headers do not matter. `None` when the packet is neither IPv4 nor IPv6, or cannot be read.
    #[inline(always)]
    pub(crate) fn of(skb: impl Struct) -> Option<Self> {
        let ip = Ip::of(skb);
        let transport = skb.field::<u64>(&SKB_HEAD) + u64::from(skb.field::<u16>(&SKB_TRANSPORT_HEADER));
        ip.is_known().then(|| Self { ip, tcp: Tcp::at(transport) })
    }

    /// Those of a packet that may be anything, at any place: of TCP, or `None`.
    #[inline(always)]
    pub(crate) fn of_any(skb: u64) -> Option<Self> {
        let version = match skb.field::<u16>(&SKB_PROTOCOL) {
            ETH_P_IP => 4,
            ETH_P_IPV6 => 6,
            _ => return None,
        };
        let network = network(skb);
        let ip = Ip::at(network);
        if ip.version() != version {
            return None;
        }
        // The place of the transport header may not have been found yet, and an unset one points to garbage.
        let (length, protocol) = if version == 4 {
            ((ip.word(0) >> 24 & 0xf) * 4, ip.word(2) >> 16 & 0xff)
        } else {
            (IPV6_HEADER_BYTES.into(), ip.word(1) >> 8 & 0xff)
        };
        (protocol == IPPROTO_TCP.into()).then(|| Self { ip, tcp: Tcp::at(network + u64::from(length)) })
    }

    /// The TCP flags.
    #[inline(always)]
    pub(crate) fn flags(&self) -> u8 {
        self.tcp.flags()
    }

    /// Copies the ends, as seen from this host, to where they belong: the packet came in, so its source is the peer.
    #[inline(always)]
    pub(crate) fn ends(&self, tuple: &mut Tuple) {
        let Self { ip: Ip(ip), tcp } = self;
        if self.ip.version() == 4 {
            tuple.peer = mapped(ip[3]);
            tuple.local = mapped(ip[4]);
        } else {
            tuple.peer = [ip[2], ip[3], ip[4], ip[5]];
            tuple.local = [ip[6], ip[7], ip[8], ip[9]];
        }
        let ports = tcp.word(0);
        tuple.peer_port = (ports >> 16) as u16;
        tuple.local_port = ports as u16;
    }

    /// What is kept of them.
    #[inline(always)]
    pub(crate) fn kept(&self) -> Header {
        let Self { ip, tcp } = self;
        let (length, id) = if ip.version() == 4 {
            (ip.word(0) as u16, (ip.word(1) >> 16) as u16)
        } else {
            (((ip.word(1) >> 16) as u16).wrapping_add(IPV6_HEADER_BYTES), 0)
        };
        Header {
            seq: tcp.word(1),
            ack: tcp.word(2),
            window: tcp.word(3) as u16,
            id,
            length,
            ttl: ip.ttl(),
            flags: tcp.flags(),
        }
    }
}

/// The network namespace (`struct net`) that a packet came in to. The kernel forgets its interface once it has found a full
/// socket: `None` then, and the socket knows.
#[inline(always)]
pub(crate) fn net<S: Struct>(skb: S) -> Option<<S::Target as Fields>::Target> {
    skb.target(&SKB_DEV).and_then(|device| device.target(&DEV_NET))
}

/// Whether a packet opens a connection: SYN without ACK.
#[inline(always)]
pub(crate) fn opens(header: &Header) -> bool {
    header.flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN
}

/// Writes what is kept of the packet's headers into the event; `None` where there is no packet, or one that could not be
/// read.
#[inline(always)]
pub(crate) fn tell(header: Option<&Header>, event: &mut ResetEvent) {
    if let Some(header) = header {
        event.flags |= EVENT_HAS_PACKET;
        event.packet = *header;
    }
}
