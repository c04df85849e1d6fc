//! `inet_csk_accept`: a process takes a connection out of a listener's accept queue, and owns it from here on.

use aya_ebpf::{
    macros::{fexit, kretprobe},
    programs::{FExitContext, RetProbeContext},
};

use crate::{arguments::Accepted as _, story};

/// Returns the `struct sock *`; its arguments have changed with time.
#[fexit(function = "inet_csk_accept")]
pub(crate) fn inet_csk_accept(ctx: FExitContext) -> i32 {
    story::accept(ctx.socket());
    0
}

/// As above.
#[kretprobe]
pub(crate) fn inet_csk_accept_kretprobe(ctx: RetProbeContext) -> u32 {
    story::accept(ctx.socket());
    0
}
