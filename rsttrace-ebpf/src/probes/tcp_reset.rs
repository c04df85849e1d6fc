//! `tcp_reset`: the function that fires the tracepoint `tcp_receive_reset`, which does not show the packet.
//!
//! Runs just before the tracepoint and stashes the packet's header for it.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{args::FunctionArgs as _, rst_header};

/// `(struct sock *sk, struct sk_buff *skb)`, from 5.11 on; earlier kernels do not pass the packet.
#[fentry(function = "tcp_reset")]
pub(crate) fn tcp_reset(ctx: FEntryContext) -> i32 {
    rst_header::stash(ctx.argument(0), ctx.argument(1));
    0
}

/// Kprobe with the arguments of [`tcp_reset`].
#[kprobe]
pub(crate) fn tcp_reset_kp(ctx: ProbeContext) -> u32 {
    rst_header::stash(ctx.argument(0), ctx.argument(1));
    0
}
