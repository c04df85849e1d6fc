//! The kernel's own statistics of BPF programs: nanoseconds and runs of each.

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

/// Where `struct bpf_prog_info` has the name of the program.
const NAME: Range<usize> = 64..80;

/// What the programs of a process have cost: nanoseconds and runs, by the program's name and number. Of a name the kernel
/// keeps 15 bytes.
pub(super) type Cost = BTreeMap<(String, u32), (u64, u64)>;

/// Makes the kernel count for as long as it is held: the switch is the descriptor, so it goes off whatever becomes of
/// this process. Counting costs time itself and is never on while rates are measured.
pub(super) struct Counting {
    _switch: OwnedFd,
}

impl Counting {
    pub(super) fn start() -> Result<Self> {
        // The only kind of statistics, run times, is number 0.
        let switch = bpf(BPF_ENABLE_STATS, &mut 0_u32).context("the kernel counts nothing for BPF programs")?;
        Ok(Self { _switch: switch })
    }
}

/// What the programs that a process holds have cost so far.
pub(super) fn cost(pid: u32) -> Result<Cost> {
    let mut costs = Cost::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
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

/// The name of a program: the first 15 bytes of its function's.
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

/// A call of `bpf(2)` that returns a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes at most so many bytes of the attributes, and what they point at outlives the
    // call and is as long as they say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
