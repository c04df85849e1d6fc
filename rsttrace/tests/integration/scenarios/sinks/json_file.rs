//! The sink `json:PATH`: rotation, removal, truncation, a full disk, and a limit of file sizes.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{records, refuse, resets, sink};
use crate::{host, mounts, netns, scenarios::receivers::wait_until, stage::Stage, tracer::Tracer};

/// A file gets the same records as standard output.
pub(crate) fn file_equals_stdout(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let spec = format!("json:{}", path.display());
    for run in 1..=2 {
        let mut tracer = stage.trace_with(&["--received", "--sink", &spec]);
        refuse(&mut tracer, 23);
        let run_said = tracer.finish();
        let records = records(&path);
        assert_eq!(resets(&records), 23 * run, "it appends");
        let from_stdout = run_said.resets.iter().map(|reset| &reset.0);
        let from_file =
            records.iter().filter(|line| line["type"] == "reset").skip(23 * (usize::try_from(run).unwrap() - 1));
        assert!(from_stdout.eq(from_file), "standard output and the file differ");
        let summary = run_said.summaries.last().unwrap();
        for name in ["stdout", &spec] {
            assert_eq!(sink(summary, name)["undelivered"], 0);
        }
        assert_eq!(records.last(), Some(summary), "the summary is in the file too");
    }
}

/// logrotate moves the file away and sends SIGHUP: from then on lines go to a new file, and none is lost.
pub(crate) fn moved_file_is_reopened(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("records"), directory.path().join("records.1"));
    let mut tracer = stage.trace_with(&["--received", "--sink", &format!("json:{}", path.display())]);
    refuse(&mut tracer, 7);
    fs::rename(&path, &moved).unwrap();
    tracer.signal(Signal::SIGHUP);
    // The new file is created in response to the signal.
    wait_until("a new file", || path.exists());
    refuse(&mut tracer, 16 + 7);
    tracer.finish();
    assert_eq!((resets(&records(&moved)), resets(&records(&path))), (7, 16 + 7));
}

/// The file is removed without a signal: later records are in a new file.
pub(crate) fn removed_file_is_created_again(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let mut tracer = stage.trace_with(&["--received", "--sink", &format!("json:{}", path.display())]);
    refuse(&mut tracer, 7);
    wait_until("the records in the file", || lines(&path) == 7);
    fs::remove_file(&path).unwrap();
    refuse(&mut tracer, 16);
    tracer.expect(7 + 16);
    let run = tracer.finish();
    assert!(run.stderr.contains("the file was removed, a new one is begun"), "{}", run.stderr);
    assert_eq!(resets(&records(&path)), 16);
}

/// Number of whole lines in a file.
fn lines(path: &Path) -> usize {
    fs::read(path).unwrap().split(|&byte| byte == b'\n').count() - 1
}

/// logrotate's `copytruncate`, then a full disk: a partial line is removed again, and nothing else is added.
pub(crate) fn truncated_file_survives_a_full_disk(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    mounts::leave().unwrap();
    mounts::mount("tmpfs", directory.path().to_str().unwrap(), "size=512k").unwrap();
    let path = directory.path().join("records");
    let mut tracer = stage.trace_with(&["--received", "--sink", &format!("json:{}", path.display())]);
    refuse(&mut tracer, 53);
    wait_until("the records in the file", || lines(&path) == 53);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let rest = directory.path().join("rest");
    let mut filler = File::create(&rest).unwrap();
    assert_eq!(io::copy(&mut io::repeat(0), &mut filler).unwrap_err().kind(), io::ErrorKind::StorageFull);
    // Room for some records and a part of one.
    filler.set_len(filler.metadata().unwrap().len() - 8192).unwrap();
    refuse(&mut tracer, 23);
    tracer.expect(53 + 23);
    tracer.expect_said("No space left on device");
    assert!(fs::read(&path).unwrap().last().is_none_or(|&byte| byte == b'\n'), "a part of a line is left");
    fs::remove_file(rest).unwrap();
    drop(filler);
    tracer.expect_said("delivers again; no record was lost");
    tracer.finish();
    let numbers: Vec<u64> = records(&path).iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(53 + 1..=53 + 23), "{numbers:?}");
}

/// Sets the soft limit of the size of files of a process (`None`: of this one), in bytes; `None` is no limit.
fn limit_file_size(process: Option<Pid>, bytes: Option<u64>) -> io::Result<()> {
    prlimit(process, Resource::Fsize, Rlimit { current: bytes, maximum: None })?;
    Ok(())
}

/// A limit of file sizes is handled like a full disk: it is reported, and the records are written once it is raised.
pub(crate) fn file_meets_its_size_limit(stage: &Stage) {
    const LIMIT: u64 = 64 << 10;
    const CONNECTIONS: u64 = 101;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let (spec, netns) = (format!("json:{}", path.display()), stage.netns.to_string());
    let mut command = Command::new(host::rsttrace());
    command.args(stage.arguments()).args(["--received", "--netns", &netns, "--sink", &spec]);
    let limit = || limit_file_size(None, Some(LIMIT));
    let mut tracer = Tracer::start_command(netns::original(), command, Stdio::piped(), limit);
    refuse(&mut tracer, CONNECTIONS);
    tracer.expect_said(&format!("sink {spec}: cannot write to {}: File too large", path.display()));
    assert!(fs::metadata(&path).unwrap().len() <= LIMIT);
    limit_file_size(Pid::from_raw(tracer.pid().cast_signed()), None).unwrap();
    tracer.expect_said("delivers again; no record was lost");
    tracer.finish();
    assert!(fs::metadata(&path).unwrap().len() > LIMIT);
    let numbers: Vec<u64> = records(&path).iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(numbers.iter().copied().eq(1..=CONNECTIONS), "{numbers:?}");
}

/// The start writes no file, so a file size limit does not prevent it.
pub(crate) fn start_writes_no_file(stage: &Stage) {
    let netns = stage.netns.to_string();
    for limit in [0, 97 << 10] {
        let mut command = Command::new(host::rsttrace());
        command.args(stage.arguments()).args(["--netns", &netns, "--duration", "1ms"]).stdin(Stdio::null());
        // SAFETY: one system call with a structure that lives through it.
        unsafe { command.pre_exec(move || limit_file_size(None, Some(limit))) };
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains("0 resets in"), "{limit}: {}, {stderr}", output.status);
    }
}
