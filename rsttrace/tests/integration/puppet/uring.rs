//! Accepting through `io_uring`, by a worker thread that the kernel creates, without a library.

use std::{
    io,
    mem::zeroed,
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
};

use libc::{c_int, c_long};

/// `IORING_OP_ACCEPT`.
const ACCEPT: u8 = 13;
/// `IOSQE_ASYNC`: executed by a worker thread, even where the calling thread need not wait.
const ASYNC: u8 = 1 << 4;
/// `IORING_ENTER_GETEVENTS`.
const GET_EVENTS: u32 = 1;
/// `IORING_OFF_SQES`.
const ENTRIES_AT: i64 = 0x1000_0000;

/// Offsets of the fields of a ring; the first six are common to both rings.
#[repr(C)]
struct Offsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags_or_overflow: u32,
    dropped_or_entries: u32,
    array_or_flags: u32,
    reserved: u32,
    user_address: u64,
}

/// `struct io_uring_params`.
#[repr(C)]
struct Parameters {
    entries: [u32; 2],
    flags: u32,
    others: [u32; 7],
    submission: Offsets,
    completion: Offsets,
}

/// Beginning of `struct io_uring_sqe`, as far as accepting needs it.
#[repr(C)]
struct Submission {
    operation: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    others: [u64; 7],
}

/// `struct io_uring_cqe`.
#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// Whether this host lets root use `io_uring`.
pub(crate) fn works() -> bool {
    set_up().is_ok()
}

fn set_up() -> io::Result<(OwnedFd, Parameters)> {
    // SAFETY: all zeros is a valid request.
    let mut parameters: Parameters = unsafe { zeroed() };
    // SAFETY: the parameters live through the call and have the layout that it takes.
    let raw = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters) };
    // SAFETY: a new descriptor that nothing else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(descriptor(raw)?) }, parameters))
}

/// Accepts a connection.
pub(super) fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (ring, parameters) = set_up()?;
    // Both rings are in one mapping since 5.4.
    let rings = map(&ring, 0)?;
    let entries = map(&ring, ENTRIES_AT)?;
    let at = |offset: u32| rings.wrapping_byte_add(offset as usize);
    // SAFETY: the kernel has laid out these fields inside the pages, and nothing else uses this ring; there is room for
    // one request, and its index is 0.
    unsafe {
        let mut request: Submission = zeroed();
        (request.operation, request.flags, request.fd) = (ACCEPT, ASYNC, listener.as_raw_fd());
        entries.cast::<Submission>().write(request);
        at(parameters.submission.array_or_flags).cast::<u32>().write_volatile(0);
        at(parameters.submission.tail).cast::<u32>().write_volatile(1);
    }
    // SAFETY: takes integers and no signal mask.
    let entered =
        unsafe { libc::syscall(libc::SYS_io_uring_enter, ring.as_raw_fd(), 1, 1, GET_EVENTS, ptr::null::<u8>(), 0) };
    descriptor(entered)?;
    // SAFETY: one completion has arrived, and its index is 0.
    let completion = unsafe { at(parameters.completion.dropped_or_entries).cast::<Completion>().read_volatile() };
    if completion.result < 0 {
        return Err(io::Error::from_raw_os_error(-completion.result));
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(completion.result) }))
}

/// Maps the first page of a region of the ring, until the puppet exits.
fn map(ring: &OwnedFd, offset: i64) -> io::Result<*mut libc::c_void> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place that the kernel chooses.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, libc::MAP_SHARED, ring.as_raw_fd(), offset) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page) }
}

fn descriptor(result: c_long) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { result.try_into().map_err(io::Error::other) }
}
