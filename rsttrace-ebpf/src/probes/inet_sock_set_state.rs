//! `sock:inet_sock_set_state`: a socket changes its state. This is where the story of a connection is written.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use rsttrace_common::names::{IPPROTO_TCP, tcp};

use crate::{
    fields::{SK_PROTOCOL, field},
    story,
};

/// `(const struct sock *sk, const int oldstate, const int newstate)`, from 4.16 to today.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let (sk, old, new) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1) as u8, ctx.arg::<u64>(2) as u8);
    // DCCP, SCTP and MPTCP come here as well.
    if field::<u16>(sk, &SK_PROTOCOL) != IPPROTO_TCP {
        return 0;
    }
    match (old, new) {
        (tcp::CLOSE, tcp::SYN_SENT) => story::connect(sk),
        (tcp::CLOSE, tcp::LISTEN) => story::listen(sk),
        (tcp::LISTEN, tcp::SYN_RECV) => story::child(sk),
        (_, tcp::CLOSE) => story::depart(sk, old),
        _ => story::advance(sk, old, new),
    }
    0
}
