//! `skb:kfree_skb`: the kernel throws a packet away. Attached only on demand, because it runs for every packet that is
//! thrown away; it is the only place where a reset shows that arrived and was ignored: out of window, answered with a
//! challenge, for a half-open connection, for TIME_WAIT or no connection at all.
//!
//! A reset that a socket obeys does not come here: the kernel frees it in another way.

use aya_ebpf::{
    EbpfContext, helpers::generated::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext,
};
use rsttrace_common::{
    event::{EVENT_HAS_REASON, EVENT_TIME_WAIT, KIND_IGNORED},
    names::{tcp, tcp_flag},
};

use crate::{
    departed,
    emit::{Draft, Origin},
    fields::{DEV_NET, DST_DEV, Fields as _, SKB_DEV, SKB_DST, SKB_IIF, SKC_NET, field},
    filter,
    packet::{self, Headers},
    sock::{self, Tuple},
    story, table,
};

/// From 6.11 on: `(struct sk_buff *skb, void *location, enum skb_drop_reason reason, struct sock *rx_sk)`.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub(crate) fn kfree_skb(ctx: RawTracePointContext) -> i32 {
    report(&ctx, ctx.arg(0), Some(ctx.arg::<u64>(2) as u32), ctx.arg(3));
    0
}

/// From 5.17 on: without the socket.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub(crate) fn kfree_skb_without_socket(ctx: RawTracePointContext) -> i32 {
    report(&ctx, ctx.arg(0), Some(ctx.arg::<u64>(2) as u32), 0);
    0
}

/// Before: without the reason, and without most of what TCP itself throws away.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub(crate) fn kfree_skb_without_reason(ctx: RawTracePointContext) -> i32 {
    report(&ctx, ctx.arg(0), None, 0);
    0
}

#[inline(always)]
fn report(ctx: &impl EbpfContext, skb: u64, reason: Option<u32>, sk: u64) {
    // Of this host's own making.
    if field::<u32>(skb, &SKB_IIF) == 0 {
        return;
    }
    let Some(headers) = Headers::of_any(skb).filter(|headers| headers.flags() & tcp_flag::RST != 0) else { return };
    let mut tuple = Tuple::EMPTY;
    headers.ends(&mut tuple);
    let net = if sk == 0 { packet::net(skb).or_else(|| routed_net(skb)) } else { sk.target(&SKC_NET) };
    tuple.netns = sock::netns(net);
    let filter = filter::load();
    if !filter::wants_received(&filter) || !filter::wants_ends(&filter, &tuple) {
        return;
    }
    let state = if sk == 0 { 0 } else { sock::state(sk) };
    let full = sk != 0 && sock::is_full(state);
    let Some(nobody) = table::nobody() else { return };
    let story = if full { story::of_socket(sk, state) } else { departed::find(&tuple) }.unwrap_or(nobody);
    let Some(mut draft) = Draft::begin(Origin::new(KIND_IGNORED, false)) else { return };
    let event = draft.event();
    // SAFETY: takes no arguments and cannot fail.
    event.ktime_ns = unsafe { bpf_ktime_get_ns() };
    event.state = state;
    event.netns_cookie = sock::netns_cookie(net);
    event.interface = field(skb, &SKB_IIF);
    sock::name_ends(event, &tuple);
    packet::tell(Some(&headers.kept()), event);
    if let Some(reason) = reason {
        event.flags |= EVENT_HAS_REASON;
        event.reason = reason;
    }
    if full {
        sock::snapshot(sk, event);
    } else if state == tcp::TIME_WAIT {
        event.flags |= EVENT_TIME_WAIT;
    }
    story::tell(story, event);
    draft.hand_over(ctx);
}

/// The namespace of a packet from where its route leads: the kernel forgets the interface of a packet that has found
/// its socket.
#[inline(always)]
fn routed_net(skb: u64) -> Option<u64> {
    // The lowest bit says whether the packet holds a reference.
    let route = field::<u64>(skb, &SKB_DST) & !1;
    let device: u64 = if route == 0 { field(skb, &SKB_DEV) } else { field(route, &DST_DEV) };
    if device == 0 { None } else { device.target(&DEV_NET) }
}
