//! Command lines of processes that open connections: a process that exits before its first reset has none in `/proc` by
//! then.

use aya_ebpf::{helpers::generated::bpf_probe_read_user, macros::map, maps::Array};
use rsttrace_common::{
    cmdline::{COMMAND_LINE_BYTES, CommandLine},
    event::Task,
    limits,
};

use crate::{
    helpers,
    kernel_struct::{MM_ARG_END, MM_ARG_START, TASK_MM, field, has},
    map,
};

/// Command lines, by PID.
#[map]
static COMMAND_LINES: Array<CommandLine> = Array::with_max_entries(limits::COMMAND_LINE_SLOTS, 0);

/// Caches the command line of the current process, which `owner` describes, unless it is cached already. Another `comm`
/// means that the process has called exec since.
#[inline(always)]
pub(crate) fn cache(owner: &Task) {
    if !has(&TASK_MM) || !has(&MM_ARG_START) || !has(&MM_ARG_END) {
        return;
    }
    // Another CPU that writes the slot at the same time leaves a mixture, which the checksum reveals.
    let Some(cached) = map::slot_mut(&COMMAND_LINES, CommandLine::slot(owner.tgid)) else { return };
    let comm = owner.comm_words();
    if cached.tgid == owner.tgid && cached.start_boottime_ns == owner.start_boottime_ns && cached.comm == comm {
        return;
    }
    let mm: u64 = field(helpers::current_task(), &TASK_MM);
    // An exiting process has released its memory.
    if mm == 0 {
        return;
    }
    let start: u64 = field(mm, &MM_ARG_START);
    let length = field::<u64>(mm, &MM_ARG_END).wrapping_sub(start);
    let length = if length > COMMAND_LINE_BYTES as u64 { COMMAND_LINE_BYTES as u64 } else { length };
    cached.checksum = 0;
    cached.comm = comm;
    cached.start_boottime_ns = owner.start_boottime_ns;
    cached.tgid = owner.tgid;
    // SAFETY: the helper checks the address, and writes no more than there is room for. Memory that is not resident, which
    // it cannot wait for, leaves zeros.
    unsafe {
        bpf_probe_read_user((&raw mut cached.bytes).cast(), length as u32, start as *const _);
    }
    cached.length = length as u32;
    cached.update_checksum();
}
