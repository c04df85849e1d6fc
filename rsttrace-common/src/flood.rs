//! Aggregation of floods of resets to closed ports, and the flow control between the two sides.

use crate::event::{Address, PacketHeader};
use crate::limits::AGGREGATES_PER_CPU;

wire! {
    /// Resets to closed ports that the kernel side counted instead of reporting each: a slot of the map `AGGREGATES`.
    /// They have all but the peer's port in common: the addresses, the local port, the namespace, the reason, and the TCP
    /// flags of the packet that provoked them.
    pub struct Aggregate: 104 {
        /// Checksum of all fields but itself; see [`Aggregate::is_consistent`].
        0 => pub checksum: u64,
        /// Resets counted in this slot since the start, under any key. The user side subtracts what it has drained; until
        /// it has drained all of them the slot is not reused for another key.
        8 => pub total: u64,
        /// Time of the latest one, nanoseconds of `CLOCK_MONOTONIC`.
        16 => pub last_ns: u64,
        /// Address of this host's end.
        24 => pub local_address: Address,
        /// Address of the peer.
        40 => pub peer_address: Address,
        /// Inode number of the network namespace.
        56 => pub netns: u32,
        /// Port of this host's end, in host byte order.
        60 => pub local_port: u16,
        /// Port of the peer's end of the first one, in host byte order.
        62 => pub peer_port: u16,
        /// `EVENT_HAS_REASON` or 0.
        64 => pub flags: u32,
        /// See [`ResetEvent::reason`](crate::event::ResetEvent::reason).
        68 => pub reason: u32,
        /// Header of the packet that provoked the first one.
        72 => pub packet: PacketHeader,
        /// Zero.
        92 => pub padding: u32,
        /// See [`ResetEvent::netns_cookie`](crate::event::ResetEvent::netns_cookie).
        96 => pub netns_cookie: u64,
    }
}

impl Aggregate {
    /// Stores the checksum of the current contents.
    #[inline]
    pub const fn update_checksum(&mut self) {
        self.checksum = self.sum();
    }

    /// Whether the slot was read whole: the kernel side may write it at the same time.
    #[inline]
    pub const fn is_consistent(&self) -> bool {
        self.checksum == self.sum()
    }

    #[inline]
    const fn sum(&self) -> u64 {
        // SAFETY: plain integers without padding, reinterpreted as an array of words of equal size.
        let words: [u64; size_of::<Self>() / 8] = unsafe { core::mem::transmute(*self) };
        let mut sum = 0_u64;
        let mut index = 1;
        while index < words.len() {
            sum = sum.rotate_left(11) ^ words[index];
            index += 1;
        }
        sum
    }
}

/// One CPU's aggregates: a value of the map `AGGREGATES`.
pub type Aggregates = [Aggregate; AGGREGATES_PER_CPU];

wire! {
    /// Progress of the user side, which writes it: the one slot of the map `FLOOD_PROGRESS`.
    pub struct FloodProgress: 8 {
        /// Incremented when the aggregates have been drained: each CPU then passes on
        /// [`AGGREGATE_AFTER`](crate::limits::AGGREGATE_AFTER) resets to closed ports before it aggregates again.
        0 => pub epoch: u32,
        /// Incremented when resets to closed ports have been read from the buffer: each CPU then has its
        /// [`FLOOD_BUDGET`](crate::limits::FLOOD_BUDGET) again.
        4 => pub drained: u32,
    }
}
