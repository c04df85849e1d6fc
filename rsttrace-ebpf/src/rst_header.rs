//! The header of the packet that is about to reset a socket, passed from `tcp_reset` to `tcp_receive_reset`.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use rsttrace_common::event::PacketHeader;

use crate::{
    headers::Headers,
    kernel_struct::{SKB_IIF, field},
    map, sock,
};

/// Headers that `tcp_reset` stashed, on each CPU one for the task that holds the socket's lock and one for soft interrupts,
/// since only the former can be interrupted by the latter.
#[map]
static RST_HEADERS: PerCpuArray<[StashedHeader; 2]> = PerCpuArray::with_max_entries(1, 0);

/// A stashed header.
#[repr(C)]
#[derive(Clone, Copy)]
struct StashedHeader {
    /// Address of the socket; 0 in an empty slot.
    sk: u64,
    /// Index of the interface that the packet arrived on.
    interface: u32,
    header: PacketHeader,
}

#[inline(always)]
fn slot(in_task: bool) -> Option<&'static mut StashedHeader> {
    map::slot_mut(&RST_HEADERS, 0)?.get_mut(usize::from(in_task))
}

/// Stashes the packet's header for the socket.
#[inline(always)]
pub(crate) fn stash(sk: u64, skb: u64) {
    let Some(slot) = slot(sock::owned_by_user(sk)) else { return };
    // A header that is still there is of another packet, even where its socket has this address.
    slot.sk = 0;
    if let Some(headers) = Headers::of(skb) {
        *slot = StashedHeader { sk, interface: field(skb, &SKB_IIF), header: headers.summary() };
    }
}

/// Takes the header that was stashed for the socket, with the index of the interface that the packet arrived on. `in_task`
/// tells whether the current task holds the socket's lock.
#[inline(always)]
pub(crate) fn take(sk: u64, in_task: bool) -> Option<(PacketHeader, u32)> {
    let slot = slot(in_task)?;
    if slot.sk != sk {
        return None;
    }
    slot.sk = 0;
    Some((slot.header, slot.interface))
}
