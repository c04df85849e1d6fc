//! `tcp:tcp_send_reset`: this host sends a reset.
//!
//! Two eras of arguments, two programs: up to 6.9 the tracepoint has `(sk, skb)` and a program that reads a third
//! argument is refused when it is attached; from 6.10 on there is a reason, and the event comes for closed ports (no
//! socket) and TIME_WAIT sockets too.

use core::mem::MaybeUninit;

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
    emit::{self, Draft, Origin},
    fields::{SKC_COOKIE, SKC_NET, TW_SUBSTATE, copy, field},
    filter,
    flood::{self, Passage},
    forget::{Facts, forget},
    log::debug,
    nested,
    packet::{self, Headers},
    sock::{self, Tuple},
    story, table, task,
};

/// From 6.10 on: `(const struct sock *sk, const struct sk_buff *skb, enum sk_rst_reason reason)`.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn tcp_send_reset(ctx: RawTracePointContext) -> i32 {
    let of = arguments(&ctx);
    let work = || report(&ctx, of, Sockets::All, Some(ctx.arg::<u64>(2) as u32));
    nested::first(nested::SENT, &ctx, of.words(), work);
    0
}

/// Behind it.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_left_out(ctx: RawTracePointContext) -> i32 {
    report_left_out(&ctx, nested::SECOND);
    0
}

/// Behind that.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_left_out_twice(ctx: RawTracePointContext) -> i32 {
    report_left_out(&ctx, nested::THIRD);
    0
}

#[inline(always)]
fn report_left_out(ctx: &RawTracePointContext, behind: u32) {
    let of = arguments(ctx);
    let work = || report(ctx, of, Sockets::All, Some(ctx.arg::<u64>(2) as u32));
    nested::if_left_out(nested::SENT, behind, ctx, of.words(), work);
}

/// Up to 6.9: `(const struct sock *sk, const struct sk_buff *skb)`.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_without_reason(ctx: RawTracePointContext) -> i32 {
    let of = arguments(&ctx);
    nested::first(nested::SENT, &ctx, of.words(), || report(&ctx, of, Sockets::All, None));
    0
}

/// Behind it.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_without_reason_left_out(ctx: RawTracePointContext) -> i32 {
    let of = arguments(&ctx);
    let work = || report(&ctx, of, Sockets::All, None);
    nested::if_left_out(nested::SENT, nested::SECOND, &ctx, of.words(), work);
    0
}

/// A reset, by what the kernel says it is about.
#[derive(Clone, Copy)]
pub(super) struct Arguments {
    /// 0 without a socket.
    pub(super) sk: u64,
    /// The packet that provoked it; 0 if none did.
    pub(super) skb: u64,
}

impl Arguments {
    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [self.sk, self.skb]
    }
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

/// What a reset is about, as far as the socket and the packet say at once.
#[derive(Clone, Copy)]
struct Subject {
    of: Arguments,
    /// Of the packet that provoked it; none when this host gives up of its own accord.
    headers: Headers,
    /// Who it goes to: the socket knows, or, for listeners, TIME_WAIT and no socket, the packet does.
    tuple: Tuple,
    /// 0 without a socket.
    state: u8,
    facts: Facts,
}

impl Subject {
    #[inline(always)]
    fn look(&mut self, sockets: Sockets) {
        let Arguments { sk, skb } = self.of;
        if skb != 0 {
            self.facts.add(Facts::PACKET, true);
            self.headers = packet::headers(skb);
        }
        let mut is_full = false;
        if sk != 0 {
            self.state = sock::state(sk);
            is_full = sockets == Sockets::All && sock::is_full(self.state);
            self.facts.add(Facts::SOCKET, true);
            self.facts.add(Facts::FULL_SOCKET, is_full);
            self.facts.add(Facts::IN_TASK, is_full && sock::owned(sk));
        }
        if is_full && self.state != tcp::LISTEN {
            sock::ends(sk, &mut self.tuple);
        } else if self.headers.are_known() {
            packet::ends(skb, self.headers, &mut self.tuple);
            if sk != 0 {
                self.tuple.netns = sock::netns(field(sk, &SKC_NET));
            }
        }
    }
}

/// `sk` or `skb` may be NULL, `ctx` is the program's.
#[inline(always)]
pub(super) fn report(ctx: &impl EbpfContext, of: Arguments, sockets: Sockets, reason: Option<u32>) {
    let mut seen = Subject { of, headers: Headers::NONE, tuple: Tuple::EMPTY, state: 0, facts: Facts::NONE };
    seen.look(sockets);
    let mut subject = MaybeUninit::uninit();
    // Ways to get here are many, and all the same from here on.
    let Subject { of: Arguments { sk, .. }, headers, tuple, state, facts } = forget(&seen, &mut subject);
    let (sk, state) = (*sk, *state);
    debug!(ctx, "state {} packet {}", state, u8::from(facts.have(Facts::PACKET)));

    let filter = filter::load();
    // A reset in answer to data, for a socket that is already closed, settles what `tcp_receive_reset` said just now.
    let settles_received = state == tcp::CLOSE && facts.have(Facts::PACKET);
    if !filter::wants_sent(&filter, settles_received) || !filter::wants_ends(&filter, tuple) {
        return;
    }
    let is_full = || sockets == Sockets::All && facts.have(Facts::FULL_SOCKET);
    let Some(nobody) = table::nobody() else { return };
    // Where there is no full socket soft interrupts are off.
    let story = if is_full() { story::of_socket(sk, state) } else { departed::fetch(tuple) }.unwrap_or(nobody);
    if !filter::wants_owner(&filter, story, facts.have(Facts::IN_TASK)) {
        return;
    }
    let origin = Origin { kind: KIND_SENT, in_task: facts.have(Facts::IN_TASK) };
    // Of a closed port nothing is known but the packet: there may be very many of these.
    if !facts.have(Facts::SOCKET) && !story.is_known() && headers.are_known() {
        match flood::pass(tuple, *headers, reason) {
            Passage::HandOver => {}
            Passage::Counted => return,
            Passage::Lost => return emit::lose(origin),
        }
    }
    let Some(mut draft) = Draft::begin(origin) else { return };
    let event = draft.event();
    identify(event, sk, state, tuple);
    if let Some(reason) = reason {
        event.flags |= EVENT_HAS_REASON;
        event.reason = reason;
    }
    if facts.have(Facts::PACKET) {
        packet::snapshot(*headers, event);
    }
    if is_full() {
        sock::snapshot(sk, event);
        context(sk, facts.have(Facts::IN_TASK), event);
    } else if facts.have(Facts::SOCKET) {
        // Of a TIME_WAIT socket only the part in common with full sockets, and its own few fields, exist.
        event.flags |= EVENT_TIME_WAIT;
        copy(sk, &SKC_COOKIE, &mut event.cookie);
        copy(sk, &TW_SUBSTATE, &mut event.substate);
    }
    story::tell(story, event);
    if is_full() {
        awaited::await_holder(sk, story, event);
    }
    draft.hand_over(ctx);
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
