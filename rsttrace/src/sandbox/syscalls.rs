//! Table of the system calls that the seccomp filter allows, the most frequent first. Every other fails with `EPERM`.

use libc::c_long;

use super::Requirements;

/// Rule for one system call.
pub(super) struct SyscallRule {
    /// Number of the call on this architecture.
    pub(super) number: c_long,
    /// Arguments with which it is allowed.
    pub(super) args: ArgRule,
}

/// Condition on the arguments of a system call, which are numbered from 0. Only the low 32 bits of an argument are
/// tested.
pub(super) enum ArgRule {
    /// Allowed with any arguments.
    Any,
    /// Allowed if this argument has one of these values.
    OneOf(u8, &'static [u32]),
    /// Allowed if this argument has at least one of these bits.
    HasBit(u8, u32),
    /// Allowed if this argument has none of these bits.
    HasNoBits(u8, u32),
    /// Allowed if all of these arguments are 0. In a call that takes a PID, 0 is the caller itself.
    AllZero(&'static [u8]),
    /// Fails with `ENOSYS`, as if the kernel did not have the call: the C library falls back to an older one then.
    Enosys,
}

macro_rules! any_args {
    ($($name:ident)+) => {
        [$(SyscallRule { number: libc::$name, args: ArgRule::Any },)+]
    };
}

// Commands of bpf(2), `enum bpf_cmd`, which libc does not have.
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_MAP_DELETE_ELEM: u32 = 3;
const BPF_MAP_GET_NEXT_KEY: u32 = 4;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: u32 = 21;
const BPF_MAP_LOOKUP_BATCH: u32 = 24;
const BPF_MAP_LOOKUP_AND_DELETE_BATCH: u32 = 25;
const BPF_MAP_UPDATE_BATCH: u32 = 26;
const BPF_MAP_DELETE_BATCH: u32 = 27;
const BPF_LINK_CREATE: u32 = 28;
const BPF_ITER_CREATE: u32 = 33;

/// Allowed commands of bpf(2): map elements, information about a program (`recursion_misses`), and the link and
/// iterator of a scan of open files. Nothing is loaded any more.
const BPF_COMMANDS: &[u32] = &[
    BPF_MAP_LOOKUP_ELEM,
    BPF_MAP_UPDATE_ELEM,
    BPF_MAP_DELETE_ELEM,
    BPF_MAP_GET_NEXT_KEY,
    BPF_OBJ_GET_INFO_BY_FD,
    BPF_MAP_LOOKUP_AND_DELETE_ELEM,
    BPF_MAP_LOOKUP_BATCH,
    BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    BPF_MAP_UPDATE_BATCH,
    BPF_MAP_DELETE_BATCH,
    BPF_LINK_CREATE,
    BPF_ITER_CREATE,
];

// Requests of ioctl(2), alike on x86-64 and 64-bit ARM. Their type in libc is signed with one C library and unsigned
// with another.
const TCGETS: u32 = 0x5401;
const TCGETS2: u32 = 0x802c_542a;
const TIOCGWINSZ: u32 = 0x5413;
const SIOCGIFNAME: u32 = 0x8910;
const PERF_EVENT_IOC_ENABLE: u32 = 0x2400;
const PERF_EVENT_IOC_DISABLE: u32 = 0x2401;

/// Allowed requests of ioctl(2). By the first three, C libraries recognise a terminal.
const IOCTL_REQUESTS: &[u32] =
    &[TCGETS, TCGETS2, TIOCGWINSZ, SIOCGIFNAME, PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE];

// Requests that set a terminal, and that drop what it has not shown.
const TCSETS: u32 = 0x5402;
const TCSETS2: u32 = 0x402c_542b;
const TCFLSH: u32 = 0x540b;

/// Allowed requests of ioctl(2) with a view on the terminal.
const TERMINAL_REQUESTS: &[u32] =
    &[TCGETS, TCGETS2, TIOCGWINSZ, SIOCGIFNAME, PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE, TCSETS, TCSETS2, TCFLSH];

/// Allowed commands of fcntl(2). `F_SETOWN` and `F_SETSIG` are not among them: with them a descriptor sends signals,
/// which from root reach every process.
const FCNTL_COMMANDS: &[u32] = &[
    libc::F_GETFD.cast_unsigned(),
    libc::F_SETFD.cast_unsigned(),
    libc::F_GETFL.cast_unsigned(),
    libc::F_SETFL.cast_unsigned(),
    libc::F_DUPFD_CLOEXEC.cast_unsigned(),
];

/// `PROT_EXEC` of mmap(2) and mprotect(2).
const PROT_EXEC: u32 = libc::PROT_EXEC.cast_unsigned();

/// Flags of open(2) that change or create a file.
const OPEN_WRITE_FLAGS: u32 =
    (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND).cast_unsigned();

/// Allowed options of prctl(2).
const PRCTL_OPTIONS: &[u32] = &[libc::PR_SET_NAME.cast_unsigned()];

/// Flag of clone(2) that makes a thread and no process.
const CLONE_THREAD: u32 = libc::CLONE_THREAD.cast_unsigned();

/// Allowed socket families without networking: none that leads beyond this host.
const LOCAL_FAMILIES: &[u32] = &[libc::AF_UNIX.cast_unsigned()];

/// Allowed socket families with networking. By netlink the C library finds out which addresses this host can reach.
const NETWORK_FAMILIES: &[u32] = &[
    libc::AF_UNIX.cast_unsigned(),
    libc::AF_INET.cast_unsigned(),
    libc::AF_INET6.cast_unsigned(),
    libc::AF_NETLINK.cast_unsigned(),
];

/// Newest system call that was known when the table was made (`epoll_pwait2`, 5.11). Calls with a higher number fail
/// with `ENOSYS` and not with `EPERM`: C libraries that try a new call fall back only then.
pub(super) const NEWEST_KNOWN: u32 = 441;

/// Rules of all system calls that a run with these requirements makes.
pub(super) fn allowed(requirements: Requirements) -> Vec<SyscallRule> {
    let rule = |number, args| SyscallRule { number, args };
    let mut rules = Vec::new();
    // Reading events, writing records, waiting.
    rules.extend(any_args!(
        SYS_epoll_pwait SYS_write SYS_futex SYS_clock_gettime SYS_read SYS_close SYS_lseek SYS_pread64
        SYS_epoll_ctl SYS_epoll_pwait2 SYS_ppoll SYS_writev SYS_readv SYS_nanosleep SYS_clock_nanosleep
        SYS_restart_syscall SYS_sched_yield SYS_recvfrom SYS_sendto
    ));
    #[cfg(target_arch = "x86_64")]
    rules.extend(any_args!(SYS_epoll_wait SYS_poll));
    rules.push(rule(libc::SYS_fcntl, ArgRule::OneOf(1, FCNTL_COMMANDS)));
    rules.push(rule(libc::SYS_bpf, ArgRule::OneOf(0, BPF_COMMANDS)));
    // Reading /proc, cgroups and files of the system.
    let open_flags = |argument| {
        if requirements.files { ArgRule::Any } else { ArgRule::HasNoBits(argument, OPEN_WRITE_FLAGS) }
    };
    rules.push(rule(libc::SYS_openat, open_flags(2)));
    rules.extend(any_args!(
        SYS_statx SYS_newfstatat SYS_fstat SYS_getdents64 SYS_readlinkat SYS_faccessat SYS_pidfd_open SYS_fadvise64
    ));
    #[cfg(target_arch = "x86_64")]
    {
        rules.push(rule(libc::SYS_open, open_flags(1)));
        rules.extend(any_args!(SYS_readlink SYS_stat SYS_lstat SYS_access));
    }
    // Memory, none of it executable.
    rules.push(rule(libc::SYS_mmap, ArgRule::HasNoBits(2, PROT_EXEC)));
    rules.push(rule(libc::SYS_mprotect, ArgRule::HasNoBits(2, PROT_EXEC)));
    rules.extend(any_args!(SYS_munmap SYS_mremap SYS_madvise SYS_brk));
    // Threads and no processes. The arguments of clone3 and openat2 lie in memory, where a filter cannot read them.
    for number in [libc::SYS_clone3, libc::SYS_openat2, libc::SYS_faccessat2, libc::SYS_close_range] {
        rules.push(rule(number, ArgRule::Enosys));
    }
    rules.push(rule(libc::SYS_clone, ArgRule::HasBit(0, CLONE_THREAD)));
    rules.push(rule(libc::SYS_prctl, ArgRule::OneOf(0, PRCTL_OPTIONS)));
    rules.extend(any_args!(
        SYS_set_robust_list SYS_rseq SYS_sigaltstack SYS_rt_sigprocmask SYS_rt_sigaction SYS_rt_sigreturn
        SYS_sched_getaffinity SYS_gettid SYS_getpid SYS_exit SYS_exit_group SYS_membarrier
    ));
    // `PRIO_PROCESS` is 0.
    rules.push(rule(libc::SYS_setpriority, ArgRule::AllZero(&[0, 1])));
    rules.push(rule(libc::SYS_prlimit64, ArgRule::AllZero(&[0])));
    // System information that libraries read.
    rules.extend(
        any_args!(SYS_epoll_create1 SYS_eventfd2 SYS_getrandom SYS_uname SYS_sysinfo SYS_getuid SYS_geteuid SYS_getgid SYS_getegid),
    );
    // The name of an interface is read through a socket of any family, and sd_notify sends through a Unix socket.
    let requests = if requirements.terminal { TERMINAL_REQUESTS } else { IOCTL_REQUESTS };
    rules.push(rule(libc::SYS_ioctl, ArgRule::OneOf(1, requests)));
    let has_networking = requirements.sockets || requirements.network_administration;
    rules.push(rule(
        libc::SYS_socket,
        ArgRule::OneOf(0, if has_networking { NETWORK_FAMILIES } else { LOCAL_FAMILIES }),
    ));
    if has_networking {
        rules.extend(any_args!(
            SYS_connect SYS_bind SYS_listen SYS_accept4 SYS_getsockname SYS_getpeername SYS_getsockopt SYS_setsockopt
            SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_shutdown SYS_socketpair
        ));
    }
    if requirements.terminal && !requirements.files {
        // The report of a view is written anew with its key.
        rules.extend(any_args!(SYS_ftruncate));
    }
    if requirements.files {
        rules.extend(any_args!(
            SYS_renameat SYS_renameat2 SYS_unlinkat SYS_fsync SYS_fdatasync SYS_ftruncate SYS_flock SYS_pwrite64
            SYS_fchmod SYS_utimensat SYS_fstatfs SYS_adjtimex SYS_clock_adjtime
        ));
        #[cfg(target_arch = "x86_64")]
        rules.extend(any_args!(SYS_rename SYS_unlink));
    }
    rules
}

/// Rules of all system calls of the process that looks up tracked connections: it receives and sends on the sockets that it
/// has, closes them and ends.
pub(super) fn allowed_for_helper() -> Vec<SyscallRule> {
    let mut rules = Vec::new();
    rules.extend(any_args!(SYS_recvfrom SYS_sendto SYS_ppoll SYS_close SYS_restart_syscall SYS_rt_sigreturn));
    #[cfg(target_arch = "x86_64")]
    rules.extend(any_args!(SYS_poll));
    rules.extend(any_args!(SYS_munmap SYS_mremap SYS_madvise SYS_brk SYS_futex SYS_exit SYS_exit_group));
    rules.push(SyscallRule { number: libc::SYS_mmap, args: ArgRule::HasNoBits(2, PROT_EXEC) });
    rules
}
