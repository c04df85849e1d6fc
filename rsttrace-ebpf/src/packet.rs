//! The packet that provoked a reset: the addresses where no socket has them, and its header as evidence.

use rsttrace_common::event::{EVENT_BAD_PACKET, EVENT_HAS_PACKET, ResetEvent};

use crate::{
    fields::{DEV_NET, SKB_DEV, SKB_HEAD, SKB_NETWORK_HEADER, SKB_TRANSPORT_HEADER, copy_from, field, read},
    sock::{Tuple, mapped, netns},
};

/// Where the headers of a packet are, and how far the network header goes.
#[derive(Clone, Copy)]
pub(crate) struct Headers {
    network: u64,
    transport: u64,
    version: u8,
}

/// Finds the headers of an incoming packet. The transport header's place comes from the `sk_buff`, so IP options and
/// extension headers do not matter.
///
/// `None` when the packet is neither IPv4 nor IPv6, or cannot be read.
#[inline(always)]
pub(crate) fn headers(skb: u64) -> Option<Headers> {
    let head: u64 = field(skb, &SKB_HEAD);
    let network = head + u64::from(field::<u16>(skb, &SKB_NETWORK_HEADER));
    let transport = head + u64::from(field::<u16>(skb, &SKB_TRANSPORT_HEADER));
    let version = read::<u8>(network) >> 4;
    (version == 4 || version == 6).then_some(Headers { network, transport, version })
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
pub(crate) fn snapshot(headers: Option<Headers>, event: &mut ResetEvent) {
    let Some(Headers { network, transport, version }) = headers else {
        event.flags |= EVENT_BAD_PACKET;
        return;
    };
    event.flags |= EVENT_HAS_PACKET;
    copy_from(network + if version == 4 { 8 } else { 7 }, &mut event.packet_ttl);
    event.packet_seq = u32::from_be(read(transport + 4));
    event.packet_ack = u32::from_be(read(transport + 8));
    copy_from(transport + 13, &mut event.packet_flags);
    event.packet_window = u16::from_be(read(transport + 14));
}
