//! Processes: always the thread group (what users call the process), never the thread.

use aya_ebpf::Global;
use rsttrace_common::event::{Task, UID_UNKNOWN};

use crate::{
    helpers,
    kernel_struct::{
        BtfPtr, CRED_UID, KernelStruct, ReadField as _, TASK_COMM, TASK_CRED, TASK_EXIT_CODE, TASK_FLAGS,
        TASK_GROUP_LEADER, TASK_START_BOOTTIME, TASK_TGID, copy, field,
    },
};

/// 1 where the kernel has `bpf_get_current_task_btf` (5.11), set by the user side.
#[unsafe(no_mangle)]
static TYPED_TASKS: Global<u32> = Global::new(0);

/// Typed pointer to the current thread; `None` where the kernel has no helper for it.
#[inline(always)]
fn current_typed() -> Option<BtfPtr> {
    if TYPED_TASKS.load() == 0 {
        return None;
    }
    BtfPtr::new(helpers::current_task_btf())
}

/// `PF_*` flags of a thread (`include/linux/sched.h`), whose values have not changed since 2.6.
#[derive(Clone, Copy)]
pub(crate) struct TaskFlags(u32);

impl TaskFlags {
    const EXITING: u32 = 0x4;
    const KTHREAD: u32 = 0x0020_0000;

    /// Flags of the current thread.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        if let Some(task) = current_typed() {
            return Self(task.field(&TASK_FLAGS));
        }
        Self(field(helpers::current_task(), &TASK_FLAGS))
    }

    /// Whether the thread exits: the kernel is closing its files.
    #[inline(always)]
    pub(crate) fn is_exiting(self) -> bool {
        self.0 & Self::EXITING != 0
    }

    /// Whether it is a kernel thread, which may use a socket on behalf of the process that owns it (MPTCP does).
    #[inline(always)]
    pub(crate) fn is_kernel(self) -> bool {
        self.0 & Self::KTHREAD != 0
    }
}

/// `exit_code` of the current thread, which is exiting: the status of `exit`, or the signal that ends it.
#[inline(always)]
pub(crate) fn exit_code() -> u32 {
    if let Some(task) = current_typed() {
        return task.field(&TASK_EXIT_CODE);
    }
    field(helpers::current_task(), &TASK_EXIT_CODE)
}

/// PID of the current process.
#[inline(always)]
fn current_tgid() -> u32 {
    (helpers::current_pid_tgid() >> 32) as u32
}

/// Whether this is the current process: compares PID and start time, since PIDs are reused.
#[inline(always)]
pub(crate) fn is_current(process: &Task) -> bool {
    process.tgid == current_tgid() && process.start_boottime_ns == current_start_ns()
}

/// Start time of the current process, nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
fn current_start_ns() -> u64 {
    if let Some(task) = current_typed() {
        return start_ns(task);
    }
    start_ns(helpers::current_task())
}

#[inline(always)]
fn start_ns(task: impl KernelStruct) -> u64 {
    task.deref(&TASK_GROUP_LEADER).map_or(0, |leader| leader.field(&TASK_START_BOOTTIME))
}

/// Describes the current process.
#[inline(always)]
pub(crate) fn current(to: &mut Task) {
    to.tgid = current_tgid();
    to.uid = helpers::current_uid();
    if let Some(task) = current_typed() {
        describe_leader(task, to);
        return;
    }
    describe_leader(helpers::current_task(), to);
}

/// Describes the process that the thread with the `task_struct` at this address belongs to.
#[inline(always)]
pub(crate) fn describe(task: u64, to: &mut Task) {
    to.uid = UID_UNKNOWN;
    let cred: u64 = field(task, &TASK_CRED);
    if cred != 0 {
        copy(cred, &CRED_UID, &mut to.uid);
    }
    copy(task, &TASK_TGID, &mut to.tgid);
    describe_leader(task, to);
}

/// Writes start time and `comm` of the thread group leader.
#[inline(always)]
fn describe_leader(task: impl KernelStruct, to: &mut Task) {
    if let Some(leader) = task.deref(&TASK_GROUP_LEADER) {
        to.start_boottime_ns = leader.field(&TASK_START_BOOTTIME);
        copy(leader.address(), &TASK_COMM, &mut to.comm);
    }
}
