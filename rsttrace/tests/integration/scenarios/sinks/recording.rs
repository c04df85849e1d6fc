//! Recordings (`rsttrace record`, `--sink recording:DIR`), and what `rsttrace replay` makes of them.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    host, mounts, netns,
    puppet::Puppet,
    scenarios::receivers::wait_until,
    stage::{Pair, Stage, V4},
    tracer::Tracer,
};

/// Runs `rsttrace replay`, in JSON.
fn replay(arguments: &[&str]) -> Output {
    let output = Command::new(host::rsttrace()).args(["replay", "-o", "json"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Lines of records, without summaries.
fn lines(output: &Output) -> Vec<Value> {
    let text = str::from_utf8(&output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["type"] != "summary").collect()
}

/// Whole lines of this type in the segments that are not compressed.
fn recorded(directory: &Path, kind: &str) -> usize {
    let segments = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    let plain = segments.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let wanted = format!("\"type\":\"{kind}\"");
    plain.map(|path| fs::read_to_string(path).unwrap_or_default().matches(&wanted).count()).sum()
}

/// Aborts, closes with data unread, refusals: replay gives the records of the live run, as they were and diagnosed again.
pub(crate) fn replay_gives_the_live_records(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let mut tracer = stage.trace_with(&["--sink", &format!("recording:{path},min-free=0")]);
    let mut resets = 0;
    for number in 0..6 {
        let mut pair = Pair::open(V4);
        pair.leave_unread("c", "s", 10);
        if number % 2 == 0 {
            pair.client_aborts();
        } else {
            pair.server.tell("close s");
            pair.client.wait_error("c", "ECONNRESET");
        }
        resets += 2;
    }
    tracer.expect(resets);
    refuse_unseen(5);
    tracer.expect(resets + 5);
    let run = tracer.finish();
    let live: Vec<&Value> = run.resets.iter().map(|reset| &reset.0).collect();
    for arguments in [&[path][..], &[path, "--rediagnose"]] {
        let again = lines(&replay(arguments));
        assert!(again.iter().eq(live.iter().copied()), "{arguments:?}: {again:#?}\n{live:#?}");
    }
    let sent = lines(&replay(&[path, "--sent"]));
    assert!(!sent.is_empty() && sent.iter().all(|line| line["direction"] == "sent"));
    assert!(lines(&replay(&[path, "--until", "2000-01-01"])).is_empty());
}

/// `rsttrace record` of this stage's namespace.
fn record(stage: &Stage, path: &str, more: &[&str]) -> Tracer {
    let netns = stage.netns.to_string();
    let mut command = Command::new(host::rsttrace());
    command.args(["record", path, "--netns", &netns, "--received", "--min-free", "0"]).args(more);
    command.args(["--transport", stage.transport().name()]);
    Tracer::start_command(netns::original(), command, Stdio::null(), || Ok(()))
}

fn refuse_unseen(connections: usize) {
    let mut client = Puppet::start("the-client");
    for _ in 0..connections {
        assert!(client.ask(format_args!("connect c {}", super::CLOSED_V4)).is_err());
    }
}

/// SIGKILL loses no record that was written; the next run repairs the recording, and replay tells the gap.
pub(crate) fn killed_recorder_loses_nothing(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let first = record(stage, path, &[]);
    refuse_unseen(23);
    wait_until("the records", || recorded(directory.path(), "reset") == 23);
    first.signal(Signal::SIGKILL);
    drop(first);
    let second = record(stage, path, &[]);
    refuse_unseen(4);
    wait_until("the records of the second run", || recorded(directory.path(), "reset") >= 4);
    second.signal(Signal::SIGTERM);
    wait_until("the last mark", || recorded(directory.path(), "mark") > 0);
    drop(second);
    let output = replay(&[path]);
    assert_eq!(lines(&output).len(), 23 + 4);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the recorder ended without its last mark"), "{said}");
}

/// A disk without room: the oldest segments go, records that do not fit are reported, and it goes on when there is room.
pub(crate) fn recorder_goes_on_after_a_full_disk(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    mounts::leave().unwrap();
    mounts::mount("tmpfs", directory.path().to_str().unwrap(), "size=4m").unwrap();
    let recording = directory.path().join("recording");
    let path = recording.to_str().unwrap();
    let mut recorder = record(stage, path, &["--min-free", "1M", "--size", "100M"]);
    refuse_unseen(7);
    wait_until("the records", || recorded(&recording, "reset") == 7);
    let rest = directory.path().join("rest");
    let mut filler = File::create(&rest).unwrap();
    assert_eq!(io::copy(&mut io::repeat(0), &mut filler).unwrap_err().kind(), io::ErrorKind::StorageFull);
    refuse_unseen(5);
    recorder.expect_said("no room");
    fs::remove_file(rest).unwrap();
    drop(filler);
    recorder.expect_said("delivers again; no record was lost");
    wait_until("the rest", || recorded(&recording, "reset") == 7 + 5);
    // Full at the end: what waits is lost, which the summary and the status tell.
    let mut filler = File::create(directory.path().join("rest")).unwrap();
    assert_eq!(io::copy(&mut io::repeat(0), &mut filler).unwrap_err().kind(), io::ErrorKind::StorageFull);
    refuse_unseen(3);
    recorder.expect_said("no room");
    recorder.signal(Signal::SIGTERM);
    let (status, said) = recorder.status();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("3 records were not delivered"), "{said}");
    assert!(said.contains("12 records delivered, 3 not\n"), "{said}");
    assert_eq!(lines(&replay(&[path])).len(), 7 + 5);
}
