//! Safe wrappers of the BPF helpers that take no arguments.

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf, bpf_get_current_uid_gid,
    bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_ns,
};

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline(always)]
pub(crate) fn ktime_ns() -> u64 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}

/// Low 32 bits of jiffies.
#[inline(always)]
pub(crate) fn jiffies() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    (unsafe { bpf_jiffies64() }) as u32
}

/// Number of the current CPU.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { bpf_get_smp_processor_id() }
}

/// PID of the current task in its high half, its thread id in the low half, both in the initial PID namespace.
#[inline(always)]
pub(crate) fn current_pid_tgid() -> u64 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { bpf_get_current_pid_tgid() }
}

/// Real user id of the current task.
#[inline(always)]
pub(crate) fn current_uid() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    (unsafe { bpf_get_current_uid_gid() }) as u32
}

/// Address of the current task's `task_struct`, as a scalar.
#[inline(always)]
pub(crate) fn current_task() -> u64 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { bpf_get_current_task() }
}

/// Typed pointer to the current task's `task_struct`. Only kernels from 5.11 on have this helper.
#[inline(always)]
pub(crate) fn current_task_btf() -> *const core::ffi::c_void {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}
