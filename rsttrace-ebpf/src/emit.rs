//! The way out: a perf ring buffer or a BPF ring buffer, chosen when the object is built. Everything else is the same.
//!
//! An event that finds no room is counted in `LOST`, on the CPU where it was lost.

use aya_ebpf::EbpfContext;
#[cfg(feature = "ring")]
use aya_ebpf::maps::ring_buf::RingBufEntry;
#[cfg(not(feature = "ring"))]
use aya_ebpf::{
    bindings::BPF_F_CURRENT_CPU,
    helpers::generated::{bpf_get_current_pid_tgid, bpf_perf_event_output},
};
use rsttrace_common::event::{
    KIND_FORWARDED, KIND_IGNORED, KIND_RECEIVED, LOST_OTHERS, LOST_RECEIVED, LOST_RECEIVED_IN_TASK, LOST_SENT,
    LOST_SENT_IN_TASK, LOST_UNSETTLED, LOST_UNSETTLED_IN_TASK, ResetEvent,
};

#[cfg(not(feature = "ring"))]
use crate::maps::SCRATCH;
use crate::maps::{EVENTS, LOST};

/// Where an event comes from.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    /// `KIND_*`.
    pub(crate) kind: u8,
    /// Whether the program runs in a task that holds the socket's lock; else in a soft interrupt, or with soft
    /// interrupts off.
    pub(crate) in_task: bool,
    /// Whether the event shows that a delivered `tcp_receive_reset` was no receive.
    pub(crate) settles: bool,
}

impl Origin {
    /// Of an event that settles nothing.
    #[inline(always)]
    pub(crate) const fn new(kind: u8, in_task: bool) -> Self {
        Self { kind, in_task, settles: false }
    }
}

/// An event that is being put together: a record of zeros at first. It must be handed over.
// No closure that fills it: the compiler makes a function of a large one, and its own stack, and what it captures, are
// 128 bytes of the 512.
pub(crate) struct Draft {
    #[cfg(feature = "ring")]
    entry: RingBufEntry<ResetEvent>,
    #[cfg(not(feature = "ring"))]
    slot: *mut ResetEvent,
    #[cfg(not(feature = "ring"))]
    origin: Origin,
}

#[cfg(feature = "ring")]
impl Draft {
    /// `None` when there is no room, which counts.
    #[inline(always)]
    pub(crate) fn begin(origin: Origin) -> Option<Self> {
        let Some(mut entry) = EVENTS.reserve::<ResetEvent>(0) else {
            lose(origin);
            return None;
        };
        zeroed(entry.as_mut_ptr()).kind = origin.kind;
        Some(Self { entry })
    }

    #[inline(always)]
    pub(crate) fn event(&mut self) -> &mut ResetEvent {
        // SAFETY: `begin` has written all of it.
        unsafe { self.entry.assume_init_mut() }
    }

    /// Delivers the event; whether there was room for it. `ctx` is the context of the program.
    #[inline(always)]
    pub(crate) fn hand_over(self, _ctx: &impl EbpfContext) -> bool {
        // 0: wake the reader when it waits, and not while it is still busy with earlier events.
        self.entry.submit(0);
        true
    }
}

#[cfg(not(feature = "ring"))]
impl Draft {
    /// `None` when there is no room, which counts.
    #[inline(always)]
    pub(crate) fn begin(origin: Origin) -> Option<Self> {
        let Some(slot) = SCRATCH.get_ptr_mut(slot(origin)) else {
            lose(origin);
            return None;
        };
        zeroed(slot).kind = origin.kind;
        Some(Self { slot, origin })
    }

    #[inline(always)]
    pub(crate) fn event(&mut self) -> &mut ResetEvent {
        // SAFETY: `begin` has written all of it, and values of the map are valid as long as the program runs.
        unsafe { &mut *self.slot }
    }

    /// Delivers the event; whether there was room for it, otherwise it counts as lost. `ctx` is the context of the program.
    #[inline(always)]
    pub(crate) fn hand_over(self, ctx: &impl EbpfContext) -> bool {
        // The helper itself, since aya's wrapper throws the result away and a full buffer must be counted.
        // SAFETY: the context is the kernel's, the map is a perf event array, and the record is whole.
        let result = unsafe {
            bpf_perf_event_output(
                ctx.as_ptr(),
                (&raw const EVENTS).cast_mut().cast(),
                BPF_F_CURRENT_CPU,
                self.slot.cast(),
                size_of::<ResetEvent>() as u64,
            )
        };
        if result != 0 {
            lose(self.origin);
        }
        result == 0
    }
}

/// Where an event is put together: whoever interrupts another program in the middle has another place. Tasks are
/// interrupted by soft interrupts, and from 7.0 on by other tasks; a packet that is thrown away may be an interrupt's.
#[cfg(not(feature = "ring"))]
#[inline(always)]
fn slot(origin: Origin) -> u32 {
    match origin {
        Origin { in_task: true, .. } => {
            // SAFETY: takes no arguments and cannot fail.
            let ids = unsafe { bpf_get_current_pid_tgid() };
            ids as u32 % TASKS
        }
        Origin { kind: KIND_IGNORED, .. } => TASKS,
        _ => TASKS + 1,
    }
}

/// Tasks by their PID: two that are in the middle of a reset on one CPU seldom have the same slot.
#[cfg(not(feature = "ring"))]
const TASKS: u32 = 8;

/// Slots in all.
#[cfg(not(feature = "ring"))]
pub(crate) const SLOTS: u32 = TASKS + 2;

/// A record of zeros. Word by word: a `memset` of this size becomes a loop over bytes in BPF.
#[inline(always)]
fn zeroed<'a>(event: *mut ResetEvent) -> &'a mut ResetEvent {
    let words = event.cast::<u64>();
    let mut index = 0;
    while index < size_of::<ResetEvent>() / size_of::<u64>() {
        // SAFETY: inside the record, which is a multiple of eight bytes and aligned to them. Volatile, so that the
        // compiler does not make a memset of it.
        unsafe { words.add(index).write_volatile(0) };
        index += 1;
    }
    // SAFETY: every byte has been written, and all zeros is a valid record.
    unsafe { &mut *event }
}

/// Counts a lost event. Counts of events in task context have a slot of their own: only those can be interrupted (by a
/// soft interrupt, which counts in the other slot), so a plain addition is exact. BPF's atomic addition is out of reach
/// of stable Rust.
#[inline(always)]
pub(crate) fn lose(origin: Origin) {
    let slot = match origin {
        Origin { kind: KIND_IGNORED | KIND_FORWARDED, .. } => LOST_OTHERS,
        Origin { kind: KIND_RECEIVED, in_task: true, .. } => LOST_RECEIVED_IN_TASK,
        Origin { kind: KIND_RECEIVED, in_task: false, .. } => LOST_RECEIVED,
        Origin { in_task: true, settles: true, .. } => LOST_UNSETTLED_IN_TASK,
        Origin { in_task: false, settles: true, .. } => LOST_UNSETTLED,
        Origin { in_task: true, .. } => LOST_SENT_IN_TASK,
        Origin { in_task: false, .. } => LOST_SENT,
    };
    add(slot, 1);
}

/// Takes back one lost `tcp_receive_reset`, counted on this CPU in this context, that was no receive.
#[inline(always)]
pub(crate) fn regain_received(in_task: bool) {
    add(if in_task { LOST_RECEIVED_IN_TASK } else { LOST_RECEIVED }, 1_u64.wrapping_neg());
}

#[inline(always)]
fn add(slot: u32, amount: u64) {
    if let Some(count) = LOST.get_ptr_mut(slot) {
        // SAFETY: this CPU's slot of this context. Wrapping, as all of BPF's arithmetic.
        unsafe { *count = (*count).wrapping_add(amount) };
    }
}
