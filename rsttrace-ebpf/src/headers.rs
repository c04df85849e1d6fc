//! IP and TCP headers of a packet: its tuple, where no socket has one, and the header as evidence.

use rsttrace_common::{
    abi::{IPPROTO_TCP, tcp_flag},
    event::{EVENT_HAS_PACKET, PacketHeader, ResetEvent},
};

use crate::{
    kernel_struct::{
        DEV_NET, KernelStruct, ReadField, SKB_DEV, SKB_HEAD, SKB_NETWORK_HEADER, SKB_PROTOCOL, SKB_TRANSPORT_HEADER,
        copy_from,
    },
    sock::{Tuple, v4_mapped},
};

/// Length of an IPv6 header, which its length field does not include.
pub(crate) const IPV6_HEADER_BYTES: u16 = 40;

/// `ETH_P_IP` of `include/uapi/linux/if_ether.h`, in network byte order.
pub(crate) const ETH_P_IP: u16 = 0x0800_u16.to_be();
/// `ETH_P_IPV6` of `include/uapi/linux/if_ether.h`, in network byte order.
pub(crate) const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();

/// An IPv4 or IPv6 header, as long as the latter. After the shorter IPv4 header come bytes of the TCP header, and the
/// kernel's own `skb_shared_info` lies after a packet's data, so that reading 40 bytes is always possible.
#[derive(Clone, Copy)]
pub(crate) struct Ip([u32; 10]);

impl Ip {
    #[inline(always)]
    fn read(address: u64) -> Self {
        let mut words = [0; 10];
        copy_from(address, &mut words);
        Self(words)
    }

    /// Reads the header of a received packet.
    #[inline(always)]
    pub(crate) fn of(skb: impl KernelStruct) -> Self {
        Self::read(network_header(skb))
    }

    /// The word at this index, in host byte order.
    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        u32::from_be(self.0[index])
    }

    /// 4 or 6; any other value means that it is no IP header, or that it could not be read.
    #[inline(always)]
    fn version(&self) -> u32 {
        self.word(0) >> 28
    }

    /// Whether it is an IPv4 or IPv6 header.
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

/// A TCP header without options.
#[derive(Clone, Copy)]
struct Tcp([u32; 5]);

impl Tcp {
    #[inline(always)]
    fn read(address: u64) -> Self {
        let mut words = [0; 5];
        copy_from(address, &mut words);
        Self(words)
    }

    /// The word at this index, in host byte order.
    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        u32::from_be(self.0[index])
    }

    #[inline(always)]
    fn flags(&self) -> u8 {
        (self.word(3) >> 16) as u8
    }

    /// Length of the header with its options, bytes.
    #[inline(always)]
    fn header_bytes(&self) -> u32 {
        (self.word(3) >> 28) * 4
    }
}

/// Headers of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Headers {
    ip: Ip,
    tcp: Tcp,
    /// Length of the IP header with its options or extension headers, bytes.
    ip_bytes: u32,
}

/// Address of the network header.
#[inline(always)]
fn network_header(skb: impl KernelStruct) -> u64 {
    skb.field::<u64>(&SKB_HEAD) + u64::from(skb.field::<u16>(&SKB_NETWORK_HEADER))
}

impl Headers {
    /// Reads the headers of a packet that TCP received; `None` when it is neither IPv4 nor IPv6, or cannot be read. The
    /// offset of the transport header comes from the `sk_buff`, so IP options and extension headers do not matter.
    #[inline(always)]
    pub(crate) fn of(skb: impl KernelStruct) -> Option<Self> {
        let ip = Ip::of(skb);
        let offset = skb.field::<u16>(&SKB_TRANSPORT_HEADER);
        let ip_bytes = u32::from(offset.wrapping_sub(skb.field(&SKB_NETWORK_HEADER)));
        let tcp = skb.field::<u64>(&SKB_HEAD) + u64::from(offset);
        ip.is_known().then(|| Self { ip, tcp: Tcp::read(tcp), ip_bytes })
    }

    /// Reads the headers of any packet, at any point of its path; `None` when it is not TCP.
    #[inline(always)]
    pub(crate) fn of_any(skb: u64) -> Option<Self> {
        let version = match skb.field::<u16>(&SKB_PROTOCOL) {
            ETH_P_IP => 4,
            ETH_P_IPV6 => 6,
            _ => return None,
        };
        let network_header = network_header(skb);
        let ip = Ip::read(network_header);
        if ip.version() != version {
            return None;
        }
        // The offset of the transport header may not have been set yet, and would lead to garbage.
        let (length, protocol) = if version == 4 {
            ((ip.word(0) >> 24 & 0xf) * 4, ip.word(2) >> 16 & 0xff)
        } else {
            (IPV6_HEADER_BYTES.into(), ip.word(1) >> 8 & 0xff)
        };
        (protocol == IPPROTO_TCP.into()).then(|| Self {
            ip,
            tcp: Tcp::read(network_header + u64::from(length)),
            ip_bytes: length,
        })
    }

    /// The TCP flags.
    #[inline(always)]
    pub(crate) fn flags(&self) -> u8 {
        self.tcp.flags()
    }

    /// Writes addresses and ports into the tuple, as this host sees them: the packet was received, so its source is the
    /// peer. Leaves the namespace alone.
    #[inline(always)]
    pub(crate) fn read_tuple(&self, tuple: &mut Tuple) {
        let Self { ip: Ip(ip), tcp, .. } = self;
        if self.ip.version() == 4 {
            tuple.peer = v4_mapped(ip[3]);
            tuple.local = v4_mapped(ip[4]);
        } else {
            tuple.peer = [ip[2], ip[3], ip[4], ip[5]];
            tuple.local = [ip[6], ip[7], ip[8], ip[9]];
        }
        let ports = tcp.word(0);
        tuple.peer_port = (ports >> 16) as u16;
        tuple.local_port = ports as u16;
    }

    /// The fields that an event carries.
    #[inline(always)]
    pub(crate) fn summary(&self) -> PacketHeader {
        let Self { ip, tcp, ip_bytes } = self;
        let (length, id) = if ip.version() == 4 {
            (ip.word(0) as u16, (ip.word(1) >> 16) as u16)
        } else {
            (((ip.word(1) >> 16) as u16).wrapping_add(IPV6_HEADER_BYTES), 0)
        };
        PacketHeader {
            seq: tcp.word(1),
            ack: tcp.word(2),
            window: tcp.word(3) as u16,
            id,
            length,
            ttl: ip.ttl(),
            flags: tcp.flags(),
            payload: u32::from(length).saturating_sub(ip_bytes + tcp.header_bytes()) as u16,
            padding: 0,
        }
    }
}

/// Network namespace (`struct net`) of the interface that a packet arrived on. `None` once the kernel has found a full
/// socket for the packet, from when on `skb->dev` is NULL; the socket has the namespace then.
#[inline(always)]
pub(crate) fn net<S: KernelStruct>(skb: S) -> Option<<S::Target as ReadField>::Target> {
    skb.deref(&SKB_DEV).and_then(|device| device.deref(&DEV_NET))
}

/// Whether a packet opens a connection: SYN without ACK.
#[inline(always)]
pub(crate) fn is_initial_syn(header: &PacketHeader) -> bool {
    header.flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN
}

/// Writes the packet's header into the event.
#[inline(always)]
pub(crate) fn write_packet(header: &PacketHeader, event: &mut ResetEvent) {
    event.flags |= EVENT_HAS_PACKET;
    event.packet = *header;
}
