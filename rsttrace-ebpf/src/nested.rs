//! Resets that come while this CPU is in the middle of another.
//!
//! From 5.19 on the kernel does not run a program of a raw tracepoint that the same CPU is running already
//! (`__bpf_trace_run`): a reset in a soft interrupt, in the middle of one that a task makes, would be missed, and from 7.0
//! on, where programs can be preempted, another task's. So each of the two programs that report resets leaves word of what
//! it was run for, and a second one of its kind, behind it on the same tracepoint, takes that away again: where it finds
//! none, the first was left out, and it reports the reset itself.
//!
//! (The second cannot jump into the first: from 6.13 on a program has one stack for each CPU, because the kernel relies on
//! not running it twice, and a jump goes unnoticed.)

use crate::maps::WORDS;

/// Place of `tcp_send_reset` in the map.
pub(crate) const SENT: u32 = 0;
/// Place of `tcp_receive_reset`.
pub(crate) const RECEIVED: u32 = 1;
/// How many there are.
pub(crate) const PLACES: u32 = 2;

/// Runs between a first program's end and its second on one CPU: one that was interrupted there, the one that interrupts
/// it, and some that were preempted.
const UNDER_WAY: usize = 4;

/// A reset by its arguments.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Never NULL if `skb` is.
    pub(crate) sk: u64,
    pub(crate) skb: u64,
}

impl Arguments {
    const NONE: Self = Self { sk: 0, skb: 0 };
}

/// What the first program has left word of on this CPU.
#[repr(C)]
pub(crate) struct Words {
    /// How many resets the second program has reported: for the user side.
    reported: u64,
    /// Where to write when no place is free: what is there has never been asked for.
    next: u32,
    /// 1 while the second program runs: it will be left out of what interrupts it.
    is_asked: u32,
    under_way: [Arguments; UNDER_WAY],
}

/// The first program begins its work.
#[inline(always)]
pub(crate) fn leave_word(place: u32, of: Arguments) {
    let Some(words) = WORDS.get_ptr_mut(place) else { return };
    // SAFETY: this CPU's value of the map. Whoever interrupts us leaves it as it was.
    let words = unsafe { &mut *words };
    if words.is_asked != 0 {
        return;
    }
    for free in &mut words.under_way {
        if *free == Arguments::NONE || *free == of {
            *free = of;
            return;
        }
    }
    let next = words.next as usize % UNDER_WAY;
    words.under_way[next] = of;
    words.next = next as u32 + 1;
}

/// The second program: does the first one's work if that was left out.
#[inline(always)]
pub(crate) fn if_left_out(place: u32, of: Arguments, work: impl FnOnce()) {
    let Some(words) = WORDS.get_ptr_mut(place) else { return };
    // SAFETY: as above. Volatile, for whoever interrupts us.
    unsafe { (&raw mut (*words).is_asked).write_volatile(1) };
    // SAFETY: as above.
    if !unsafe { &mut *words }.take(of) {
        work();
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*words).is_asked).write_volatile(0) };
}

impl Words {
    /// Takes away the word that the first program has left; `false` if it has not, which counts.
    #[inline(always)]
    fn take(&mut self, of: Arguments) -> bool {
        for word in &mut self.under_way {
            if *word == of {
                *word = Arguments::NONE;
                return true;
            }
        }
        self.reported += 1;
        false
    }
}
