//! The command lines of processes that have opened connections: whoever is gone before its first reset has none in `/proc`.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_user};
use rsttrace_common::{
    event::Task,
    owner::{ARGUMENTS_BYTES, Arguments},
};

use crate::{
    fields::{MM_ARG_END, MM_ARG_START, TASK_MM, field, has},
    maps::ARGUMENTS,
};

/// Remembers the command line of the current process, described by `owner`, unless it is known. Where the name is another
/// by now, the process has called exec.
#[inline(always)]
pub(crate) fn remember(owner: &Task) {
    if !has(&TASK_MM) || !has(&MM_ARG_START) || !has(&MM_ARG_END) {
        return;
    }
    let Some(place) = ARGUMENTS.get_ptr_mut(Arguments::place(owner.tgid)) else { return };
    // SAFETY: values of the map are valid as long as the program runs. Whoever writes the same place at the same instant
    // spoils the seal.
    let known = unsafe { &mut *place };
    let name = owner.name();
    if known.tgid == owner.tgid && known.start_boottime_ns == owner.start_boottime_ns && known.name == name {
        return;
    }
    // SAFETY: takes no arguments and cannot fail.
    let memory: u64 = field(unsafe { bpf_get_current_task() }, &TASK_MM);
    // On its way out it has no memory any more.
    if memory == 0 {
        return;
    }
    let begin: u64 = field(memory, &MM_ARG_START);
    let length = field::<u64>(memory, &MM_ARG_END).wrapping_sub(begin);
    let length = if length > ARGUMENTS_BYTES as u64 { ARGUMENTS_BYTES as u64 } else { length };
    known.seal = 0;
    known.name = name;
    known.start_boottime_ns = owner.start_boottime_ns;
    known.tgid = owner.tgid;
    // SAFETY: the helper checks the address, and writes no more than there is room for. What cannot be read without
    // waiting, because it is not in memory, leaves zeros.
    unsafe {
        bpf_probe_read_user((&raw mut known.bytes).cast(), length as u32, begin as *const _);
    }
    known.length = length as u32;
    known.seal = known.sum();
}
