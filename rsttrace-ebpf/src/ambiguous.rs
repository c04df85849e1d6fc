//! The ambiguous `tcp_receive_reset` that this CPU has just reported, kept for the `tcp_send_reset` that shows it was no
//! receive (`EVENT_MAYBE_SENT`). The user side pairs the two events; this keeps the loss counters exact where one of them
//! finds no room in the buffer, since the pair is one reset.

use crate::maps::AMBIGUOUS;

/// One slot for the task that holds the socket's lock and one for soft interrupts, since only the former can be
/// interrupted by the latter.
pub(crate) type Slots = [Slot; 2];

/// One ambiguous receive. The kernel calls `tcp_send_reset` in the same function, under the same lock, so that the address
/// of the socket identifies it here.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    /// Address of the socket; 0 in an empty slot.
    sk: u64,
    /// 1 when its event was delivered, 0 when it was lost.
    delivered: u64,
}

/// What became of the event of an ambiguous receive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receive {
    /// None was noted for this socket.
    Absent,
    Delivered,
    Lost,
}

#[inline(always)]
fn slot<'a>(in_task: bool) -> Option<&'a mut Slot> {
    let slots = AMBIGUOUS.get_ptr_mut(0)?;
    // SAFETY: this CPU's slot of this context; values of the map are valid as long as the program runs.
    Some(unsafe { &mut *slots.cast::<Slot>().wrapping_add(usize::from(in_task)) })
}

/// Notes an ambiguous receive and whether its event was delivered.
#[inline(always)]
pub(crate) fn note(sk: u64, in_task: bool, delivered: bool) {
    if let Some(slot) = slot(in_task) {
        *slot = Slot { sk, delivered: delivered.into() };
    }
}

/// Takes the note for this socket out of its slot.
#[inline(always)]
pub(crate) fn take(sk: u64, in_task: bool) -> Receive {
    match slot(in_task) {
        Some(slot) if slot.sk == sk => {
            slot.sk = 0;
            if slot.delivered == 0 { Receive::Lost } else { Receive::Delivered }
        }
        _ => Receive::Absent,
    }
}
