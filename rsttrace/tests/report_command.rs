//! `rsttrace report` over files, without root: forms, refusals, and inputs that strangers have written.
#![expect(clippy::expect_used, reason = "what fails here fails the test")]

#[expect(dead_code, reason = "what is printed is text here")]
mod runs;

use std::fs;

use serde_json::{Value, json};

use self::runs::{Ended, run_from};

/// JSON of the golden records, a line each.
const RECORDS: &str = include_str!("golden/json.txt");

fn run(arguments: &[&str]) -> Ended {
    run_from(b"", arguments)
}

/// Golden resets as incidents of their own, a second apart, changed by a function of their number.
fn records(change: impl Fn(usize, &mut Value)) -> String {
    let mut lines = String::new();
    let resets = RECORDS.lines().filter(|line| line.contains("\"type\":\"reset\""));
    for (number, line) in resets.enumerate() {
        let mut record: Value = serde_json::from_str(line).expect("JSON");
        record["seq"] = json!(number + 1);
        record["incident"] = json!(number + 1);
        record["incident_role"] = json!("first");
        record["time"] = json!(format!("2026-11-28T08:{:02}:{:02}.000000000Z", number / 60, number % 60));
        change(number, &mut record);
        // The beginning that every line has.
        let text = record.to_string();
        lines += &text;
        lines.push('\n');
    }
    lines
}

#[test]
fn each_format_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    let input = path("in.jsonl");
    fs::write(&input, records(|_, _| ())).expect("it is written");
    for (name, begins, has) in [
        ("a.html", "<!DOCTYPE html>", "Content-Security-Policy"),
        ("a.md", "# TCP resets of gw-1", "## Can I trust this?"),
        ("a.svg", "<svg xmlns=", "</svg>"),
    ] {
        let ended = run(&["report", "-o", &path(name), &input]);
        assert_eq!(ended.status, Some(0), "{}", ended.error);
        let written = fs::read_to_string(path(name)).expect("the file is there");
        assert!(written.starts_with(begins) && written.contains(has), "{name}: {written}");
        // A replay with --report makes the same but for its command.
        let ended = run(&["replay", "-o", "none", "--no-summary", "--report", &path(name), &input]);
        assert_eq!(ended.status, Some(0), "{}", ended.error);
        let again = fs::read_to_string(path(name)).expect("the file is there");
        let without = |text: &str| text.lines().filter(|line| !line.contains("rsttrace re")).collect::<String>().len();
        assert!(without(&again).abs_diff(without(&written)) < 200, "{name}");
    }
    let ended = run(&["report", "--format", "markdown", "--cause", "keepalive-race", &input]);
    assert!(
        ended.out.contains("keepalive-race") && ended.out.contains("Filters of the command below"),
        "{}",
        ended.out
    );
    let ended = run(&["report", "--compare", &input, &input]);
    assert!(ended.out.contains("No clear change"), "{}", ended.error);
}

#[test]
fn what_makes_no_report_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("text").to_str().expect("UTF-8").to_owned();
    fs::write(&text, "hello\n").expect("it is written");
    for (arguments, said) in [
        (vec!["report"], "INPUT"),
        (vec!["report", "/nonexistent"], "cannot read /nonexistent"),
        (vec!["report", &text], "it is no record of rsttrace"),
        (vec!["report", "--compare", &text], "--compare takes two INPUTs"),
        (vec!["report", "--compare", "--format", "svg", &text, &text], "the main plot of one report"),
        (vec!["report", "--rediagnose", &text, &text], "--rediagnose takes one INPUT"),
        (vec!["report", "--format", "pdf", &text], "markdown"),
        (vec!["report", "-o", "r.pdf", &text], "'.pdf' is no format of a report: --format names one"),
        (vec!["replay", "--report", "r.pdf", &text], "'.pdf' is no format of a report: a page is .html"),
        (vec!["top", "--report", "r.pdf", &text], "'.pdf' is no format of a report: a page is .html"),
        (vec!["--report", "r.pdf"], "'.pdf' is no format of a report: a page is .html"),
        (vec!["report", "--since", "soon", &text], "--since 'soon'"),
    ] {
        let ended = run(&arguments);
        assert_eq!(ended.status, Some(2), "{arguments:?}: {}", ended.error);
        assert!(ended.error.contains(said), "{arguments:?}: {}", ended.error);
    }
    let ended = run(&["report", "-o", "/nonexistent/a.html", "-"]);
    assert!(ended.status == Some(1) && ended.error.contains("cannot write /nonexistent/a.html"), "{}", ended.error);
}

/// Everything that a stranger can write, at its worst. A line has up to 1 MiB.
fn hostile() -> String {
    let evil = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'`\u{202e}\u{1b}[31m|[x](javascript:alert(1))";
    let long = format!("{evil}{}", "x".repeat(6_000));
    records(|number, record| {
        let text = if number % 3 == 0 { long.clone() } else { evil.to_owned() };
        record["host"] = json!(text);
        record["peer"]["name"] = json!(text);
        record["unit"] = json!(text);
        record["actor"] = json!({"pid": 1, "comm": text});
        record["container"] =
            json!({"runtime": text, "id": text, "pod_uid": text, "name": text, "image": text, "service": text});
        record["pod"] = json!({"namespace": text, "name": text, "uid": text, "container": text});
        record["cause"]["summary"] = json!(text);
        record["cause"]["advice"] = json!(text);
        record["cause"]["evidence"] = json!(vec![text.clone(); 20]);
        if record["process"].is_object() {
            for name in ["comm", "executable", "command_line", "user", "cgroup"] {
                record["process"][name] = json!(text);
            }
        }
        if record["socket"].is_object() {
            record["socket"]["age_ms"] = json!(if number % 2 == 0 { 1e300 } else { -1.0 });
            record["socket"]["since_receive_ms"] = json!(f64::from(u32::MAX) * 1e9);
        }
        if number == 5 {
            record["time"] = json!("9999-12-30T22:00:00Z");
            record["count"] = json!(u32::MAX);
        }
    })
}

#[test]
fn what_strangers_write_is_escaped_and_cut() {
    let directory = tempfile::tempdir().expect("a directory");
    let input = directory.path().join("in.jsonl").to_str().expect("UTF-8").to_owned();
    fs::write(&input, hostile()).expect("it is written");
    let page = run(&["report", "--format", "html", &input]);
    assert_eq!(page.status, Some(0), "{}", page.error);
    let scripts = page.out.matches("<script").count();
    assert!(scripts == 1 && !page.out.contains("<img") && !page.out.contains(['\u{1b}', '\u{202e}']), "{scripts}");
    assert!(page.out.len() < 3_000_000, "{} bytes", page.out.len());
    let markdown = run(&["report", "--format", "markdown", &input]);
    let outside = markdown.out.split("```").step_by(2).collect::<String>();
    assert!(!outside.contains(['<', '\u{1b}', '\u{202e}']) && !outside.contains("[x]"), "{outside}");
    assert!(markdown.out.len() < 100_000, "{} bytes", markdown.out.len());
    for format in ["svg", "markdown", "html"] {
        let both = run(&["report", "--format", format, &input]);
        assert_eq!(both.status, Some(0), "{}", both.error);
    }
    let compared = run(&["report", "--compare", &input, &input]);
    assert!(compared.status == Some(0) && compared.out.matches("<script").count() == 1, "{}", compared.error);
}

#[test]
fn marks_of_several_hosts_count_for_the_host_that_they_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let input = directory.path().join("in.jsonl").to_str().expect("UTF-8").to_owned();
    let mark = |second: u32, host: Option<&str>, lost: u32, sent: u32| {
        let counter = json!({"name": "TcpOutRsts", "delta": sent, "observed": sent, "explanation": null});
        let mut mark = json!({"time": format!("2026-11-28T08:01:{second:02}.000000000Z"), "monotonic_ns": second, "resets": 0,
            "lost": lost, "undelivered": 0, "counters": [counter], "last": false});
        if let Some(host) = host {
            mark["host"] = json!(host);
        }
        format!("{{\"schema\":1,\"type\":\"mark\",{}\n", &mark.to_string()[1..])
    };
    let report = |marks: &[String]| {
        fs::write(&input, records(|_, _| ()) + &marks.concat()).expect("it is written");
        let ended = run(&["report", "--format", "markdown", &input]);
        assert_eq!(ended.status, Some(0), "{}", ended.error);
        ended.out
    };
    let several = [
        mark(1, Some("gw-1"), 3, 11),
        mark(2, Some("gw-2"), 4, 13),
        mark(3, Some("gw-1"), 3, 17),
        mark(4, Some("gw-2"), 5, 19),
    ];
    let text = report(&several);
    assert!(text.contains("8 resets were lost"), "{text}");
    assert!(text.contains("gw-1: ") && text.contains("gw-2: ") && !text.contains("+11"), "{text}");
    assert!(text.contains("gw-1: rsttrace's own namespace: TcpOutRsts +17"), "{text}");
    // Of a recording of another namespace alone.
    let uncompared = mark(1, None, 0, 23).replace("\"observed\":23", "\"observed\":null");
    assert!(uncompared.contains("null"), "{uncompared}");
    let text = report(&[uncompared]);
    assert!(!text.contains("TcpOutRsts"), "{text}");
    // Of an earlier version, which did not name it: those of one host.
    let text = report(&[mark(1, None, 3, 11), mark(2, None, 5, 13)]);
    assert!(text.contains("5 resets were lost") && !text.contains("gw-1: "), "{text}");
}
