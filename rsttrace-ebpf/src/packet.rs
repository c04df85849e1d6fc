//! The packet that provoked a reset: the addresses where no socket has them, and its header as evidence.

use rsttrace_common::{
    event::{EVENT_BAD_PACKET, EVENT_HAS_PACKET, Header, ResetEvent},
    names::IPPROTO_TCP,
};

use crate::{
    fields::{
        DEV_NET, SKB_DEV, SKB_HEAD, SKB_NETWORK_HEADER, SKB_PROTOCOL, SKB_TRANSPORT_HEADER, copy_from, field, read,
    },
    sock::{Tuple, mapped, netns},
};

/// Length of an IPv6 header, which the length in it does not count.
const IPV6_HEADER_BYTES: u16 = 40;

/// `ETH_P_IP` and `ETH_P_IPV6` of `include/uapi/linux/if_ether.h`, as packets carry them.
pub(crate) const ETH_P_IP: u16 = 0x0800_u16.to_be();
pub(crate) const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();

/// Where the headers of a packet are, if they are known.
#[derive(Clone, Copy)]
pub(crate) struct Headers {
    network: u64,
    transport: u64,
    /// 4 or 6, of a packet that can be read.
    version: u64,
}

impl Headers {
    /// There are none. An `Option` leaves the rest undefined then, and the compiler may well carry that in a register to
    /// where nobody looks at it, which the verifier does not allow.
    pub(crate) const NONE: Self = Self { network: 0, transport: 0, version: 0 };

    /// Whether they are headers of IPv4 or IPv6.
    #[inline(always)]
    pub(crate) fn are_known(self) -> bool {
        self.version == 4 || self.version == 6
    }
}

/// Finds the headers of an incoming packet. The transport header's place comes from the `sk_buff`, so IP options and
/// extension headers do not matter.
///
/// They are not known when the packet is neither IPv4 nor IPv6, or cannot be read.
#[inline(always)]
pub(crate) fn headers(skb: u64) -> Headers {
    let head: u64 = field(skb, &SKB_HEAD);
    let network = head + u64::from(field::<u16>(skb, &SKB_NETWORK_HEADER));
    let transport = head + u64::from(field::<u16>(skb, &SKB_TRANSPORT_HEADER));
    let version = u64::from(read::<u8>(network) >> 4);
    Headers { network, transport, version }
}

/// The headers of a packet that may be anything, at any place: TCP, or `None`.
#[inline(always)]
pub(crate) fn tcp(skb: u64) -> Option<Headers> {
    let network = field::<u64>(skb, &SKB_HEAD) + u64::from(field::<u16>(skb, &SKB_NETWORK_HEADER));
    // The place of the transport header may not have been found yet, and an unset one points to garbage.
    let (version, length, protocol) = match field::<u16>(skb, &SKB_PROTOCOL) {
        ETH_P_IP => (4, u64::from(read::<u8>(network) & 0xf) * 4, read::<u8>(network + 9)),
        ETH_P_IPV6 => (6, u64::from(IPV6_HEADER_BYTES), read::<u8>(network + 6)),
        _ => return None,
    };
    (u16::from(protocol) == IPPROTO_TCP).then_some(Headers { network, transport: network + length, version })
}

/// Copies the ends, as seen from this host, to where they belong: the packet came in, so its source is the peer.
#[inline(always)]
pub(crate) fn ends(skb: u64, headers: Headers, tuple: &mut Tuple) {
    let Headers { network, transport, version } = headers;
    if version == 4 {
        tuple.peer = mapped(read(network + 12));
        tuple.local = mapped(read(network + 16));
    } else {
        copy_from(network + 8, &mut tuple.peer);
        copy_from(network + 24, &mut tuple.local);
    }
    tuple.peer_port = u16::from_be(read(transport));
    tuple.local_port = u16::from_be(read(transport + 2));
    // Cleared by the kernel when the packet has found a full socket; the caller then asks the socket.
    let device: u64 = field(skb, &SKB_DEV);
    tuple.netns = if device == 0 { 0 } else { netns(field(device, &DEV_NET)) };
}

/// Copies the packet's header into the event.
#[inline(always)]
pub(crate) fn snapshot(headers: Headers, event: &mut ResetEvent) {
    if headers.are_known() {
        event.flags |= EVENT_HAS_PACKET;
        event.packet = of(headers);
    } else {
        event.flags |= EVENT_BAD_PACKET;
    }
}

/// What is kept of a packet's headers.
#[inline(always)]
pub(crate) fn of(headers: Headers) -> Header {
    let Headers { network, transport, version } = headers;
    let mut header = Header {
        seq: u32::from_be(read(transport + 4)),
        ack: u32::from_be(read(transport + 8)),
        window: u16::from_be(read(transport + 14)),
        flags: flags(headers),
        ttl: ttl(headers),
        ..Header::default()
    };
    if version == 4 {
        header.length = u16::from_be(read(network + 2));
        header.id = u16::from_be(read(network + 4));
    } else {
        header.length = u16::from_be(read::<u16>(network + 4)).wrapping_add(IPV6_HEADER_BYTES);
    }
    header
}

/// The TCP flags of a packet.
#[inline(always)]
pub(crate) fn flags(headers: Headers) -> u8 {
    read(headers.transport + 13)
}

/// TTL or hop limit of a packet.
#[inline(always)]
pub(crate) fn ttl(headers: Headers) -> u8 {
    read(headers.network + if headers.version == 4 { 8 } else { 7 })
}
