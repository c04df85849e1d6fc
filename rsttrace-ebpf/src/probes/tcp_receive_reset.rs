//! `tcp:tcp_receive_reset`: a full socket processes a reset from its peer.
//!
//! Or so its name says. The kernel runs the same function when data arrives for a socket that this host has shut down
//! for receiving; then no reset has come, and this host is about to send one (`tcp_rcv_state_process`). Only the
//! `tcp_send_reset` that follows tells the two apart, so such an event is marked and the user side settles it.

use core::mem::MaybeUninit;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use rsttrace_common::{
    event::{EVENT_MAYBE_SENT, Header, KIND_RECEIVED},
    names::{tcp, tcp_flag},
};

use super::tcp_send_reset::{context, identify};
use crate::{
    ambiguous,
    arguments::apart,
    awaited,
    emit::{Draft, Origin},
    fields::{Fields as _, SKC_NET, Struct as _, Typed},
    filter,
    forget::{Facts, forget},
    header,
    log::debug,
    nested, packet,
    sock::{self, Tuple},
    story, table,
};

/// `RCV_SHUTDOWN` of `include/net/sock.h`.
const RCV_SHUTDOWN: u8 = 1;

/// `(struct sock *sk)`, from 4.15 to today.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub(crate) fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    nested::first(nested::RECEIVED, &ctx, run(&ctx), || report(&ctx));
    0
}

/// Behind it.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub(crate) fn tcp_receive_reset_left_out(ctx: BtfTracePointContext) -> i32 {
    nested::if_left_out(nested::RECEIVED, nested::SECOND, &ctx, run(&ctx), || report(&ctx));
    0
}

/// Behind that.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub(crate) fn tcp_receive_reset_left_out_twice(ctx: BtfTracePointContext) -> i32 {
    nested::if_left_out(nested::RECEIVED, nested::THIRD, &ctx, run(&ctx), || report(&ctx));
    0
}

#[inline(always)]
fn run(ctx: &BtfTracePointContext) -> [u64; 2] {
    let [sk] = apart(ctx);
    [sk, 0]
}

#[inline(always)]
fn full(ctx: &BtfTracePointContext) -> Option<Typed> {
    Typed::argument(ctx, 0).and_then(sock::of_tcp)
}

/// What a reset is about, as far as the socket says at once.
#[derive(Clone, Copy)]
struct Subject {
    sk: u64,
    /// See `ResetEvent`.
    netns_cookie: u64,
    tuple: Tuple,
    /// Of the packet that came, if it was seen.
    header: Header,
    state: u8,
    facts: Facts,
}

impl Subject {
    /// `false` when it is no reset.
    #[inline(always)]
    fn look(&mut self, sk: Typed) -> bool {
        self.state = sock::state(sk);
        let owned = sock::owned(sk);
        self.facts.add(Facts::IN_TASK, owned);
        // From `tcp_reset`, where the kernel lets us see it.
        if let Some(header) = header::take(sk.address(), owned) {
            if header.flags & tcp_flag::RST == 0 {
                // It is data after a shutdown; the reset that this host sends for it is reported when it is sent.
                return false;
            }
            self.header = header;
            self.facts.add(Facts::HEADERS, true);
        } else if sock::shutdown(sk) & RCV_SHUTDOWN != 0 {
            let may_be_data =
                matches!(self.state, tcp::FIN_WAIT1 | tcp::FIN_WAIT2 | tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING);
            self.facts.add(Facts::MAYBE_SENT, may_be_data);
        }
        sock::ends(sk, &mut self.tuple);
        self.netns_cookie = sock::netns_cookie(sk.target(&SKC_NET));
        true
    }
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext) {
    let Some(sk) = full(ctx) else { return };
    let mut seen = Subject {
        sk: sk.address(),
        netns_cookie: 0,
        tuple: Tuple::EMPTY,
        header: Header::default(),
        state: 0,
        facts: Facts::NONE,
    };
    if !seen.look(sk) {
        return;
    }
    let mut subject = MaybeUninit::uninit();
    // Ways to get here are many, and all the same from here on.
    let Subject { sk, netns_cookie, tuple, header, state, facts } = forget(&seen, &mut subject);
    let (sk, state) = (*sk, *state);
    debug!(ctx, "state {}", state);
    let filter = filter::load();
    if !filter::wants_received(&filter) || !filter::wants_ends(&filter, tuple) {
        return;
    }
    let Some(nobody) = table::nobody() else { return };
    let story = story::of_socket(sk, state).unwrap_or(nobody);
    if !filter::wants_owner(&filter, story, facts.have(Facts::IN_TASK)) {
        return;
    }
    let origin = Origin::new(KIND_RECEIVED, facts.have(Facts::IN_TASK));
    let Some(mut draft) = Draft::begin(origin) else {
        if facts.have(Facts::MAYBE_SENT) {
            ambiguous::note(sk, facts.have(Facts::IN_TASK), false);
        }
        return;
    };
    let event = draft.event();
    identify(event, sk, state, tuple);
    event.netns_cookie = *netns_cookie;
    if facts.have(Facts::MAYBE_SENT) {
        event.flags |= EVENT_MAYBE_SENT;
    }
    if facts.have(Facts::HEADERS) {
        packet::tell(Some(header), event);
    }
    if let Some(full) = full(ctx) {
        sock::snapshot(full, event);
        context(full, facts.have(Facts::IN_TASK), event);
    }
    story::tell(story, event);
    awaited::await_holder(sk, story, event);
    let delivered = draft.hand_over(ctx);
    if facts.have(Facts::MAYBE_SENT) {
        ambiguous::note(sk, facts.have(Facts::IN_TASK), delivered);
    }
}
