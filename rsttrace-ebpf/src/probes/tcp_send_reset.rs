//! `tcp:tcp_send_reset`: this host sends a reset.
//!
//! The arguments have changed once, so there are two programs: up to 6.9 the tracepoint has `(sk, skb)`, and a program that
//! reads a third argument is refused when it is attached; from 6.10 on there is a reason, and the event comes for closed
//! ports (no socket) and TIME_WAIT sockets as well.

use core::mem::MaybeUninit;

use aya_ebpf::{EbpfContext, macros::btf_tracepoint, programs::BtfTracePointContext};
use rsttrace_common::{
    abi::tcp,
    event::{EVENT_HAS_REASON, EVENT_TIME_WAIT},
};

use super::report::{ResetFlags, ResetInfo, write_actor, write_identity};
use crate::{
    ambiguous::{self, ReceiveOutcome},
    args::{arg_fingerprint, scalar_args},
    closed,
    emit::{self, EventBuilder, EventSource},
    filter,
    flood::{self, Verdict},
    headers::{self, Headers},
    history, holder_lookup,
    kernel_struct::{BtfPtr, KernelStruct, SKC_COOKIE, SKC_NET, TW_SUBSTATE, copy},
    log::debug,
    recursion::with_backups,
    sock, table,
    verifier::launder,
};

with_backups! {
    /// From 6.10 on: `(const struct sock *sk, const struct sk_buff *skb, enum sk_rst_reason reason)`.
    program: tcp_send_reset, backups: send_reset_bak1 = First, send_reset_bak2 = Second;
    hook: btf_tracepoint(function = "tcp_send_reset") => SendReset;
    |ctx: BtfTracePointContext| arg_fingerprint(&ctx), report_typed(&ctx, Some(ctx.arg(2)))
}

with_backups! {
    /// Up to 6.9: `(const struct sock *sk, const struct sk_buff *skb)`.
    program: send_reset_2arg, backups: send_2arg_bak1 = First;
    hook: btf_tracepoint(function = "tcp_send_reset") => SendReset;
    |ctx: BtfTracePointContext| arg_fingerprint(&ctx), report_typed(&ctx, None)
}

#[inline(always)]
fn report_typed(ctx: &BtfTracePointContext, reason: Option<u32>) {
    // The scalars alone tell whether there is a socket, and a packet; see `BtfPtr::argument`.
    let [sk, skb] = scalar_args(ctx);
    let typed = |scalar: u64, position| if scalar == 0 { None } else { BtfPtr::argument(ctx, position) };
    let args = ResetArgs { sk: typed(sk, 0), skb: typed(skb, 1) };
    // Casts anew each time: about a pointer that is kept, the verifier knows more and more.
    report(ctx, args, Some(|sk| typed(sk, 0).and_then(sock::to_tcp_sock)), reason);
}

/// Arguments of the kernel functions that send a reset.
#[derive(Clone, Copy)]
pub(super) struct ResetArgs<S> {
    /// `struct sock`, which may be a mini-socket.
    pub(super) sk: Option<S>,
    /// The packet that provoked the reset.
    pub(super) skb: Option<S>,
}

/// Reads what the socket and the packet say. The socket knows the tuple, or, for a listener, TIME_WAIT and no socket, the
/// packet does.
#[inline(always)]
fn gather<S: KernelStruct>(info: &mut ResetInfo, args: ResetArgs<S>, full: Option<BtfPtr>) {
    let mut netns = 0;
    if let Some(sk) = args.sk {
        info.state = sock::state(sk);
        let net = sk.deref(&SKC_NET);
        netns = sock::netns(net);
        info.netns_cookie = sock::netns_cookie(net);
    }
    if let Some(full) = full {
        info.flags.set_if(true, ResetFlags::FULL_SOCKET);
        info.flags.set_if(sock::owned_by_user(full), ResetFlags::IN_TASK);
        if info.state != tcp::LISTEN {
            sock::read_tuple(full, &mut info.tuple);
        }
    }
    let Some(skb) = args.skb else { return };
    let Some(headers) = Headers::of(skb) else { return };
    info.flags.set_if(true, ResetFlags::HAS_PACKET);
    info.header = headers.summary();
    if full.is_none() || info.state == tcp::LISTEN {
        headers.read_tuple(&mut info.tuple);
        info.tuple.netns = netns;
        if netns == 0 {
            let net = headers::net(skb);
            info.tuple.netns = sock::netns(net);
            info.netns_cookie = sock::netns_cookie(net);
        }
    }
}

/// Reports a sent reset. `full` casts the socket at an address to a full TCP socket, if the hook can have one (otherwise the
/// code for full sockets, which is most of what the verifier has to walk, is not in the program). `reason` is `None` where
/// the kernel gives none.
#[inline(always)]
pub(super) fn report<S: KernelStruct>(
    ctx: &impl EbpfContext,
    args: ResetArgs<S>,
    full: Option<impl Fn(u64) -> Option<BtfPtr>>,
    reason: Option<u32>,
) {
    let [sk, skb] = [args.sk, args.skb].map(|pointer| pointer.map_or(0, S::address));
    let mut gathered = ResetInfo::new(sk, skb);
    gather(&mut gathered, args, full.as_ref().and_then(|full| full(sk)));
    let mut info = MaybeUninit::uninit();
    // Many verifier states converge here; drop what it knows so that they merge.
    let ResetInfo { sk, netns_cookie, skb, tuple, header, interface: _, state, flags } = launder(&gathered, &mut info);
    let (sk, skb, state) = (*sk, *skb, *state);
    debug!(ctx, "state {} packet {}", state, u8::from(skb != 0));

    let filter = filter::load();
    // A reset in answer to data, for a socket that is already closed, resolves an ambiguous `tcp_receive_reset` just before.
    let may_resolve_ambiguous = state == tcp::CLOSE && skb != 0;
    if !filter::wants_sent(&filter, may_resolve_ambiguous) || !filter::wants_tuple(&filter, tuple) {
        return;
    }
    let Some(unknown) = table::unknown() else { return };
    let is_full = || full.is_some() && flags.contains(ResetFlags::FULL_SOCKET);
    // A SYN opens a connection of its own: an earlier one with this tuple has nothing to do with its refusal.
    let is_refusal =
        (sk == 0 || state == tcp::LISTEN) && flags.contains(ResetFlags::HAS_PACKET) && headers::is_initial_syn(header);
    let history = if is_full() {
        history::get(sk, state)
    } else if is_refusal {
        None
    } else {
        // Soft interrupts are off where there is no full socket.
        closed::copy_to_scratch(tuple)
    };
    let history = history.unwrap_or(unknown);
    if !filter::wants_owner(&filter, history, flags.contains(ResetFlags::IN_TASK)) {
        return;
    }
    let in_task = flags.contains(ResetFlags::IN_TASK);
    let receive = if may_resolve_ambiguous { ambiguous::take(sk, tuple, in_task) } else { ReceiveOutcome::Absent };
    if receive == ReceiveOutcome::Lost {
        emit::uncount_lost_received(in_task);
    }
    let source = EventSource::Sent { in_task, resolves_ambiguous: receive == ReceiveOutcome::Delivered };
    // A reset from a closed port, about which only the packet is known: there may be very many of these.
    if sk == 0 && !history.is_tracked() && flags.contains(ResetFlags::HAS_PACKET) {
        match flood::admit(tuple, *netns_cookie, header, reason) {
            Verdict::Pass => {}
            Verdict::Aggregated => return,
            Verdict::Drop => return emit::count_lost(source),
        }
    }
    let Some(mut builder) = EventBuilder::reserve(source) else { return };
    let event = builder.event();
    write_identity(event, sk, state, tuple, *netns_cookie);
    if let Some(reason) = reason {
        event.flags |= EVENT_HAS_REASON;
        event.reason = reason;
    }
    if flags.contains(ResetFlags::HAS_PACKET) {
        headers::write_packet(header, event);
    }
    if is_full() {
        if let Some(full) = full.as_ref().and_then(|full| full(sk)) {
            sock::snapshot(full, event);
            write_actor(full, flags.contains(ResetFlags::IN_TASK), event);
        }
    } else if sk != 0 {
        // A TIME_WAIT socket has only what it shares with full sockets, and a few fields of its own.
        event.flags |= EVENT_TIME_WAIT;
        copy(sk, &SKC_COOKIE, &mut event.cookie);
        copy(sk, &TW_SUBSTATE, &mut event.substate);
    }
    history::write_to_event(history, event);
    // A listener answers segments of connections that this host has closed as well.
    if !is_refusal && (!is_full() || state == tcp::LISTEN) {
        closed::write_ending(tuple, event);
    }
    if is_full() {
        holder_lookup::request(sk, history, event);
    }
    builder.submit(ctx);
}
