//! `inet_csk_accept`: a process takes a connection out of a listener's accept queue, and owns it from here on.

use aya_ebpf::{
    macros::{fexit, kretprobe},
    programs::{FExitContext, RetProbeContext},
};

use crate::{args::AcceptReturn as _, history};

/// Returns the `struct sock *`; the arguments differ between kernels.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn inet_csk_accept(ctx: FExitContext) -> i32 {
    history::on_accept(ctx.socket());
    0
}

/// Kretprobe with the result of [`inet_csk_accept`].
#[kretprobe]
pub(crate) fn csk_accept_kret(ctx: RetProbeContext) -> u32 {
    history::on_accept(ctx.socket());
    0
}
