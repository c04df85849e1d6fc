//! `tcp_v4_send_reset` and `tcp_v6_send_reset`, which send resets without a full socket: up to 6.9 the tracepoint
//! `tcp_send_reset` does not fire for those, that is, for closed ports and TIME_WAIT.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use rsttrace_common::abi::tcp_flag;

use super::tcp_send_reset::{self, ResetArgs};
use crate::{args::FunctionArgs, headers::Headers, kernel_struct::BtfPtr, sock};

/// `(const struct sock *sk, struct sk_buff *skb)`, up to 6.9.
#[fentry(function = "tcp_v4_send_reset")]
pub(crate) fn tcp_v4_send_reset(ctx: FEntryContext) -> i32 {
    report(&ctx);
    0
}

/// `(const struct sock *sk, struct sk_buff *skb)`, up to 6.9.
#[fentry(function = "tcp_v6_send_reset")]
pub(crate) fn tcp_v6_send_reset(ctx: FEntryContext) -> i32 {
    report(&ctx);
    0
}

/// Kprobe for either function.
#[kprobe]
pub(crate) fn send_reset_kp(ctx: ProbeContext) -> u32 {
    report(&ctx);
    0
}

#[inline(always)]
fn report(ctx: &impl FunctionArgs) {
    let (sk, skb) = (ctx.argument(0), ctx.argument(1));
    // For a full socket the tracepoint fires, further down in the function.
    if sk != 0 && sock::is_full(sock::state(sk)) {
        return;
    }
    // "Never send a reset in response to a reset."
    if Headers::of(skb).is_some_and(|headers| headers.flags() & tcp_flag::RST != 0) {
        return;
    }
    tcp_send_reset::report(
        ctx,
        ResetArgs { sk: (sk != 0).then_some(sk), skb: Some(skb) },
        None::<fn(u64) -> Option<BtfPtr>>,
        None,
    );
}
