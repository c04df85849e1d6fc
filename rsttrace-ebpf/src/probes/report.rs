//! Parts that the reports of sent and received resets have in common.

use core::ptr;

use rsttrace_common::event::{EVENT_EXITING, EVENT_OWNED_BY_USER, PacketHeader, ResetEvent};

use crate::{
    helpers::{jiffies, ktime_ns},
    kernel_struct::KernelStruct,
    sock::{self, Tuple},
    task::{self, TaskFlags},
};

/// A reset, as far as its filters need it.
#[derive(Clone, Copy)]
pub(super) struct ResetInfo {
    /// Address of the socket; 0 without one.
    pub(super) sk: u64,
    /// See `ResetEvent`.
    pub(super) netns_cookie: u64,
    /// Address of the packet that provoked a sent reset; 0 when this host resets of its own accord, and for a received reset.
    pub(super) skb: u64,
    pub(super) tuple: Tuple,
    /// Valid with [`ResetFlags::HAS_PACKET`]; see `ResetEvent::packet`.
    pub(super) header: PacketHeader,
    /// See `ResetEvent`; of a received reset.
    pub(super) interface: u32,
    /// State of the socket; 0 without one.
    pub(super) state: u8,
    pub(super) flags: ResetFlags,
}

impl ResetInfo {
    /// Information about a reset of the socket, provoked by the packet, to be filled in.
    #[inline(always)]
    pub(super) const fn new(sk: u64, skb: u64) -> Self {
        Self {
            sk,
            netns_cookie: 0,
            skb,
            tuple: Tuple::EMPTY,
            header: PacketHeader {
                seq: 0,
                ack: 0,
                window: 0,
                id: 0,
                length: 0,
                ttl: 0,
                flags: 0,
                payload: 0,
                padding: 0,
            },
            interface: 0,
            state: 0,
            flags: ResetFlags::NONE,
        }
    }
}

/// Bits that are true or false for a reset, and tested in several places. Each test reads memory anew: the compiler would
/// keep the value in a register, and the verifier would walk each combination of bits that it has branched on.
#[derive(Clone, Copy)]
pub(super) struct ResetFlags(u8);

impl ResetFlags {
    const NONE: Self = Self(0);
    /// The packet's headers were read.
    pub(super) const HAS_PACKET: Self = Self(1 << 0);
    /// There is a full socket.
    pub(super) const FULL_SOCKET: Self = Self(1 << 1);
    /// The current task holds the socket's lock.
    pub(super) const IN_TASK: Self = Self(1 << 2);
    /// `EVENT_AMBIGUOUS`: the received packet may be no reset.
    pub(super) const AMBIGUOUS: Self = Self(1 << 3);

    #[inline(always)]
    pub(super) fn set_if(&mut self, condition: bool, flag: Self) {
        if condition {
            self.0 |= flag.0;
        }
    }

    #[inline(always)]
    pub(super) fn contains(&self, flag: Self) -> bool {
        // SAFETY: a reference is valid.
        unsafe { ptr::from_ref(&self.0).read_volatile() & flag.0 != 0 }
    }
}

/// Writes time, tuple and state of the reset.
#[inline(always)]
pub(super) fn write_identity(event: &mut ResetEvent, sk: u64, state: u8, tuple: &Tuple, netns_cookie: u64) {
    event.ktime_ns = ktime_ns();
    event.now_jiffies = jiffies();
    event.sk = sk;
    event.state = state;
    event.netns_cookie = netns_cookie;
    sock::write_tuple(event, tuple);
}

/// Writes what the current task does with a full socket: `sk_shutdown`, and, if the task holds the socket's lock, the task.
#[inline(always)]
pub(super) fn write_actor(sk: impl KernelStruct, in_task: bool, event: &mut ResetEvent) {
    event.shutdown = sock::shutdown(sk);
    let flags = TaskFlags::current();
    if in_task && !flags.is_kernel() {
        event.flags |= EVENT_OWNED_BY_USER;
        if flags.is_exiting() {
            event.flags |= EVENT_EXITING;
            event.exit_code = task::exit_code();
        }
        task::current(&mut event.actor);
    }
}
