//! What the kernel side finds out about processes while a reset's owner is looked for.

use crate::{config::PROCESSES, event::Task};

/// What is found out about who holds a socket after its reset: a value of the map `FINDINGS`. Each part has one writer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct Findings {
    /// The number that an event carries as `findings`; another's if the place has been taken since.
    pub number: u64,
    /// The first process that the walk of open files found with the socket.
    pub holder: Task,
    /// The process that closed the socket for the last time, in its own context; `tgid` 0 when nobody did.
    pub closer: Task,
    /// When the socket was destroyed, nanoseconds of `CLOCK_MONOTONIC`; 0 while it lives.
    pub destroyed_ns: u64,
    /// Start of the process that was taken for the owner, and below its PID.
    pub known_start_boottime_ns: u64,
    /// PID of that process.
    pub known_tgid: u32,
    /// Number of the walk that found `holder`; 0 before the first.
    pub walk: u32,
    /// 1 when that walk found another process with the socket as well.
    pub several: u32,
    /// 1 when that walk found the known process among the holders.
    pub known_holds: u32,
    /// Descriptors that that walk found.
    pub descriptors: u32,
    /// Zero.
    pub padding: u32,
}

impl Findings {
    /// Low bits of a number: the place in the map.
    pub const PLACE_BITS: u32 = 16;

    /// Where what is gathered under a number is.
    pub const fn place(number: u64) -> u32 {
        (number & ((1 << Self::PLACE_BITS) - 1)) as u32
    }
}

// SAFETY: plain integers without padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Findings {}

/// Bytes of a command line that the kernel side keeps.
pub const ARGUMENTS_BYTES: usize = 256;

/// The beginning of the command line of a process that has opened connections.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arguments {
    /// Start of the process, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_boottime_ns: u64,
    /// Its name.
    pub name: [u64; 2],
    /// [`Arguments::sum`] of the rest, if it has been written by one alone.
    pub seal: u64,
    /// PID in the host's namespace.
    pub tgid: u32,
    /// How many of the bytes there are; a longer command line is cut.
    pub length: u32,
    /// Arguments as the process has them, each with a zero behind it.
    pub bytes: [u64; ARGUMENTS_BYTES / 8],
}

impl Arguments {
    /// Where those of a process are in the map.
    pub const fn place(tgid: u32) -> u32 {
        tgid % PROCESSES
    }

    /// A sum over all but name and seal; never 0.
    #[inline]
    pub fn sum(&self) -> u64 {
        let mut sum = self.start_boottime_ns ^ u64::from(self.tgid) << 32 ^ u64::from(self.length);
        for word in self.bytes {
            sum = sum.rotate_left(11) ^ word;
        }
        sum | 1
    }
}

// SAFETY: plain integers without padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Arguments {}

const _: () = assert!(size_of::<Findings>() == 112 && align_of::<Findings>() == 8);
assert_offsets!(
    Findings,
    number @ 0, holder @ 8, closer @ 40, destroyed_ns @ 72, known_start_boottime_ns @ 80, known_tgid @ 88, walk @ 92,
    several @ 96, known_holds @ 100, descriptors @ 104, padding @ 108,
);

const _: () = assert!(size_of::<Arguments>() == 296 && align_of::<Arguments>() == 8);
assert_offsets!(Arguments, start_boottime_ns @ 0, name @ 8, seal @ 24, tgid @ 32, length @ 36, bytes @ 40);
