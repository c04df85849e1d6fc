//! `rsttrace replay` over files, without root. The records are those of the golden test, whose JSON is known.
#![expect(clippy::expect_used, reason = "what fails here fails the test")]

#[expect(dead_code, reason = "what is printed is text here")]
mod runs;

use std::{
    fs,
    io::Write as _,
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use self::runs::{Ended, run_from};

/// JSON of the golden records, a line each.
const RECORDS: &str = include_str!("golden/json.txt");

/// Runs `rsttrace replay` with these arguments, and `input` on standard input.
fn replay_from(input: &[u8], arguments: &[&str]) -> Ended {
    run_from(input, &[&["replay"], arguments].concat())
}

fn replay(arguments: &[&str]) -> Ended {
    replay_from(b"", arguments)
}

/// The lines of records, without the summary.
fn records(ended: &Ended) -> Vec<&str> {
    ended.out.lines().filter(|line| !line.contains("\"type\":\"summary\"")).collect()
}

fn expected(wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
    RECORDS.lines().filter(|line| wanted(line)).collect()
}

fn file(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = directory.path().join(name);
    fs::write(&path, content).expect("it is written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn json_comes_out_as_it_went_in_from_every_kind_of_input() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(RECORDS.as_bytes()).expect("a vector");
    let zstd = zstd::encode_all(RECORDS.as_bytes(), 1).expect("a vector");
    let inputs = [
        file(&directory, "a.json", RECORDS),
        file(&directory, "a.json.gz", gzip.finish().expect("a vector")),
        file(&directory, "any-name", zstd),
    ];
    for input in &inputs {
        let ended = replay(&[input, "-o", "json"]);
        assert_eq!((ended.status, records(&ended)), (Some(0), expected(|_| true)), "{input}: {}", ended.error);
    }
    let ended = replay_from(RECORDS.as_bytes(), &["-", "-o", "json"]);
    assert_eq!((ended.status, records(&ended)), (Some(0), expected(|_| true)), "{}", ended.error);
}

#[test]
fn text_and_long_are_those_of_the_live_run() {
    let text = replay_from(RECORDS.as_bytes(), &["-", "--time", "utc", "-n", "--no-summary"]);
    let golden = include_str!("golden/text.txt");
    // The golden lines begin with no line of titles, and standard output here is no terminal.
    let shown: Vec<&str> = text.out.lines().filter(|line| line.contains("SENT") || line.contains("RECV")).collect();
    let golden: Vec<&str> = golden.lines().filter(|line| line.contains("SENT") || line.contains("RECV")).collect();
    assert_eq!(shown.len(), golden.len());
    for (shown, golden) in shown.into_iter().zip(golden) {
        // Figures of how a connection ended are among the facts, which JSON without them lacks; the columns have room for them.
        let has_ending = golden.contains(" closed ") || golden.contains(" waited ");
        assert!(shown == golden || has_ending && columns(shown) == columns(golden), "{shown}\n{golden}");
    }
}

/// The columns of a line before its figures.
fn columns(line: &str) -> Vec<&str> {
    let words = if line.contains("no socket") { 9 } else { 8 };
    line.split_whitespace().take(words).collect()
}

#[test]
fn filters_and_times_select() {
    let sent = replay_from(RECORDS.as_bytes(), &["-", "-o", "json", "--sent"]);
    let is_loss = |line: &str| line.contains("\"type\":\"lost\"");
    assert_eq!(records(&sent), expected(|line| line.contains("\"direction\":\"sent\"") || is_loss(line)));
    let cause = replay_from(RECORDS.as_bytes(), &["-", "-o", "json", "--cause", "listen-overflow"]);
    assert_eq!(records(&cause), expected(|line| line.contains("\"code\":\"listen-overflow\"") || is_loss(line)));
    // Each was at 08:15:02 of one day; the loss was at the beginning of 1970.
    for (times, is_all) in [
        (["--since", "2026-11-21 08:15:02"], true),
        (["--since", "2026-11-21T08:15:03Z"], false),
        (["--until", "2026-11-21 08:15:02"], false),
        (["--until", "2026-11-21 08:15:03"], true),
    ] {
        let ended = replay_from(RECORDS.as_bytes(), &[&["-", "-o", "json"], &times[..]].concat());
        let resets = records(&ended).into_iter().filter(|line| !is_loss(line)).count();
        let all = expected(|line| !is_loss(line)).len();
        assert_eq!(resets, if is_all { all } else { 0 }, "{times:?}");
    }
}

#[test]
fn the_summary_is_made_of_the_records() {
    let ended = replay_from(RECORDS.as_bytes(), &["-", "-o", "none", "--group-by", "cause"]);
    let resets = expected(|line| line.contains("\"type\":\"reset\"")).len();
    // One record stands for many.
    assert!(ended.error.contains(" resets in ") && ended.error.contains("7 lost"), "{resets}: {}", ended.error);
    assert!(ended.error.contains("verdict"), "{}", ended.error);
    assert!(!ended.error.contains("counters"), "the host's counters are not compared: {}", ended.error);
}

#[test]
fn sinks_get_everything_however_short_their_queue() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("out.json");
    let sink = format!("json:{}", path.display());
    let ended = replay_from(RECORDS.as_bytes(), &["-", "-o", "none", "--sink", &sink, "--sink-queue", "3"]);
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    let written = fs::read_to_string(&path).expect("the file is there");
    let written: Vec<&str> = written.lines().filter(|line| !line.contains("\"type\":\"summary\"")).collect();
    assert_eq!(written, expected(|_| true));
}

#[test]
fn foreign_and_torn_lines_are_skipped_and_counted() {
    let first = RECORDS.lines().next().expect("a line");
    let mixed = format!("# a comment\n{first}\n{{\"schema\":1,\"type\":\"re\n\n{first}\n{}", &first[..100]);
    let ended = replay_from(mixed.as_bytes(), &["-", "-o", "json", "--summary", "stderr"]);
    assert_eq!((ended.status, ended.out.lines().count()), (Some(0), 2), "{}", ended.error);
    let note = "3 lines were skipped; the first: standard input:1: it is no record of rsttrace";
    assert!(ended.error.contains(note), "{}", ended.error);
    let other = first.replacen("\"schema\":1", "\"schema\":9", 1);
    let ended = replay_from(other.as_bytes(), &["-"]);
    assert_eq!(ended.status, Some(2));
    assert!(ended.error.contains("version 9 of the records"), "{}", ended.error);
}

#[test]
fn a_torn_compressed_file_gives_what_it_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut zstd = zstd::encode_all(RECORDS.as_bytes(), 1).expect("a vector");
    let mut frames = zstd.clone();
    zstd.truncate(zstd.len() / 2);
    frames.extend(zstd);
    let ended = replay(&[&file(&directory, "torn.zst", frames), "-o", "json", "--no-summary"]);
    assert!(ended.out.lines().count() >= RECORDS.lines().count(), "{}", ended.error);
    assert!(ended.error.contains("what comes after it in this file is missing"), "{}", ended.error);
}

#[test]
fn what_comes_behind_a_damaged_frame_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let lines: Vec<&str> = RECORDS.lines().take(30).collect();
    let mut frames = Vec::new();
    for (number, part) in lines.chunks(10).enumerate() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a vector");
        encoder.include_checksum(true).expect("a parameter");
        encoder.write_all(format!("{}\n", part.join("\n")).as_bytes()).expect("a vector");
        let mut frame = encoder.finish().expect("a vector");
        if number == 1 {
            let middle = frame.len() / 2;
            frame[middle..middle + 40].fill(0xff);
        }
        frames.extend(frame);
    }
    let path = file(&directory, "damaged.jsonl.zst", frames);
    let ended = replay(&[&path, "-o", "json", "--no-summary"]);
    assert_eq!(ended.status, Some(1), "{}", ended.error);
    let note = format!("{path}: 1 damaged part of it was left out; its records are missing");
    assert!(ended.error.contains(&note), "{}", ended.error);
    let whole = expected(|_| true);
    let is_of = |range: std::ops::Range<usize>| whole[range].iter().all(|line| ended.out.contains(line));
    assert!(is_of(0..10) && is_of(20..30), "{}", ended.error);
}

#[test]
fn inputs_that_are_none_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = file(&directory, "empty", "");
    let capture = file(&directory, "x.pcap", [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
    let text = file(&directory, "text", "hello\nworld\n");
    let own = directory.path().to_str().expect("UTF-8");
    let nothing = directory.path().join("nothing");
    fs::create_dir(&nothing).expect("a directory");
    let nothing = nothing.to_str().expect("UTF-8");
    // As the packaged service leaves it.
    let service = directory.path().join("service");
    fs::create_dir(&service).expect("a directory");
    fs::write(service.join("resets.json"), "{\"schema\":1}\n").expect("it is written");
    fs::write(service.join("other.txt"), "x").expect("it is written");
    let service = service.to_str().expect("UTF-8");
    for (arguments, status, said) in [
        (vec!["/nonexistent"], 2, "cannot read /nonexistent: No such file"),
        (vec![own], 1, "x.pcap: its header is cut off; what comes after it in this file is missing"),
        (vec![nothing], 2, "the directory has neither a recording"),
        (vec![service], 2, "service/resets.json"),
        (vec![capture.as_str()], 2, "its header is cut off"),
        (vec![text.as_str()], 2, "nothing to replay: 2 lines were skipped"),
        (vec![empty.as_str()], 0, "0 resets"),
        (vec!["-", "--since", "soon"], 2, "--since 'soon': expected a time such as 14:03"),
        (vec!["-", "--since", "5m", "--until", "10m"], 2, "is not before --until"),
        (vec!["-", "--since", "2999-01-01"], 2, "which is still to come"),
        (vec!["-", "--sink", "recording:/tmp"], 2, "'rsttrace export' writes"),
        (vec!["-", "--metrics", "9477"], 2, "--metrics is for a live run"),
        (vec!["-", "-", "--rediagnose"], 2, "--rediagnose takes one INPUT"),
        (vec![], 2, "INPUT"),
    ] {
        let ended = replay(&arguments);
        assert_eq!(ended.status, Some(status), "{arguments:?}: {}", ended.error);
        assert!(ended.error.contains(said), "{arguments:?}: {}", ended.error);
    }
}

#[test]
fn sinks_name_the_recorded_host() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = RECORDS.lines().next().expect("a line").to_owned() + "\n";
    assert!(first.contains("\"host\":\"gw-1\""), "{first}");
    let path = file(&directory, "one.jsonl", first);
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a port");
    receiver.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let sink = format!("syslog:udp://{}", receiver.local_addr().expect("an address"));
    let ended = replay(&[&path, "-o", "none", "--sink", &sink]);
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    let mut message = vec![0; 65_536];
    let length = receiver.recv(&mut message).expect("a message");
    let message = String::from_utf8_lossy(&message[..length]);
    assert_eq!(message.split(' ').nth(2), Some("gw-1"), "{message}");
}

#[test]
fn an_exited_reader_is_no_error() {
    let many = RECORDS.repeat(50);
    let directory = tempfile::tempdir().expect("a directory");
    let input = file(&directory, "many", many);
    let mut child = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
        .args(["replay", &input, "-o", "json", "-q"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    assert!(Path::new(&input).exists());
}

#[test]
fn several_inputs_come_in_the_order_of_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |second: u32| {
        let time = format!("\"time\":\"2026-11-28T08:00:{second:02}.000000000Z\"");
        format!("{{\"schema\":1,\"type\":\"lost\",{time},\"host\":\"gw-1\",\"count\":{second},\"where\":\"kernel\"}}\n")
    };
    let inputs = [[1, 4, 7], [2, 3, 9]].map(|seconds| seconds.map(at).concat());
    let [one, other] = &inputs;
    let (one, other) = (file(&directory, "one", one), file(&directory, "other", other));
    let ended = replay(&[&one, &other, "-o", "json", "--no-summary"]);
    assert_eq!(ended.out, [1, 2, 3, 4, 7, 9].map(at).concat());
}
