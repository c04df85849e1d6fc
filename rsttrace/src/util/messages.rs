//! Standard error, of which nobody waits for the reader: one who takes nothing must not hold up a run, nor its end.

use std::{
    fmt::Display,
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    sync::OnceLock,
};

use nix::sys::stat::{SFlag, fstat};

use super::sanitize::SanitizedLines;

/// How long a reader may take to make room, in milliseconds.
const WRITE_TIMEOUT_MS: i32 = 100;

/// Standard error once more, in a description of its own, which does not wait. `None` where it never does, as a file.
static NONBLOCKING: OnceLock<Option<File>> = OnceLock::new();

/// Opens it, while this process may still open files for writing.
pub(crate) fn open() {
    NONBLOCKING.get_or_init(|| {
        let kind = SFlag::from_bits_truncate(fstat(io::stderr()).ok()?.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFIFO && kind != SFlag::S_IFCHR {
            return None;
        }
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        OpenOptions::new().write(true).custom_flags(flags).open("/proc/self/fd/2").ok()
    });
}

/// Prints a message for the person at the terminal on standard error, after the program's name. Standard error carries
/// everything that is no record. Blocks for [`WRITE_TIMEOUT_MS`] at most for each [`libc::PIPE_BUF`] bytes.
pub fn info(message: impl Display) {
    // In one piece: standard error has no buffer, and each character would be a system call of its own.
    write(format!("rsttrace: {}\n", SanitizedLines(&message.to_string())).as_bytes());
}

/// Writes lines, in pieces that a pipe takes whole or not at all. What finds no room in time is not written.
fn write(lines: &[u8]) {
    for part in lines.chunks(libc::PIPE_BUF) {
        if write_part(part).is_err() {
            // Nothing is left to do about it.
            return;
        }
    }
}

fn write_part(part: &[u8]) -> io::Result<()> {
    let Some(own) = NONBLOCKING.get().and_then(Option::as_ref) else {
        return send(part).or_else(|_| io::stderr().write_all(part));
    };
    match (&*own).write(part) {
        Err(error) if error.kind() == ErrorKind::WouldBlock && has_room(own) => (&*own).write(part).map(drop),
        other => other.map(drop),
    }
}

/// Where it is a socket, as services have it.
fn send(part: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes live through the call.
    let sent = unsafe { libc::send(libc::STDERR_FILENO, part.as_ptr().cast(), part.len(), libc::MSG_DONTWAIT) };
    match io::Error::last_os_error() {
        // It is one, and full.
        error if sent < 0 && error.kind() == ErrorKind::WouldBlock => Ok(()),
        error if sent < 0 => Err(error),
        _ => Ok(()),
    }
}

/// Whether it takes something in time.
fn has_room(file: &File) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one structure, which lives through the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, WRITE_TIMEOUT_MS) };
    ready > 0
}
