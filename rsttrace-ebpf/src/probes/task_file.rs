//! `iter/task_file`: every open file of every process, scanned at start for the sockets that exist already, and later for
//! the processes that hold a socket which has just been reset.
//!
//! A scan covers only processes that are visible in the reader's PID namespace.

use core::{ffi::c_void, mem::offset_of};

use rsttrace_common::abi::{AF_INET, AF_INET6, tcp};

use crate::{
    history, holder_lookup,
    kernel_struct::{FILE_INODE, FILE_PRIVATE_DATA, INODE_MODE, SKC_FAMILY, SOCKET_SK, field, read},
    sock,
};

/// `struct bpf_iter__task_file` of `kernel/bpf/task_iter.c`, unchanged since 5.8.
#[repr(C)]
pub(crate) struct IterTaskFile {
    meta: *mut c_void,
    task: u64,
    fd: u32,
    padding: u32,
    file: u64,
}

/// `S_IFMT` of `include/uapi/linux/stat.h`.
const S_IFMT: u16 = 0o170_000;
/// `S_IFSOCK` of `include/uapi/linux/stat.h`.
const S_IFSOCK: u16 = 0o140_000;

/// The scan at start. Runs for each open file, and at the end with NULL for task and file.
// aya-ebpf has no macro for iterators; the loader goes by the section's name.
#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
extern "C" fn task_file(ctx: *const IterTaskFile) -> i32 {
    if let Some((sk, task)) = socket(ctx)
        && is_inet(sk)
        && sock::is_tcp(sk)
    {
        let state = sock::state(sk);
        if state != tcp::CLOSE {
            history::track_preexisting(sk, state, task);
        }
    }
    0
}

/// The scan for pending holder lookups.
#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
extern "C" fn task_file_lookup(ctx: *const IterTaskFile) -> i32 {
    if let Some((sk, task)) = socket(ctx) {
        holder_lookup::on_open_file(sk, task);
    }
    0
}

/// Addresses of the `struct sock` and of the `task_struct` at one step of a scan; `None` if the file is no socket.
#[inline(always)]
fn socket(ctx: *const IterTaskFile) -> Option<(u64, u64)> {
    // The pointers are typed, and the verifier would refuse to add offsets that it does not know as constants; read like
    // any other memory they are scalars.
    let address = |member: usize| ctx as u64 + member as u64;
    let task: u64 = read(address(offset_of!(IterTaskFile, task)));
    let file: u64 = read(address(offset_of!(IterTaskFile, file)));
    if task == 0 || file == 0 {
        return None;
    }
    let inode: u64 = field(file, &FILE_INODE);
    if field::<u16>(inode, &INODE_MODE) & S_IFMT != S_IFSOCK {
        return None;
    }
    // A `struct socket`; NULL for a socket's name in the file system that is opened with O_PATH.
    let socket: u64 = field(file, &FILE_PRIVATE_DATA);
    if socket == 0 {
        return None;
    }
    let sk: u64 = field(socket, &SOCKET_SK);
    (sk != 0).then_some((sk, task))
}

#[inline(always)]
fn is_inet(sk: u64) -> bool {
    let family = field::<u16>(sk, &SKC_FAMILY) as u8;
    family == AF_INET || family == AF_INET6
}
