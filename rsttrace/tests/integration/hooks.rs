//! Whether this kernel allows fentry programs and kprobes, found by trying, without rsttrace's code.

use std::{
    fs, io,
    mem::zeroed,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
};

use btf_rs::{Btf, Type};
use libc::{c_int, c_long};

/// Function that every supported kernel has; it handles a received reset.
const FUNCTION: &str = "tcp_reset";
/// `BPF_PROG_LOAD` of `linux/bpf.h`.
const BPF_PROG_LOAD: c_int = 5;
/// `BPF_RAW_TRACEPOINT_OPEN` of `linux/bpf.h`.
const BPF_RAW_TRACEPOINT_OPEN: c_int = 17;
/// `BPF_PROG_TYPE_TRACING` of `linux/bpf.h`.
const BPF_PROG_TYPE_TRACING: u32 = 26;
/// `BPF_TRACE_FENTRY` of `linux/bpf.h`.
const BPF_TRACE_FENTRY: u32 = 24;
/// `return 0`: an assignment to the first register, and the exit.
static RETURN_ZERO: [u64; 2] = [0xb7, 0x95];

/// Beginning of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes the fields beyond it as zero.
#[repr(C)]
struct Load {
    program_type: u32,
    instructions: u32,
    first: u64,
    licence: u64,
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    btf: u32,
    func_info_size: u32,
    func_info: u64,
    func_infos: u32,
    line_info_size: u32,
    line_info: u64,
    line_infos: u32,
    attach_btf_id: u32,
}

/// Beginning of `union bpf_attr` for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct Attach {
    name: u64,
    program: u32,
    pad: u32,
}

/// Attaches an empty program to the entry of [`FUNCTION`] and detaches it.
pub(crate) fn try_fentry() -> io::Result<()> {
    raise_memory_limit();
    let id = function_id().ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: all zeros is a valid request.
    let mut load: Load = unsafe { zeroed() };
    load.program_type = BPF_PROG_TYPE_TRACING;
    load.attach_type = BPF_TRACE_FENTRY;
    load.attach_btf_id = id;
    load.instructions = RETURN_ZERO.len().try_into().unwrap();
    load.first = address(RETURN_ZERO.as_ptr());
    load.licence = address(c"GPL".as_ptr());
    let program = bpf(BPF_PROG_LOAD, &load)?;
    let program = program.as_raw_fd().try_into().unwrap();
    bpf(BPF_RAW_TRACEPOINT_OPEN, &Attach { name: 0, program, pad: 0 }).map(drop)
}

/// Raises the limit of locked memory. Before 5.11, programs and maps count as locked memory of their user, for all
/// processes of the user together, and exceeding the limit is reported as EPERM.
fn raise_memory_limit() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit lives through the call. An error is ignored: either the limit need not be raised, or the load
    // fails.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

/// Attaches a kprobe without a program to [`FUNCTION`] and detaches it.
pub(crate) fn try_kprobe() -> io::Result<()> {
    let kind = fs::read_to_string("/sys/bus/event_source/devices/kprobe/type")?;
    let name = c"tcp_reset";
    assert_eq!(name.to_str(), Ok(FUNCTION));
    // `struct perf_event_attr` of 2012, as 32-bit words: type, size, …, and the name's address in `config1`.
    let mut event = [0_u64; 12];
    event[0] = u64::from(kind.trim().parse::<u32>().unwrap()) | (size_of_val(&event) as u64) << 32;
    event[7] = address(name.as_ptr());
    let (any_process, cpu, no_group, flags) = (-1, 0, -1, 0);
    // SAFETY: the event and the name live through the call, and the event says how long it is.
    descriptor(unsafe { libc::syscall(libc::SYS_perf_event_open, event.as_ptr(), any_process, cpu, no_group, flags) })
        .map(drop)
}

/// Id of [`FUNCTION`] in the kernel's BTF.
fn function_id() -> Option<u32> {
    let btf = Btf::from_file("/sys/kernel/btf/vmlinux").expect("the kernel has BTF (CONFIG_DEBUG_INFO_BTF)");
    let mut ids = btf.resolve_ids_by_name(FUNCTION).ok()?.into_iter();
    ids.find(|&id| matches!(btf.resolve_type_by_id(id), Ok(Type::Func(_))))
}

fn bpf<T>(command: c_int, request: &T) -> io::Result<OwnedFd> {
    // SAFETY: the request, and what it points to, live through the call; its length is given.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(request), size_of::<T>()) })
}

/// Converts the result of a system call that returns a descriptor.
fn descriptor(result: c_long) -> io::Result<OwnedFd> {
    match c_int::try_from(result) {
        // SAFETY: a new descriptor that nothing else owns.
        Ok(raw) if raw >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(raw) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}
