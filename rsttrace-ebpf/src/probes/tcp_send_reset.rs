//! `tcp:tcp_send_reset`: this host sends a reset.
//!
//! Two eras of arguments, two programs: up to 6.9 the tracepoint has `(sk, skb)` and a program that reads a third
//! argument is refused when it is attached; from 6.10 on there is a reason, and the event comes for closed ports (no
//! socket) and TIME_WAIT sockets too.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use rsttrace_common::{
    event::{EVENT_EXITING, EVENT_HAS_REASON, EVENT_OWNED, EVENT_TIME_WAIT, KIND_SENT, ResetEvent},
    names::tcp,
};

use crate::{
    awaited, departed,
    emit::{self, Origin},
    fields::{SKC_COOKIE, SKC_NET, TW_SUBSTATE, copy, field},
    filter,
    flood::{self, Passage},
    log::debug,
    nested::{self, Arguments},
    packet::{self, Headers},
    sock::{self, Tuple},
    story, task,
};

/// From 6.10 on: `(const struct sock *sk, const struct sk_buff *skb, enum sk_rst_reason reason)`.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn tcp_send_reset(ctx: RawTracePointContext) -> i32 {
    nested::leave_word(nested::SENT, arguments(&ctx));
    report(&ctx, arguments(&ctx), Sockets::All, Some(ctx.arg::<u64>(2) as u32));
    0
}

/// Behind it.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_left_out(ctx: RawTracePointContext) -> i32 {
    let of = arguments(&ctx);
    nested::if_left_out(nested::SENT, of, || report(&ctx, of, Sockets::All, Some(ctx.arg::<u64>(2) as u32)));
    0
}

/// Up to 6.9: `(const struct sock *sk, const struct sk_buff *skb)`.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_without_reason(ctx: RawTracePointContext) -> i32 {
    nested::leave_word(nested::SENT, arguments(&ctx));
    report(&ctx, arguments(&ctx), Sockets::All, None);
    0
}

/// Behind it.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_without_reason_left_out(ctx: RawTracePointContext) -> i32 {
    let of = arguments(&ctx);
    nested::if_left_out(nested::SENT, of, || report(&ctx, of, Sockets::All, None));
    0
}

#[inline(always)]
fn arguments(ctx: &RawTracePointContext) -> Arguments {
    Arguments { sk: ctx.arg(0), skb: ctx.arg(1) }
}

/// What a program may be handed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sockets {
    /// Anything.
    All,
    /// No socket, or a mini-socket. What is for full sockets is not even in the program then, which is most of what the
    /// verifier has to walk.
    NotFull,
}

/// `sk` or `skb` may be NULL, `ctx` is the program's.
#[inline(always)]
pub(super) fn report(ctx: &impl EbpfContext, of: Arguments, sockets: Sockets, reason: Option<u32>) {
    let Arguments { sk, skb } = of;
    let state = if sk == 0 { 0 } else { sock::state(sk) };
    debug!(ctx, "state {} packet {}", state, u8::from(skb != 0));
    let full = sockets == Sockets::All && sk != 0 && sock::is_full(state);
    // The packet that provoked the reset; none when this host gives up of its own accord.
    let headers = if skb == 0 { Headers::NONE } else { packet::headers(skb).unwrap_or(Headers::NONE) };
    // Who the reset goes to: the socket knows, or, for listeners, TIME_WAIT and no socket, the packet does.
    let mut tuple = Tuple::EMPTY;
    if full && state != tcp::LISTEN {
        sock::ends(sk, &mut tuple);
    } else if let Some(headers) = headers.known() {
        packet::ends(skb, headers, &mut tuple);
        if sk != 0 {
            tuple.netns = sock::netns(field(sk, &SKC_NET));
        }
    }

    let filter = filter::load();
    // A reset in answer to data, for a socket that is already closed, settles what `tcp_receive_reset` said just now.
    let settles_received = skb != 0 && state == tcp::CLOSE;
    if !filter::wants_sent(&filter, settles_received) || !filter::wants_ends(&filter, &tuple) {
        return;
    }
    let story = if full { story::of_socket(sk, state) } else { departed::find(&tuple) };
    let in_task = full && sock::owned(sk);
    if !filter::wants_owner(&filter, story::certain_owner(story, in_task)) {
        return;
    }
    let origin = Origin { kind: KIND_SENT, in_task };
    // Of a closed port nothing is known but the packet: there may be very many of these.
    if sk == 0
        && story.is_none()
        && let Some(headers) = headers.known()
    {
        match flood::pass(&tuple, headers, reason) {
            Passage::HandOver => {}
            Passage::Counted => return,
            Passage::Lost => return emit::lose(origin),
        }
    }
    emit::event(ctx, origin, |event| {
        identify(event, sk, state, &tuple);
        if let Some(reason) = reason {
            event.flags |= EVENT_HAS_REASON;
            event.reason = reason;
        }
        if skb != 0 {
            packet::snapshot(headers.known(), event);
        }
        if full {
            sock::snapshot(sk, event);
            context(sk, in_task, event);
        } else if sk != 0 {
            // Of a TIME_WAIT socket only the part in common with full sockets, and its own few fields, exist.
            event.flags |= EVENT_TIME_WAIT;
            copy(sk, &SKC_COOKIE, &mut event.cookie);
            copy(sk, &TW_SUBSTATE, &mut event.substate);
        }
        story::tell(story, event);
        if full {
            awaited::await_holder(sk, story, event);
        }
    });
}

/// What both directions say first: when, who with, in what state.
#[inline(always)]
pub(super) fn identify(event: &mut ResetEvent, sk: u64, state: u8, tuple: &Tuple) {
    // SAFETY: these take no arguments and cannot fail.
    unsafe {
        event.ktime_ns = bpf_ktime_get_ns();
        event.now_jiffies = bpf_jiffies64() as u32;
    }
    event.sk = sk;
    event.state = state;
    sock::name_ends(event, tuple);
}

/// Whether the task that the CPU runs has to do with the socket, and who it is if so.
#[inline(always)]
pub(super) fn context(sk: u64, in_task: bool, event: &mut ResetEvent) {
    event.shutdown = sock::shutdown(sk);
    let flags = task::Flags::current();
    if in_task && !flags.is_kernel() {
        event.flags |= EVENT_OWNED;
        if flags.is_exiting() {
            event.flags |= EVENT_EXITING;
        }
        task::current(&mut event.actor);
    }
}
