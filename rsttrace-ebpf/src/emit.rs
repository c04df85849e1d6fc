//! Events into the buffer: a perf ring buffer or a BPF ring buffer, chosen when the object is built. No other module differs
//! between the two.
//!
//! An event that finds no room is counted in `LOST`, on the CPU where it was lost.

#[cfg(feature = "ring")]
use aya_ebpf::maps::{RingBuf, ring_buf::RingBufEntry};
use aya_ebpf::{EbpfContext, macros::map, maps::PerCpuArray};
#[cfg(not(feature = "ring"))]
use aya_ebpf::{bindings::BPF_F_CURRENT_CPU, helpers::generated::bpf_perf_event_output, maps::PerfEventArray};
use rsttrace_common::event::{
    KIND_FORWARDED, KIND_IGNORED, KIND_RECEIVED, KIND_REJECTED, KIND_SENT, LOST_OTHERS, LOST_RECEIVED,
    LOST_RECEIVED_IN_TASK, LOST_SENT, LOST_SENT_IN_TASK, LOST_SLOTS, LOST_UNSETTLED, LOST_UNSETTLED_IN_TASK,
    ResetEvent,
};

#[cfg(not(feature = "ring"))]
use crate::helpers;
use crate::map;

/// Events for the user side.
#[cfg(not(feature = "ring"))]
#[map]
static EVENTS: PerfEventArray<ResetEvent> = PerfEventArray::new(0);

/// Events for the user side, which sets the size.
#[cfg(feature = "ring")]
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Events under construction, before they are copied into the perf ring buffer: the stack is too small for one. See
/// [`EventSource::scratch_slot`].
#[cfg(not(feature = "ring"))]
#[map]
static SCRATCH: PerCpuArray<ResetEvent> = PerCpuArray::with_max_entries(SCRATCH_SLOTS, 0);

/// Events that found no room, by `LOST_*`.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOST_SLOTS, 0);

/// Hook and context that an event comes from.
#[derive(Clone, Copy)]
pub(crate) enum EventSource {
    /// `tcp_send_reset`, or one of the functions that send a reset without a full socket.
    Sent {
        /// Whether the current task holds the socket's lock. If not, the program runs in a soft interrupt, or with soft
        /// interrupts off.
        in_task: bool,
        /// Whether the event shows that a delivered `tcp_receive_reset` was no receive.
        resolves_ambiguous: bool,
    },
    /// `tcp_receive_reset`.
    Received {
        /// Whether the current task holds the socket's lock.
        in_task: bool,
    },
    /// `nf_send_reset`.
    Rejected {
        /// Whether the rejected packet is one that this host sends.
        in_task: bool,
    },
    /// `kfree_skb`.
    Ignored,
    /// The classifier of `--forwarded`.
    Forwarded,
}

impl EventSource {
    /// `KIND_*`.
    #[inline(always)]
    const fn kind(self) -> u8 {
        match self {
            Self::Sent { .. } => KIND_SENT,
            Self::Received { .. } => KIND_RECEIVED,
            Self::Rejected { .. } => KIND_REJECTED,
            Self::Ignored => KIND_IGNORED,
            Self::Forwarded => KIND_FORWARDED,
        }
    }

    /// Index in [`LOST`]. Events in task context have slots of their own: only those can be interrupted (by a soft interrupt,
    /// which counts in the other slot), so a plain addition is exact. BPF's atomic addition is out of reach of stable Rust.
    #[inline(always)]
    const fn lost_slot(self) -> u32 {
        match self {
            Self::Sent { in_task: true, resolves_ambiguous: true } => LOST_UNSETTLED_IN_TASK,
            Self::Sent { in_task: false, resolves_ambiguous: true } => LOST_UNSETTLED,
            Self::Sent { in_task: true, resolves_ambiguous: false } | Self::Rejected { in_task: true } => {
                LOST_SENT_IN_TASK
            }
            Self::Sent { in_task: false, resolves_ambiguous: false } | Self::Rejected { in_task: false } => LOST_SENT,
            Self::Received { in_task: true } => LOST_RECEIVED_IN_TASK,
            Self::Received { in_task: false } => LOST_RECEIVED,
            Self::Ignored | Self::Forwarded => LOST_OTHERS,
        }
    }

    /// Index in [`SCRATCH`]: a program that interrupts another has another slot. Tasks are interrupted by soft interrupts,
    /// and from 7.0 on preempted by other tasks; a packet may be discarded in a hard interrupt.
    #[cfg(not(feature = "ring"))]
    #[inline(always)]
    fn scratch_slot(self) -> u32 {
        match self {
            Self::Sent { in_task: true, .. } | Self::Received { in_task: true } | Self::Rejected { in_task: true } => {
                helpers::current_pid_tgid() as u32 % TASK_SLOTS
            }
            Self::Ignored => TASK_SLOTS,
            Self::Sent { in_task: false, .. }
            | Self::Received { in_task: false }
            | Self::Rejected { in_task: false }
            | Self::Forwarded => TASK_SLOTS + 1,
        }
    }
}

/// Slots of [`SCRATCH`] for tasks, by thread id: two tasks that are in the middle of a reset on one CPU seldom share one.
#[cfg(not(feature = "ring"))]
const TASK_SLOTS: u32 = 8;

/// Slots of [`SCRATCH`].
#[cfg(not(feature = "ring"))]
const SCRATCH_SLOTS: u32 = TASK_SLOTS + 2;

/// An event under construction, all zeros but for its kind when it is reserved.
// No closure that fills it in: the compiler makes a function of a large one, and its own stack, and what it captures, are
// 128 bytes of the 512.
#[must_use = "an event that was reserved must be submitted"]
pub(crate) struct EventBuilder {
    #[cfg(feature = "ring")]
    entry: RingBufEntry<ResetEvent>,
    #[cfg(not(feature = "ring"))]
    event: &'static mut ResetEvent,
    #[cfg(not(feature = "ring"))]
    source: EventSource,
}

#[cfg(feature = "ring")]
impl EventBuilder {
    /// Reserves an event; `None` when there is no room, which is counted.
    #[inline(always)]
    pub(crate) fn reserve(source: EventSource) -> Option<Self> {
        let Some(mut entry) = EVENTS.reserve::<ResetEvent>(0) else {
            count_lost(source);
            return None;
        };
        zeroed(entry.as_mut_ptr()).kind = source.kind();
        Some(Self { entry })
    }

    #[inline(always)]
    pub(crate) fn event(&mut self) -> &mut ResetEvent {
        // SAFETY: `reserve` has written all of it.
        unsafe { self.entry.assume_init_mut() }
    }

    /// Submits the event. Returns `true`: the room was reserved. `_ctx` is the program's context.
    #[inline(always)]
    pub(crate) fn submit(self, _ctx: &impl EbpfContext) -> bool {
        // flags = 0: notify the consumer only if it has caught up.
        self.entry.submit(0);
        true
    }
}

#[cfg(not(feature = "ring"))]
impl EventBuilder {
    /// Takes a scratch slot; never `None`, since the slot always exists.
    #[inline(always)]
    pub(crate) fn reserve(source: EventSource) -> Option<Self> {
        let Some(event) = map::slot_mut(&SCRATCH, source.scratch_slot()) else {
            count_lost(source);
            return None;
        };
        let event = zeroed(event);
        event.kind = source.kind();
        Some(Self { event, source })
    }

    #[inline(always)]
    pub(crate) fn event(&mut self) -> &mut ResetEvent {
        self.event
    }

    /// Submits the event. Returns whether there was room for it in the buffer; if not, it is counted as lost. `ctx` is the
    /// program's context.
    #[inline(always)]
    pub(crate) fn submit(self, ctx: &impl EbpfContext) -> bool {
        // The helper itself, since aya's wrapper discards the result, and a full buffer must be counted.
        // SAFETY: the context is the kernel's, the map is a perf event array, and the record is complete.
        let result = unsafe {
            bpf_perf_event_output(
                ctx.as_ptr(),
                (&raw const EVENTS).cast_mut().cast(),
                BPF_F_CURRENT_CPU,
                (&raw mut *self.event).cast(),
                size_of::<ResetEvent>() as u64,
            )
        };
        if result != 0 {
            count_lost(self.source);
        }
        result == 0
    }
}

/// Zeroes a record, word by word: a `memset` of this size becomes a loop over bytes in BPF.
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

/// Counts a lost event.
#[inline(always)]
pub(crate) fn count_lost(source: EventSource) {
    add(source.lost_slot(), 1);
}

/// Takes back one lost `tcp_receive_reset`, counted on this CPU in this context, that was no receive.
#[inline(always)]
pub(crate) fn uncount_lost_received(in_task: bool) {
    add(EventSource::Received { in_task }.lost_slot(), 1_u64.wrapping_neg());
}

/// Adds to a counter of this CPU and context; wraps, like all of BPF's arithmetic.
#[inline(always)]
fn add(slot: u32, amount: u64) {
    if let Some(count) = map::slot_mut(&LOST, slot) {
        *count = count.wrapping_add(amount);
    }
}
