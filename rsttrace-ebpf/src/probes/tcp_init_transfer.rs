//! `tcp_init_transfer`: a connection is established by a packet, once per connection at each end. The packet's TTL tells
//! later whether a reset took the path that the peer's packets take.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{args::FunctionArgs, headers::Ip, history};

/// `(struct sock *sk, int bpf_op, struct sk_buff *skb)`, from 5.10 on.
#[fentry(function = "tcp_init_transfer")]
pub(crate) fn tcp_init_transfer(ctx: FEntryContext) -> i32 {
    record_ttl(&ctx);
    0
}

/// Kprobe with the arguments of [`tcp_init_transfer`].
#[kprobe]
pub(crate) fn init_transf_kp(ctx: ProbeContext) -> u32 {
    record_ttl(&ctx);
    0
}

#[inline(always)]
fn record_ttl(ctx: &impl FunctionArgs) {
    let ip = Ip::of(ctx.argument(2));
    if ip.is_known() {
        history::on_handshake(ctx.argument(0), ip.ttl());
    }
}
