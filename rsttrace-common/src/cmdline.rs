//! Command lines of processes that opened connections, kept because a process that has exited has none in `/proc`.

use crate::limits::COMMAND_LINE_SLOTS;

/// Length at which a command line is cut, in bytes.
pub const COMMAND_LINE_BYTES: usize = 256;

wire! {
    /// Beginning of a process's command line: a value of the map `COMMAND_LINES`.
    pub struct CommandLine: 296 {
        /// Start time of the process, nanoseconds of `CLOCK_BOOTTIME`.
        0 => pub start_boottime_ns: u64,
        /// `comm` of the process when the command line was read; another one means that it has called exec since.
        8 => pub comm: [u64; 2],
        /// Checksum of all fields but itself and `comm`; see [`CommandLine::is_consistent`].
        24 => pub checksum: u64,
        /// PID in the initial PID namespace.
        32 => pub tgid: u32,
        /// Valid bytes in `bytes`, at most [`COMMAND_LINE_BYTES`].
        36 => pub length: u32,
        /// The arguments, each terminated by a NUL; zeros where the memory was not resident.
        40 => pub bytes: [u64; COMMAND_LINE_BYTES / 8],
    }
}

impl CommandLine {
    /// Index in `COMMAND_LINES` of the process with this PID.
    pub const fn slot(tgid: u32) -> u32 {
        tgid % COMMAND_LINE_SLOTS
    }

    /// Stores the checksum of the current contents.
    #[inline]
    pub fn update_checksum(&mut self) {
        self.checksum = self.sum();
    }

    /// Whether one writer wrote all of it: two CPUs may write a slot at once, and neither takes a lock.
    #[inline]
    pub fn is_consistent(&self) -> bool {
        self.checksum == self.sum()
    }

    /// Never 0, which marks a slot that is being written.
    #[inline]
    fn sum(&self) -> u64 {
        let mut sum = self.start_boottime_ns ^ u64::from(self.tgid) << 32 ^ u64::from(self.length);
        for word in self.bytes {
            sum = sum.rotate_left(11) ^ word;
        }
        sum | 1
    }
}
