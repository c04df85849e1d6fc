//! The ambiguous `tcp_receive_reset` that this CPU has just reported, kept for the `tcp_send_reset` that shows it was no
//! receive (`EVENT_AMBIGUOUS`). The user side pairs the two events; this keeps the loss counters exact where one of them
//! finds no room in the buffer, since the pair is one reset.

use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::{map, sock::Tuple};

/// The last ambiguous receive, on each CPU one of the task that holds the socket's lock and one of soft interrupts, since
/// only the former can be interrupted by the latter.
#[map]
static AMBIGUOUS: PerCpuArray<[AmbiguousReceive; 2]> = PerCpuArray::with_max_entries(1, 0);

/// One ambiguous receive. A true one stays in its slot, and the kernel gives the address of its socket to the next
/// connection at once: only with the ends it identifies the connection.
#[repr(C)]
#[derive(Clone, Copy)]
struct AmbiguousReceive {
    /// Address of the socket; 0 in an empty slot.
    sk: u64,
    /// Hash of the ends, [`Tuple::hash`].
    tuple_hash: u64,
    /// 1 when its event was delivered, 0 when it was lost.
    delivered: u64,
}

/// Outcome of an ambiguous receive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiveOutcome {
    /// None was noted for this connection.
    Absent,
    /// Its event was delivered.
    Delivered,
    /// Its event was lost.
    Lost,
}

#[inline(always)]
fn slot(in_task: bool) -> Option<&'static mut AmbiguousReceive> {
    map::slot_mut(&AMBIGUOUS, 0)?.get_mut(usize::from(in_task))
}

/// Notes an ambiguous receive and whether its event was delivered.
#[inline(always)]
pub(crate) fn note(sk: u64, tuple: &Tuple, in_task: bool, delivered: bool) {
    if let Some(slot) = slot(in_task) {
        *slot = AmbiguousReceive { sk, tuple_hash: tuple.hash(), delivered: delivered.into() };
    }
}

/// Takes the note for this connection out of its slot.
#[inline(always)]
pub(crate) fn take(sk: u64, tuple: &Tuple, in_task: bool) -> ReceiveOutcome {
    match slot(in_task) {
        Some(slot) if slot.sk == sk && slot.tuple_hash == tuple.hash() => {
            slot.sk = 0;
            if slot.delivered == 0 { ReceiveOutcome::Lost } else { ReceiveOutcome::Delivered }
        }
        _ => ReceiveOutcome::Absent,
    }
}
