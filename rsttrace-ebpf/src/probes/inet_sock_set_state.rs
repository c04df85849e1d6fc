//! `sock:inet_sock_set_state`: a socket changes its state. This is where the story of a connection is written.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{nested, story};

/// `(const struct sock *sk, const int oldstate, const int newstate)`, from 4.16 to today.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let (sk, old, new) = arguments(&ctx);
    nested::first(nested::CHANGED, &ctx, change(sk, old, new), || story::change(sk, old, new));
    0
}

/// Behind it, where tasks are preempted in the middle of it.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state_left_out(ctx: RawTracePointContext) -> i32 {
    let (sk, old, new) = arguments(&ctx);
    let work = || story::change(sk, old, new);
    nested::if_left_out(nested::CHANGED, nested::SECOND, &ctx, change(sk, old, new), work);
    0
}

#[inline(always)]
fn arguments(ctx: &RawTracePointContext) -> (u64, u8, u8) {
    (ctx.arg(0), ctx.arg::<u64>(1) as u8, ctx.arg::<u64>(2) as u8)
}

#[inline(always)]
fn change(sk: u64, old: u8, new: u8) -> [u64; 2] {
    [sk, u64::from(old) << 8 | u64::from(new)]
}
