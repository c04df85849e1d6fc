//! `tcp_init_transfer`: a connection is established, by the packet that is at hand: once for each connection, at both
//! ends. What its TTL is tells later whether a reset came the same way.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{arguments::Entry, packet::Ip, story};

/// `(struct sock *sk, int bpf_op, struct sk_buff *skb)`, from 5.10 on.
#[fentry(function = "tcp_init_transfer")]
pub(crate) fn tcp_init_transfer(ctx: FEntryContext) -> i32 {
    remember(&ctx);
    0
}

/// As above.
#[kprobe]
pub(crate) fn tcp_init_transfer_kprobe(ctx: ProbeContext) -> u32 {
    remember(&ctx);
    0
}

#[inline(always)]
fn remember(ctx: &impl Entry) {
    let ip = Ip::of(ctx.argument(2));
    if ip.is_known() {
        story::handshake(ctx.argument(0), ip.ttl());
    }
}
