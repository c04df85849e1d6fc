//! Tracepoint invocations that the kernel skips because of recursion.
//!
//! Since 5.19 `__bpf_trace_run` skips a raw-tracepoint program that is already running on this CPU and counts a
//! `recursion_miss`: a reset in a soft interrupt, in the middle of one that a task makes, would be missed, and from 7.0 on,
//! where programs are preempted, another task's. To report those resets anyway, each tracepoint has backup programs, attached
//! after the primary: the primary claims the invocation it handles; a backup runs only for an invocation that no program
//! before it claimed.
//!
//! One backup is enough where only interrupts come in between. A preempted task stays in the middle of its program until it
//! gets a CPU again, and each report wakes the reader, which is when tasks are preempted: so from 7.0 on there are two.
//!
//! (Backups cannot tail-call the primary: since 6.13 a program has one stack per CPU, because the kernel relies on not running
//! it twice, and a tail call bypasses that check. That was tried: the kernel faulted.)

use aya_ebpf::{EbpfContext, Global, macros::map, maps::PerCpuArray};
use rsttrace_common::recursion::{Claims, Invocation, TASK_SHARDS};

use crate::{helpers, map};

/// Tracepoint invocations claimed on this CPU, [`TASK_SHARDS`] values for each [`Tracepoint`].
#[map]
static CLAIMS: PerCpuArray<Claims> = PerCpuArray::with_max_entries(TRACEPOINTS * TASK_SHARDS, 0);

/// Tracepoints whose programs have backups. The user side counts misses of the first two.
#[derive(Clone, Copy)]
pub(crate) enum Tracepoint {
    SendReset,
    ReceiveReset,
    SetState,
    DestroySock,
}

/// Number of [`Tracepoint`]s.
const TRACEPOINTS: u32 = 4;

/// Position of a backup after the primary.
#[derive(Clone, Copy)]
pub(crate) enum Backup {
    First = 1,
    Second = 2,
}

/// Backups of each program that reports resets, set by the user side. The other programs, which run for every connection,
/// have one backup where those have two, and none where those have one: only a preempted task leaves time to miss one.
#[unsafe(no_mangle)]
static BACKUPS: Global<u32> = Global::new(1);

#[inline(always)]
fn backups(tracepoint: Tracepoint) -> u32 {
    let backups = BACKUPS.load();
    match tracepoint {
        Tracepoint::SendReset | Tracepoint::ReceiveReset => backups,
        Tracepoint::SetState | Tracepoint::DestroySock => backups.saturating_sub(1),
    }
}

/// Identity of the invocation that the program runs for.
#[inline(always)]
fn invocation(ctx: &impl EbpfContext, args: [u64; 2]) -> Invocation {
    Invocation { frame: ctx.as_ptr() as u64, args }
}

/// The primary program: claims the invocation and does the work. `args` are the tracepoint's arguments, or a fingerprint.
///
/// It claims before it works, whether a backup is going to look or not. (The other way round the verifier would walk the
/// search for a free slot once for each path through the work.)
#[inline(always)]
pub(crate) fn primary(tracepoint: Tracepoint, ctx: &impl EbpfContext, args: [u64; 2], work: impl FnOnce()) {
    if backups(tracepoint) > 0
        && let Some(claims) = claims(tracepoint)
    {
        claims.claim(invocation(ctx, args));
    }
    work();
}

/// A backup program: does the work for an invocation that no program before it claimed.
#[inline(always)]
pub(crate) fn backup(
    tracepoint: Tracepoint,
    position: Backup,
    ctx: &impl EbpfContext,
    args: [u64; 2],
    work: impl FnOnce(),
) {
    let invocation = invocation(ctx, args);
    let is_last = position as u32 >= backups(tracepoint);
    let Some(claims) = claims(tracepoint) else { return };
    if if is_last { claims.release(invocation) } else { claims.is_claimed(invocation) } {
        return;
    }
    claims.handled_by_backup += 1;
    if !is_last {
        claims.claim(invocation);
    }
    work();
}

/// The claims of this CPU, and from 7.0 on of the current task's shard. An interrupt at this moment changes only claims of
/// its own.
#[inline(always)]
fn claims(tracepoint: Tracepoint) -> Option<&'static mut Claims> {
    let shard = if BACKUPS.load() > 1 { helpers::current_pid_tgid() as u32 % TASK_SHARDS } else { 0 };
    map::slot_mut(&CLAIMS, tracepoint as u32 * TASK_SHARDS + shard)
}

/// Defines the primary program of a tracepoint and its backups.
///
/// The two expressions are the arguments of the invocation, or a fingerprint of them, and the work. Each program has a
/// closure of its own: of one that several shared the compiler would make a function, and a call.
macro_rules! with_backups {
    (
        $(#[$attribute:meta])*
        program: $primary:ident, backups: $($backup:ident = $position:ident),+;
        hook: $hook:meta => $tracepoint:ident;
        |$ctx:ident: $context:ty| $args:expr, $work:expr
    ) => {
        $(#[$attribute])*
        #[$hook]
        pub(crate) fn $primary($ctx: $context) -> i32 {
            use $crate::recursion::{Tracepoint, primary};
            primary(Tracepoint::$tracepoint, &$ctx, $args, || $work);
            0
        }

        $(
            #[doc = concat!("Backup of [`", stringify!($primary), "`].")]
            #[$hook]
            pub(crate) fn $backup($ctx: $context) -> i32 {
                use $crate::recursion::{Backup, Tracepoint, backup};
                backup(Tracepoint::$tracepoint, Backup::$position, &$ctx, $args, || $work);
                0
            }
        )+
    };
}

pub(crate) use with_backups;
