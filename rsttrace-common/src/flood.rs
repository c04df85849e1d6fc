//! What the kernel side counts in a flood instead of handing over each reset, and how it is told that this was read.

use crate::{
    config::FOLDS_OF_CPU,
    event::{Address, Header},
};

/// Resets to closed ports that were so many that the kernel side has counted them instead of handing over each: a place
/// of the map `FOLDS`. All of them were sent for like packets from one address to one port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    /// [`Fold::sum`], if it is whole: somebody may read it while it is written.
    pub seal: u64,
    /// Resets that were counted in this place since the start, whoever they went to. The user side subtracts what it
    /// has seen before; until it has, the place is not given to another peer or port.
    pub total: u64,
    /// Time of the last one, nanoseconds of `CLOCK_MONOTONIC`.
    pub last_ns: u64,
    /// Address of this host's end.
    pub local_address: Address,
    /// Address of the peer.
    pub peer_address: Address,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Port of this host's end, in host byte order.
    pub local_port: u16,
    /// Port of the peer's end of the first one.
    pub peer_port: u16,
    /// `EVENT_HAS_REASON` or 0.
    pub flags: u32,
    /// As [`ResetEvent::reason`].
    pub reason: u32,
    /// Header of the packet that provoked the first one.
    pub packet: Header,
    /// As [`ResetEvent::netns_cookie`](crate::event::ResetEvent::netns_cookie).
    pub netns_cookie: u64,
}

impl Fold {
    /// A sum over all but the seal.
    #[inline]
    pub const fn sum(&self) -> u64 {
        // SAFETY: plain integers without padding, so many words of them.
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

/// One CPU's places of the map `FOLDS`.
pub type Folds = [Fold; FOLDS_OF_CPU];

/// How far the user side has come, for the kernel side: the map `PACE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Goes up when what was counted has been fetched: each CPU then hands over [`FOLD_FROM`](crate::config::FOLD_FROM) resets to closed ports again
    /// before it counts.
    pub tick: u32,
    /// Goes up when resets to closed ports have been read from the buffer: there is room for others.
    pub read: u32,
}

// SAFETY: plain integers without padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Fold {}

// SAFETY: plain integers without padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Pace {}

const _: () = assert!(size_of::<Fold>() == 96 && align_of::<Fold>() == 8);
assert_offsets!(
    Fold,
    seal @ 0, total @ 8, last_ns @ 16, local_address @ 24, peer_address @ 40, netns @ 56, local_port @ 60,
    peer_port @ 62, flags @ 64, reason @ 68, packet @ 72, netns_cookie @ 88,
);

const _: () = assert!(size_of::<Pace>() == 8 && align_of::<Pace>() == 4);
assert_offsets!(Pace, tick @ 0, read @ 4);
