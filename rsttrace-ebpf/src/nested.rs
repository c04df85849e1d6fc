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

/// That the first program was run for a reset.
#[repr(C)]
#[derive(Clone, Copy)]
struct Word {
    of: Arguments,
    /// The larger, the later it was left.
    number: u64,
}

/// What the first program has left word of on this CPU.
#[repr(C)]
pub(crate) struct Words {
    /// How many resets the second program has reported: for the user side.
    reported: u64,
    /// How many words were left.
    left: u64,
    /// 1 while the second program runs: it will be left out of what interrupts it.
    is_asked: u64,
    under_way: [Word; UNDER_WAY],
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
    words.left += 1;
    let word = Word { of, number: words.left };
    let mut oldest = 0;
    let mut index = 0;
    while index < UNDER_WAY {
        let known = &mut words.under_way[index];
        if known.of == Arguments::NONE || known.of == of {
            *known = word;
            return;
        }
        if known.number < words.under_way[oldest].number {
            oldest = index;
        }
        index += 1;
    }
    // Nobody has ever asked for it: it came just before the second program was busy, which was left out then. The latest may
    // be that of whom we interrupt.
    words.under_way[oldest] = word;
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
            if word.of == of {
                word.of = Arguments::NONE;
                return true;
            }
        }
        self.reported += 1;
        false
    }
}
