//! `rsttrace replay` and `export` over packet captures, without root.
//!
//! The captures in `captures/` were made with tcpdump on one host of three, while real programs ran; what is told of each is the
//! text beside it. `RSTTRACE_BLESS=1` writes it anew.
#![expect(clippy::expect_used, reason = "what fails here fails the test")]

mod runs;

use std::{
    env, fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use self::runs::{Ended, run_from};

fn run(arguments: &[&str]) -> Ended {
    run_from(b"", arguments)
}

/// The stored captures.
fn captures() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let files = fs::read_dir(directory).expect("a directory").map(|file| file.expect("a file").path());
    let mut all: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "pcap")).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

fn capture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name).with_extension("pcap")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn real_captures_are_told_as_they_were() {
    for capture in captures() {
        let ended = run(&["replay", "--no-summary", "--output", "long", "--ignored", text(&capture)]);
        assert_eq!(ended.status, Some(0), "{}", ended.error);
        let name = capture.file_name().and_then(|name| name.to_str()).expect("a name");
        let said = ended.error.replace(text(&capture), name);
        let told = format!("{}\n{said}", ended.out);
        let expected = capture.with_extension("txt");
        if env::var_os("RSTTRACE_BLESS").is_some() {
            fs::write(&expected, &told).expect("it is written");
        }
        assert_eq!(told, fs::read_to_string(&expected).expect("it is there"), "{}", capture.display());
    }
}

#[test]
fn every_way_to_the_same_packets_gives_the_same_records() {
    let path = capture("race-nginx-socket-c");
    let bytes = fs::read(&path).expect("it is there");
    let json = |input: &[u8], path: &str| {
        let ended = run_from(input, &["replay", "--quiet", "--no-summary", "--output", "json", path]);
        assert_eq!(ended.status, Some(0), "{}", ended.error);
        ended.out
    };
    let plain = json(b"", text(&path));
    assert_eq!(plain.lines().count(), 1, "{plain}");
    assert!(plain.contains("\"hook\":\"capture\"") && plain.contains("\"code\":\"keepalive-race\""), "{plain}");
    assert_eq!(json(&bytes, "-"), plain);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&bytes).expect("a vector");
    assert_eq!(json(&gzip.finish().expect("a vector"), "-"), plain);
    assert_eq!(json(&zstd::encode_all(&bytes[..], 1).expect("a vector"), "-"), plain);

    // What is exported of it is a recording, which is told and diagnosed again as the capture is.
    let exported = run(&["export", text(&path)]);
    assert_eq!(exported.status, Some(0), "{}", exported.error);
    assert_eq!(json(&exported.bytes, "-"), plain);
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("exported.jsonl");
    fs::write(&file, &exported.bytes).expect("it is written");
    let again = run(&["replay", "--quiet", "--no-summary", "--output", "json", "--rediagnose", text(&file)]);
    assert_eq!((again.status, again.out.as_str()), (Some(0), plain.as_str()), "{}", again.error);
}

#[test]
fn perspective_can_be_given() {
    let path = capture("race-nginx-socket-c");
    let replay = |arguments: &[&str]| run(&[&["replay", "--no-summary", text(&path)], arguments].concat());
    let inferred = replay(&[]);
    assert!(inferred.out.contains("RECV") && inferred.error.contains("marks as sent"), "{}", inferred.error);
    // `RECV LOCAL < PEER`.
    let peer = inferred.out.split_whitespace().nth(4).expect("a peer");
    let address = peer.rsplit_once(':').expect("a port").0.to_owned();
    let server = replay(&["--local", &address]);
    assert!(server.out.contains(" SENT "), "{}", server.out);
    let both = replay(&["--local", "198.18.0.0/15"]);
    assert!(both.out.contains(" SENT ") && both.out.contains(" RECV "), "{}", both.out);
    let neither = replay(&["--local", "192.0.2.0/24"]);
    assert_eq!(neither.out, "");
    assert!(neither.error.contains("2 resets were between other hosts than --local names"), "{}", neither.error);
}

/// A capture that goes on is told as it comes.
#[test]
fn a_pipe_is_told_at_once() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rsttrace"))
        .args(["replay", "--quiet", "--no-summary", "--output", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut to = child.stdin.take().expect("a pipe");
    // A record waits for one of the other end, which the next packet shows not to come.
    let bytes = fs::read(capture("race-nginx-socket-c")).expect("it is there");
    to.write_all(&bytes).expect("it reads");
    let mut first = [0; 10];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("a record");
    assert_eq!(&first, br#"{"schema":"#);
    drop(to);
    assert!(child.wait_with_output().expect("it ends").status.success());
}

#[test]
fn what_is_cut_off_or_damaged_is_told() {
    let bytes = fs::read(capture("race-nginx-socket-c")).expect("it is there");
    let cut = run_from(&bytes[..bytes.len() - 3], &["replay", "--no-summary", "-"]);
    assert_eq!(cut.status, Some(0), "{}", cut.error);
    assert!(cut.error.contains("standard input: it is cut off after packet"), "{}", cut.error);

    let mut damaged = fs::read(capture("race-nginx-socket-c")).expect("it is there");
    // The captured length of the second packet.
    let first = u32::from_le_bytes(damaged[32..36].try_into().expect("four bytes")) as usize;
    damaged[24 + 16 + first + 8..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let ended = run_from(&damaged, &["replay", "--no-summary", "-"]);
    assert_eq!(ended.status, Some(1), "{}", ended.error);
    assert!(ended.error.contains("cannot read standard input: what follows packet 1 is"), "{}", ended.error);

    for (input, expected) in [
        (&bytes[..10], "its header is cut off"),
        (&[0x0a, 0x0d, 0x0d, 0x0a, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..], "its header is too long"),
    ] {
        let ended = run_from(input, &["replay", "-"]);
        assert_eq!(ended.status, Some(2), "{}", ended.error);
        assert!(ended.error.contains(expected), "{}", ended.error);
    }

    // A capture of something else.
    let mut radio = bytes;
    radio[20] = 105;
    radio[21] = 0;
    let ended = run_from(&radio, &["replay", "-"]);
    assert_eq!(ended.status, Some(2), "{}", ended.error);
    assert!(ended.error.contains("link type 105, which is not read"), "{}", ended.error);
}

#[test]
fn a_capture_is_exported_as_packets_and_as_a_table() {
    let path = capture("race-nginx-socket-c");
    let exported = run(&["export", "--format", "pcapng", text(&path)]);
    assert_eq!(exported.status, Some(0), "{}", exported.error);
    let comment = &exported.out;
    assert!(comment.contains("reset received from") && comment.contains("keepalive-race"), "{comment}");
    let again = run_from(&exported.bytes, &["replay", "--no-summary", "-"]);
    assert_eq!(again.out.lines().count(), 1, "{}", again.error);
    let table = run(&["export", "--format", "csv", text(&path)]);
    assert_eq!(table.out.lines().count(), 2, "{}", table.out);
    let anonymous = run(&["export", "--format", "pcapng", "--anonymize", text(&path)]);
    assert!(!anonymous.out.contains("198.1"), "an address is left");
}

/// A capture, split into files behind these packets.
fn split(bytes: &[u8], behind: &[usize]) -> Vec<Vec<u8>> {
    let (header, mut rest) = bytes.split_at(24);
    let mut files = vec![header.to_vec()];
    for packet in 1.. {
        let Some(length) = rest.get(8..12) else { break };
        let length = u32::from_le_bytes(length.try_into().expect("4 bytes"));
        let (one, others) = rest.split_at(16 + usize::try_from(length).expect("a size"));
        files.last_mut().expect("a file").extend_from_slice(one);
        rest = others;
        if behind.contains(&packet) {
            files.push(header.to_vec());
        }
    }
    files
}

/// Each file as the capture program writes it: nanoseconds of pcap headers in little-endian order are 16 bytes a packet.
#[test]
fn files_of_one_capture_are_one() {
    let path = capture("race-nginx-socket-c");
    let directory = TempDir::new().expect("a directory");
    let json = |paths: &[&str]| run(&[&["replay", "--no-summary", "--output", "json"], paths].concat());
    let whole = json(&[text(&path)]);
    // Names that come in another order than the times: a ring that begins anew.
    let names = ["ring.pcap2", "ring.pcap10", "ring.pcap1"].map(|name| directory.path().join(name));
    for (name, bytes) in names.iter().zip(split(&fs::read(&path).expect("it is there"), &[4, 8])) {
        fs::write(name, bytes).expect("it is written");
    }
    for inputs in [vec![text(directory.path())], vec![text(&names[2]), text(&names[0]), text(&names[1])]] {
        let parts = json(&inputs);
        assert_eq!(parts.out, whole.out, "{}", parts.error);
        assert!(
            parts.error.contains("3 files, ") && parts.error.contains(" 12 packets, 12 of TCP, 2 resets"),
            "{}",
            parts.error
        );
    }
    // A file of another host at that time is no part of it.
    let other = capture("race-nginx-socket-s");
    let both = json(&[text(directory.path()), text(&other)]);
    assert!(
        both.error.contains("3 files, ") && both.error.contains("race-nginx-socket-s.pcap: 12 packets"),
        "{}",
        both.error
    );
    assert_eq!(both.out.lines().count(), 3, "{}", both.out);
    // Without the middle of it, the connection is one that loses segments; it is told, and not wrongly joined.
    fs::remove_file(&names[1]).expect("it is there");
    assert_eq!(json(&[text(directory.path())]).status, Some(0));
}

#[test]
fn options_without_effect_are_told() {
    let path = capture("race-nginx-socket-c");
    let said = |arguments: &[&str]| run(&[&["replay", "--no-summary"], arguments].concat()).error;
    let error = said(&["--comm", "nginx", "--pid", "1", text(&path)]);
    assert!(error.contains("--pid and --comm select no reset of a packet capture"), "{error}");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/json.txt");
    assert!(said(&["--local", "10.0.0.0/8", golden]).contains("--local has no effect: no input is a packet capture"));
    for arguments in [vec!["--local", "198.18.0.0/15", text(&path)], vec!["--comm", "nginx", golden]] {
        let error = said(&arguments);
        assert!(!error.contains("no effect") && !error.contains("select"), "{error}");
    }
}
