//! `iter/task_file`: every open file of every process, walked at start for the sockets that were there before us, and
//! later for whoever holds a socket that has just been reset.
//!
//! Only processes that the reader's PID namespace shows are walked.

use core::{ffi::c_void, mem::offset_of};

use rsttrace_common::names::{AF_INET, AF_INET6, tcp};

use crate::{
    awaited,
    fields::{FILE_INODE, FILE_PRIVATE_DATA, INODE_MODE, SKC_FAMILY, SOCKET_SK, field, read},
    sock, story,
};

/// `struct bpf_iter__task_file` of `kernel/bpf/task_iter.c`, the same since 5.8.
#[repr(C)]
pub(crate) struct Context {
    meta: *mut c_void,
    task: u64,
    fd: u32,
    padding: u32,
    file: u64,
}

/// `S_IFMT` and `S_IFSOCK` of `include/uapi/linux/stat.h`.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// The walk at start: for every open file, with NULL for task and file at the end.
// aya-ebpf has no macro for iterators; the section's name is what the loader goes by.
#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
extern "C" fn task_file(ctx: *const Context) -> i32 {
    if let Some((sk, task)) = socket(ctx)
        && is_internet(sk)
        && sock::is_tcp(sk)
    {
        let state = sock::state(sk);
        if state != tcp::CLOSE {
            story::found(sk, state, task);
        }
    }
    0
}

/// The walk for the holders of sockets that have just been reset.
#[unsafe(link_section = "iter/task_file")]
#[unsafe(no_mangle)]
extern "C" fn task_file_awaited(ctx: *const Context) -> i32 {
    if let Some((sk, task)) = socket(ctx) {
        awaited::found(sk, task);
    }
    0
}

/// The socket and the task of one step of a walk, if the file is a socket.
#[inline(always)]
fn socket(ctx: *const Context) -> Option<(u64, u64)> {
    // The pointers are typed for the verifier, which would refuse to add offsets that it cannot see through; read
    // like any other memory they are numbers.
    let address = |member: usize| ctx as u64 + member as u64;
    let task: u64 = read(address(offset_of!(Context, task)));
    let file: u64 = read(address(offset_of!(Context, file)));
    if task == 0 || file == 0 {
        return None;
    }
    let inode: u64 = field(file, &FILE_INODE);
    if field::<u16>(inode, &INODE_MODE) & S_IFMT != S_IFSOCK {
        return None;
    }
    // NULL for a socket's name in the file system, opened with O_PATH; a `struct socket` otherwise.
    let socket: u64 = field(file, &FILE_PRIVATE_DATA);
    if socket == 0 {
        return None;
    }
    let sk: u64 = field(socket, &SOCKET_SK);
    (sk != 0).then_some((sk, task))
}

#[inline(always)]
fn is_internet(sk: u64) -> bool {
    let family = field::<u16>(sk, &SKC_FAMILY) as u8;
    family == AF_INET || family == AF_INET6
}
