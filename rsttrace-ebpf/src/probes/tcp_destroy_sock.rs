//! `tcp:tcp_destroy_sock`: the end of a socket. Where a process that had a reset connection closes it, this shows whose it
//! was. It runs once for every connection, and for nearly all of them is one look into a small map.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{awaited, nested};

/// `(struct sock *sk)`, from 4.15 to today.
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub(crate) fn tcp_destroy_sock(ctx: RawTracePointContext) -> i32 {
    let sk = ctx.arg(0);
    nested::first(nested::DESTROYED, &ctx, [sk, 0], || awaited::destroyed(sk));
    0
}

/// Behind it, where tasks are preempted in the middle of it.
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub(crate) fn tcp_destroy_sock_left_out(ctx: RawTracePointContext) -> i32 {
    let sk = ctx.arg(0);
    nested::if_left_out(nested::DESTROYED, nested::SECOND, &ctx, [sk, 0], || awaited::destroyed(sk));
    0
}
