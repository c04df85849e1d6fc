//! `nf_send_reset` and `nf_send_reset6`: a rule of the packet filter rejects a packet with a reset (iptables' REJECT
//! with tcp-reset, nft's `reject with tcp reset`). No tracepoint shows these, and no counter.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, macros::kprobe, programs::ProbeContext};
use rsttrace_common::{
    event::KIND_REJECTED,
    names::{netfilter, tcp_flag},
};

use crate::{
    arguments::Entry as _,
    emit::{Draft, Origin},
    filter,
    packet::{self, Headers},
    sock::{self, Tuple},
};

/// `(struct net *net, struct sock *sk, struct sk_buff *oldskb, int hook)`, from 5.10 on, for both.
// They live in modules, where aya's fentry does not reach.
#[kprobe]
pub(crate) fn nf_send_reset(ctx: ProbeContext) -> u32 {
    let (net, skb, hook) = (ctx.argument(0), ctx.argument(2), ctx.argument(3) as u8);
    // The function itself sends none in answer to one.
    let Some(headers) = Headers::of(skb).filter(|headers| headers.flags() & tcp_flag::RST == 0) else { return 0 };
    let mut tuple = Tuple::EMPTY;
    headers.ends(&mut tuple);
    let net = (net != 0).then_some(net);
    tuple.netns = sock::netns(net);
    if hook == netfilter::LOCAL_OUT {
        // This host's own packet: its source is here.
        tuple.turn();
    }
    let filter = filter::load();
    if !filter::wants_sent(&filter, false) || !filter::wants_ends(&filter, &tuple) {
        return 0;
    }
    let origin = Origin::new(KIND_REJECTED, hook == netfilter::LOCAL_OUT);
    let Some(mut draft) = Draft::begin(origin) else { return 0 };
    let event = draft.event();
    // SAFETY: takes no arguments and cannot fail.
    event.ktime_ns = unsafe { bpf_ktime_get_ns() };
    event.netfilter_hook = hook;
    event.netns_cookie = sock::netns_cookie(net);
    sock::name_ends(event, &tuple);
    packet::tell(Some(&headers.kept()), event);
    draft.hand_over(&ctx);
    0
}
