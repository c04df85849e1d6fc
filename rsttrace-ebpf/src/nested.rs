//! Resets that come while this CPU is in the middle of another.
//!
//! From 5.19 on the kernel does not run a program of a raw tracepoint that the same CPU is running already
//! (`__bpf_trace_run`): a reset in a soft interrupt, in the middle of one that a task makes, would be missed, and from 7.0
//! on, where programs are preempted, another task's. So each of the two programs that report resets leaves word of what
//! it was run for, and others of its kind, behind it on the same tracepoint, look for that: where one finds none, those
//! before it were left out, and it reports the reset itself and leaves word.
//!
//! One behind the first is enough where only interrupts come in between. Whoever is preempted stays in the middle of its
//! program until it gets a CPU again, and each report wakes the reader, which is when that happens: so from 7.0 on there
//! are two.
//!
//! (They cannot jump into the first: from 6.13 on a program has one stack for each CPU, because the kernel relies on
//! not running it twice, and a jump goes unnoticed.)

use aya_ebpf::Global;

use crate::maps::WORDS;

/// Place of `tcp_send_reset` in the map.
pub(crate) const SENT: u32 = 0;
/// Place of `tcp_receive_reset`.
pub(crate) const RECEIVED: u32 = 1;
/// Place of `inet_sock_set_state`.
pub(crate) const CHANGED: u32 = 2;
/// Place of `tcp_destroy_sock`.
pub(crate) const DESTROYED: u32 = 3;
/// How many there are.
pub(crate) const PLACES: u32 = 4;

/// Resets between a first program's end and its last on one CPU: one that was interrupted there, the one that interrupts
/// it, and some that were preempted.
const UNDER_WAY: usize = 4;

/// The first program behind.
pub(crate) const SECOND: usize = 0;
/// The one behind that.
pub(crate) const THIRD: usize = 1;
/// Programs behind at most.
const BEHIND: usize = 2;

/// How many programs there are behind one that reports resets, set by the user side. Behind the others, which run for every
/// connection, there is one where there are two here: only who is preempted leaves them time to be missed.
#[unsafe(no_mangle)]
static PROGRAMS_BEHIND: Global<u32> = Global::new(1);

#[inline(always)]
fn programs_behind(place: u32) -> usize {
    let behind = PROGRAMS_BEHIND.load() as usize;
    if matches!(place, SENT | RECEIVED) { behind } else { behind.saturating_sub(1) }
}

/// A reset, or what else a program runs for, by its arguments.
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

/// That one of the programs was run for a reset.
#[repr(C)]
#[derive(Clone, Copy)]
struct Word {
    of: Arguments,
    /// The larger, the later it was left.
    number: u64,
}

/// What the programs of a tracepoint have left word of on this CPU.
#[repr(C)]
pub(crate) struct Words {
    /// How many resets those behind have reported: for the user side.
    reported: u64,
    /// How many words were left.
    left: u64,
    /// 1 while that program behind runs: it will be left out of what interrupts it.
    is_asked: [u64; BEHIND],
    under_way: [Word; UNDER_WAY],
}

/// The first program begins its work.
#[inline(always)]
pub(crate) fn leave_word(place: u32, of: Arguments) {
    let programs = programs_behind(place);
    if programs == 0 {
        return;
    }
    let Some(words) = WORDS.get_ptr_mut(place) else { return };
    // SAFETY: this CPU's value of the map. Whoever interrupts us leaves it as it was.
    let words = unsafe { &mut *words };
    if words.has_somebody_behind(0, programs) {
        words.leave(of);
    }
}

/// A program behind: does the work of those before it if they were left out.
#[inline(always)]
pub(crate) fn if_left_out(place: u32, behind: usize, of: Arguments, work: impl FnOnce()) {
    let Some(words) = WORDS.get_ptr_mut(place) else { return };
    // SAFETY: as above.
    let words = unsafe { &mut *words };
    words.say(behind, 1);
    if words.has_somebody_behind(behind + 1, programs_behind(place)) {
        if !words.have(of) {
            words.reported += 1;
            words.leave(of);
            work();
        }
    } else if !words.take(of) {
        words.reported += 1;
        work();
    }
    words.say(behind, 0);
}

impl Words {
    /// Whether a program from this one on, of those behind, will look for words.
    #[inline(always)]
    fn has_somebody_behind(&self, first: usize, programs: usize) -> bool {
        let mut behind = first;
        while behind < BEHIND {
            // SAFETY: a reference. Volatile, since whoever we interrupt may be in the middle of it.
            if behind < programs && unsafe { (&raw const self.is_asked[behind]).read_volatile() } == 0 {
                return true;
            }
            behind += 1;
        }
        false
    }

    /// That a program behind runs, or has ended.
    #[inline(always)]
    fn say(&mut self, behind: usize, asked: u64) {
        // SAFETY: a reference. Volatile, for whoever interrupts us.
        unsafe { (&raw mut self.is_asked[behind]).write_volatile(asked) };
    }

    #[inline(always)]
    fn leave(&mut self, of: Arguments) {
        self.left += 1;
        let word = Word { of, number: self.left };
        let mut oldest = 0;
        let mut index = 0;
        while index < UNDER_WAY {
            let known = &mut self.under_way[index];
            if known.of == Arguments::NONE || known.of == of {
                *known = word;
                return;
            }
            if known.number < self.under_way[oldest].number {
                oldest = index;
            }
            index += 1;
        }
        // Nobody has ever asked for it: it came just before the last program was busy, which was left out then. The latest
        // may be that of whom we interrupt.
        self.under_way[oldest] = word;
    }

    #[inline(always)]
    fn have(&self, of: Arguments) -> bool {
        self.under_way.iter().any(|word| word.of == of)
    }

    /// Takes away the word of a reset; `false` if nobody has left any.
    #[inline(always)]
    fn take(&mut self, of: Arguments) -> bool {
        for word in &mut self.under_way {
            if word.of == of {
                word.of = Arguments::NONE;
                return true;
            }
        }
        false
    }
}
