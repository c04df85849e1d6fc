//! `tcp_reset`: the function behind the tracepoint `tcp_receive_reset`, which does not show the packet.
//!
//! Runs just before the tracepoint and leaves the packet's header for it.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{arguments::Entry as _, header};

/// `(struct sock *sk, struct sk_buff *skb)`, from 5.11 on; before there is no packet.
#[fentry(function = "tcp_reset")]
pub(crate) fn tcp_reset(ctx: FEntryContext) -> i32 {
    header::leave(ctx.argument(0), ctx.argument(1));
    0
}

/// As above.
#[kprobe]
pub(crate) fn tcp_reset_kprobe(ctx: ProbeContext) -> u32 {
    header::leave(ctx.argument(0), ctx.argument(1));
    0
}
