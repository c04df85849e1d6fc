//! Resets that this host forwards: a classifier at the ingress of the interfaces that the user names. Attached only on
//! demand, because it runs for every packet that arrives there; of all but resets it reads a few bytes.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_UNSPEC, bpf_hdr_start_off::BPF_HDR_START_NET},
    helpers::generated::{bpf_fib_lookup, bpf_skb_load_bytes_relative},
    macros::classifier,
    programs::TcContext,
};
use rsttrace_common::{
    abi::{AF_INET, AF_INET6, IPPROTO_TCP, tcp_flag},
    event::{Address, PacketHeader},
};

use crate::{
    emit::{EventBuilder, EventSource},
    headers::{self, IPV6_HEADER_BYTES},
    helpers::ktime_ns,
    sock::{self, Tuple, v4_mapped},
};

/// [`headers::ETH_P_IP`] in the type of `__sk_buff::protocol`.
const ETH_P_IP: u32 = headers::ETH_P_IP as u32;
/// [`headers::ETH_P_IPV6`] in the type of `__sk_buff::protocol`.
const ETH_P_IPV6: u32 = headers::ETH_P_IPV6 as u32;
/// Mask of the offset in an IPv4 header's fragment field; only the first fragment, at offset 0, has a TCP header.
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// `PACKET_OTHERHOST`: the frame is addressed to another host, and only bridged here.
const PACKET_OTHERHOST: u32 = 3;

/// Runs for every packet that arrives on the interface.
#[classifier]
pub(crate) fn forwarded(ctx: TcContext) -> i32 {
    report(&ctx);
    // No verdict: the packet goes on to the next filter.
    TC_ACT_UNSPEC
}

/// Fields of a TCP header up to the window, in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct TcpHdr {
    source: u16,
    destination: u16,
    seq: u32,
    ack: u32,
    offset: u8,
    flags: u8,
    window: u16,
}

/// An IPv4 header without options, in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Ipv4Hdr {
    version_length: u8,
    tos: u8,
    length: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

/// An IPv6 header, in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Ipv6Hdr {
    version_flow: u32,
    length: u16,
    next: u8,
    ttl: u8,
    source: Address,
    destination: Address,
}

/// `struct bpf_fib_lookup` of `include/uapi/linux/bpf.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FibLookup {
    family: u8,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    length: u16,
    interface: u32,
    tos: u32,
    source: Address,
    destination: Address,
    rest: [u32; 4],
}

/// Size of [`FibLookup`] in the type of the helper's argument.
const FIB_LOOKUP_BYTES: i32 = 64;
const _: () = assert!(size_of::<FibLookup>() == 64);

/// Loads bytes at an offset from the network header; `None` past the packet's end.
#[inline(always)]
fn load<T: Default>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = T::default();
    // SAFETY: the helper checks the offset itself and writes exactly the value.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            skb.cast(),
            offset,
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            BPF_HDR_START_NET,
        )
    };
    (result == 0).then_some(value)
}

#[inline(always)]
fn report(ctx: &TcContext) {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel's context is valid as long as the classifier runs.
    let protocol = unsafe { (*skb).protocol };
    match protocol {
        ETH_P_IP => report_v4(ctx, skb),
        ETH_P_IPV6 => report_v6(ctx, skb),
        _ => {}
    }
}

#[inline(always)]
fn report_v4(ctx: &TcContext, skb: *mut __sk_buff) {
    let Some(ip) = load::<Ipv4Hdr>(skb, 0) else { return };
    if u16::from(ip.protocol) != IPPROTO_TCP || u16::from_be(ip.fragment) & FRAGMENT_OFFSET != 0 {
        return;
    }
    let Some(tcp) = load::<TcpHdr>(skb, u32::from(ip.version_length & 0xf) * 4) else { return };
    if tcp.flags & tcp_flag::RST == 0 {
        return;
    }
    let mut fib = FibLookup { family: AF_INET, length: u16::from_be(ip.length), ..FibLookup::default() };
    (fib.source[0], fib.destination[0]) = (ip.source, ip.destination);
    let header =
        PacketHeader { id: u16::from_be(ip.id), length: u16::from_be(ip.length), ttl: ip.ttl, ..tcp_fields(&tcp) };
    let tuple = Tuple { local: v4_mapped(ip.destination), peer: v4_mapped(ip.source), ..ports(&tcp) };
    report_if_forwarded(ctx, skb, fib, &tuple, header);
}

#[inline(always)]
fn report_v6(ctx: &TcContext, skb: *mut __sk_buff) {
    let Some(ip) = load::<Ipv6Hdr>(skb, 0) else { return };
    if u16::from(ip.next) != IPPROTO_TCP {
        return;
    }
    let Some(tcp) = load::<TcpHdr>(skb, IPV6_HEADER_BYTES.into()) else { return };
    if tcp.flags & tcp_flag::RST == 0 {
        return;
    }
    let length = u16::from_be(ip.length).wrapping_add(IPV6_HEADER_BYTES);
    let fib =
        FibLookup { family: AF_INET6, length, source: ip.source, destination: ip.destination, ..FibLookup::default() };
    let header = PacketHeader { length, ttl: ip.ttl, ..tcp_fields(&tcp) };
    let tuple = Tuple { local: ip.destination, peer: ip.source, ..ports(&tcp) };
    report_if_forwarded(ctx, skb, fib, &tuple, header);
}

/// The TCP fields of the event's header; the IP fields are zeros.
#[inline(always)]
fn tcp_fields(tcp: &TcpHdr) -> PacketHeader {
    PacketHeader {
        seq: u32::from_be(tcp.seq),
        ack: u32::from_be(tcp.ack),
        window: u16::from_be(tcp.window),
        flags: tcp.flags,
        ..PacketHeader::default()
    }
}

/// The ports of the tuple; the other fields are zeros.
#[inline(always)]
fn ports(tcp: &TcpHdr) -> Tuple {
    Tuple { local_port: u16::from_be(tcp.destination), peer_port: u16::from_be(tcp.source), ..Tuple::EMPTY }
}

/// Reports a reset if this host is going to forward or bridge it.
#[inline(always)]
fn report_if_forwarded(ctx: &TcContext, skb: *mut __sk_buff, mut fib: FibLookup, tuple: &Tuple, header: PacketHeader) {
    // SAFETY: the kernel's context is valid as long as the classifier runs.
    let (interface, packet_type) = unsafe { ((*skb).ingress_ifindex, (*skb).pkt_type) };
    if packet_type != PACKET_OTHERHOST {
        fib.protocol = IPPROTO_TCP as u8;
        fib.interface = interface;
        // SAFETY: the struct is the kernel's, and its size is given.
        let result = unsafe { bpf_fib_lookup(skb.cast(), (&raw mut fib).cast(), FIB_LOOKUP_BYTES, 0) };
        // `BPF_FIB_LKUP_RET_*`: 0 is a route to another host whose neighbour entry is known; 6 and above one that lacks
        // something which the helper needs and the stack does not. From 1 to 5 the packet is not forwarded: it is for this
        // host, the route forbids it, or forwarding is off.
        if result != 0 && result < 6 {
            return;
        }
    }
    let Some(mut builder) = EventBuilder::reserve(EventSource::Forwarded) else { return };
    let event = builder.event();
    event.ktime_ns = ktime_ns();
    event.interface = interface;
    headers::write_packet(&header, event);
    sock::write_tuple(event, tuple);
    builder.submit(ctx);
}
