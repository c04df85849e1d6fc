//! Names that somebody has chosen to do harm, through the decoder and every sink.
//!
//! Process names, command lines, paths, units, containers, users, interfaces and the host's own name are put into the
//! golden cases, whatever they hold. What is harmful is said here anew, not asked of the program.

#![expect(clippy::expect_used, reason = "what fails here fails the test")]

#[path = "../golden/cases/mod.rs"]
#[expect(dead_code, reason = "the cases are the golden test's, which asks more of them")]
mod cases;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::ValueEnum as _;
use jiff::{Timestamp, tz::TimeZone};
use proptest::{collection, prelude::*, sample};
use rsttrace::{
    attribute::owner,
    cli::{Format, TimeFormat},
    decode::{Decoder, Reasons, clock::WallClock},
    diagnose::{Diagnosis, timeouts::Timeouts},
    reset::{Actor, Container, OwnerConfidence, Process, Provenance, Reset},
    sink::{self, Look, Record},
    summary::{Circumstances, Tally, coverage::Coverage},
};
use rsttrace_common::event::{ResetEvent, Task};
use serde_json::Value;

/// What there is to choose freely in one record.
const NAMES: usize = 12;

/// Text that is harmful in one way or another.
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

/// What no terminal may be sent: control characters, separators of lines, marks of direction, and invisible ones.
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

/// One of the cases.
fn case(number: usize) -> &'static cases::Case {
    let cases: Vec<_> = cases::all().collect();
    cases[number % cases.len()]
}

fn clock() -> WallClock {
    WallClock { monotonic_ns: cases::NOW_NS, wall: Timestamp::UNIX_EPOCH }
}

fn decoder(host: &str) -> Decoder {
    let reasons = (1..16).map(|number| (number, format!("REASON_{number}").into())).collect::<BTreeMap<_, _>>();
    Decoder::new(host.into(), Reasons { reset: reasons, ..Reasons::default() }, Some(0))
}

/// A golden case, with every name in it replaced.
fn dressed(case: usize, names: &[String]) -> Reset {
    let name = |index: usize| Arc::<str>::from(names.get(index).map_or("", String::as_str));
    let mut diagnosis = Diagnosis::new(Timeouts::read(None).expect("the known timeouts"));
    let mut reset = decoder(&name(0)).reset(&self::case(case).event(), &clock());
    diagnosis.diagnose(&mut reset);
    reset.process = Some(Process {
        pid: 4_194_304,
        comm: name(1),
        executable: Some(name(2)),
        command_line: Some(name(3)),
        uid: Some(1000),
        user: Some(name(4)),
        cgroup: Some(name(5)),
        provenance: Provenance::Connect,
        confidence: OwnerConfidence::Exact,
    });
    reset.actor = Some(Actor { pid: 7, comm: name(6) });
    if let Some(cgroup) = &mut reset.cgroup {
        cgroup.path = Some(name(7));
    }
    reset.unit = Some(name(8));
    reset.container = Some(Container { runtime: Some(name(9)), id: name(10), pod_uid: Some(name(11)) });
    diagnosis.explain(&mut reset);
    reset
}

/// The record, and its like of other types.
fn records(case: usize, names: &[String]) -> [Record; 4] {
    let reset = dressed(case, names);
    let event = self::case(case).event();
    let interface = names.last().map(|name| name.as_str().into());
    let forwarded = decoder(&reset.host).forwarded(&event, &clock(), interface);
    let alone = Reset { unit: None, ..reset.clone() };
    [
        Record::Reset(Arc::new(reset.clone())),
        Record::Reset(Arc::new(alone)),
        Record::Ignored(Arc::new(reset.into())),
        Record::Forwarded(Arc::new(forwarded)),
    ]
}

fn printed(format: Format, color: bool, records: &[Record]) -> String {
    let look = Look {
        color,
        time: TimeFormat::Utc,
        started_ns: 0,
        zone: TimeZone::UTC,
        // Of users; the names of ports are this machine's.
        names: true,
    };
    let mut sink = sink::sink(format, look);
    let mut out = Vec::new();
    for record in records {
        sink.write(record, &mut out).expect("a vector takes everything");
    }
    String::from_utf8(out).expect("UTF-8")
}

fn plain() -> Vec<String> {
    vec!["x".to_owned(); NAMES]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Neither a new line nor anything that a terminal obeys, in any format for people.
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

    /// Colours are all that a terminal is told.
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

    /// One line a record, whatever reads it takes for the end of one, and every name is in it as it was.
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
                    prop_assert_eq!(value["container"]["id"].as_str(), Some(&*names[10]));
                }
                Record::Forwarded(_) => prop_assert_eq!(value["interface"]["name"].as_str(), Some(&*names[11])),
                _ => prop_assert_eq!(value["process"]["comm"].as_str(), Some(&*names[1])),
            }
        }
    }

    /// A name is as long as it is, and what it holds adds no line to the summary.
    #[test]
    fn summaries_are_harmless(case in 0..500_usize, names in collection::vec(names(), 1..4)) {
        let summary = |dress: &dyn Fn(usize) -> Vec<String>| {
            let mut tally = Tally::default();
            for (index, _) in names.iter().enumerate() {
                tally.count(&dressed(case + index, &dress(index)));
            }
            tally.summary(Circumstances {
                time: Timestamp::UNIX_EPOCH,
                duration: Duration::from_secs(1),
                last: true,
                timeouts: &Timeouts::default(),
                coverage: Coverage::default(),
                degraded: &[],
                sinks: Vec::new(),
            })
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

    /// The kernel's 16 bytes hold 15 of a name, which may end in the middle of a character.
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
