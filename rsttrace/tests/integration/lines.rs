//! Lines that another process writes, read as they come, with a timeout.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for anything. A test that passes never waits this long; a machine that is emulated on shared CPUs takes
/// a while to load programs.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(2);

/// Lines from a pipe, read by a thread of their own.
pub(crate) struct Lines {
    receiver: Receiver<String>,
}

/// Result of waiting for a line.
pub(crate) enum Next {
    Line(String),
    /// The writer has closed the pipe.
    End,
    /// The deadline has passed.
    Late,
}

impl Lines {
    /// Starts to read.
    pub(crate) fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { break };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self { receiver }
    }

    /// Next line; waits until `deadline`.
    pub(crate) fn next(&self, deadline: Instant) -> Next {
        match self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Next::Line(line),
            Err(RecvTimeoutError::Disconnected) => Next::End,
            Err(RecvTimeoutError::Timeout) => Next::Late,
        }
    }

    /// Everything up to the end of the pipe, as one text.
    pub(crate) fn rest(&self) -> String {
        let deadline = Instant::now() + TIMEOUT;
        let mut text = String::new();
        while let Next::Line(line) = self.next(deadline) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}
