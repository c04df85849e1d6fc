//! Files that the command line names (`--config`, `--timeouts`, `--names`, `check-config`), read within bounds of size and time.
//!
//! A pipe is taken, since `--config <(generate)` is one. What may never end, or never begin, is refused.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    time::{Duration, Instant},
};

/// Most that is read, in bytes.
const SIZE_MAX: usize = 16 << 20;

/// Longest silence of a pipe.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Bytes of one read.
const BLOCK: usize = 64 << 10;

/// Reads a whole file, or a pipe until its writers have closed it, as UTF-8.
///
/// Blocks for [`SILENCE_MAX`] at a time at most. Fails for directories, sockets and devices other than `/dev/null`, for
/// more than [`SIZE_MAX`], and for a pipe that stays silent; the error is half a sentence that says so.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    read_within(path, SILENCE_MAX)
}

fn read_within(path: &Path, silence: Duration) -> io::Result<String> {
    // Before it is opened: opening a device may do something to it.
    refuse_special(&fs::metadata(path)?)?;
    // A named pipe without a writer does not hold up the opening of this end.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    // It may have been replaced in between.
    refuse_special(&file.metadata()?)?;
    let bytes = read_to_end(&mut file, silence)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

/// Fails for what is neither a regular file, nor a pipe, nor `/dev/null`.
fn refuse_special(metadata: &fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    // Device 1:3, which stands for an empty file.
    let is_null = kind.is_char_device() && metadata.rdev() == libc::makedev(1, 3);
    if kind.is_file() || kind.is_fifo() || is_null {
        return Ok(());
    }
    let name = if kind.is_dir() {
        "a directory"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::other(format!("expected a file or a pipe, not {name}")))
}

fn read_to_end(file: &mut File, silence: Duration) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut block = vec![0; BLOCK];
    let mut last = Instant::now();
    loop {
        let left = silence.saturating_sub(last.elapsed());
        // Before any reading: a named pipe that has had no writer yet reads as if it had ended.
        if left.is_zero() || !is_ready(file, left)? {
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                format!("no data from the pipe for {} s", silence.as_secs_f32()),
            ));
        }
        match file.read(&mut block) {
            Ok(0) => return Ok(bytes),
            Ok(read) => {
                bytes.extend_from_slice(block.get(..read).unwrap_or_default());
                last = Instant::now();
            }
            // `poll` calls files ready that cannot tell.
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        if bytes.len() > SIZE_MAX {
            return Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {} MiB", SIZE_MAX >> 20)));
        }
    }
}

/// Whether there is something to read, or the end, within this time.
fn is_ready(file: &File, within: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = within.as_millis().try_into().unwrap_or(libc::c_int::MAX);
    // SAFETY: one structure, which lives through the call.
    match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == ErrorKind::Interrupted => Ok(true),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::CString,
        io::Write as _,
        os::unix::{ffi::OsStrExt as _, net::UnixListener},
        path::PathBuf,
        thread,
    };

    use super::*;

    const SILENCE: Duration = Duration::from_millis(100);

    fn refusal(path: &Path) -> String {
        read_within(path, SILENCE).expect_err("it is refused").to_string()
    }

    fn pipe_in(directory: &tempfile::TempDir) -> PathBuf {
        let path = directory.path().join("pipe");
        let text = CString::new(path.as_os_str().as_bytes()).expect("no zero in it");
        // SAFETY: a text that lives through the call.
        assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0);
        path
    }

    #[test]
    fn a_file_is_read_whole() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let text = "received = true\n".repeat(10_000);
        file.write_all(text.as_bytes()).expect("it takes text");
        assert_eq!(read(file.path()).expect("it is text"), text);
        assert_eq!(read(Path::new("/dev/null")).expect("it is empty"), "");
        file.write_all(b"\xff").expect("it takes bytes");
        assert!(refusal(file.path()).contains("utf-8"));
    }

    #[test]
    fn other_kinds_of_file_are_refused_immediately() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).expect("a socket");
        let started = Instant::now();
        assert!(refusal(directory.path()).contains("a directory"));
        assert!(refusal(&socket).contains("a socket"));
        for device in ["/dev/zero", "/dev/tty", "/dev/full"] {
            assert!(refusal(Path::new(device)).contains("a device"), "{device}");
        }
        assert!(started.elapsed() < SILENCE);
        assert_eq!(read(&directory.path().join("none")).expect_err("not there").kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_pipe_is_read_until_it_is_closed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = pipe_in(&directory);
        let writer = thread::spawn({
            let path = path.clone();
            move || {
                // Waits for the reader.
                let mut pipe = OpenOptions::new().write(true).open(path).expect("it has a reader");
                for _ in 0..3 {
                    pipe.write_all(b"sent = true\n").expect("it has a reader");
                    thread::sleep(SILENCE / 10);
                }
            }
        });
        assert_eq!(read(&path).expect("it is text"), "sent = true\n".repeat(3));
        writer.join().expect("it has written");
    }

    #[test]
    fn a_silent_pipe_times_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = pipe_in(&directory);
        assert!(refusal(&path).contains("no data from the pipe for 0.1 s"));
        let _writer = OpenOptions::new().read(true).write(true).open(&path).expect("a pipe with both ends");
        assert!(refusal(&path).contains("no data from the pipe"));
    }

    #[test]
    fn a_large_file_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(1 << 40).expect("holes cost nothing");
        assert!(refusal(file.path()).contains("larger than 16 MiB"));
    }
}
