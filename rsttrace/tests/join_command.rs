//! `rsttrace join` over files, without root: recordings of a client and a server and a capture of the router between them, made at
//! once in three network namespaces.
#![expect(clippy::expect_used, reason = "what fails here fails the test")]

#[expect(dead_code, reason = "what is printed is text here")]
mod runs;

use std::{env, fs, path::PathBuf};

use self::runs::{Ended, run_from};

/// Path of a file of the tests.
fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/joined").join(name);
    path.to_str().expect("UTF-8").to_owned()
}

fn join(arguments: &[&str]) -> Ended {
    run_from(b"", &[&["join"], arguments].concat())
}

/// Compares with a golden file, or writes it (`RSTTRACE_BLESS=1`). Paths of files are left out.
#[track_caller]
fn is_golden(name: &str, text: &str) {
    let shown = text.replace(&file(""), "");
    if env::var_os("RSTTRACE_BLESS").is_some() {
        fs::write(file(name), &shown).expect("it is written");
    }
    assert_eq!(shown, fs::read_to_string(file(name)).expect("it is there"), "{name}");
}

#[test]
fn text_and_json_are_golden() {
    let inputs = [file("shop-1.jsonl"), file("db-1.jsonl"), file("router.pcap")];
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    for (format, name) in [("text", "text.txt"), ("json", "json.txt")] {
        let ended = join(&[&inputs[..], &["-o", format, "--time", "utc"]].concat());
        assert_eq!(ended.status, Some(0), "{}", ended.error);
        is_golden(name, &ended.out);
    }
    // The order of the inputs changes no verdict.
    let of = |inputs: &[&str]| {
        let ended = join(&[inputs, &["-o", "json"]].concat());
        let verdicts =
            ended.out.lines().filter_map(|line| line.split("\"verdict\":\"").nth(1).map(|text| text[..8].to_owned()));
        verdicts.collect::<Vec<_>>()
    };
    let reversed: Vec<&str> = inputs.iter().rev().copied().collect();
    assert_eq!(of(&inputs), of(&reversed));
    // Without the capture the packet filter of the server is not ruled out.
    let ended = join(&[&inputs[..2], &["--time", "utc", "--verdict", "not-sent"]].concat());
    assert!(
        ended.out.contains("or the packet filter of db-1 or of shop-1") && !ended.out.contains("sent by the peer: 6"),
        "{}",
        ended.out
    );
}

#[test]
fn inputs_that_make_no_pair_are_refused_with_the_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("it is written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let shop = file("shop-1.jsonl");
    for (inputs, status, said) in [
        (vec![shop.clone()], 2, "all inputs are of one host, 'shop-1'"),
        (vec![shop.clone(), shop.clone()], 2, "all inputs are of one host"),
        (vec![shop.clone(), path("empty", "")], 2, "all inputs are of one host"),
        (vec![path("empty", ""), path("nothing", "")], 2, "no record of a host"),
        (vec![shop.clone(), path("garbage", "{]\nx\n")], 2, "nothing to join in"),
        (vec![shop, "/no/such/file".to_owned()], 2, "cannot read /no/such/file"),
        (vec![], 2, "required"),
    ] {
        let ended = join(&inputs.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(ended.status == Some(status) && ended.error.contains(said) && ended.out.is_empty(), "{}", ended.error);
    }
}

#[test]
fn an_input_that_breaks_off_at_once_is_told_beside_the_refusal() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("db-1.jsonl.zst");
    let text = fs::read(file("db-1.jsonl")).expect("it is there");
    let whole = zstd::encode_all(&text[..], 1).expect("a vector");
    fs::write(&path, &whole[..300]).expect("it is written");
    let ended = join(&[&file("shop-1.jsonl"), path.to_str().expect("UTF-8")]);
    assert_eq!(ended.status, Some(2));
    for part in ["what comes after it in this file is missing", "all inputs are of one host"] {
        assert!(ended.error.contains(part), "{part}: {}", ended.error);
    }
}

#[test]
fn what_cannot_be_read_of_a_recording_forbids_the_conclusion() {
    let directory = tempfile::tempdir().expect("a directory");
    let lines = fs::read_to_string(file("db-1.jsonl")).expect("it is there");
    let mut lines: Vec<&str> = lines.lines().collect();
    let verdict = |lines: &[&str]| {
        let path = directory.path().join("db-1.jsonl");
        fs::write(&path, lines.join("\n")).expect("it is written");
        let path = path.to_str().expect("UTF-8");
        join(&[&file("shop-1.jsonl"), path, "--verdict", "not-sent"]).out
    };
    assert!(verdict(&lines).contains("not sent by the peer: 1"));
    let mut torn = lines.clone();
    torn.insert(2, "{\"schema\":1,\"type\":\"reset\",\"ti");
    assert!(!verdict(&torn).contains("not sent by the peer"));
    // A record that was taken out: the marks count it.
    let taken = lines.iter().position(|line| line.contains("\"direction\":\"sent\"")).expect("there is one");
    lines.remove(taken);
    assert!(!verdict(&lines).contains("not sent by the peer"));
}

#[test]
fn a_report_of_two_hosts_has_a_section_on_both_ends() {
    let inputs = [file("shop-1.jsonl"), file("db-1.jsonl")];
    let report = |inputs: &[String], format: &str| {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        run_from(b"", &[&["report", "--time", "utc", "--format", format], &inputs[..]].concat()).out
    };
    let markdown = report(&inputs, "markdown");
    for part in
        ["## Both ends", "1 not sent by the peer, 6 sent by the peer", "| db-1 | linger-zero | the sender | 2 |"]
    {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    let page = report(&inputs, "html");
    assert!(
        page.contains("<h2>Both ends</h2>") && page.contains("neither a process nor the TCP of db-1 sent it"),
        "{page}"
    );
    assert!(markdown.contains("or of shop-1 (likely)"), "{markdown}");
    assert!(markdown.contains("covers 2026-11-30 07:09:52.703 ± "), "{markdown}");
    assert!(!report(&inputs[..1], "markdown").contains("Both ends"));
}

#[test]
fn a_report_of_one_stream_or_file_of_several_hosts_has_the_section() {
    let lines: Vec<String> = ["shop-1", "db-1"].map(present_format).into_iter().flatten().collect();
    let stream = lines.join("\n") + "\n";
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("both.jsonl");
    fs::write(&path, &stream).expect("it is written");
    let path = path.to_str().expect("UTF-8");
    let report = |input: &[u8], arguments: &[&str]| {
        run_from(input, &[&["report", "--time", "utc", "--format", "markdown"], arguments].concat())
    };
    let of_stream = report(stream.as_bytes(), &["-"]).out;
    let of_file = report(b"", &[path]).out;
    for text in [&of_stream, &of_file] {
        assert!(text.contains("## Both ends") && text.contains("1 not sent by the peer, 6 sent by the peer"), "{text}");
    }
    // With times a stream has lost what is outside of them; a file has not.
    let times = ["--since", "2026-11-30T07:09:52.6Z", "--until", "2026-11-30T07:09:52.8Z"];
    let cut = report(stream.as_bytes(), &[&times[..], &["-"]].concat());
    assert!(!cut.out.contains("## Both ends") && cut.error.contains("--since or --until"), "{}", cut.error);
    let of_file = report(b"", &[&times[..], &[path]].concat()).out;
    assert!(of_file.contains("1 not sent by the peer, 2 sent by the peer"), "{of_file}");
    let one = present_format("db-1").join("\n") + "\n";
    let alone = report(one.as_bytes(), &["-"]);
    assert!(!alone.out.contains("Both ends") && !alone.error.contains("both ends"), "{}", alone.error);
}

/// The lines of a recording as they are written now: marks name their host, and the header has the addresses.
fn present_format(host: &str) -> Vec<String> {
    let text = fs::read_to_string(file(&format!("{host}.jsonl"))).expect("it is there");
    let address = if host == "db-1" { "10.7.2.9" } else { "10.7.1.5" };
    let line = |line: &str| {
        line.replacen("\"type\":\"mark\"", &format!("\"type\":\"mark\",\"host\":\"{host}\""), 1).replacen(
            "\"degraded\":",
            &format!("\"addresses\":[\"{address}\"],\"degraded\":"),
            1,
        )
    };
    text.lines().map(line).collect()
}

#[test]
fn recordings_of_the_present_format_have_the_same_verdicts_in_one_stream_and_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let [shop, db] = ["shop-1", "db-1"].map(|host| {
        let path = directory.path().join(format!("{host}.jsonl"));
        fs::write(&path, present_format(host).join("\n") + "\n").expect("it is written");
        path.to_str().expect("UTF-8").to_owned()
    });
    let verdicts = |out: &str| {
        let of = |line: &str| line.split("\"verdict\":\"").nth(1).map(|text| text[..8].to_owned());
        out.lines().filter_map(of).collect::<Vec<_>>()
    };
    let earlier = verdicts(&join(&[&file("shop-1.jsonl"), &file("db-1.jsonl"), "-o", "json"]).out);
    assert_eq!(verdicts(&join(&[&shop, &db, "-o", "json"]).out), earlier);
    let mut stream = [present_format("shop-1"), present_format("db-1")].concat();
    // By time, headers first, as a queue gives them.
    stream.sort_by_key(|line| {
        (!line.contains("\"type\":\"recording\""), line.split("\"time\":\"").nth(1).map(str::to_owned))
    });
    let stream = stream.join("\n") + "\n";
    assert_eq!(verdicts(&run_from(stream.as_bytes(), &["join", "-", "-o", "json"]).out), earlier);
    // An input that is given twice, and lines that are delivered again.
    assert_eq!(verdicts(&join(&[&shop, &db, &db, "-o", "json"]).out), earlier);
    let twice = stream.repeat(2);
    assert_eq!(verdicts(&run_from(twice.as_bytes(), &["join", "-", "-o", "json"]).out), earlier);
}

#[test]
fn times_select_pairs_and_not_evidence() {
    let inputs = [file("shop-1.jsonl"), file("db-1.jsonl")];
    let of = |since: &str, until: &str| {
        join(&[&inputs[0], &inputs[1], "--time", "utc", "--since", since, "--until", until]).out
    };
    let text = of("2026-11-30T07:09:52.7Z", "2026-11-30T07:09:52.8Z");
    assert!(text.contains("not sent by the peer: 1") && !text.contains("sent by the peer: 6"), "{text}");
    let text = of("2026-11-30T07:09:53Z", "2026-11-30T07:10:00Z");
    assert!(text.contains("sent, lost or ignored: 1") && !text.contains("not sent by the peer"), "{text}");
}

#[test]
fn captures_of_several_places_in_one_directory_are_several() {
    let directory = tempfile::tempdir().expect("a directory");
    let copy = |name: &str| {
        fs::copy(file("router.pcap"), directory.path().join(name)).expect("it is copied");
    };
    let hosts = || {
        let path = directory.path().to_str().expect("UTF-8");
        let ended = join(&[&file("shop-1.jsonl"), &file("db-1.jsonl"), path]);
        assert_eq!(ended.status, Some(0), "{}", ended.error);
        ended.out.lines().filter(|line| line.contains(": capture ")).count()
    };
    copy("router.pcap");
    assert_eq!(hosts(), 1);
    copy("switch.pcap");
    assert_eq!(hosts(), 2);
    // Names that differ in digits alone, of captures of one time.
    fs::remove_file(directory.path().join("switch.pcap")).expect("it is there");
    fs::remove_file(directory.path().join("router.pcap")).expect("it is there");
    copy("eth0.pcap");
    copy("eth1.pcap");
    assert_eq!(hosts(), 2);
}
