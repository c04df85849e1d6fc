//! `--ready-fd`: the line that tells a waiter that every probe is attached.

use std::{
    fs::File,
    io::{self, ErrorKind, Write as _},
    os::fd::{BorrowedFd, FromRawFd as _, OwnedFd},
};

use nix::fcntl::{FcntlArg, fcntl};

use crate::{exit::Failure, util::messages::info};

/// The descriptor that the starter of this process waits at.
pub(super) struct Ready(File);

impl Ready {
    /// Takes over a descriptor that was left open for this purpose. Fails with status 2 when it is not open.
    pub(super) fn take(fd: i32) -> Result<Self, Failure> {
        // SAFETY: nothing is done with the descriptor but asking whether there is one.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(borrowed, FcntlArg::F_GETFD)
            .map_err(|_error| Failure::usage(format_args!("descriptor {fd} of --ready-fd is not open")))?;
        // SAFETY: it is open, and was handed to this process for this purpose.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Writes one newline and closes the descriptor. A waiter that has gone away is no reason to end a run that has begun:
    /// that is a note. Blocks while a pipe is full. Fails when the descriptor cannot be written to.
    pub(super) fn announce(mut self) -> Result<(), Failure> {
        match self.0.write_all(b"\n") {
            Err(error) if is_gone(&error) => {
                info("the reader of --ready-fd has gone; the run goes on");
                Ok(())
            }
            result => result.map_err(|error| {
                Failure::Running(anyhow::Error::new(error).context("cannot write to the descriptor of --ready-fd"))
            }),
        }
    }
}

/// Whether the other end of a pipe or of a socket has been closed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read as _},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn a_reader_gets_one_line() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        Ready(File::from(OwnedFd::from(writer))).announce().expect("it is heard");
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).expect("what was written");
        assert_eq!(heard, b"\n");
    }

    #[test]
    fn an_exited_reader_is_no_error() {
        let (_, writer) = io::pipe().expect("a pipe");
        assert!(Ready(File::from(OwnedFd::from(writer))).announce().is_ok());
        let (_, socket) = UnixStream::pair().expect("two sockets");
        assert!(Ready(File::from(OwnedFd::from(socket))).announce().is_ok());
    }

    #[test]
    fn a_descriptor_that_cannot_be_written_to_is_a_failure() {
        let file = File::open("/dev/null").expect("it is there");
        assert!(matches!(Ready(file).announce(), Err(Failure::Running(_))));
    }
}
