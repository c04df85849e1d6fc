//! The system calls that are made once everything is attached, those made most often first. Every other is refused.

use libc::c_long;

use super::Needs;

/// One of them.
pub(super) struct Call {
    pub(super) number: c_long,
    pub(super) when: When,
}

/// When it may be made.
pub(super) enum When {
    Always,
    /// An argument, counted from 0, has one of these values.
    Among(u8, &'static [u32]),
    /// It has this bit.
    With(u8, u32),
    /// It has none of these bits.
    Without(u8, u32),
    /// These arguments are 0: the caller means itself.
    Own(&'static [u8]),
    /// Never, and it looks as if the kernel did not have it: the C library goes another way then.
    Absent,
}

macro_rules! always {
    ($($name:ident)+) => {
        [$(Call { number: libc::$name, when: When::Always },)+]
    };
}

/// Commands of `bpf`: elements of maps, facts about a program, and making iterators. No program is loaded any more.
const BPF: &[u32] = &[1, 2, 3, 4, 15, 21, 24, 25, 26, 27, 28, 33];

/// `TCGETS`, `TCGETS2` and `TIOCGWINSZ`, by which C libraries tell a terminal; `SIOCGIFNAME`, `PERF_EVENT_IOC_ENABLE`,
/// `PERF_EVENT_IOC_DISABLE`.
const IOCTL: &[u32] = &[0x5401, 0x802c_542a, 0x5413, 0x8910, 0x2400, 0x2401];

/// Commands of `fcntl`, none of which says who gets a signal: root's goes to every process.
const FCNTL: &[u32] = &[
    libc::F_GETFD.cast_unsigned(),
    libc::F_SETFD.cast_unsigned(),
    libc::F_GETFL.cast_unsigned(),
    libc::F_SETFL.cast_unsigned(),
    libc::F_DUPFD_CLOEXEC.cast_unsigned(),
];

const EXECUTE: u32 = libc::PROT_EXEC.cast_unsigned();

/// Bits of the flags of `open` that change a file or make one.
const CHANGES: u32 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND).cast_unsigned();

/// Options of `prctl`.
const PRCTL: &[u32] = &[libc::PR_SET_NAME.cast_unsigned()];

/// A thread, and no process.
const THREAD: u32 = libc::CLONE_THREAD.cast_unsigned();

/// A socket of this family leads nowhere beyond this host.
const HERE: &[u32] = &[libc::AF_UNIX.cast_unsigned()];

/// Families of sockets for sinks and metrics; by netlink the C library finds out which addresses this host can reach.
const FAMILIES: &[u32] = &[
    libc::AF_UNIX.cast_unsigned(),
    libc::AF_INET.cast_unsigned(),
    libc::AF_INET6.cast_unsigned(),
    libc::AF_NETLINK.cast_unsigned(),
];

/// The newest call that was known when the table was made (`epoll_pwait2`). Later ones look as if the kernel did not have
/// them: C libraries go another way then, and not where they are refused.
pub(super) const NEWEST: u32 = 441;

/// All of them.
pub(super) fn allowed(needs: Needs) -> Vec<Call> {
    let call = |number, when| Call { number, when };
    let mut calls = Vec::new();
    // Reading events, writing records, waiting.
    calls.extend(always!(
        SYS_epoll_pwait SYS_write SYS_futex SYS_clock_gettime SYS_read SYS_close SYS_lseek SYS_pread64
        SYS_epoll_ctl SYS_epoll_pwait2 SYS_ppoll SYS_writev SYS_readv SYS_nanosleep SYS_clock_nanosleep
        SYS_restart_syscall SYS_sched_yield SYS_recvfrom SYS_sendto
    ));
    #[cfg(target_arch = "x86_64")]
    calls.extend(always!(SYS_epoll_wait SYS_poll));
    calls.push(call(libc::SYS_fcntl, When::Among(1, FCNTL)));
    calls.push(call(libc::SYS_bpf, When::Among(0, BPF)));
    // Looking at processes, cgroups and files of the system.
    let opens = |argument| if needs.files { When::Always } else { When::Without(argument, CHANGES) };
    calls.push(call(libc::SYS_openat, opens(2)));
    calls.extend(always!(
        SYS_statx SYS_newfstatat SYS_fstat SYS_getdents64 SYS_readlinkat SYS_faccessat SYS_pidfd_open SYS_fadvise64
    ));
    #[cfg(target_arch = "x86_64")]
    {
        calls.push(call(libc::SYS_open, opens(1)));
        calls.extend(always!(SYS_readlink SYS_stat SYS_lstat SYS_access));
    }
    // Memory, none of which can be run.
    calls.push(call(libc::SYS_mmap, When::Without(2, EXECUTE)));
    calls.push(call(libc::SYS_mprotect, When::Without(2, EXECUTE)));
    calls.extend(always!(SYS_munmap SYS_mremap SYS_madvise SYS_brk));
    // Threads, and no processes. The flags of clone3 are out of sight.
    for absent in [libc::SYS_clone3, libc::SYS_openat2, libc::SYS_faccessat2, libc::SYS_close_range] {
        calls.push(call(absent, When::Absent));
    }
    calls.push(call(libc::SYS_clone, When::With(0, THREAD)));
    calls.push(call(libc::SYS_prctl, When::Among(0, PRCTL)));
    calls.extend(always!(
        SYS_set_robust_list SYS_rseq SYS_sigaltstack SYS_rt_sigprocmask SYS_rt_sigaction SYS_rt_sigreturn
        SYS_sched_getaffinity SYS_gettid SYS_getpid SYS_exit SYS_exit_group SYS_membarrier
    ));
    // `PRIO_PROCESS` is 0.
    calls.push(call(libc::SYS_setpriority, When::Own(&[0, 1])));
    calls.push(call(libc::SYS_prlimit64, When::Own(&[0])));
    // What libraries ask of the system.
    calls.extend(
        always!(SYS_epoll_create1 SYS_eventfd2 SYS_getrandom SYS_uname SYS_sysinfo SYS_getuid SYS_geteuid SYS_getgid SYS_getegid),
    );
    // The name of an interface, which takes a socket of any kind, and what systemd is told, which takes a Unix one.
    calls.push(call(libc::SYS_ioctl, When::Among(1, IOCTL)));
    let is_networking = needs.sockets || needs.network_administration;
    calls.push(call(libc::SYS_socket, When::Among(0, if is_networking { FAMILIES } else { HERE })));
    if is_networking {
        calls.extend(always!(
            SYS_connect SYS_bind SYS_listen SYS_accept4 SYS_getsockname SYS_getpeername SYS_getsockopt SYS_setsockopt
            SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_shutdown SYS_socketpair
        ));
    }
    if needs.files {
        calls.extend(always!(
            SYS_renameat SYS_renameat2 SYS_unlinkat SYS_fsync SYS_fdatasync SYS_ftruncate SYS_flock SYS_pwrite64
            SYS_fchmod
        ));
        #[cfg(target_arch = "x86_64")]
        calls.extend(always!(SYS_rename SYS_unlink));
    }
    calls
}
