//! The kernel's statistics of BPF programs: run time in nanoseconds and number of runs.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    fs, io,
    ops::Range,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use anyhow::{Context as _, Result};
use nix::libc;

/// Commands of `bpf(2)`.
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_ENABLE_STATS: libc::c_int = 32;

/// Offset of the program's name in `struct bpf_prog_info`.
const NAME: Range<usize> = 64..80;

/// Cost of the programs of a process, in nanoseconds and runs, by name and id. The kernel keeps 15 bytes of a name.
pub(super) type Cost = BTreeMap<(String, u32), (u64, u64)>;

/// Makes the kernel count until this is dropped: the switch is the descriptor, so it is off even if this process dies.
/// Counting itself takes time, and is never on while rates are measured.
pub(super) struct Counting {
    _switch: OwnedFd,
}

impl Counting {
    pub(super) fn start() -> Result<Self> {
        // Run times, the only kind of statistics, are number 0.
        let switch = bpf(BPF_ENABLE_STATS, &mut 0_u32).context("the kernel counts nothing for BPF programs")?;
        Ok(Self { _switch: switch })
    }
}

/// Cost so far of the programs that a process holds.
pub(super) fn cost(pid: u32) -> Result<Cost> {
    let mut costs = Cost::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed in the meantime.
        let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
        let value = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
        };
        if let (Some(id), Some(time), Some(runs)) = (value("prog_id"), value("run_time_ns"), value("run_cnt")) {
            let id = u32::try_from(id)?;
            costs.insert((name(id)?, id), (time, runs));
        }
    }
    Ok(costs)
}

/// Name of a program: the first 15 bytes of its function's.
fn name(id: u32) -> Result<String> {
    #[repr(C)]
    struct ById {
        id: u32,
        next_id: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Info {
        fd: RawFd,
        length: u32,
        to: *mut [u8; NAME.end],
    }
    let program = bpf(BPF_PROG_GET_FD_BY_ID, &mut ById { id, next_id: 0, flags: 0 })?;
    let mut info = [0; NAME.end];
    let length = u32::try_from(info.len())?;
    let mut request = Info { fd: program.as_raw_fd(), length, to: &raw mut info };
    call(BPF_OBJ_GET_INFO_BY_FD, &mut request)?;
    let name = info.get(NAME).and_then(|bytes| CStr::from_bytes_until_nul(bytes).ok());
    Ok(name.unwrap_or_default().to_string_lossy().into_owned())
}

/// Calls `bpf(2)` with a command that returns a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes at most the given number of bytes of the attributes; what they point at
    // outlives the call and has the lengths that they give.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
