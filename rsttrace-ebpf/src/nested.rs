//! Resets that come while this CPU is in the middle of another.
//!
//! From 5.19 on the kernel does not run a program of a raw tracepoint that the same CPU is running already
//! (`__bpf_trace_run`): a reset in a soft interrupt, in the middle of one that a task makes, would be missed, and from 7.0
//! on, where programs are preempted, another task's. So each of the programs that report resets leaves word of what it
//! does, and others of its kind, behind it on the same tracepoint, look for that: where one finds none, those before it were
//! left out, and it reports the reset itself and leaves word.
//!
//! One behind the first is enough where only interrupts come in between. Whoever is preempted stays in the middle of its
//! program until it gets a CPU again, and each report wakes the reader, which is when that happens: so from 7.0 on there
//! are two.
//!
//! (They cannot jump into the first: from 6.13 on a program has one stack for each CPU, because the kernel relies on
//! not running it twice, and a jump goes unnoticed.)

use aya_ebpf::{EbpfContext, Global, helpers::generated::bpf_get_current_pid_tgid};
use rsttrace_common::nested::{Run, SETS, Words};

use crate::maps::WORDS;

/// Number of `tcp_send_reset` among the tracepoints in the map.
pub(crate) const SENT: u32 = 0;
/// Number of `tcp_receive_reset`.
pub(crate) const RECEIVED: u32 = 1;
/// Number of `inet_sock_set_state`.
pub(crate) const CHANGED: u32 = 2;
/// Number of `tcp_destroy_sock`.
pub(crate) const DESTROYED: u32 = 3;
/// How many there are.
pub(crate) const PLACES: u32 = 4;

/// The first program behind.
pub(crate) const SECOND: u32 = 1;
/// The one behind that.
pub(crate) const THIRD: u32 = 2;

/// How many programs there are behind one that reports resets, set by the user side. Behind the others, which run for every
/// connection, there is one where there are two here: only who is preempted leaves them time to be missed.
#[unsafe(no_mangle)]
static PROGRAMS_BEHIND: Global<u32> = Global::new(1);

#[inline(always)]
fn programs_behind(place: u32) -> u32 {
    let behind = PROGRAMS_BEHIND.load();
    if matches!(place, SENT | RECEIVED) { behind } else { behind.saturating_sub(1) }
}

/// What the program is run for.
#[inline(always)]
fn run(ctx: &impl EbpfContext, arguments: [u64; 2]) -> Run {
    Run { frame: ctx.as_ptr() as u64, arguments }
}

/// The first program: leaves word, whoever may look for it, and does its work. (The other way round the verifier would walk
/// the search for a place once for each way through the work.)
#[inline(always)]
pub(crate) fn first(place: u32, ctx: &impl EbpfContext, arguments: [u64; 2], work: impl FnOnce()) {
    if programs_behind(place) > 0
        && let Some(words) = words(place)
    {
        words.leave(run(ctx, arguments));
    }
    work();
}

/// A program behind: does the work of those before it if they were left out.
#[inline(always)]
pub(crate) fn if_left_out(place: u32, behind: u32, ctx: &impl EbpfContext, arguments: [u64; 2], work: impl FnOnce()) {
    let run = run(ctx, arguments);
    let is_last = behind >= programs_behind(place);
    let Some(words) = words(place) else { return };
    if if is_last { words.take(run) } else { words.have(run) } {
        return;
    }
    words.done_behind += 1;
    if !is_last {
        words.leave(run);
    }
    work();
}

#[inline(always)]
fn words<'a>(place: u32) -> Option<&'a mut Words> {
    let mut set = 0;
    if PROGRAMS_BEHIND.load() > 1 {
        // SAFETY: takes no arguments and cannot fail.
        let ids = unsafe { bpf_get_current_pid_tgid() };
        set = ids as u32 % SETS;
    }
    let words = WORDS.get_ptr_mut(place * SETS + set)?;
    // SAFETY: this CPU's value of the map. Whoever interrupts us only touches words of its own.
    Some(unsafe { &mut *words })
}
