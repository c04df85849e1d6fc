//! `sock:inet_sock_set_state`: a socket changes its state. This is where the story of a connection is written.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::story;

/// `(const struct sock *sk, const int oldstate, const int newstate)`, from 4.16 to today.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let (sk, old, new) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1) as u8, ctx.arg::<u64>(2) as u8);
    story::change(sk, old, new);
    0
}
