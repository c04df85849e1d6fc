//! The seccomp filter: a program in classic BPF that the kernel runs before every system call.

use std::{io, mem::offset_of};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_SET_MODE_FILTER, seccomp_data,
    sock_filter, sock_fprog,
};
use nix::sys::prctl;

use super::{
    Requirements,
    syscalls::{self, ArgRule, SyscallRule},
};

/// `AUDIT_ARCH_*` of this architecture; `None` on those for which the table of system calls has not been checked.
const AUDIT_ARCH: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// Return value of the filter that makes a call fail with `EPERM`.
const RET_EPERM: u32 = SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();

/// Return value of the filter that makes a call fail with `ENOSYS`.
const RET_ENOSYS: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// Sets `no_new_privs`: `execve` grants no privileges any more. Without it or `CAP_SYS_ADMIN` the kernel takes no
/// filter. Fails before Linux 3.5.
pub(super) fn set_no_new_privs() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// Installs the filter of these requirements in every thread of the process. Needs [`set_no_new_privs`] before.
/// Fails when the kernel has no seccomp, the architecture has no table of system calls, or another thread has a filter of
/// its own.
pub(super) fn install_seccomp_filter(requirements: Requirements) -> io::Result<()> {
    // SPEC_ALLOW: kernels before 5.16 otherwise switch on SSBD for every filtered process, a mitigation for programs
    // that run foreign code.
    install(&syscalls::allowed(requirements), SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW)
}

/// Installs the filter of the process that looks up tracked connections. Needs [`set_no_new_privs`] before. Fails when the
/// kernel has no seccomp, or the architecture has no table of system calls.
pub(super) fn install_helper_filter() -> io::Result<()> {
    install(&syscalls::allowed_for_helper(), SECCOMP_FILTER_FLAG_SPEC_ALLOW)
}

fn install(rules: &[SyscallRule], flags: libc::c_ulong) -> io::Result<()> {
    let arch = AUDIT_ARCH.ok_or_else(|| io::Error::other("there is no table of calls for this kind of processor"))?;
    let mut filter = compile(arch, rules)?;
    let length = filter.len().try_into().map_err(io::Error::other)?;
    let program = sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: the filter lives through the call, which copies it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match result {
        // With TSYNC, the id of the thread that could not be synchronised.
        1.. => Err(io::Error::other("another thread has a seccomp filter of its own")),
        other => check(other),
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Compiles the filter: the architecture, then each rule in turn, then `EPERM`.
///
/// seccompiler has one action for matches and one for the rest; three are needed here (allow, `EPERM`, `ENOSYS`).
fn compile(arch: u32, rules: &[SyscallRule]) -> io::Result<Vec<sock_filter>> {
    let mut filter = vec![
        load(offset_of!(seccomp_data, arch))?,
        jump(BPF_JEQ, arch, 1, 0),
        ret(RET_EPERM),
        load(offset_of!(seccomp_data, nr))?,
        jump(BPF_JGT, syscalls::NEWEST_KNOWN, 0, 1),
        ret(RET_ENOSYS),
    ];
    for rule in rules {
        let body = compile_args(&rule.args)?;
        let number = u32::try_from(rule.number).map_err(io::Error::other)?;
        let length = u8::try_from(body.len()).map_err(io::Error::other)?;
        filter.push(jump(BPF_JEQ, number, 0, length));
        filter.extend(body);
    }
    filter.push(ret(RET_EPERM));
    Ok(filter)
}

/// Compiles the instructions that run once the number of a call has matched. They return in any case: loading an
/// argument overwrites the number in the accumulator.
fn compile_args(rule: &ArgRule) -> io::Result<Vec<sock_filter>> {
    Ok(match *rule {
        ArgRule::Any => vec![ret(SECCOMP_RET_ALLOW)],
        ArgRule::Enosys => vec![ret(RET_ENOSYS)],
        ArgRule::AllZero(arguments) => {
            let mut body = Vec::new();
            for &argument in arguments {
                body.extend([load_low_half(argument)?, jump(BPF_JEQ, 0, 1, 0), ret(RET_EPERM)]);
            }
            body.push(ret(SECCOMP_RET_ALLOW));
            body
        }
        ArgRule::HasBit(argument, bits) => {
            vec![load_low_half(argument)?, jump(BPF_JSET, bits, 1, 0), ret(RET_EPERM), ret(SECCOMP_RET_ALLOW)]
        }
        ArgRule::HasNoBits(argument, bits) => {
            vec![load_low_half(argument)?, jump(BPF_JSET, bits, 0, 1), ret(RET_EPERM), ret(SECCOMP_RET_ALLOW)]
        }
        ArgRule::OneOf(argument, values) => {
            let mut body = vec![load_low_half(argument)?];
            for (index, &value) in values.iter().enumerate() {
                let to_allow = u8::try_from(values.len() - index).map_err(io::Error::other)?;
                body.push(jump(BPF_JEQ, value, to_allow, 0));
            }
            body.extend([ret(RET_EPERM), ret(SECCOMP_RET_ALLOW)]);
            body
        }
    })
}

/// Loads the low 32 bits of an argument. The arguments that rules test are 32-bit integers in the kernel, which ignores
/// the high half.
fn load_low_half(argument: u8) -> io::Result<sock_filter> {
    let half = if cfg!(target_endian = "big") { 4 } else { 0 };
    load(offset_of!(seccomp_data, args) + usize::from(argument) * 8 + half)
}

fn load(offset: usize) -> io::Result<sock_filter> {
    let offset = offset.try_into().map_err(io::Error::other)?;
    Ok(instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset))
}

fn jump(kind: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(BPF_JMP | kind | BPF_K, if_true, if_false, value)
}

fn ret(action: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, 0, 0, action)
}

#[expect(clippy::cast_possible_truncation, reason = "instruction codes have 16 bits")]
const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        net::TcpListener,
        os::{fd::AsRawFd as _, unix::net::UnixDatagram},
        process::Command,
        thread,
    };

    use libc::c_long;
    use nix::sys::socket::{MsgFlags, recv, send};
    use rustix::process::setpriority_process;

    use super::*;

    /// Runs `action` under the filter, in a thread of its own.
    fn sandboxed<T: Send + 'static>(requirements: Requirements, action: fn() -> T) -> T {
        let sandboxed = move || {
            set_no_new_privs().expect("every kernel has it");
            install(&syscalls::allowed(requirements), 0).expect("this kernel has seccomp");
            action()
        };
        thread::spawn(sandboxed).join().expect("the action does not panic")
    }

    fn is_refused<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    }

    #[test]
    fn allows_what_a_run_does() {
        let all = sandboxed(Requirements::default(), || {
            let started = thread::Builder::new().name("another".to_owned()).spawn(|| 7).expect("threads may start");
            assert_eq!(started.join().ok(), Some(7));
            assert!(fs::read("/proc/self/stat").is_ok_and(|stat| !stat.is_empty()));
            assert!(fs::read_dir("/proc").expect("it can be read").count() > 1);
            assert!(setpriority_process(None, 19).is_ok(), "a thread may be nice");
            assert!(fs::read_link("/proc/self/exe").is_ok() && fs::metadata("/proc/self/ns/net").is_ok());
            assert!(jiff::Timestamp::now().as_second() > 0);
            nix::net::if_::if_indextoname(1).is_ok()
        });
        assert!(all, "the loopback interface has a name");
    }

    #[test]
    fn refuses_everything_else() {
        sandboxed(Requirements::default(), || {
            assert!(is_refused(Command::new("true").status()), "running a program");
            assert!(is_refused(OpenOptions::new().write(true).open("/dev/null")), "writing");
            assert!(is_refused(OpenOptions::new().append(true).open("/dev/null")), "appending");
            assert!(is_refused(fs::write("/tmp/rsttrace-must-not-be", "")), "making a file");
            assert!(is_refused(fs::remove_file("/tmp/rsttrace-must-not-be")), "deleting");
            assert!(is_refused(TcpListener::bind("127.0.0.1:0")), "a socket");
            let own = std::process::id().cast_signed();
            // SAFETY: all of these fail before the kernel reads a pointer.
            let results = unsafe {
                [
                    libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1, 0, 0),
                    libc::syscall(libc::SYS_process_vm_readv, own, 0, 0, 0, 0, 0),
                    libc::syscall(libc::SYS_kill, own, 0),
                    libc::syscall(libc::SYS_setuid, 0),
                    libc::syscall(libc::SYS_unshare, 0),
                    libc::syscall(libc::SYS_mount, 0, 0, 0, 0, 0),
                    libc::syscall(libc::SYS_perf_event_open, 0, 0, 0, 0, 0),
                    // BPF_PROG_LOAD.
                    libc::syscall(libc::SYS_bpf, 5, 0, 0),
                    libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0),
                    libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0),
                    libc::syscall(libc::SYS_fcntl, 0, libc::F_SETOWN, own),
                    libc::syscall(libc::SYS_prlimit64, 1, libc::RLIMIT_CPU, 0, 0),
                    libc::syscall(libc::SYS_setpriority, libc::PRIO_USER, 0, 19),
                    // Newer than the table: ENOSYS.
                    libc::syscall(c_long::from(syscalls::NEWEST_KNOWN) + 1),
                    libc::syscall(
                        libc::SYS_mmap,
                        0,
                        4096,
                        libc::PROT_READ | libc::PROT_EXEC,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    ),
                ]
            };
            for (index, result) in results.into_iter().enumerate() {
                // errno is that of the last call, so only the results are checked.
                assert_eq!(result, -1, "call {index} is not refused");
            }
            // SAFETY: signal 0 only checks for permission, and this process may signal itself.
            assert!(is_refused(check(unsafe { libc::syscall(libc::SYS_kill, own, 0) })));
        });
    }

    #[test]
    fn allows_files_and_sockets_only_where_required() {
        let listen = || TcpListener::bind("127.0.0.1:0").map(drop);
        let make = || tempfile::tempfile().map(drop);
        let (files, sockets) = (
            Requirements { files: true, ..Requirements::default() },
            Requirements { sockets: true, ..Requirements::default() },
        );
        assert!(is_refused(sandboxed(files, listen)) && sandboxed(sockets, listen).is_ok());
        assert!(is_refused(sandboxed(sockets, make)) && sandboxed(files, make).is_ok());
        let administration = Requirements { network_administration: true, ..Requirements::default() };
        assert!(is_refused(sandboxed(administration, make)) && sandboxed(administration, listen).is_ok());
        assert!(sandboxed(Requirements::default(), || UnixDatagram::unbound().is_ok()));
    }

    #[test]
    fn the_helper_may_use_the_sockets_that_it_has() {
        // Messages of a panic could not be written there.
        let helper = || {
            let (one, other) = UnixDatagram::pair().expect("sockets can be made before");
            set_no_new_privs().expect("every kernel has it");
            install(&syscalls::allowed_for_helper(), 0).expect("this kernel has seccomp");
            // By the calls that the helper makes; the standard library reads and writes.
            let sent = send(one.as_raw_fd(), b"packet", MsgFlags::empty());
            let passed = sent.and_then(|_| recv(other.as_raw_fd(), &mut [0; 9], MsgFlags::empty()));
            // SAFETY: takes integers; the descriptor is none.
            let namespace = check(unsafe { libc::syscall(libc::SYS_setns, -1, libc::CLONE_NEWNET) });
            // SAFETY: the kernel reads no byte.
            let written = check(unsafe { libc::syscall(libc::SYS_write, -1, 0, 0) });
            let refused = [
                is_refused(fs::metadata("/proc/self/stat")),
                is_refused(fs::File::open("/proc/self/stat")),
                is_refused(UnixDatagram::unbound()),
                is_refused(namespace),
                is_refused(written),
            ];
            (passed, refused)
        };
        let result = thread::spawn(helper).join().expect("the helper does not panic");
        assert_eq!(result, (Ok(6), [true; 5]));
    }

    #[test]
    fn keeps_every_jump_inside_the_filter() {
        for rules in [syscalls::allowed(Requirements::default()), syscalls::allowed_for_helper()] {
            let filter = compile(AUDIT_ARCH.expect("a known architecture"), &rules).expect("it is short");
            for (at, instruction) in filter.iter().enumerate() {
                let farthest = at + 1 + usize::from(instruction.jt.max(instruction.jf));
                assert!(u32::from(instruction.code) & 7 != BPF_JMP || farthest < filter.len(), "{at}");
            }
            assert!(filter.len() < 4096);
        }
    }
}
