//! Messages on standard error, and errors as their text. A reader that reads nothing must not block the run or its end.

use std::{
    collections::VecDeque,
    fmt::Display,
    fs::{File, OpenOptions},
    io::{self, ErrorKind, IsTerminal as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::Error;
use nix::sys::stat::{SFlag, fstat};

use super::{sanitize::SanitizedLines, terminal};

/// Limit for the reader to make room, milliseconds.
const WRITE_TIMEOUT_MS: i32 = 100;

/// Columns before the value of a row, and before the rest of any other line.
const ROW_INDENT: usize = 12;
const INDENT: usize = 4;

/// A second open file description of standard error, with `O_NONBLOCK`: the flag belongs to the description, and the
/// inherited one is shared with other processes. `None` where writes never block, as for a file, or where it cannot be
/// opened.
static NONBLOCKING: OnceLock<Option<File>> = OnceLock::new();

/// Opens the second description, while the sandbox still allows opening files for writing.
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

/// Most messages that are held; of more the oldest are dropped, which the first one then tells.
const HELD: usize = 100;

/// Messages that are held while something else has the terminal.
#[derive(Debug, Default)]
struct HeldMessages {
    lines: VecDeque<String>,
    dropped: u64,
}

/// `None` while messages are printed at once.
static HELD_MESSAGES: Mutex<Option<HeldMessages>> = Mutex::new(None);

/// Holds messages from now on, until [`release`]. Where standard error is no terminal they are printed as well.
pub(crate) fn hold() {
    *HELD_MESSAGES.lock().unwrap_or_else(PoisonError::into_inner) = Some(HeldMessages::default());
}

/// The messages that are held, the oldest first.
pub(crate) fn held() -> Vec<String> {
    let held = HELD_MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(HeldMessages { lines, dropped }) = &*held else { return Vec::new() };
    let first = (*dropped > 0).then(|| format!("{dropped} earlier messages were dropped"));
    first.into_iter().chain(lines.iter().cloned()).collect()
}

/// Prints the messages that are held, and the next ones at once.
pub(crate) fn release() {
    let lines = held();
    *HELD_MESSAGES.lock().unwrap_or_else(PoisonError::into_inner) = None;
    if io::stderr().is_terminal() {
        lines.iter().for_each(info);
    }
}

/// Takes a message, where messages are held. Returns whether that is all that is to be done.
fn take(message: &str) -> bool {
    let mut held = HELD_MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(HeldMessages { lines, dropped }) = &mut *held else { return false };
    if lines.len() == HELD {
        lines.pop_front();
        *dropped += 1;
    }
    lines.push_back(message.to_owned());
    io::stderr().is_terminal()
}

/// Prints a message for the person at the terminal on standard error, after the program's name. Standard error carries
/// everything that is no record. Blocks for [`WRITE_TIMEOUT_MS`] at most for each [`libc::PIPE_BUF`] bytes.
pub(crate) fn info(message: impl Display) {
    let message = message.to_string();
    if take(&message) {
        return;
    }
    // In one piece: standard error has no buffer, and each character would be a system call of its own.
    let mut text = format!("rsttrace: {}\n", SanitizedLines(&message));
    if let Some(columns) = terminal::columns(io::stderr()) {
        // The rows of a summary have names in front.
        text = terminal::wrap(&text, columns, |line| if line.starts_with("  ") { ROW_INDENT } else { INDENT });
    }
    write(text.as_bytes());
}

/// An error with what led to it, in one sentence. What an error has already quoted of its cause is not said again.
pub(crate) fn sentence(error: &Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

/// Writes lines in pieces that a pipe takes as a whole or not at all. A piece that finds no room in time is dropped.
fn write(lines: &[u8]) {
    for part in lines.chunks(libc::PIPE_BUF) {
        if write_part(part).is_err() {
            // There is no other place to report this to.
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

/// Sends to standard error without blocking, where it is a socket, as for services. Fails with ENOTSOCK where it is
/// none.
fn send(part: &[u8]) -> io::Result<()> {
    // SAFETY: the bytes live through the call.
    let sent = unsafe { libc::send(libc::STDERR_FILENO, part.as_ptr().cast(), part.len(), libc::MSG_DONTWAIT) };
    match io::Error::last_os_error() {
        // The socket's buffer is full: the piece is dropped.
        error if sent < 0 && error.kind() == ErrorKind::WouldBlock => Ok(()),
        error if sent < 0 => Err(error),
        _ => Ok(()),
    }
}

/// Waits for room, [`WRITE_TIMEOUT_MS`] at most.
fn has_room(file: &File) -> bool {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one structure, which lives through the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, WRITE_TIMEOUT_MS) };
    ready > 0
}
