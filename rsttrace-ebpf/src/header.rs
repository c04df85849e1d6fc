//! The header of the packet that a socket is about to be reset by, handed from `tcp_reset` to `tcp_receive_reset`.

use rsttrace_common::event::Header;

use crate::{maps::HEADERS, packet::Headers, sock};

/// One slot for the task that holds the socket's lock and one for soft interrupts, since only the former can be
/// interrupted by the latter. They lie in one value of the map.
pub(crate) type Slots = [Slot; 2];

/// A header on its way from one program to the next.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    /// Whose it is; 0 when the slot is empty.
    sk: u64,
    header: Header,
}

#[inline(always)]
fn slot(owned: bool) -> Option<*mut Slot> {
    let index = usize::from(owned);
    HEADERS.get_ptr_mut(0).map(|slots| slots.cast::<Slot>().wrapping_add(index))
}

/// Leaves the header of the packet for the socket.
#[inline(always)]
pub(crate) fn leave(sk: u64, skb: u64) {
    let Some(slot) = slot(sock::owned(sk)) else { return };
    // SAFETY: this CPU's slot of this context.
    let slot = unsafe { &mut *slot };
    // One that is still there is not this packet's, even where its socket has the same address.
    slot.sk = 0;
    if let Some(headers) = Headers::of(skb) {
        *slot = Slot { sk, header: headers.kept() };
    }
}

/// Takes the header that was left for the socket; `owned` says whether the task that the CPU runs holds its lock.
#[inline(always)]
pub(crate) fn take(sk: u64, owned: bool) -> Option<Header> {
    let slot = slot(owned)?;
    // SAFETY: this CPU's slot of this context.
    let slot = unsafe { &mut *slot };
    if slot.sk != sk {
        return None;
    }
    slot.sk = 0;
    Some(slot.header)
}
