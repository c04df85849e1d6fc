//! `skb:kfree_skb`: the kernel discards a packet. Attached only on demand, because it runs for every packet that is
//! discarded; it is the only hook that shows a reset that arrived and was ignored: out of window, answered with a challenge
//! ACK, for a half-open connection, for TIME_WAIT or no connection at all.
//!
//! It does not fire for a reset that a socket accepts, which the kernel frees in another way.

use aya_ebpf::{EbpfContext, macros::raw_tracepoint, programs::RawTracePointContext};
use rsttrace_common::{
    abi::{tcp, tcp_flag},
    event::{EVENT_HAS_REASON, EVENT_TIME_WAIT},
};

use crate::{
    closed,
    emit::{EventBuilder, EventSource},
    filter,
    headers::{self, Headers},
    helpers::ktime_ns,
    history,
    kernel_struct::{DEV_NET, DST_DEV, ReadField as _, SKB_DEV, SKB_DST, SKB_IIF, SKC_NET, field},
    sock::{self, Tuple},
    table,
};

/// From 6.11 on: `(struct sk_buff *skb, void *location, enum skb_drop_reason reason, struct sock *rx_sk)`.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub(crate) fn kfree_skb(ctx: RawTracePointContext) -> i32 {
    report(&ctx, ctx.arg(0), Some(ctx.arg::<u64>(2) as u32), ctx.arg(3));
    0
}

/// From 5.17 on: without the socket.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub(crate) fn kfree_skb_3arg(ctx: RawTracePointContext) -> i32 {
    report(&ctx, ctx.arg(0), Some(ctx.arg::<u64>(2) as u32), 0);
    0
}

/// Up to 5.16: without the reason, and it does not fire for most of the packets that TCP itself discards.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub(crate) fn kfree_skb_2arg(ctx: RawTracePointContext) -> i32 {
    report(&ctx, ctx.arg(0), None, 0);
    0
}

/// Reports an ignored reset. `reason` is `None`, and `sk` 0, where the kernel does not say.
#[inline(always)]
fn report(ctx: &impl EbpfContext, skb: u64, reason: Option<u32>, sk: u64) {
    // This host's own packets did not arrive on an interface.
    if field::<u32>(skb, &SKB_IIF) == 0 {
        return;
    }
    let Some(headers) = Headers::of_any(skb).filter(|headers| headers.flags() & tcp_flag::RST != 0) else { return };
    let mut tuple = Tuple::EMPTY;
    headers.read_tuple(&mut tuple);
    let net = if sk == 0 { headers::net(skb).or_else(|| routed_net(skb)) } else { sk.deref(&SKC_NET) };
    tuple.netns = sock::netns(net);
    let filter = filter::load();
    if !filter::wants_received(&filter) || !filter::wants_tuple(&filter, &tuple) {
        return;
    }
    let state = if sk == 0 { 0 } else { sock::state(sk) };
    let is_full = sk != 0 && sock::is_full(state);
    let Some(unknown) = table::unknown() else { return };
    let history = if is_full { history::get(sk, state) } else { closed::get(&tuple) }.unwrap_or(unknown);
    let Some(mut builder) = EventBuilder::reserve(EventSource::Ignored) else { return };
    let event = builder.event();
    event.ktime_ns = ktime_ns();
    event.state = state;
    event.netns_cookie = sock::netns_cookie(net);
    event.interface = field(skb, &SKB_IIF);
    sock::write_tuple(event, &tuple);
    headers::write_packet(&headers.summary(), event);
    if let Some(reason) = reason {
        event.flags |= EVENT_HAS_REASON;
        event.reason = reason;
    }
    if is_full {
        sock::snapshot(sk, event);
    } else if state == tcp::TIME_WAIT {
        event.flags |= EVENT_TIME_WAIT;
    }
    history::write_to_event(history, event);
    builder.submit(ctx);
}

/// Network namespace of the device that the packet's route leads to: `skb->dev` is NULL once the kernel has found the
/// packet's socket.
#[inline(always)]
fn routed_net(skb: u64) -> Option<u64> {
    // `SKB_DST_NOREF`: the lowest bit tells whether the packet holds a reference.
    let route = field::<u64>(skb, &SKB_DST) & !1;
    let device: u64 = if route == 0 { field(skb, &SKB_DEV) } else { field(route, &DST_DEV) };
    if device == 0 { None } else { device.deref(&DEV_NET) }
}
