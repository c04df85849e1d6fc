//! Processes: always the thread group (what people call the process), never the thread.

use aya_ebpf::{
    Global,
    helpers::generated::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf, bpf_get_current_uid_gid,
    },
};
use rsttrace_common::event::{Task, UID_UNKNOWN};

use crate::fields::{
    CRED_UID, Fields as _, Struct, TASK_COMM, TASK_CRED, TASK_FLAGS, TASK_GROUP_LEADER, TASK_START_BOOTTIME, TASK_TGID,
    Typed, copy, field,
};

/// 1 where the kernel tells the type of the current task (5.11), set by the user side.
#[unsafe(no_mangle)]
static TYPED_TASKS: Global<u32> = Global::new(0);

/// The thread that the CPU is running, with its type; `None` where the kernel does not tell it.
#[inline(always)]
fn typed() -> Option<Typed> {
    if TYPED_TASKS.load() == 0 {
        return None;
    }
    // SAFETY: takes no arguments and cannot fail.
    Typed::of(unsafe { bpf_get_current_task_btf() })
}

/// Flags of a task (`include/linux/sched.h`), the same values since 2.6.
#[derive(Clone, Copy)]
pub(crate) struct Flags(u32);

impl Flags {
    const EXITING: u32 = 0x4;
    const KTHREAD: u32 = 0x0020_0000;

    /// Of the thread that the CPU is running.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        if let Some(task) = typed() {
            return Self(task.field(&TASK_FLAGS));
        }
        // SAFETY: as above.
        Self(field(unsafe { bpf_get_current_task() }, &TASK_FLAGS))
    }

    /// Whether it is on its way out: the kernel is closing its files for it.
    #[inline(always)]
    pub(crate) fn is_exiting(self) -> bool {
        self.0 & Self::EXITING != 0
    }

    /// Whether it is a thread of the kernel, which may work on a socket for the process that owns it (MPTCP does).
    #[inline(always)]
    pub(crate) fn is_kernel(self) -> bool {
        self.0 & Self::KTHREAD != 0
    }
}

/// PID of the process that the CPU is running.
#[inline(always)]
pub(crate) fn current_tgid() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32
}

/// Whether the CPU is running this process: by its PID and its start, since a PID is used again.
#[inline(always)]
pub(crate) fn is_current(process: &Task) -> bool {
    process.tgid == current_tgid() && process.start_boottime_ns == current_start_ns()
}

/// When the process that the CPU is running started, nanoseconds of the boot clock.
#[inline(always)]
fn current_start_ns() -> u64 {
    if let Some(task) = typed() {
        return start_ns(task);
    }
    // SAFETY: takes no arguments and cannot fail.
    start_ns(unsafe { bpf_get_current_task() })
}

#[inline(always)]
fn start_ns(task: impl Struct) -> u64 {
    task.target(&TASK_GROUP_LEADER).map_or(0, |leader| leader.field(&TASK_START_BOOTTIME))
}

/// Describes the process that the CPU is running.
#[inline(always)]
pub(crate) fn current(to: &mut Task) {
    to.tgid = current_tgid();
    // SAFETY: takes no arguments and cannot fail.
    to.uid = unsafe { bpf_get_current_uid_gid() } as u32;
    if let Some(task) = typed() {
        describe(task, to);
        return;
    }
    // SAFETY: as above.
    describe(unsafe { bpf_get_current_task() }, to);
}

/// Describes the process that the `task_struct` at this address belongs to.
#[inline(always)]
pub(crate) fn of(task: u64, to: &mut Task) {
    to.uid = UID_UNKNOWN;
    let cred: u64 = field(task, &TASK_CRED);
    if cred != 0 {
        copy(cred, &CRED_UID, &mut to.uid);
    }
    copy(task, &TASK_TGID, &mut to.tgid);
    describe(task, to);
}

#[inline(always)]
fn describe(task: impl Struct, to: &mut Task) {
    if let Some(leader) = task.target(&TASK_GROUP_LEADER) {
        to.start_boottime_ns = leader.field(&TASK_START_BOOTTIME);
        copy(leader.address(), &TASK_COMM, &mut to.comm);
    }
}
