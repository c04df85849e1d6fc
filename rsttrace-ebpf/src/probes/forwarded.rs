//! Resets that are only on their way through this host: a classifier on the interfaces that the user names, for what
//! comes in. Attached only on demand, because it runs for every packet there; for all but resets it reads a few bytes.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_UNSPEC, bpf_hdr_start_off::BPF_HDR_START_NET},
    helpers::generated::{bpf_fib_lookup, bpf_ktime_get_ns, bpf_skb_load_bytes_relative},
    macros::classifier,
    programs::TcContext,
};
use rsttrace_common::{
    event::{Address, EVENT_HAS_PACKET, Header, KIND_FORWARDED},
    names::{AF_INET, AF_INET6, IPPROTO_TCP, tcp_flag},
};

use crate::{
    emit::{Draft, Origin},
    packet,
    sock::{self, Tuple, mapped},
};

/// `ETH_P_IP` and `ETH_P_IPV6` as the packet carries them.
const IPV4: u32 = packet::ETH_P_IP as u32;
const IPV6: u32 = packet::ETH_P_IPV6 as u32;
/// Bytes of an IPv6 header.
const IPV6_HEADER: u32 = 40;
/// The offset in an IPv4 packet's fragment field; what is not the first fragment has no TCP header.
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// `PACKET_OTHERHOST`: the frame is addressed to somebody else, and only bridged here.
const OTHER_HOST: u32 = 3;

/// Runs for every packet that comes in by the interface.
#[classifier]
pub(crate) fn forwarded(ctx: TcContext) -> i32 {
    report(&ctx);
    // No opinion: whatever else looks at the packet goes on.
    TC_ACT_UNSPEC
}

/// The fields of a TCP header up to the window.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Tcp {
    source: u16,
    destination: u16,
    seq: u32,
    ack: u32,
    offset: u8,
    flags: u8,
    window: u16,
}

/// An IPv4 header without options.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Ipv4 {
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

/// An IPv6 header.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Ipv6 {
    version_flow: u32,
    length: u16,
    next: u8,
    ttl: u8,
    source: Address,
    destination: Address,
}

/// `struct bpf_fib_lookup` of `include/uapi/linux/bpf.h`, as far as it is set here.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Route {
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

/// Size of [`Route`], 64, as the helper wants it.
const ROUTE_BYTES: i32 = 64;
const _: () = assert!(size_of::<Route>() == 64);

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
    // SAFETY: the context of a classifier is valid as long as it runs.
    let protocol = unsafe { (*skb).protocol };
    match protocol {
        IPV4 => v4(ctx, skb),
        IPV6 => v6(ctx, skb),
        _ => {}
    }
}

#[inline(always)]
fn v4(ctx: &TcContext, skb: *mut __sk_buff) {
    let Some(ip) = load::<Ipv4>(skb, 0) else { return };
    if u16::from(ip.protocol) != IPPROTO_TCP || u16::from_be(ip.fragment) & FRAGMENT_OFFSET != 0 {
        return;
    }
    let Some(tcp) = load::<Tcp>(skb, u32::from(ip.version_length & 0xf) * 4) else { return };
    if tcp.flags & tcp_flag::RST == 0 {
        return;
    }
    let mut route = Route { family: AF_INET, length: u16::from_be(ip.length), ..Route::default() };
    (route.source[0], route.destination[0]) = (ip.source, ip.destination);
    let header = Header { id: u16::from_be(ip.id), length: u16::from_be(ip.length), ttl: ip.ttl, ..of(&tcp) };
    let tuple = Tuple { local: mapped(ip.destination), peer: mapped(ip.source), ..ports(&tcp) };
    pass_on(ctx, skb, route, &tuple, header);
}

#[inline(always)]
fn v6(ctx: &TcContext, skb: *mut __sk_buff) {
    let Some(ip) = load::<Ipv6>(skb, 0) else { return };
    if u16::from(ip.next) != IPPROTO_TCP {
        return;
    }
    let Some(tcp) = load::<Tcp>(skb, IPV6_HEADER) else { return };
    if tcp.flags & tcp_flag::RST == 0 {
        return;
    }
    let length = u16::from_be(ip.length).wrapping_add(IPV6_HEADER as u16);
    let route = Route { family: AF_INET6, length, source: ip.source, destination: ip.destination, ..Route::default() };
    let header = Header { length, ttl: ip.ttl, ..of(&tcp) };
    let tuple = Tuple { local: ip.destination, peer: ip.source, ..ports(&tcp) };
    pass_on(ctx, skb, route, &tuple, header);
}

#[inline(always)]
fn of(tcp: &Tcp) -> Header {
    Header {
        seq: u32::from_be(tcp.seq),
        ack: u32::from_be(tcp.ack),
        window: u16::from_be(tcp.window),
        flags: tcp.flags,
        ..Header::default()
    }
}

#[inline(always)]
fn ports(tcp: &Tcp) -> Tuple {
    Tuple { local_port: u16::from_be(tcp.destination), peer_port: u16::from_be(tcp.source), ..Tuple::EMPTY }
}

/// Reports a reset if this host is going to forward it.
#[inline(always)]
fn pass_on(ctx: &TcContext, skb: *mut __sk_buff, mut route: Route, tuple: &Tuple, header: Header) {
    // SAFETY: as above.
    let (interface, addressee) = unsafe { ((*skb).ingress_ifindex, (*skb).pkt_type) };
    if addressee != OTHER_HOST {
        route.protocol = IPPROTO_TCP as u8;
        route.interface = interface;
        // SAFETY: the struct is the kernel's, and its size is given.
        let result = unsafe { bpf_fib_lookup(skb.cast(), (&raw mut route).cast(), ROUTE_BYTES, 0) };
        // 0 is a route to elsewhere with its neighbour; 6 and above one without something that the lookup wants but
        // the stack does not. The rest: for this host, forbidden, or forwarding is off.
        if result != 0 && result < 6 {
            return;
        }
    }
    let Some(mut draft) = Draft::begin(Origin::new(KIND_FORWARDED, false)) else { return };
    let event = draft.event();
    // SAFETY: takes no arguments and cannot fail.
    event.ktime_ns = unsafe { bpf_ktime_get_ns() };
    event.flags |= EVENT_HAS_PACKET;
    event.packet = header;
    event.interface = interface;
    sock::name_ends(event, tuple);
    draft.hand_over(ctx);
}
