//! `nf_send_reset` and `nf_send_reset6`: a packet filter rule rejects a packet with a reset (iptables' REJECT with tcp-reset,
//! nft's `reject with tcp reset`). No tracepoint and no counter shows these.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use rsttrace_common::abi::{netfilter, tcp_flag};

use crate::{
    args::FunctionArgs as _,
    emit::{EventBuilder, EventSource},
    filter,
    headers::{self, Headers},
    helpers::ktime_ns,
    sock::{self, Tuple},
};

/// For either function: `(struct net *net, struct sock *sk, struct sk_buff *oldskb, int hook)`, from 5.10 on.
// They are in modules, which aya's fentry does not reach.
#[kprobe]
pub(crate) fn nf_send_reset(ctx: ProbeContext) -> u32 {
    let (net, skb, hook) = (ctx.argument(0), ctx.argument(2), ctx.argument(3) as u8);
    // The function itself sends no reset in answer to one.
    let Some(headers) = Headers::of(skb).filter(|headers| headers.flags() & tcp_flag::RST == 0) else { return 0 };
    let mut tuple = Tuple::EMPTY;
    headers.read_tuple(&mut tuple);
    let net = (net != 0).then_some(net);
    tuple.netns = sock::netns(net);
    if hook == netfilter::LOCAL_OUT {
        // A packet that this host sends: its source is the local end.
        tuple.reverse();
    }
    let filter = filter::load();
    if !filter::wants_sent(&filter, false) || !filter::wants_tuple(&filter, &tuple) {
        return 0;
    }
    let source = EventSource::Rejected { in_task: hook == netfilter::LOCAL_OUT };
    let Some(mut builder) = EventBuilder::reserve(source) else { return 0 };
    let event = builder.event();
    event.ktime_ns = ktime_ns();
    event.netfilter_hook = hook;
    event.netns_cookie = sock::netns_cookie(net);
    sock::write_tuple(event, &tuple);
    headers::write_packet(&headers.summary(), event);
    builder.submit(&ctx);
    0
}
