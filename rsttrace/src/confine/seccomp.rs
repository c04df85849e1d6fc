//! The fence of system calls: a program in classic BPF that the kernel asks before every call.

use std::{io, mem::offset_of};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_SET_MODE_FILTER, seccomp_data,
    sock_filter, sock_fprog,
};

use super::{
    Needs,
    calls::{self, Call, When},
};

/// What the kernel calls this processor (`AUDIT_ARCH_*`); `None` where nobody has looked through the table of calls.
const MACHINE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// Refused with `EPERM`.
const REFUSE: u32 = SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
/// As if the kernel did not have it.
const ABSENT: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// No program that this process might be made to run gains anything by it. A fence takes this first.
pub(super) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes integers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

/// Lets only the calls of the table through, from here on, in every thread.
pub(super) fn fence(needs: Needs) -> io::Result<()> {
    // Mitigations against speculation, which older kernels put on every fenced process, are for those who run code of
    // others.
    install(needs, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW)
}

fn install(needs: Needs, flags: libc::c_ulong) -> io::Result<()> {
    let machine = MACHINE.ok_or_else(|| io::Error::other("there is no table of calls for this kind of processor"))?;
    let mut program = program(machine, &calls::allowed(needs))?;
    let length = program.len().try_into().map_err(io::Error::other)?;
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the program lives through the call, which copies it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match result {
        // With TSYNC, a thread that could not be fenced.
        1.. => Err(io::Error::other("another thread has a fence of its own")),
        other => check(other),
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The whole program: the right processor, then each call in turn, and no other.
fn program(machine: u32, calls: &[Call]) -> io::Result<Vec<sock_filter>> {
    let mut program = vec![
        load(offset_of!(seccomp_data, arch))?,
        jump(BPF_JEQ, machine, 1, 0),
        answer(REFUSE),
        load(offset_of!(seccomp_data, nr))?,
        jump(BPF_JGT, calls::NEWEST, 0, 1),
        answer(ABSENT),
    ];
    for call in calls {
        let block = block(&call.when)?;
        let number = u32::try_from(call.number).map_err(io::Error::other)?;
        let length = u8::try_from(block.len()).map_err(io::Error::other)?;
        program.push(jump(BPF_JEQ, number, 0, length));
        program.extend(block);
    }
    program.push(answer(REFUSE));
    Ok(program)
}

/// What is done once the number of the call has matched. It ends with an answer in any case, since the number is gone
/// from the register when an argument has been read.
fn block(when: &When) -> io::Result<Vec<sock_filter>> {
    Ok(match *when {
        When::Always => vec![answer(SECCOMP_RET_ALLOW)],
        When::Absent => vec![answer(ABSENT)],
        When::Own(arguments) => {
            let mut block = Vec::new();
            for &argument in arguments {
                block.extend([low_half(argument)?, jump(BPF_JEQ, 0, 1, 0), answer(REFUSE)]);
            }
            block.push(answer(SECCOMP_RET_ALLOW));
            block
        }
        When::With(argument, bit) => {
            vec![low_half(argument)?, jump(BPF_JSET, bit, 1, 0), answer(REFUSE), answer(SECCOMP_RET_ALLOW)]
        }
        When::Without(argument, bits) => {
            vec![low_half(argument)?, jump(BPF_JSET, bits, 0, 1), answer(REFUSE), answer(SECCOMP_RET_ALLOW)]
        }
        When::Among(argument, values) => {
            let mut block = vec![low_half(argument)?];
            for (index, &value) in values.iter().enumerate() {
                let to_the_end = u8::try_from(values.len() - index).map_err(io::Error::other)?;
                block.push(jump(BPF_JEQ, value, to_the_end, 0));
            }
            block.extend([answer(REFUSE), answer(SECCOMP_RET_ALLOW)]);
            block
        }
    })
}

/// Reads the half of an argument that the kernel looks at: all that are asked about here are integers of 32 bits.
fn low_half(argument: u8) -> io::Result<sock_filter> {
    let half = if cfg!(target_endian = "big") { 4 } else { 0 };
    load(offset_of!(seccomp_data, args) + usize::from(argument) * 8 + half)
}

fn load(offset: usize) -> io::Result<sock_filter> {
    let offset = offset.try_into().map_err(io::Error::other)?;
    Ok(instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset))
}

fn jump(kind: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    instruction(BPF_JMP | kind | BPF_K, then, otherwise, value)
}

fn answer(answer: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, 0, 0, answer)
}

#[expect(clippy::cast_possible_truncation, reason = "codes of instructions have 16 bits")]
const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        net::TcpListener,
        os::unix::net::UnixDatagram,
        process::Command,
        thread,
    };

    use libc::c_long;

    use super::*;

    /// Does something behind the fence, in a thread that ends with it.
    fn fenced<T: Send + 'static>(needs: Needs, act: fn() -> T) -> T {
        let fenced = move || {
            no_new_privileges().expect("every kernel has it");
            install(needs, 0).expect("this kernel has seccomp");
            act()
        };
        thread::spawn(fenced).join().expect("it ends in peace")
    }

    fn is_refused<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    }

    #[test]
    fn what_a_run_does_goes_on() {
        let all = fenced(Needs::default(), || {
            let started = thread::Builder::new().name("another".to_owned()).spawn(|| 7).expect("threads may start");
            assert_eq!(started.join().ok(), Some(7));
            assert!(fs::read("/proc/self/stat").is_ok_and(|stat| !stat.is_empty()));
            assert!(fs::read_dir("/proc").expect("it can be read").count() > 1);
            // SAFETY: takes integers.
            assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) }, 0, "a thread may be nice");
            assert!(fs::read_link("/proc/self/exe").is_ok() && fs::metadata("/proc/self/ns/net").is_ok());
            assert!(jiff::Timestamp::now().as_second() > 0);
            nix::net::if_::if_indextoname(1).is_ok()
        });
        assert!(all, "the loopback interface has a name");
    }

    #[test]
    fn nothing_else_does() {
        fenced(Needs::default(), || {
            assert!(is_refused(Command::new("true").status()), "running a program");
            assert!(is_refused(OpenOptions::new().write(true).open("/dev/null")), "writing");
            assert!(is_refused(OpenOptions::new().append(true).open("/dev/null")), "appending");
            assert!(is_refused(fs::write("/tmp/rsttrace-must-not-be", "")), "making a file");
            assert!(is_refused(fs::remove_file("/tmp/rsttrace-must-not-be")), "deleting");
            assert!(is_refused(TcpListener::bind("127.0.0.1:0")), "a socket");
            let own = std::process::id().cast_signed();
            // SAFETY: none of these does anything but fail; the pointers are null, or not looked at.
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
                    // Newer than the table: as if it were not there.
                    libc::syscall(c_long::from(calls::NEWEST) + 1),
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
                // The last error is overwritten by the next call; the results are enough.
                assert_eq!(result, -1, "call {index} is not refused");
            }
            // SAFETY: as above.
            assert!(is_refused(check(unsafe { libc::syscall(libc::SYS_kill, own, 0) })));
        });
    }

    #[test]
    fn files_and_sockets_only_for_who_needs_them() {
        let listen = || TcpListener::bind("127.0.0.1:0").map(drop);
        let make = || tempfile::tempfile().map(drop);
        let (files, sockets) = (Needs { files: true, ..Needs::default() }, Needs { sockets: true, ..Needs::default() });
        assert!(is_refused(fenced(files, listen)) && fenced(sockets, listen).is_ok());
        assert!(is_refused(fenced(sockets, make)) && fenced(files, make).is_ok());
        let administration = Needs { network_administration: true, ..Needs::default() };
        assert!(is_refused(fenced(administration, make)) && fenced(administration, listen).is_ok());
        assert!(fenced(Needs::default(), || UnixDatagram::unbound().is_ok()));
    }

    #[test]
    fn every_jump_stays_inside() {
        let program =
            program(MACHINE.expect("a known processor"), &calls::allowed(Needs::default())).expect("it is short");
        for (at, instruction) in program.iter().enumerate() {
            let farthest = at + 1 + usize::from(instruction.jt.max(instruction.jf));
            assert!(u32::from(instruction.code) & 7 != BPF_JMP || farthest < program.len(), "{at}");
        }
        assert!(program.len() < 4096);
    }
}
