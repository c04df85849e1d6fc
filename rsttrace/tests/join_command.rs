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
        ended.out.contains("or the packet filter of db-1") && !ended.out.contains("sent by the peer: 6"),
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
    assert!(page.contains("<h2>Both ends</h2>") && page.contains("no process and no TCP of db-1 sent it"), "{page}");
    assert!(!report(&inputs[..1], "markdown").contains("Both ends"));
}
