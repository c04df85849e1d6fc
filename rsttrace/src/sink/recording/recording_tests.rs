//! The sink writes to directories of its own, and what it leaves is read back.

use std::{
    fs::{self, File},
    path::PathBuf,
    time::Duration,
};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::{
    model::{Lost, LostWhere},
    replay::{CaptureView, Inputs, Line, TimeRange},
};

const MIB: u64 = 1 << 20;

fn options(directory: &TempDir) -> RecordingOptions {
    RecordingOptions {
        directory: directory.path().into(),
        size: 8 * MIB,
        age: Duration::from_hours(1),
        segment: MIB,
        min_free: 0,
    }
}

fn open(options: RecordingOptions) -> Result<RecordingSink> {
    RecordingSink::open(options, "gw-1".into(), Arc::default())
}

fn losses(counts: impl Iterator<Item = u64>) -> Vec<Record> {
    counts
        .map(|count| Record::Lost(Lost { time: Timestamp::now(), host: None, count, r#where: LostWhere::Kernel }))
        .collect()
}

fn mark(last: bool) -> Mark {
    let time = Timestamp::now();
    Mark {
        time,
        host: Some("host".into()),
        monotonic_ns: 0,
        resets: 0,
        lost: 0,
        undelivered: 0,
        counters: Vec::new(),
        last,
    }
}

/// Segments of a directory with their sizes, the oldest first. One that a compression replaces meanwhile may be missing.
fn segments(directory: &TempDir) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(directory.path()).expect("it is there").map(|entry| entry.expect("an entry"));
    let mut all: Vec<_> = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len()))).collect();
    all.sort();
    all
}

/// Counts of the losses in a recording, its headers, and what is to be said of it.
fn read(directory: &TempDir) -> (Vec<u64>, usize, Vec<String>) {
    let mut inputs =
        Inputs::open(&[directory.path().into()], TimeRange::default(), CaptureView::default()).expect("a recording");
    let (mut counts, mut headers) = (Vec::new(), 0);
    for line in inputs.by_ref() {
        match line {
            Line::Record(Record::Lost(lost)) => counts.push(lost.count),
            Line::Header(_) => headers += 1,
            _ => {}
        }
    }
    (counts, headers, inputs.notes())
}

fn wait_for_compression(sink: &mut RecordingSink) {
    while sink.compression.is_some() || !sink.full.is_empty() {
        sink.compress();
        std::thread::yield_now();
    }
}

#[test]
fn every_record_is_read_back_from_plain_and_compressed_segments() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut sink = open(RecordingOptions { size: 100 * MIB, ..options(&directory) }).expect("it opens");
    for start in (1..40_000).step_by(500) {
        assert_eq!(sink.deliver(&losses(start..start + 500)).delivered, 500);
    }
    sink.mark(&mark(true)).expect("a mark");
    wait_for_compression(&mut sink);
    sink.finish().expect("it ends");
    let (counts, headers, notes) = read(&directory);
    assert!(counts.into_iter().eq(1..=40_000), "records are missing or out of order");
    assert!(headers > 3 && notes.is_empty(), "{headers} {notes:?}");
    let names = segments(&directory);
    let plain = names.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "jsonl")).count();
    assert_eq!((plain, names.len()), (1, headers));
}

#[test]
fn a_mark_names_its_host_where_a_reset_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut sink = open(options(&directory)).expect("it opens");
    sink.mark(&mark(true)).expect("a mark");
    sink.finish().expect("it ends");
    let (path, _) = segments(&directory).remove(0);
    let written = fs::read_to_string(path).expect("text");
    let last = written.lines().last().expect("a line");
    let (before, after) = last.split_once("\"time\":\"").expect("a time");
    let (_, behind) = after.split_once("\",").expect("the end of the time");
    assert_eq!(before, "{\"schema\":1,\"type\":\"mark\",");
    assert!(behind.starts_with("\"host\":\"host\",\"monotonic_ns\":"), "{last}");
}

#[test]
fn the_size_holds_at_all_times_and_the_oldest_goes_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = RecordingOptions { size: 4 * MIB, ..options(&directory) };
    let mut sink = open(limits.clone()).expect("it opens");
    for round in 1..121 {
        assert_eq!(sink.deliver(&losses((0..1000).map(|step| number(round * 1000 + step)))).delivered, 1000);
        let used: u64 = segments(&directory).iter().map(|(_, bytes)| bytes).sum();
        assert!(used <= limits.size, "{used}");
    }
    wait_for_compression(&mut sink);
    let (counts, ..) = read(&directory);
    let written = (1..121).flat_map(|round| (0..1000).map(move |step: u64| number(round * 1000 + step)));
    let kept: Vec<u64> = written.skip(120_000 - counts.len()).collect();
    assert!(counts.len() > 10_000 && counts == kept, "{} records, not the newest in order", counts.len());
}

/// A number that compresses badly.
fn number(of: u64) -> u64 {
    of.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1 | 1
}

#[test]
fn what_a_crash_leaves_is_repaired_by_the_next_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut sink = open(options(&directory)).expect("it opens");
    assert_eq!(sink.deliver(&losses(1..4)).delivered, 3);
    let path = sink.active.as_ref().expect("a segment").path.clone();
    drop(sink);
    let length = fs::metadata(&path).expect("it is there").len();
    File::options().write(true).open(&path).expect("it opens").set_len(length - 5).expect("it is cut");
    let unfinished = directory.path().join("20000101T000000Z-gw-1.jsonl.zst.tmp");
    fs::write(&unfinished, "half").expect("a file");
    fs::write(directory.path().join("notes.txt"), "mine").expect("a file");

    let mut sink = open(options(&directory)).expect("it opens again");
    assert_eq!(sink.deliver(&losses(4..6)).delivered, 2);
    wait_for_compression(&mut sink);
    let (counts, headers, _) = read(&directory);
    assert_eq!((counts, headers), (vec![1, 2, 4, 5], 2), "the torn record is gone and no other");
    assert!(!unfinished.exists() && directory.path().join("notes.txt").exists());
    assert!(path.with_extension("jsonl.zst").exists() && !path.exists());
}

#[test]
fn one_recorder_has_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let _first = open(options(&directory)).expect("it opens");
    let error = open(options(&directory)).err().expect("it is in use");
    assert!(format!("{error:#}").contains("another rsttrace records there"), "{error:#}");
}

#[test]
fn a_removed_segment_is_followed_by_a_new_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut sink = open(options(&directory)).expect("it opens");
    fs::remove_file(&sink.active.as_ref().expect("a segment").path).expect("it is there");
    assert_eq!(sink.deliver(&losses(1..3)).delivered, 2);
    sink.reopen().expect("SIGHUP begins another");
    assert_eq!(sink.deliver(&losses(3..4)).delivered, 1);
    wait_for_compression(&mut sink);
    let (counts, headers, _) = read(&directory);
    assert_eq!((counts, headers), (vec![1, 2, 3], 2));
}

#[test]
fn without_room_nothing_is_written_and_it_goes_on_when_there_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut sink = open(options(&directory)).expect("it opens");
    let older = directory.path().join("20200101T000000Z-gw-1.jsonl.zst");
    fs::write(&older, "older").expect("a file");
    sink.directory = {
        drop(std::mem::replace(
            &mut sink.directory,
            SegmentDirectory::open(tempfile::tempdir().expect("a directory").path()).expect("it opens"),
        ));
        SegmentDirectory::open(directory.path()).expect("it opens again")
    };
    sink.options.min_free = u64::MAX;
    let report = sink.deliver(&losses(1..3));
    assert_eq!(report.delivered, 0);
    let error = format!("{:#}", report.error.expect("an error"));
    assert!(error.contains("no room") && error.contains("older segments stay"), "{error}");
    assert!(older.exists(), "an older segment that makes up for nothing is kept");
    fs::remove_file(&older).expect("it is there");
    sink.directory.forget(&older);
    let error = format!("{:#}", sink.deliver(&losses(1..3)).error.expect("an error"));
    assert!(error.contains("to stay free (--min-free)") && !error.contains("older"), "{error}");
    sink.options.min_free = 0;
    assert_eq!(sink.deliver(&losses(1..3)).delivered, 2);
    assert_eq!(read(&directory).0, [1, 2]);
}

#[test]
fn segments_that_are_too_old_are_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let old = directory.path().join("20200101T000000Z-gw-1.jsonl.zst");
    let file = File::create(&old).expect("a file");
    file.set_modified(SystemTime::now() - Duration::from_hours(2)).expect("it is set");
    let mut sink = open(options(&directory)).expect("it opens");
    sink.mark(&mark(false)).expect("a mark");
    assert!(!old.exists() && segments(&directory).len() == 1);
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    for (text, expected) in [
        ("", "a directory is missing"),
        ("/d,size=1M", "a segment has 1M or more"),
        ("/d,size=8M,segment=4M", "at most a quarter"),
        ("/d,size=x", "size: 'x' is not a size"),
        ("/d,sise=4M", "unknown option 'sise', did you mean 'size'?"),
        ("/d,age=5", "an age is a minute or more"),
        ("/d,age=0", "age: expected a time of more than 0"),
    ] {
        let error = RecordingOptions::parse(Some(text)).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let all = RecordingOptions::parse(Some("/d,size=1G,age=2d,segment=8M,min-free=0")).expect("good options");
    assert_eq!((all.size, all.segment, all.min_free, all.age), (1 << 30, 8 * MIB, 0, Duration::from_hours(48)));
    assert_eq!(all.to_string(), "/d, up to 1 GiB and 2 days");
    let default = RecordingOptions::parse(Some("/d")).expect("a directory");
    assert_eq!(default.segment, RecordingOptions::SEGMENT);
    assert_eq!(default.to_string(), "/d, up to 2 GiB and 7 days");
}
