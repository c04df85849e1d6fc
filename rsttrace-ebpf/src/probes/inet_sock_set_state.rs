//! `sock:inet_sock_set_state`: a socket changes its state. Here the history of a connection is written.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{history, recursion::with_backups};

with_backups! {
    /// `(const struct sock *sk, const int oldstate, const int newstate)`, from 4.16 to today.
    program: inet_sock_set_state, backups: set_state_bak1 = First;
    hook: raw_tracepoint(tracepoint = "inet_sock_set_state") => SetState;
    |ctx: RawTracePointContext| fingerprint(&ctx), record(&ctx)
}

#[inline(always)]
fn args(ctx: &RawTracePointContext) -> (u64, u8, u8) {
    (ctx.arg(0), ctx.arg::<u64>(1) as u8, ctx.arg::<u64>(2) as u8)
}

#[inline(always)]
fn fingerprint(ctx: &RawTracePointContext) -> [u64; 2] {
    let (sk, old, new) = args(ctx);
    [sk, u64::from(old) << 8 | u64::from(new)]
}

#[inline(always)]
fn record(ctx: &RawTracePointContext) {
    let (sk, old, new) = args(ctx);
    history::on_state_change(sk, old, new);
}
