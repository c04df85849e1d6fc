//! Claims of tracepoint invocations, by which backup programs tell what the primary program has handled.
//!
//! `__bpf_trace_run` skips a program that is already running on this CPU. A backup program, attached to the tracepoint
//! after the primary, handles an invocation that no program before it claimed. Nothing here is atomic: claims are per CPU,
//! and an interrupt releases its own claim before it returns. A preempted task keeps its claim, and others find that slot
//! taken.
#![expect(
    clippy::inline_always,
    reason = "in BPF a function of its own costs a call in each run, and stack of the 512 bytes"
)]

wire! {
    /// Identity of one invocation of a tracepoint. The arguments tell it from the next invocation whose frame is at the
    /// same address.
    pub struct Invocation: 24 {
        /// Address on the kernel's stack of the arguments, which stay there while the kernel calls one program after the
        /// other: distinct for all invocations that are in progress at once. Never 0.
        0 => pub frame: u64,
        /// The arguments, or a fingerprint of them.
        8 => pub args: [u64; 2],
    }
}

impl Invocation {
    const NONE: Self = Self { frame: 0, args: [0; 2] };
}

/// Claims that one value of the map `CLAIMS` has room for: of the interrupted invocation and the interrupting one, of some
/// that were preempted, and of some that were never released because the last program was skipped.
pub const MAX_IN_FLIGHT: usize = 4;

/// Values of the map `CLAIMS` per tracepoint; a task uses the one of its thread id, modulo this. From 7.0 on a task may be
/// preempted between finding a free slot and taking it, and so may the task that preempts it: two tasks seldom share a
/// value.
pub const TASK_SHARDS: u32 = 32;

wire! {
    /// Invocations claimed by the programs of a tracepoint on one CPU: a value of the map `CLAIMS`.
    pub struct Claims: 112 {
        /// Invocations that a backup handled.
        0 => pub handled_by_backup: u64,
        /// Claims made.
        8 => pub claimed: u64,
        /// The claimed invocations; [`Invocation::frame`] is 0 in a free slot.
        16 => pub in_flight: [Invocation; MAX_IN_FLIGHT],
    }
}

impl Claims {
    /// No claims.
    pub const EMPTY: Self = Self { handled_by_backup: 0, claimed: 0, in_flight: [Invocation::NONE; MAX_IN_FLIGHT] };

    /// Claims an invocation for the program that runs.
    #[expect(clippy::cast_possible_truncation, reason = "the last bits choose a slot")]
    #[inline(always)]
    pub fn claim(&mut self, invocation: Invocation) {
        self.claimed = self.claimed.wrapping_add(1);
        for claim in &mut self.in_flight {
            // A claim with this frame is of an earlier invocation, which is over.
            if claim.frame == 0 || claim.frame == invocation.frame {
                *claim = invocation;
                return;
            }
        }
        // Most likely all of these are of invocations that are over, too: overwrite them in turn.
        self.in_flight[self.claimed as usize % MAX_IN_FLIGHT] = invocation;
    }

    /// Whether a program has claimed this invocation. For a backup that has another one after it.
    #[inline(always)]
    pub fn is_claimed(&self, invocation: Invocation) -> bool {
        self.in_flight.contains(&invocation)
    }

    /// Releases the claim of this invocation; `false` when there was none. For the last backup.
    #[inline(always)]
    pub fn release(&mut self, invocation: Invocation) -> bool {
        for claim in &mut self.in_flight {
            if *claim == invocation {
                *claim = Invocation::NONE;
                return true;
            }
        }
        false
    }
}
