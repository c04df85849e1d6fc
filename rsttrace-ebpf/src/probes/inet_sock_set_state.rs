//! `sock:inet_sock_set_state`: a socket changes its state. This is where the story of a connection is written.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use rsttrace_common::names::tcp;

use crate::{sock, story};

/// `(const struct sock *sk, const int oldstate, const int newstate)`, from 4.16 to today.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let (sk, old, new) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1) as u8, ctx.arg::<u64>(2) as u8);
    match (old, new) {
        // What comes into the tables is TCP, so that nothing else is found there.
        (tcp::CLOSE, tcp::SYN_SENT) if sock::is_tcp(sk) => story::connect(sk),
        (tcp::CLOSE, tcp::LISTEN) if sock::is_tcp(sk) => story::listen(sk),
        (tcp::LISTEN, tcp::SYN_RECV) if sock::is_tcp(sk) => story::child(sk),
        (_, tcp::CLOSE) => story::depart(sk, old),
        (tcp::CLOSE | tcp::LISTEN, _) => {}
        _ => story::advance(sk, old, new),
    }
    0
}
