//! Word that programs of a tracepoint leave for those behind them on it: for which of its runs the work is done.
//!
//! The kernel does not run a program that the same CPU is in the middle of (`__bpf_trace_run`), so those behind do what was
//! not done. Nothing in here is atomic: a CPU's words are touched by that CPU alone, and whoever interrupts has taken away
//! its own before it is gone. A task that is preempted keeps its word, in a place that others then find taken.
#![expect(
    clippy::inline_always,
    reason = "in BPF a function of its own costs a call in each run, and stack of the 512 bytes"
)]

/// A run of a tracepoint: where on the stack the kernel keeps the arguments while it calls one program after the other,
/// which is another place for everybody who is in the middle of one, and the arguments, which tell it from the next there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Address of the arguments; never 0.
    pub frame: u64,
    /// The arguments, or what stands for them.
    pub arguments: [u64; 2],
}

impl Run {
    const NONE: Self = Self { frame: 0, arguments: [0; 2] };
}

/// Runs that have begun on one CPU and not come to the last program: one that was interrupted, the one that interrupts it,
/// some that were preempted, and words that nobody has asked for because the last program was left out.
pub const UNDER_WAY: usize = 4;

/// Values of the map `WORDS` for each tracepoint. From 7.0 on a task may lose its CPU between looking for a free place and
/// taking it, and the one that gets the CPU may lose it before it asks: by their PIDs, two tasks seldom share a value.
pub const SETS: u32 = 32;

/// What the programs of a tracepoint have left word of on a CPU: a value of the map `WORDS`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// How many runs those behind have done the work of.
    pub done_behind: u64,
    /// How many words were left.
    pub left: u64,
    /// The runs whose work is done; zeros where there is none.
    pub under_way: [Run; UNDER_WAY],
}

impl Words {
    /// None yet.
    pub const NONE: Self = Self { done_behind: 0, left: 0, under_way: [Run::NONE; UNDER_WAY] };

    /// Says that the work of this run is done here.
    #[expect(clippy::cast_possible_truncation, reason = "the last bits choose a place")]
    #[inline(always)]
    pub fn leave(&mut self, run: Run) {
        self.left = self.left.wrapping_add(1);
        for word in &mut self.under_way {
            // Of an earlier run in the same place nobody will ask any more.
            if word.frame == 0 || word.frame == run.frame {
                *word = run;
                return;
            }
        }
        // Nor, most likely, of any of these; one after the other makes room.
        self.under_way[self.left as usize % UNDER_WAY] = run;
    }

    /// Whether somebody does the work of this run, for a program that has others behind it.
    #[inline(always)]
    pub fn have(&self, run: Run) -> bool {
        self.under_way.contains(&run)
    }

    /// The same for the last program: takes the word away.
    #[inline(always)]
    pub fn take(&mut self, run: Run) -> bool {
        for word in &mut self.under_way {
            if *word == run {
                *word = Run::NONE;
                return true;
            }
        }
        false
    }
}

// SAFETY: plain integers without padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Words {}

const _: () = assert!(size_of::<Words>() == 112 && align_of::<Words>() == 8);
assert_offsets!(Words, done_behind @ 0, left @ 8, under_way @ 16);
assert_offsets!(Run, frame @ 0, arguments @ 8);
