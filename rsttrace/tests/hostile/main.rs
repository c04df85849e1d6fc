//! Names that are chosen to do harm, through the decoder, every format and the encoding of every sink.
//!
//! Process names, command lines, paths, units, containers, pods, peers, users, interfaces and the host name in the golden cases are
//! replaced by arbitrary text. What is harmful is defined independently of the program.

#![expect(clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

#[path = "../golden/cases/mod.rs"]
#[expect(dead_code, reason = "the cases are the golden test's, which asks more of them")]
mod cases;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use clap::ValueEnum as _;
use jiff::{Timestamp, tz::TimeZone};
use proptest::{collection, prelude::*, sample};
use rsttrace::{
    attribute::owner,
    decode::{BitFields, Decoder, Reasons, clock::WallClock},
    diagnose::{Diagnosis, program_hints::ProgramHints, timeouts::Timeouts},
    format::{Format, TextOptions, TextWidth, TimeFormat},
    metrics::Metrics,
    model::{Actor, Container, Coverage, Interface, OwnerConfidence, Pod, Process, Provenance, Record, Reset},
    pipeline::testing::{self, Collected, FromEvents, NoKernel},
    sink::encodings::Encodings,
    summary::{SummaryContext, Tally},
};
use rsttrace_common::event::{ResetEvent, Task};
use serde_json::Value;

/// Number of names in one record that an attacker can choose.
const NAMES: usize = 19;

/// Text that is harmful in some context.
const HARMFUL: &[&str] = &[
    "\u{1b}[31m",
    "\u{1b}]0;title\u{7}",
    "\u{1b}P+q\u{1b}\\",
    "\u{9b}2J",
    "\u{9d}8;;http://x\u{9c}",
    "\n",
    "\r",
    "\r\n{\"schema\":1,\"type\":\"reset\"}\n",
    "\u{85}",
    "\u{2028}",
    "\u{2029}",
    "\0",
    "\u{8}\u{8}\u{8}",
    "\u{b}\u{c}",
    "\u{7f}",
    "\u{202e}drawkcab\u{202c}",
    "\u{2066}\u{2069}",
    "\u{200f}",
    "\u{61c}",
    "\u{feff}",
    "\u{e0041}",
    "\u{fffd}",
    "\"}],\\",
    "\\u001b",
    "日本語",
    "e\u{301}\u{302}\u{303}",
    "… ",
    "java",
];

/// Characters that must not be sent to a terminal: control characters, line separators, direction marks, and invisible
/// ones.
fn does_harm(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(
            character,
            '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}'
        )
}

fn name() -> impl Strategy<Value = String> {
    let bytes = collection::vec(any::<u8>(), 0..64).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let harmful = collection::vec(sample::select(HARMFUL), 0..8).prop_map(|parts| parts.concat());
    let long = (sample::select(HARMFUL), 1..100_000_usize).prop_map(|(part, bytes)| part.repeat(bytes / part.len()));
    // As long as a container engine's id.
    let like_an_id = "[\u{1b}\u{7}a-f0-9]{64}";
    prop_oneof![3 => any::<String>(), 3 => bytes, 6 => harmful, 1 => long, 2 => like_an_id]
}

fn names() -> impl Strategy<Value = Vec<String>> {
    collection::vec(name(), NAMES)
}

/// One of the golden cases.
fn case(number: usize) -> &'static cases::Case {
    let cases: Vec<_> = cases::all().collect();
    cases[number % cases.len()]
}

fn clock() -> WallClock {
    WallClock { monotonic_ns: cases::NOW_NS, wall: Timestamp::UNIX_EPOCH }
}

fn decoder(host: &str) -> Decoder {
    let reasons = (1..16).map(|number| (number, format!("REASON_{number}").into())).collect::<BTreeMap<_, _>>();
    Decoder::new(
        host.into(),
        Reasons { reset: reasons, ..Reasons::default() },
        BitFields::LOWEST,
        cases::events::tick_rate(),
    )
}

/// A golden case in which every name is replaced.
fn with_names(case: usize, names: &[String]) -> Reset {
    let name = |index: usize| Arc::<str>::from(names.get(index).map_or("", String::as_str));
    let complete = |reset: &mut Reset| {
        reset.process = Some(Process {
            pid: 4_194_304,
            comm: name(1),
            executable: Some(name(2)),
            command_line: Some(name(3)),
            uid: Some(1000),
            user: Some(name(4)),
            cgroup: Some((&*name(5)).into()),
            provenance: Provenance::Connect,
            confidence: OwnerConfidence::Exact,
        });
        reset.actor = Some(Actor { pid: 7, comm: name(6) });
        if let Some(cgroup) = &mut reset.cgroup {
            cgroup.path = Some((&*name(7)).into());
        }
        reset.unit = Some(name(8));
        reset.container = Some(Container {
            runtime: Some(name(9)),
            id: name(10),
            pod_uid: Some(name(11)),
            name: Some(name(12)),
            image: Some(name(13)),
            service: Some(name(14)),
        });
        let pod = Pod { namespace: name(15), name: name(16), uid: name(11), container: Some(name(17)) };
        reset.pod = Some(Arc::new(pod));
        reset.peer.name = Some(name(18));
    };
    let diagnosis = Diagnosis::new(Timeouts::read(None).expect("the known timeouts"), ProgramHints::embedded());
    let mut processor = testing::processor(decoder(&name(0)), diagnosis, FromEvents { complete });
    let mut out = Collected::default();
    processor.process_event(&self::case(case).event(), 1, &clock(), &NoKernel, &mut out);
    processor.finish_all(&NoKernel, &mut out);
    out.resets().pop().expect("one record")
}

/// The record, and records of other types made from it.
fn records(case: usize, names: &[String]) -> [Record; 4] {
    let reset = with_names(case, names);
    let event = self::case(case).event();
    let interface = Interface { index: 7, name: names.last().map(|name| name.as_str().into()) };
    let forwarded = decoder(&reset.host).forwarded(&event, &clock(), (interface, None));
    let alone = Reset { unit: None, ..reset.clone() };
    [
        Record::Reset(Arc::new(reset.clone())),
        Record::Reset(Arc::new(alone)),
        Record::Ignored(Arc::new(reset.into())),
        Record::Forwarded(Arc::new(forwarded)),
    ]
}

fn text_options(color: bool) -> TextOptions {
    TextOptions {
        color,
        time: TimeFormat::Utc,
        started_ns: 0,
        zone: TimeZone::UTC,
        folds: false,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        // User names; port names depend on the machine.
        names: true,
    }
}

fn printed(format: Format, color: bool, records: &[Record]) -> String {
    let mut sink = format.formatter(text_options(color));
    let mut out = Vec::new();
    for record in records {
        sink.write(record, &mut out).expect("a vector takes everything");
    }
    String::from_utf8(out).expect("UTF-8")
}

fn encodings(record: &Record, names: &[String]) -> Encodings {
    Encodings::of(record, text_options(false), &names[0])
}

/// Fields of a journal datagram, parsed by systemd's "Native Journal Protocol".
fn journal_fields(mut entry: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let mut fields = Vec::new();
    while let Some(end) = entry.iter().position(|&byte| byte == b'\n') {
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        if let Some(equals) = line.iter().position(|&byte| byte == b'=') {
            fields.push((text(&line[..equals]), text(&line[equals + 1..])));
            entry = rest;
        } else {
            let (length, rest) = rest.split_first_chunk().expect("a length");
            let (value, rest) = rest.split_at(u64::from_le_bytes(*length).try_into().expect("a length"));
            fields.push((text(line), text(value)));
            entry = rest.strip_prefix(b"\n").expect("the end of a field");
        }
    }
    assert!(entry.is_empty(), "an end");
    fields
}

/// Structured data and text of a syslog message, parsed by RFC 5424.
fn syslog_fields(message: &str) -> (Vec<(String, String)>, &str) {
    let mut fields = Vec::new();
    let (_, data) = message.split_once(" [rsttrace@32473").expect("structured data");
    let mut rest = data;
    while let Some(parameter) = rest.strip_prefix(' ') {
        let (name, quoted) = parameter.split_once("=\"").expect("a value");
        let (mut value, mut characters) = (String::new(), quoted.char_indices());
        let end = loop {
            match characters.next().expect("an end of the value") {
                (end, '"') => break end,
                (_, '\\') => value.push(characters.next().expect("what is escaped").1),
                (_, ']') => panic!("a bracket that is not escaped in {message}"),
                (_, character) => value.push(character),
            }
        };
        fields.push((name.to_owned(), value));
        rest = &quoted[end + 1..];
    }
    (fields, rest.strip_prefix("] \u{feff}").expect("the end of the data, and the text"))
}

fn names_of(fields: &[(String, String)]) -> Vec<&str> {
    fields.iter().map(|(name, _)| name.as_str()).collect()
}

fn value_of<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
}

/// Answer to a scrape after these records.
fn scraped(case: usize, names: &[Vec<String>]) -> String {
    let (mut metrics, mut tally) = (Metrics::new(10), Tally::default());
    for (index, names) in names.iter().enumerate() {
        let reset = with_names(case + index, names);
        tally.count(&reset);
        metrics.count(&reset);
    }
    metrics.render(&tally.summary(circumstances()))
}

fn circumstances() -> SummaryContext<'static> {
    static TIMEOUTS: LazyLock<Timeouts> = LazyLock::new(Timeouts::default);
    SummaryContext {
        time: Timestamp::UNIX_EPOCH,
        duration: Duration::from_secs(1),
        last: true,
        timeouts: &TIMEOUTS,
        coverage: Coverage::default(),
        degraded: &[],
        sinks: Vec::new(),
    }
}

fn plain() -> Vec<String> {
    vec!["x".to_owned(); NAMES]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// No newline and no control character from a name, in any format for people.
    #[test]
    fn terminals_get_harmless_lines(case in 0..500_usize, names in names()) {
        for &format in Format::value_variants() {
            let shown = printed(format, false, &records(case, &names));
            let harm = shown.chars().find(|&character| character != '\n' && does_harm(character));
            prop_assert_eq!(harm, None, "{:?}: {}", format, shown);
            let usual = printed(format, false, &records(case, &plain()));
            prop_assert_eq!(shown.lines().count(), usual.lines().count(), "{:?}: {}", format, shown);
            if format == Format::Text {
                let of_resets = shown.lines().take(2);
                prop_assert!(of_resets.clone().all(|line| line.chars().count() <= 120), "{}", shown);
            }
        }
    }

    /// Colours are the only control sequences that a terminal gets.
    #[test]
    fn colours_change_no_word(case in 0..500_usize, names in names()) {
        for format in [Format::Text, Format::Long] {
            let colored = printed(format, true, &records(case, &names));
            prop_assert_eq!(
                anstream::adapter::strip_str(&colored).to_string(),
                printed(format, false, &records(case, &names))
            );
        }
    }

    /// One line per record, with every name unchanged in it, whatever a reader may take for the end of a line.
    #[test]
    fn json_stays_one_line_and_keeps_the_names(case in 0..500_usize, names in names()) {
        for record in records(case, &names) {
            let line = printed(Format::Json, false, std::slice::from_ref(&record));
            prop_assert_eq!(line.find(does_harm), Some(line.len() - 1), "{}", line);
            let value: Value = serde_json::from_str(&line).expect("JSON");
            match record {
                Record::Reset(reset) => {
                    prop_assert_eq!(value["host"].as_str(), Some(&*names[0]));
                    for (field, index) in [("comm", 1), ("executable", 2), ("command_line", 3), ("user", 4), ("cgroup", 5)] {
                        prop_assert_eq!(value["process"][field].as_str(), Some(&*names[index]), "{}", field);
                    }
                    prop_assert_eq!(value["actor"]["comm"].as_str(), Some(&*names[6]));
                    prop_assert_eq!(value["unit"].as_str(), reset.unit.as_deref());
                    for (field, index) in [("id", 10), ("name", 12), ("image", 13), ("service", 14)] {
                        prop_assert_eq!(value["container"][field].as_str(), Some(&*names[index]), "{}", field);
                    }
                    for (field, index) in [("namespace", 15), ("name", 16), ("uid", 11), ("container", 17)] {
                        prop_assert_eq!(value["pod"][field].as_str(), Some(&*names[index]), "{}", field);
                    }
                    prop_assert_eq!(value["peer"]["name"].as_str(), Some(&*names[18]));
                }
                Record::Forwarded(_) => prop_assert_eq!(value["interface"]["name"].as_str(), Some(&*names[NAMES - 1])),
                _ => prop_assert_eq!(value["process"]["comm"].as_str(), Some(&*names[1])),
            }
        }
    }

    /// The journal gets the same fields with any names, and the names unchanged.
    #[test]
    fn names_add_no_journal_fields(case in 0..500_usize, names in names()) {
        for (record, plain) in records(case, &names).iter().zip(&records(case, &plain())) {
            let fields = journal_fields(&encodings(record, &names).journal);
            let usual = journal_fields(&encodings(plain, &names).journal);
            prop_assert_eq!(names_of(&fields), names_of(&usual));
            let message = value_of(&fields, "MESSAGE").expect("a message");
            prop_assert_eq!(message.chars().find(|&character| does_harm(character)), None, "{}", message);
            if let Record::Reset(_) = record {
                prop_assert_eq!(value_of(&fields, "RSTTRACE_PROCESS"), Some(&*names[1]));
                prop_assert_eq!(value_of(&fields, "RSTTRACE_COMMAND_LINE"), Some(&*names[3]));
                prop_assert_eq!(value_of(&fields, "RSTTRACE_CONTAINER_ID"), Some(&*names[10]));
                prop_assert_eq!(value_of(&fields, "RSTTRACE_POD_NAME"), Some(&*names[16]));
                prop_assert_eq!(value_of(&fields, "RSTTRACE_PEER_NAME"), Some(&*names[18]));
            }
        }
    }

    /// A syslog message is one line, with the same parameters for any names.
    #[test]
    fn syslog_messages_stay_one_line(case in 0..500_usize, names in names()) {
        for (record, plain) in records(case, &names).iter().zip(&records(case, &plain())) {
            let (message, usual) = (encodings(record, &names).syslog, encodings(plain, &names).syslog);
            let ((fields, text), (usual, _)) = (syslog_fields(&message), syslog_fields(&usual));
            prop_assert_eq!(names_of(&fields), names_of(&usual));
            let values = fields.iter().map(|(_, value)| value.as_str()).chain([text]);
            let header = message.split_once(" [rsttrace@").expect("a header").0;
            for part in values.chain([header]) {
                prop_assert_eq!(part.chars().find(|&character| does_harm(character)), None, "{}", part);
            }
            // Version, time, host, program, process, kind.
            prop_assert_eq!(header.split(' ').count(), 6, "{}", header);
        }
    }

    /// A collector can decode the record, and gets the names unchanged.
    #[test]
    fn otlp_records_keep_the_names(case in 0..500_usize, names in names()) {
        for record in records(case, &names) {
            let otlp = encodings(&record, &names).otlp;
            if let Record::Reset(_) = record {
                for index in [1, 2, 3, 4, 5, 6, 10, 12, 13, 14, 15, 16, 17, 18] {
                    let name = &names[index];
                    let has = |part: &str| otlp.windows(part.len().max(1)).any(|window| window == part.as_bytes());
                    // The tag of an image is an attribute of its own.
                    let parts = name.rsplit_once(':');
                    let is_split = || parts.is_some_and(|(image, tag)| has(image) && has(tag));
                    prop_assert!(name.is_empty() || has(name) || is_split(), "{name:?}");
                }
            }
        }
    }

    /// Each metric stays one line, with its own labels.
    #[test]
    fn metrics_are_harmless(case in 0..500_usize, names in collection::vec(names(), 1..4)) {
        let shown = scraped(case, &names);
        let harm = shown.chars().find(|&character| character != '\n' && does_harm(character));
        prop_assert_eq!(harm, None, "{}", shown);
        for line in shown.lines().filter(|line| !line.starts_with('#')) {
            let value = line.rsplit_once(' ').expect("a value").1;
            prop_assert!(value.parse::<f64>().is_ok(), "{}", line);
            if let Some((_, labels)) = line.split_once('{') {
                let labels = labels.strip_suffix(value).and_then(|labels| labels.strip_suffix("} "));
                let mut rest = labels.expect("the end of the labels");
                loop {
                    let (name, quoted) = rest.split_once("=\"").expect("a label");
                    prop_assert!(name.chars().all(|character| character.is_ascii_lowercase()), "{}", line);
                    let mut is_escaped = false;
                    let end = quoted.find(|character| {
                        let ends = character == '"' && !is_escaped;
                        is_escaped = character == '\\' && !is_escaped;
                        ends
                    });
                    match quoted[end.expect("an end of the value") + 1..].strip_prefix(',') {
                        Some(more) => rest = more,
                        None => break,
                    }
                }
            }
        }
    }

    /// Names of any length and content add no line to the summary.
    #[test]
    fn summaries_are_harmless(case in 0..500_usize, names in collection::vec(names(), 1..4)) {
        let summary = |dress: &dyn Fn(usize) -> Vec<String>| {
            let mut tally = Tally::default();
            for (index, _) in names.iter().enumerate() {
                tally.count(&with_names(case + index, &dress(index)));
            }
            tally.summary(circumstances())
        };
        let hostile = summary(&|index| names[index].clone());
        let shown = hostile.to_string();
        let harm = shown.chars().find(|&character| character != '\n' && does_harm(character));
        prop_assert_eq!(harm, None, "{}", shown);
        prop_assert_eq!(shown.lines().count(), summary(&|_| plain()).to_string().lines().count(), "{}", shown);
        let line = printed(Format::Json, false, &[Record::Summary(Arc::new(hostile))]);
        prop_assert_eq!(line.find(does_harm), Some(line.len() - 1), "{}", line);
        prop_assert!(serde_json::from_str::<Value>(&line).is_ok());
    }

    /// The kernel's 16 bytes hold 15 bytes of a name, which may end in the middle of a character.
    #[test]
    fn any_name_of_the_kernel_becomes_text(name in any::<[u8; 16]>()) {
        let of_a_client = cases::all().find(|case| case.details).expect("a case with a process");
        let owner = Task { tgid: 7, comm: name, ..Task::default() };
        let event = ResetEvent { owner, ..of_a_client.event() };
        let decided = owner::decide(&decoder("x").reset(&event, &clock())).owner.expect("it is known");
        let bytes = name.split(|&byte| byte == 0).next().expect("a first part");
        prop_assert_eq!(&*decided.task.comm, &*String::from_utf8_lossy(bytes));
    }
}
