//! The terminal: keys from it, drawings to it, and its state as it was, whatever ends the run.
//!
//! Written without blocking: a terminal that takes nothing delays no end of the run. Everything is opened before the sandbox.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, IsTerminal as _, Read as _, Write},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
    panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::layout::Rect;
use rustix::termios::{self, OptionalActions, QueueSelector, Termios};

/// Alternate screen on, cursor off.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";
/// Attributes and cursor as usual, alternate screen off.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";
/// Limit for the terminal to take the sequence that ends the view.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for the terminal before it is looked whether the view ends, milliseconds.
const WRITE_POLL_MS: u16 = 100;

/// Terminal that a panic gives back.
static OPEN: OnceLock<Arc<TerminalDevice>> = OnceLock::new();

/// Why there is no view.
#[derive(Debug, PartialEq, Eq)]
pub enum NoTerminal {
    /// Standard output is a file or a pipe.
    Output,
    /// There is none to read keys from.
    Keys,
    /// It cannot place a cursor (`TERM=dumb`).
    Dumb,
}

impl std::fmt::Display for NoTerminal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Output => {
                "'top' draws on a terminal, and standard output is none: 'rsttrace' and 'rsttrace replay' print lines"
            }
            Self::Keys => "'top' reads keys from the terminal of its session (/dev/tty), and there is none",
            Self::Dumb => "'top' needs a terminal that can place a cursor: TERM is 'dumb'; 'rsttrace' prints lines",
        })
    }
}

impl std::error::Error for NoTerminal {}

/// The terminal of a view.
pub struct TerminalDevice {
    keys: File,
    out: File,
    /// Settings before the view.
    saved: Termios,
    /// Whether the terminal is set for the view.
    is_entered: AtomicBool,
    /// Whether the view ends: writing is given up.
    is_ending: AtomicBool,
}

impl TerminalDevice {
    /// Opens the terminal, and sees to it that a panic gives it back. Changes nothing on it. Fails where standard output is none.
    pub fn open() -> Result<Arc<Self>, NoTerminal> {
        if !io::stdout().is_terminal() {
            return Err(NoTerminal::Output);
        }
        if std::env::var_os("TERM").is_some_and(|name| name == "dumb") {
            return Err(NoTerminal::Dumb);
        }
        // A description of its own: the flag belongs to that, and the inherited one is shared with other processes.
        let open = |path: &str, writes: bool| {
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            OpenOptions::new().read(!writes).write(writes).custom_flags(flags).open(path)
        };
        // Standard input may be records. A terminal of another user, as under su, cannot be opened by its name.
        let keys = open("/dev/tty", false).or_else(|error| {
            if io::stdin().is_terminal() {
                io::stdin().as_fd().try_clone_to_owned().map(File::from)
            } else {
                Err(error)
            }
        });
        let keys = keys.map_err(|_error| NoTerminal::Keys)?;
        let out = open("/proc/self/fd/1", true).or_else(|_error| open("/dev/tty", true));
        let out = out.or_else(|_error| io::stdout().as_fd().try_clone_to_owned().map(File::from));
        let out = out.map_err(|_error| NoTerminal::Output)?;
        let saved = termios::tcgetattr(&keys).map_err(|_error| NoTerminal::Keys)?;
        let device =
            Arc::new(Self { keys, out, saved, is_entered: AtomicBool::new(false), is_ending: AtomicBool::new(false) });
        if OPEN.set(Arc::clone(&device)).is_ok() {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panicked| {
                if let Some(device) = OPEN.get() {
                    device.leave();
                }
                before(panicked);
            }));
        }
        Ok(device)
    }

    /// Sets the terminal for the view. Fails where it has gone.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.is_entered.store(true, Ordering::SeqCst);
        let mut raw = self.saved.clone();
        raw.make_raw();
        termios::tcsetattr(&self.keys, OptionalActions::Now, &raw)?;
        self.write_all(ENTER)
    }

    /// Gives the terminal back as it was; does nothing where that has been done. Blocks for [`LEAVE_TIMEOUT`] at most.
    pub(super) fn leave(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        if !self.is_entered.swap(false, Ordering::SeqCst) {
            return;
        }
        let deadline = Instant::now() + LEAVE_TIMEOUT;
        if self.write_until(LEAVE, deadline).is_err() {
            // What has not been taken is half a drawing.
            let _ignored = termios::tcflush(&self.out, QueueSelector::OFlush);
            let _ignored = self.write_until(LEAVE, deadline + WRITE_POLL);
        }
        // It may have gone.
        let _ignored = termios::tcsetattr(&self.keys, OptionalActions::Now, &self.saved);
    }

    /// Tells the thread of the view to write no more.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
    }

    /// Whether the view ends.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// Size of the screen; that of a terminal that does not know it is 80 by 24.
    pub(super) fn size(&self) -> Rect {
        let size = termios::tcgetwinsize(&self.out).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (width, height) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
        Rect { x: 0, y: 0, width, height }
    }

    /// Waits for bytes of keys, so many milliseconds at most. `Ok(0)` where none have come. Fails where the terminal has gone.
    pub(super) fn read(&self, bytes: &mut [u8], timeout_ms: u16) -> io::Result<usize> {
        if !wait(self.keys.as_fd(), PollFlags::POLLIN, timeout_ms)? {
            return Ok(0);
        }
        match (&self.keys).read(bytes) {
            // A terminal that has been hung up.
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            other => other,
        }
    }

    /// Writes a drawing. Blocks while the terminal takes nothing, until the view ends. Fails where it ends or has gone.
    pub(super) fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.is_ending() {
                return Err(ErrorKind::Interrupted.into());
            }
            bytes = self.write_part(bytes)?;
        }
        Ok(())
    }

    fn write_until(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            if Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            bytes = self.write_part(bytes)?;
        }
        Ok(())
    }

    /// Writes what the terminal takes, and returns the rest. Waits for [`WRITE_POLL_MS`] at most.
    fn write_part<'a>(&self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        if !wait(self.out.as_fd(), PollFlags::POLLOUT, WRITE_POLL_MS)? {
            return Ok(bytes);
        }
        match (&self.out).write(bytes) {
            Ok(written) => Ok(bytes.get(written..).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(bytes),
            Err(error) => Err(error),
        }
    }
}

/// [`WRITE_POLL_MS`].
const WRITE_POLL: Duration = Duration::from_millis(WRITE_POLL_MS as u64);

/// Waits for a descriptor. Returns false where nothing happened in time. Fails where it has been hung up.
fn wait(descriptor: BorrowedFd<'_>, events: PollFlags, timeout_ms: u16) -> io::Result<bool> {
    let mut polled = [PollFd::new(descriptor, events)];
    match poll(&mut polled, PollTimeout::from(timeout_ms)) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => Ok(false),
        Ok(_) => {
            let happened = polled.iter().filter_map(PollFd::revents).fold(PollFlags::empty(), |all, one| all | one);
            if happened.intersects(events) { Ok(true) } else { Err(ErrorKind::BrokenPipe.into()) }
        }
        Err(error) => Err(error.into()),
    }
}

/// Writer of drawings, each of which is written at once.
pub(super) struct DrawingWriter {
    device: Arc<TerminalDevice>,
    drawing: Vec<u8>,
}

impl DrawingWriter {
    pub(super) const fn new(device: Arc<TerminalDevice>) -> Self {
        Self { device, drawing: Vec::new() }
    }
}

impl Write for DrawingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.drawing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.device.write_all(&self.drawing);
        self.drawing.clear();
        written
    }
}
