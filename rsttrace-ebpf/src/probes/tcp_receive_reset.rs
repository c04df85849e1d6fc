//! `tcp:tcp_receive_reset`: a full socket processes a reset from its peer.
//!
//! Or so its name says. The kernel runs `tcp_reset` also when data arrives for a socket that this host has shut down for
//! receiving; then no reset has come, and this host is about to send one (`tcp_rcv_state_process`). Only the
//! `tcp_send_reset` that follows tells the two apart, so such an event is marked, and the user side reclassifies it.

use core::mem::MaybeUninit;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use rsttrace_common::{
    abi::{tcp, tcp_flag},
    event::EVENT_AMBIGUOUS,
};

use super::report::{ResetFlags, ResetInfo, write_actor, write_identity};
use crate::{
    ambiguous,
    args::arg_fingerprint,
    emit::{EventBuilder, EventSource},
    filter, headers, history, holder_lookup,
    kernel_struct::{BtfPtr, KernelStruct as _, ReadField as _, SKC_NET},
    log::debug,
    recursion::with_backups,
    rst_header, sock, table,
    verifier::launder,
};

/// `RCV_SHUTDOWN` of `include/net/sock.h`.
const RCV_SHUTDOWN: u8 = 1;

with_backups! {
    /// `(struct sock *sk)`, from 4.15 to today.
    program: tcp_receive_reset, backups: recv_reset_bak1 = First, recv_reset_bak2 = Second;
    hook: btf_tracepoint(function = "tcp_receive_reset") => ReceiveReset;
    |ctx: BtfTracePointContext| fingerprint(&ctx), report(&ctx)
}

#[inline(always)]
fn fingerprint(ctx: &BtfTracePointContext) -> [u64; 2] {
    let [sk] = arg_fingerprint(ctx);
    [sk, 0]
}

#[inline(always)]
fn full_socket(ctx: &BtfTracePointContext) -> Option<BtfPtr> {
    BtfPtr::argument(ctx, 0).and_then(sock::to_tcp_sock)
}

/// Reads what the socket and the stashed header say; `false` when it is certainly no reset.
#[inline(always)]
fn gather(info: &mut ResetInfo, sk: BtfPtr) -> bool {
    info.state = sock::state(sk);
    let in_task = sock::owned_by_user(sk);
    info.flags.set_if(in_task, ResetFlags::IN_TASK);
    // Only where the kernel lets `tcp_reset` be traced.
    if let Some((header, interface)) = rst_header::take(sk.address(), in_task) {
        if header.flags & tcp_flag::RST == 0 {
            // Data after a shutdown; the reset that this host sends for it is reported when it is sent.
            return false;
        }
        info.header = header;
        info.interface = interface;
        info.flags.set_if(true, ResetFlags::HAS_PACKET);
    } else if sock::shutdown(sk) & RCV_SHUTDOWN != 0 {
        let may_be_data =
            matches!(info.state, tcp::FIN_WAIT1 | tcp::FIN_WAIT2 | tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING);
        info.flags.set_if(may_be_data, ResetFlags::AMBIGUOUS);
    }
    sock::read_tuple(sk, &mut info.tuple);
    info.netns_cookie = sock::netns_cookie(sk.deref(&SKC_NET));
    true
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext) {
    let Some(sk) = full_socket(ctx) else { return };
    let mut gathered = ResetInfo::new(sk.address(), 0);
    if !gather(&mut gathered, sk) {
        return;
    }
    let mut info = MaybeUninit::uninit();
    // Many verifier states converge here; drop what it knows so that they merge.
    let ResetInfo { sk, netns_cookie, skb: _, tuple, header, interface, state, flags } = launder(&gathered, &mut info);
    let (sk, state) = (*sk, *state);
    debug!(ctx, "state {}", state);
    let filter = filter::load();
    if !filter::wants_received(&filter) || !filter::wants_tuple(&filter, tuple) {
        return;
    }
    let Some(unknown) = table::unknown() else { return };
    let history = history::get(sk, state).unwrap_or(unknown);
    if !filter::wants_owner(&filter, history, flags.contains(ResetFlags::IN_TASK)) {
        return;
    }
    let source = EventSource::Received { in_task: flags.contains(ResetFlags::IN_TASK) };
    let Some(mut builder) = EventBuilder::reserve(source) else {
        if flags.contains(ResetFlags::AMBIGUOUS) {
            ambiguous::note(sk, tuple, flags.contains(ResetFlags::IN_TASK), false);
        }
        return;
    };
    let event = builder.event();
    write_identity(event, sk, state, tuple, *netns_cookie);
    if flags.contains(ResetFlags::AMBIGUOUS) {
        event.flags |= EVENT_AMBIGUOUS;
    }
    if flags.contains(ResetFlags::HAS_PACKET) {
        headers::write_packet(header, event);
        event.interface = *interface;
    }
    if let Some(full) = full_socket(ctx) {
        sock::snapshot(full, event);
        write_actor(full, flags.contains(ResetFlags::IN_TASK), event);
    }
    history::write_to_event(history, event);
    holder_lookup::request(sk, history, event);
    let delivered = builder.submit(ctx);
    if flags.contains(ResetFlags::AMBIGUOUS) {
        ambiguous::note(sk, tuple, flags.contains(ResetFlags::IN_TASK), delivered);
    }
}
