//! `tcp:tcp_send_reset`: this host sends a reset.
//!
//! Two eras of arguments, two programs: up to 6.9 the tracepoint has `(sk, skb)` and a program that reads a third
//! argument is refused when it is attached; from 6.10 on there is a reason, and the event comes for closed ports (no
//! socket) and TIME_WAIT sockets too.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use rsttrace_common::{
    event::{EVENT_EXITING, EVENT_HAS_REASON, EVENT_OWNED, EVENT_TIME_WAIT, Header, KIND_SENT, ResetEvent},
    names::tcp,
};

use crate::{
    ambiguous::{self, Receive},
    arguments::{apart, numbers},
    awaited, departed,
    emit::{self, Draft, Origin},
    fields::{SKC_COOKIE, SKC_NET, Struct, TW_SUBSTATE, Typed, copy},
    filter,
    flood::{self, Passage},
    forget::{Facts, forget},
    log::debug,
    nested,
    packet::{self, Headers},
    sock::{self, Tuple},
    story, table, task,
};

// Each program has a closure of its own: of one that several had in common the compiler would make a function, and a call.

/// From 6.10 on: `(const struct sock *sk, const struct sk_buff *skb, enum sk_rst_reason reason)`.
#[btf_tracepoint(function = "tcp_send_reset")]
pub(crate) fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    nested::first(nested::SENT, &ctx, apart(&ctx), || report_typed(&ctx, Some(ctx.arg(2))));
    0
}

/// Behind it.
#[btf_tracepoint(function = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_left_out(ctx: BtfTracePointContext) -> i32 {
    let work = || report_typed(&ctx, Some(ctx.arg(2)));
    nested::if_left_out(nested::SENT, nested::SECOND, &ctx, apart(&ctx), work);
    0
}

/// Behind that.
#[btf_tracepoint(function = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_left_out_twice(ctx: BtfTracePointContext) -> i32 {
    let work = || report_typed(&ctx, Some(ctx.arg(2)));
    nested::if_left_out(nested::SENT, nested::THIRD, &ctx, apart(&ctx), work);
    0
}

/// Up to 6.9: `(const struct sock *sk, const struct sk_buff *skb)`.
#[btf_tracepoint(function = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_without_reason(ctx: BtfTracePointContext) -> i32 {
    nested::first(nested::SENT, &ctx, apart(&ctx), || report_typed(&ctx, None));
    0
}

/// Behind it.
#[btf_tracepoint(function = "tcp_send_reset")]
pub(crate) fn tcp_send_reset_without_reason_left_out(ctx: BtfTracePointContext) -> i32 {
    let work = || report_typed(&ctx, None);
    nested::if_left_out(nested::SENT, nested::SECOND, &ctx, apart(&ctx), work);
    0
}

#[inline(always)]
fn report_typed(ctx: &BtfTracePointContext, reason: Option<u32>) {
    // By the numbers alone it is known whether there is a socket, and a packet.
    let [sk, skb] = numbers(ctx);
    let is_there = |number: u64, position| if number == 0 { None } else { Typed::argument(ctx, position) };
    let arguments = Arguments { sk: is_there(sk, 0), skb: is_there(skb, 1) };
    // Read anew when it is asked for again: a pointer that stays is one that the verifier knows more and more of.
    report(ctx, arguments, Some(|sk| is_there(sk, 0).and_then(sock::of_tcp)), reason);
}

/// A reset, by what the kernel says it is about.
#[derive(Clone, Copy)]
pub(super) struct Arguments<S> {
    /// May be a mini-socket.
    pub(super) sk: Option<S>,
    /// The packet that provoked it.
    pub(super) skb: Option<S>,
}

/// What a reset is about, as far as the socket and the packet say at once.
#[derive(Clone, Copy)]
struct Subject {
    /// 0 without a socket.
    sk: u64,
    /// See `ResetEvent`.
    netns_cookie: u64,
    /// 0 when this host gives up of its own accord.
    skb: u64,
    /// Who it goes to: the socket knows, or, for listeners, TIME_WAIT and no socket, the packet does.
    tuple: Tuple,
    /// Of the packet that provoked it.
    header: Header,
    /// 0 without a socket.
    state: u8,
    facts: Facts,
}

impl Subject {
    #[inline(always)]
    fn look<S: Struct>(&mut self, of: Arguments<S>, full: Option<Typed>) {
        let mut netns = 0;
        if let Some(sk) = of.sk {
            self.state = sock::state(sk);
            let net = sk.target(&SKC_NET);
            netns = sock::netns(net);
            self.netns_cookie = sock::netns_cookie(net);
        }
        if let Some(full) = full {
            self.facts.add(Facts::FULL_SOCKET, true);
            self.facts.add(Facts::IN_TASK, sock::owned(full));
            if self.state != tcp::LISTEN {
                sock::ends(full, &mut self.tuple);
            }
        }
        let Some(skb) = of.skb else { return };
        let Some(headers) = Headers::of(skb) else { return };
        self.facts.add(Facts::HEADERS, true);
        self.header = headers.kept();
        if full.is_none() || self.state == tcp::LISTEN {
            headers.ends(&mut self.tuple);
            self.tuple.netns = netns;
            if netns == 0 {
                let net = packet::net(skb);
                self.tuple.netns = sock::netns(net);
                self.netns_cookie = sock::netns_cookie(net);
            }
        }
    }
}

/// `full` looks for the full socket of TCP at this address, if there may be one (what is for these is not even in the
/// program otherwise, and most of what the verifier has to walk); `ctx` is the program's.
#[inline(always)]
pub(super) fn report<S: Struct>(
    ctx: &impl EbpfContext,
    of: Arguments<S>,
    full: Option<impl Fn(u64) -> Option<Typed>>,
    reason: Option<u32>,
) {
    let [sk, skb] = [of.sk, of.skb].map(|pointer| pointer.map_or(0, S::address));
    let mut seen = Subject {
        sk,
        netns_cookie: 0,
        skb,
        tuple: Tuple::EMPTY,
        header: Header::default(),
        state: 0,
        facts: Facts::NONE,
    };
    seen.look(of, full.as_ref().and_then(|full| full(sk)));
    let mut subject = MaybeUninit::uninit();
    // Ways to get here are many, and all the same from here on.
    let Subject { sk, netns_cookie, skb, tuple, header, state, facts } = forget(&seen, &mut subject);
    let (sk, skb, state) = (*sk, *skb, *state);
    debug!(ctx, "state {} packet {}", state, u8::from(skb != 0));

    let filter = filter::load();
    // A reset in answer to data, for a socket that is already closed, settles what `tcp_receive_reset` said just now.
    let settles_received = state == tcp::CLOSE && skb != 0;
    if !filter::wants_sent(&filter, settles_received) || !filter::wants_ends(&filter, tuple) {
        return;
    }
    let Some(nobody) = table::nobody() else { return };
    // Where there is no full socket soft interrupts are off.
    let is_full = || full.is_some() && facts.have(Facts::FULL_SOCKET);
    // A SYN opens a connection of its own: an earlier one between the same ends has nothing to do with its refusal.
    let opens = sk == 0 && facts.have(Facts::HEADERS) && packet::opens(header);
    let story = if is_full() {
        story::of_socket(sk, state)
    } else if opens {
        None
    } else {
        departed::fetch(tuple)
    };
    let story = story.unwrap_or(nobody);
    if !filter::wants_owner(&filter, story, facts.have(Facts::IN_TASK)) {
        return;
    }
    let in_task = facts.have(Facts::IN_TASK);
    let receive = if settles_received { ambiguous::take(sk, in_task) } else { Receive::Absent };
    if receive == Receive::Lost {
        emit::regain_received(in_task);
    }
    let origin = Origin { kind: KIND_SENT, in_task, settles: receive == Receive::Delivered };
    // Of a closed port nothing is known but the packet: there may be very many of these.
    if sk == 0 && !story.is_known() && facts.have(Facts::HEADERS) {
        match flood::pass(tuple, *netns_cookie, header, reason) {
            Passage::HandOver => {}
            Passage::Counted => return,
            Passage::Lost => return emit::lose(origin),
        }
    }
    let Some(mut draft) = Draft::begin(origin) else { return };
    let event = draft.event();
    identify(event, sk, state, tuple);
    event.netns_cookie = *netns_cookie;
    if let Some(reason) = reason {
        event.flags |= EVENT_HAS_REASON;
        event.reason = reason;
    }
    packet::tell(facts.have(Facts::HEADERS).then_some(header), event);
    if is_full() {
        if let Some(full) = full.as_ref().and_then(|full| full(sk)) {
            sock::snapshot(full, event);
            context(full, facts.have(Facts::IN_TASK), event);
        }
    } else if sk != 0 {
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
pub(super) fn context(sk: impl Struct, in_task: bool, event: &mut ResetEvent) {
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
