//! `tcp:tcp_destroy_sock`: a socket is destroyed, which shows the process that closed a reset connection. It runs once per
//! connection, and for nearly all of them is one lookup in a table.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{holder_lookup, recursion::with_backups};

with_backups! {
    /// `(struct sock *sk)`, from 4.15 to today.
    program: tcp_destroy_sock, backups: destroy_bak1 = First;
    hook: raw_tracepoint(tracepoint = "tcp_destroy_sock") => DestroySock;
    |ctx: RawTracePointContext| [ctx.arg(0), 0], holder_lookup::on_destroy(ctx.arg(0))
}
