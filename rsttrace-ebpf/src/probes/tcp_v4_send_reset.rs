//! `tcp_v4_send_reset` and `tcp_v6_send_reset`: up to 6.9 the tracepoint `tcp_send_reset` says nothing of resets that
//! are sent without a full socket, that is, from closed ports and TIME_WAIT. These functions send them.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use rsttrace_common::names::tcp_flag;

use super::tcp_send_reset::{self, Arguments};
use crate::{arguments::Entry, fields::Typed, packet::Headers, sock};

/// `(const struct sock *sk, struct sk_buff *skb)`, up to 6.9.
#[fentry(function = "tcp_v4_send_reset")]
pub(crate) fn tcp_v4_send_reset(ctx: FEntryContext) -> i32 {
    report(&ctx);
    0
}

/// As above.
#[fentry(function = "tcp_v6_send_reset")]
pub(crate) fn tcp_v6_send_reset(ctx: FEntryContext) -> i32 {
    report(&ctx);
    0
}

/// For both.
#[kprobe]
pub(crate) fn send_reset_kprobe(ctx: ProbeContext) -> u32 {
    report(&ctx);
    0
}

#[inline(always)]
fn report(ctx: &impl Entry) {
    let (sk, skb) = (ctx.argument(0), ctx.argument(1));
    // For those the tracepoint comes, further down in the function.
    if sk != 0 && sock::is_full(sock::state(sk)) {
        return;
    }
    // "Never send a reset in response to a reset."
    if Headers::of(skb).is_some_and(|headers| headers.flags() & tcp_flag::RST != 0) {
        return;
    }
    tcp_send_reset::report(
        ctx,
        Arguments { sk: (sk != 0).then_some(sk), skb: Some(skb) },
        None::<fn(u64) -> Option<Typed>>,
        None,
    );
}
