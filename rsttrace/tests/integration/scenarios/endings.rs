//! How a run ends, and what it reports at its end.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    process::Command,
};

use nix::sys::signal::Signal;

use super::receivers::wait_until;
use crate::{
    host,
    puppet::Puppet,
    stage::{Pair, Stage, V4},
    tracer::Tracer,
};

/// A user without privileges: 65534, which most systems reserve.
const NOBODY_UID: u32 = 65534;

/// `--count` ends the run by itself, after exactly this many resets.
pub(crate) fn count_ends_the_run(stage: &Stage) {
    let tracer = stage.trace_with(&["--count", "3"]);
    let mut pair = Pair::open(V4);
    for _ in 0..5 {
        pair.client_aborts();
        pair.connect("c", "s");
    }
    let run = tracer.wait();
    assert_eq!(run.total(), 3);
}

/// `--duration` ends the run by itself, even without a record.
pub(crate) fn duration_ends_the_run(stage: &Stage) {
    let run = stage.trace_with(&["--duration", "1s"]).wait();
    run.check_counts(0, 0);
}

/// SIGTERM ends the run successfully, after what is buffered has been written.
pub(crate) fn sigterm_ends_the_run(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client_aborts();
    tracer.signal(Signal::SIGTERM);
    tracer.wait().check_counts(1, 1);
}

/// A closed pipe, as in `rsttrace | head`, ends the run successfully.
pub(crate) fn closed_pipe_ends_the_run(stage: &Stage) {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let (code, stderr) = abort_with_output(stage, writer.into());
    assert_eq!(code, Some(0), "{stderr}");
}

/// A full disk ends the run with an error that names the reason.
pub(crate) fn full_device_fails_the_run(stage: &Stage) {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (code, stderr) = abort_with_output(stage, full.into());
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("No space left on device"), "{stderr}");
}

/// A reader that does not read cannot delay the end of the run, and the records that were not written are reported.
pub(crate) fn stuck_reader_does_not_delay_the_end(stage: &Stage) {
    const CONNECTIONS: usize = 400;
    let (_reader, writer) = io::pipe().unwrap();
    let netns = stage.netns.to_string();
    let tracer = Tracer::start_writing_to(&[&stage.arguments()[..], &["--netns", &netns]].concat(), writer.into());
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let server_end = server.listen("l", V4, 1024);
    client.tell(format_args!("burst {server_end} {CONNECTIONS}"));
    tracer.signal(Signal::SIGINT);
    let (status, stderr) = tracer.status();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("records are missing: it is not read"), "{stderr}");
    no_backtrace(&stderr);
}

/// A pipe for both streams whose reader does not read cannot delay the end of the run.
pub(crate) fn stuck_reader_of_both_does_not_delay_the_end(stage: &Stage) {
    const CONNECTIONS: usize = 2_000;
    let (mut reader, writer) = io::pipe().unwrap();
    let netns = stage.netns.to_string();
    let mut command = Command::new(host::rsttrace());
    // A buffer so small that losses are reported repeatedly.
    command.args([&stage.arguments()[..], &["--netns", &netns, "--buffer-size", "4096"]].concat());
    let mut tracer = Tracer::start_saying_all_to(command, writer);
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    for number in 0..4 {
        let server_end = server.listen(&format!("l{number}"), V4, 1024);
        client.tell(format_args!("burst {server_end} {}", CONNECTIONS / 4));
    }
    tracer.signal(Signal::SIGINT).unwrap();
    wait_until("its end", || tracer.try_wait().unwrap().is_some());
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    assert!(!said.is_empty());
}

/// Resets a connection while rsttrace writes to `output`, which fails.
fn abort_with_output(stage: &Stage, output: std::process::Stdio) -> (Option<i32>, String) {
    let netns = stage.netns.to_string();
    let tracer = Tracer::start_writing_to(&[&stage.arguments()[..], &["--netns", &netns]].concat(), output);
    let mut pair = Pair::open(V4);
    pair.client.abort("c");
    let (status, stderr) = tracer.status();
    no_backtrace(&stderr);
    (status.code(), stderr)
}

/// An unprivileged user gets an error with the remedy, and status 3.
pub(crate) fn missing_privileges_are_named(stage: &Stage) {
    let directory = super::privileges::readable_copy();
    let program = directory.path().join("rsttrace");
    let output = Command::new(program)
        .args(stage.arguments())
        .env("RUST_BACKTRACE", "1")
        .current_dir("/")
        .uid(NOBODY_UID)
        .gid(NOBODY_UID)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("root") || stderr.contains("CAP_"), "the remedy is not in: {stderr}");
    assert!(output.stdout.is_empty());
    no_backtrace(&stderr);
}

/// Invalid options are usage errors: status 2, before anything is loaded.
pub(crate) fn bad_usage_is_refused(_: &Stage) {
    for (arguments, name) in [
        (["--peer", "10.0.0.0/33"], "10.0.0.0/33"),
        (["--frobnicate", "1"], "--frobnicate"),
        (["--peer-port", "70000"], "70000"),
        (["--port", "20-10"], "20-10"),
        (["--output", "yaml"], "yaml"),
    ] {
        let output = Command::new(host::rsttrace()).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{}: {stderr}", arguments.join(" "));
        assert!(stderr.contains(name), "{name} is not named in: {stderr}");
        assert!(output.stdout.is_empty());
        no_backtrace(&stderr);
    }
}

fn no_backtrace(stderr: &str) {
    assert!(!stderr.contains("panicked") && !stderr.contains("backtrace"), "{stderr}");
}
