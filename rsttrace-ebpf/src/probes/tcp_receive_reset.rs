//! `tcp:tcp_receive_reset`: a full socket processes a reset from its peer.
//!
//! Or so its name says. The kernel runs the same function when data arrives for a socket that this host has shut down
//! for receiving; then no reset has come, and this host is about to send one (`tcp_rcv_state_process`). Only the
//! `tcp_send_reset` that follows tells the two apart, so such an event is marked and the user side settles it.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use rsttrace_common::{
    event::{EVENT_HAS_PACKET, EVENT_MAYBE_SENT, KIND_RECEIVED},
    names::{tcp, tcp_flag},
};

use super::tcp_send_reset::{context, identify};
use crate::{
    awaited,
    emit::{self, Origin},
    filter, header,
    log::debug,
    nested::{self, Arguments},
    sock::{self, Tuple},
    story,
};

/// `RCV_SHUTDOWN` of `include/net/sock.h`.
const RCV_SHUTDOWN: u8 = 1;

/// `(struct sock *sk)`, from 4.15 to today.
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub(crate) fn tcp_receive_reset(ctx: RawTracePointContext) -> i32 {
    nested::leave_word(nested::RECEIVED, Arguments { sk: ctx.arg(0), skb: 0 });
    report(&ctx, ctx.arg(0));
    0
}

/// Behind it.
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub(crate) fn tcp_receive_reset_left_out(ctx: RawTracePointContext) -> i32 {
    let sk = ctx.arg(0);
    nested::if_left_out(nested::RECEIVED, Arguments { sk, skb: 0 }, || report(&ctx, sk));
    0
}

#[inline(always)]
fn report(ctx: &RawTracePointContext, sk: u64) {
    let state = sock::state(sk);
    debug!(ctx, "state {}", state);
    // From `tcp_reset`, where the kernel lets us see it.
    let header = header::take(sk);
    let is_reset = header.map(|header| header.flags & tcp_flag::RST != 0);
    if is_reset == Some(false) {
        // It is data after a shutdown; the reset that this host sends for it is reported when it is sent.
        return;
    }
    let maybe_sent = is_reset.is_none()
        && sock::shutdown(sk) & RCV_SHUTDOWN != 0
        && matches!(state, tcp::FIN_WAIT1 | tcp::FIN_WAIT2 | tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING);
    let mut tuple = Tuple::EMPTY;
    sock::ends(sk, &mut tuple);
    let filter = filter::load();
    if !filter::wants_received(&filter) || !filter::wants_ends(&filter, &tuple) {
        return;
    }
    let story = story::of_socket(sk, state);
    let in_task = sock::owned(sk);
    if !filter::wants_owner(&filter, story::certain_owner(story, in_task)) {
        return;
    }
    emit::event(ctx, Origin { kind: KIND_RECEIVED, in_task }, |event| {
        identify(event, sk, state, &tuple);
        if maybe_sent {
            event.flags |= EVENT_MAYBE_SENT;
        }
        if let Some(header) = header {
            event.flags |= EVENT_HAS_PACKET;
            event.packet = header;
        }
        sock::snapshot(sk, event);
        context(sk, in_task, event);
        story::tell(story, event);
        awaited::await_holder(sk, story, event);
    });
}
