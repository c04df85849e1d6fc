//! Runs of the program that the tests of files have in common.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

/// Result of a run.
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    /// Standard output as it is.
    pub(crate) bytes: Vec<u8>,
    /// Standard output as text, of what is none with replacement characters.
    pub(crate) out: String,
    pub(crate) error: String,
}

/// Runs `rsttrace` with these arguments, in UTC, and `input` on standard input.
pub(crate) fn run_from(input: &[u8], arguments: &[&str]) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
        .args(arguments)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut to = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feeder = thread::spawn(move || drop(to.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("it was fed");
    Ended {
        status: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        bytes: output.stdout,
        error: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}
