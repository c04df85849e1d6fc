//! Golden cases through the chain of stages and every format, compared with stored output.
//!
//! No root, no kernel: the events are constructed. `RSTTRACE_BLESS=1` stores the output instead of comparing it; review
//! the difference before committing it.

#![expect(clippy::expect_used, reason = "what fails here fails the test")]

mod cases;
mod incidents;
mod report_plots;
mod run;
mod top_screens;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rsttrace::{
    attribute::{container, systemd_unit},
    correlate::TranslationRequest,
    decode::{BitFields, Decoder, Reasons, clock::WallClock},
    diagnose::{Diagnosis, catalogue, program_hints::ProgramHints, timeouts::Timeouts},
    format::{Format, TextOptions, TextWidth, TimeFormat},
    model::{
        Endpoint, Fault, Lost, LostWhere, Pod, Record, Reset, Translated, TranslationSource,
        translation::{Answer, ConntrackEntry, ConntrackLookup, ConntrackState, ConntrackStatus, Tuple},
    },
    pipeline::{
        processor::Processor,
        testing::{self, Collected, FromEvents, NoKernel},
    },
};

use rsttrace_common::event::{EVENT_HAS_REASON, ResetEvent};

use crate::cases::{Case, NOW_NS};

/// Names of the kernel's reasons, as 6.12 and later number them.
pub(crate) fn reasons() -> BTreeMap<u32, Arc<str>> {
    [
        (1, "NO_SOCKET"),
        (6, "TCP_FLAGS"),
        (8, "TCP_ABORT_ON_DATA"),
        (9, "TCP_TIMEWAIT_SOCKET"),
        (10, "INVALID_SYN"),
        (11, "TCP_ABORT_ON_CLOSE"),
        (12, "TCP_ABORT_ON_LINGER"),
        (13, "TCP_ABORT_ON_MEMORY"),
        (14, "TCP_STATE"),
        (15, "TCP_KEEPALIVE_TIMEOUT"),
    ]
    .map(|(number, name)| (number, name.into()))
    .into()
}

/// Cgroup of the processes: a pod of a node that runs systemd.
const CGROUP: &str = "/kubepods.slice/kubepods-burstable.slice/\
    kubepods-burstable-pod8dbc1577_d0e2_4706_8787_57d52c03ddf2.slice/\
    cri-containerd-3f4e8c1d2b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0.scope/system.slice/gateway.service";

/// Records of all cases, with details from `/proc` where a case has them.
fn resets() -> Vec<Reset> {
    (1..).zip(cases::all()).map(|(seq, case)| Reset { seq, ..reset(case, reasons()) }).collect()
}

/// Record of one case, on a kernel with these reasons.
fn reset(case: &Case, reasons: BTreeMap<u32, Arc<str>>) -> Reset {
    let words = !reasons.is_empty();
    let complete = |reset: &mut Reset| {
        reset.internals.closed_by_leaving = case.has_left;
        if case.details {
            complete(reset);
        }
    };
    let mut processor = processor(reasons, complete);
    processor.enable_lookups();
    let (clock, mut out) = (clock(), Collected::default());
    for (event, count) in case.earlier().map(|event| (event, 1)).chain([(case.event(), case.count)]) {
        let flags = if words { event.flags } else { event.flags & !EVENT_HAS_REASON };
        processor.process_event(&ResetEvent { flags, ..event }, count, &clock, &NoKernel, &mut out);
    }
    for TranslationRequest { id, local, peer, .. } in processor.take_lookups() {
        if let Some(state) = case.conntrack {
            processor.answer(Answer { id, lookup: ConntrackLookup::Found(masqueraded(local, peer, state)) });
        }
    }
    processor.finish_all(&NoKernel, &mut out);
    let again = testing::recorded(&out.0, diagnosis()).expect("a recording of them");
    for (live, again) in out.0.iter().zip(&again) {
        assert_eq!(json(again), json(live), "{}: the recording is diagnosed otherwise", case.name);
    }
    assert_eq!(again.len(), out.0.len(), "{}", case.name);
    // A received reset is held, so it may come after the case's own record.
    out.resets().into_iter().max_by_key(|reset| reset.internals.ktime_ns).expect("the case itself")
}

/// Entry of a connection from behind this host to the peer, in a state (`enum tcp_conntrack`).
fn masqueraded(local: Endpoint, peer: Endpoint, state: u8) -> ConntrackEntry {
    let client = Endpoint { address: Ipv4Addr::new(10, 9, 9, 9).into(), port: 40_000 };
    ConntrackEntry {
        original: Tuple { source: client, destination: peer },
        reply: Tuple { source: peer, destination: local },
        status: ConntrackStatus(0),
        tcp_state: Some(ConntrackState(state)),
        timeout_s: None,
    }
}

/// The chain, on a kernel with these reasons.
pub(crate) fn processor<F: FnMut(&mut Reset)>(
    reasons: BTreeMap<u32, Arc<str>>,
    complete: F,
) -> Processor<FromEvents<F>> {
    let reasons = Reasons { reset: reasons, ..Reasons::default() };
    let decoder = Decoder::new("gw-1".into(), reasons, BitFields::LOWEST, cases::events::tick_rate());
    testing::processor(decoder, diagnosis(), FromEvents { complete })
}

fn diagnosis() -> Diagnosis {
    static FRESH: LazyLock<Diagnosis> =
        LazyLock::new(|| Diagnosis::new(Timeouts::read(None).expect("the known timeouts"), ProgramHints::embedded()));
    FRESH.renewed()
}

fn json(record: &Record) -> String {
    let mut out = Vec::new();
    Format::Json.formatter(options(TextOptions::COLUMNS)).write(record, &mut out).expect("a vector");
    String::from_utf8(out).expect("UTF-8")
}

pub(crate) fn clock() -> WallClock {
    let wall = "2026-11-21T08:15:02.123456789Z".parse::<Timestamp>().expect("a time");
    WallClock { monotonic_ns: NOW_NS, wall }
}

/// Adds what `/proc` and conntrack would show.
fn complete(reset: &mut Reset) {
    if let Some(process) = &mut reset.process {
        process.executable = Some("/usr/bin/java".into());
        process.command_line = Some("java -jar gw.jar".into());
        process.user = Some("app".into());
        process.cgroup = Some(CGROUP.into());
    }
    reset.unit = systemd_unit::of_cgroup(CGROUP);
    reset.container = container::of_cgroup(CGROUP);
    reset.translated = Some(Translated {
        local: reset.local,
        peer: Endpoint { address: Ipv4Addr::new(10, 0, 3, 7).into(), port: 8080 },
        by: TranslationSource::Conntrack,
    });
    complete_names(reset);
}

/// Adds what a container engine and the kubelet leave on the disk.
fn complete_names(reset: &mut Reset) {
    let Some(container) = &mut reset.container else { return };
    container.name = Some("web".into());
    container.image = Some("docker.io/library/nginx:1.27".into());
    let uid = container.pod_uid.clone().expect("it is in a pod");
    let pod = Pod { namespace: "shop".into(), name: "cart-7d9f".into(), uid, container: container.name.clone() };
    reset.pod = Some(Arc::new(pod));
    reset.peer.name = Some("shop/db-0".into());
}

/// Presentation at a width.
pub(crate) fn options(columns: usize) -> TextOptions {
    TextOptions {
        color: false,
        time: TimeFormat::Utc,
        started_ns: NOW_NS,
        zone: TimeZone::UTC,
        folds: false,
        width: TextWidth::Fixed(columns),
        // Port names come from files that differ between machines.
        names: false,
    }
}

fn printed(format: Format, color: bool) -> String {
    let options = TextOptions { color, ..options(TextOptions::COLUMNS) };
    printed_with(format, &options)
}

/// All cases in a format, and the loss of some resets.
fn printed_with(format: Format, options: &TextOptions) -> String {
    let mut sink = format.formatter(options.clone());
    let mut out = Vec::new();
    for reset in resets() {
        if format == Format::Long {
            // Each case by itself, whatever incident it would belong to after those before it.
            sink = format.formatter(options.clone());
            out.extend_from_slice(if out.is_empty() { b"" } else { b"\n" });
        }
        sink.write(&Record::Reset(Arc::new(reset)), &mut out).expect("a vector takes everything");
    }
    let lost = Record::Lost(Lost {
        time: Timestamp::UNIX_EPOCH,
        host: Some("gw-1".into()),
        count: 7,
        r#where: LostWhere::Kernel,
    });
    sink.write(&lost, &mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("UTF-8")
}

pub(crate) fn compare(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os("RSTTRACE_BLESS").is_some() {
        fs::write(&path, actual).expect("the file can be written");
        return;
    }
    let stored = fs::read_to_string(&path).expect("the stored output is there");
    for (number, (expected, actual)) in (1..).zip(stored.lines().zip(actual.lines())) {
        assert_eq!(actual, expected, "{name}:{number}; RSTTRACE_BLESS=1 stores what came out");
    }
    assert_eq!(actual.lines().count(), stored.lines().count(), "{name}");
}

#[test]
fn each_case_has_its_cause() {
    let wrong: Vec<String> = cases::all()
        .zip(resets())
        .filter(|(case, reset)| reset.cause.code != case.cause)
        .map(|(case, reset)| format!("{}: {} and not {}", case.name, reset.cause.code, case.cause))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The clock is set, by an hour and back: each time is by the clock at the reading of the event, and the order and the
/// time since the start are not affected.
#[test]
fn times_follow_a_clock_that_is_set() {
    const HOUR: i64 = 3600;
    let options = TextOptions {
        color: false,
        time: TimeFormat::Elapsed,
        started_ns: NOW_NS - 10_000_000_000,
        zone: TimeZone::UTC,
        folds: false,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        names: false,
    };
    let (mut text, mut long) = (Format::Text.formatter(options.clone()), Format::Long.formatter(options));
    let mut decoder = Decoder::new("gw-1".into(), Reasons::default(), BitFields::LOWEST, cases::events::tick_rate());
    let wall = "2026-11-21T08:15:02Z".parse::<Timestamp>().expect("a time");
    let case = cases::all().next().expect("a case");
    for (second, step) in [(0_u32, 0), (1, HOUR), (2, HOUR), (3, -HOUR), (4, 0)] {
        let monotonic_ns = NOW_NS + u64::from(second) * 1_000_000_000;
        let now = wall + SignedDuration::from_secs(i64::from(second) + step);
        let event = ResetEvent { ktime_ns: monotonic_ns - 500, ..case.event() };
        let reset = decoder.reset(&event, &WallClock { monotonic_ns, wall: now });
        assert_eq!(reset.time, now - SignedDuration::from_nanos(500));
        let record = Record::Reset(Arc::new(reset));
        for sink in [&mut text, &mut long] {
            let mut out = Vec::new();
            sink.write(&record, &mut out).expect("a vector takes everything");
            let line = String::from_utf8(out).expect("UTF-8");
            let shown: f64 = line.split_whitespace().next().and_then(|time| time.parse().ok()).expect("a time");
            assert!((shown - f64::from(second) - 10.0).abs() < 1e-5, "{line}");
        }
    }
}

/// Times of day have a line with the date where a day begins, also where the run began on an earlier one, or the clock is set
/// back.
#[test]
fn a_day_begins_with_its_date() {
    let options = TextOptions {
        color: false,
        time: TimeFormat::Utc,
        started_ns: NOW_NS,
        zone: TimeZone::UTC,
        folds: true,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        names: false,
    };
    let wall = "2026-11-28T23:59:58Z".parse::<Timestamp>().expect("a time");
    let lines = |options: TextOptions, seconds: &[(u64, i64)]| {
        let mut sink = Format::Text.formatter(options);
        let mut decoder =
            Decoder::new("gw-1".into(), Reasons::default(), BitFields::LOWEST, cases::events::tick_rate());
        let case = cases::all().next().expect("a case");
        let mut out = Vec::new();
        for &(since_start, step) in seconds {
            let ktime_ns = NOW_NS + since_start * 1_000_000_000;
            let wall = wall + SignedDuration::from_secs(since_start.cast_signed() + step);
            let reset =
                decoder.reset(&ResetEvent { ktime_ns, ..case.event() }, &WallClock { monotonic_ns: ktime_ns, wall });
            sink.write(&Record::Reset(Arc::new(reset)), &mut out).expect("a vector takes everything");
        }
        sink.flush(u64::MAX, &mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("UTF-8");
        let lines = text.lines().map(|line| line.get(..12).unwrap_or(line).trim_end().to_owned());
        lines.collect::<Vec<_>>()
    };
    let same_day = ["23:59:58.000", "23:59:59.000"];
    assert_eq!(lines(options.clone(), &[(0, 0), (1, 0)]), same_day);
    let next = ["23:59:59.000", "Sunday, 2026", "00:00:00.000", "00:00:01.000"];
    assert_eq!(lines(options.clone(), &[(1, 0), (2, 0), (3, 0)]), next);
    assert_eq!(lines(options.clone(), &[(3 * 86_400, 0)]), ["Tuesday, 202", "23:59:58.000"]);
    let set_back = ["Sunday, 2026", "00:00:01.000", "Saturday, 20", "00:00:02.000"];
    assert_eq!(lines(options.clone(), &[(3, 0), (4, -86_400)]), set_back);
    let berlin = TimeZone::get("Europe/Berlin").expect("a time zone");
    assert_eq!(
        lines(TextOptions { time: TimeFormat::Local, zone: berlin, ..options }, &[(1, 0), (3, 0)]),
        ["00:59:59.000", "01:00:01.000"]
    );
    assert_eq!(
        lines(TextOptions { time: TimeFormat::Iso, ..options }, &[(1, 0), (3, 0)]),
        ["2026-11-28T2", "2026-11-29T0"]
    );
}

/// Flat JSON has no object in an object, and says what the other one says.
#[test]
fn flat_json_has_no_nested_values() {
    let line = |format: Format, reset: &Reset| {
        let mut out = Vec::new();
        let record = Record::Reset(Arc::new(reset.clone()));
        format
            .formatter(TextOptions {
                color: false,
                time: TimeFormat::Utc,
                started_ns: 0,
                zone: TimeZone::UTC,
                folds: false,
                width: TextWidth::Fixed(TextOptions::COLUMNS),
                names: false,
            })
            .write(&record, &mut out)
            .expect("a vector takes everything");
        serde_json::from_slice::<serde_json::Value>(&out).expect("JSON")
    };
    for reset in resets() {
        let (flat, nested) = (line(Format::JsonFlat, &reset), line(Format::Json, &reset));
        let fields = flat.as_object().expect("an object");
        assert!(fields.values().all(|value| !value.is_object() && !value.is_array() && !value.is_null()), "{flat}");
        for (name, pointer) in [
            ("type", "/type"),
            ("time", "/time"),
            ("cause", "/cause/code"),
            ("fault", "/cause/fault"),
            ("peer", "/peer/address"),
            ("peer_port", "/peer/port"),
            ("process", "/process/comm"),
            ("state", "/socket/state"),
        ] {
            let expected = nested.pointer(pointer).filter(|value| !value.is_null());
            assert_eq!(fields.get(name), expected, "{name} of {flat}");
        }
    }
}

/// Kernels before 6.10 give no reasons.
#[test]
fn each_case_has_its_cause_without_reasons() {
    for case in cases::all() {
        assert_eq!(reset(case, BTreeMap::new()).cause.code, case.cause, "{}", case.name);
    }
}

/// A client that wants no more from a connection does no harm, unless something of its own is lost or it awaits an answer.
#[test]
fn aborts_of_clients_are_harmless_where_nothing_is_lost() {
    for (name, fault) in [
        ("a client that aborts an idle connection", Fault::None),
        ("a client that aborts a request", Fault::Local),
        ("a client that leaves a finished answer unread", Fault::None),
        // Its times are not known.
        ("the fourth of a client's aborts, at no rhythm", Fault::Local),
        ("SO_LINGER 0, by a child that closed last", Fault::Local),
        ("a server that reads a part and closes", Fault::Local),
    ] {
        let case = cases::all().find(|case| case.name == name).expect(name);
        let cause = reset(case, reasons()).cause;
        assert_eq!((cause.fault, cause.benign), (fault, fault == Fault::None), "{name}");
    }
}

#[test]
fn each_recognised_cause_has_a_case() {
    let covered: BTreeSet<&str> = cases::all().map(|case| case.cause).collect();
    let codes = catalogue::causes().map(|row| row.code);
    // Events of the kernel show more of an abort than that; the tests over captures have cases of it.
    let uncovered: Vec<&str> = codes.filter(|code| !covered.contains(code)).collect();
    assert_eq!(uncovered, ["aborted"]);
}

#[test]
fn text_is_as_stored() {
    for (columns, name) in [(80, "text-80.txt"), (120, "text.txt"), (200, "text-200.txt")] {
        let text = printed_with(Format::Text, &options(columns));
        compare(name, &text);
        for line in text.lines() {
            // The peer and the cause are never shortened: with an IPv6 address of full length they take 100 columns.
            let is_long = columns < 100 && line.contains(":1319:");
            assert!(is_long || line.chars().count() <= columns, "{} columns: {line}", line.chars().count());
        }
    }
}

/// On a narrow terminal the cause is there, and the whole of the peer.
#[test]
fn narrow_text_has_cause_and_peer() {
    for columns in [40, 60, 80, 100] {
        let mut text = Format::Text.formatter(options(columns));
        for (case, reset) in cases::all().zip(resets()) {
            let mut out = Vec::new();
            let (peer, code) = (reset.peer.to_string(), reset.cause.code);
            text.write(&Record::Reset(Arc::new(reset)), &mut out).expect("a vector takes everything");
            let line = String::from_utf8(out).expect("UTF-8");
            assert!(line.contains(&peer) && (line.contains(code) || code == "unknown"), "{}: {line}", case.name);
        }
    }
}

#[test]
fn colour_changes_no_text() {
    let colored = printed(Format::Text, true);
    assert!(colored.contains("\u{1b}["));
    assert_eq!(anstream::adapter::strip_str(&colored).to_string(), printed(Format::Text, false));
}

#[test]
fn long_is_as_stored() {
    compare("long.txt", &printed(Format::Long, false));
}

/// Pods, containers and peers by name, as without `--numeric`.
#[test]
fn names_are_as_stored() {
    let mut out = Vec::new();
    for format in [Format::Text, Format::Long] {
        let options = TextOptions {
            color: false,
            time: TimeFormat::Utc,
            started_ns: NOW_NS,
            zone: TimeZone::UTC,
            folds: false,
            width: TextWidth::Fixed(TextOptions::COLUMNS),
            names: true,
        };
        let mut sink = format.formatter(options.clone());
        for reset in resets().into_iter().filter(|reset| reset.pod.is_some()) {
            // A translation has priority over the names in the line, and its port a name that differs between machines.
            let reset = Reset { translated: None, ..reset };
            let without_pod = Reset { pod: None, unit: None, ..reset.clone() };
            for reset in [reset, without_pod] {
                if format == Format::Long {
                    sink = format.formatter(options.clone());
                }
                sink.write(&Record::Reset(Arc::new(reset)), &mut out).expect("a vector takes everything");
            }
        }
    }
    // The name of the port comes from a file that differs between machines.
    let shown = String::from_utf8(out).expect("UTF-8").replace(":443 (https)", ":443");
    compare("names.txt", &shown);
    assert!(shown.contains("java[1234] shop/cart-7d9f ") && shown.contains("  peer       shop/db-0"));
}

#[test]
fn json_follows_the_schema() {
    let json = printed(Format::Json, false);
    compare("json.txt", &json);
    let schema = serde_json::from_str(include_str!("../../../docs/output.schema.json")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    for line in json.lines() {
        let value = serde_json::from_str(line).expect("JSON");
        let errors: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {line}");
        for (name, time) in value["socket"].as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_ms"))
        {
            let decimals = time.to_string().split_once('.').map_or(0, |(_, decimals)| decimals.len());
            assert!(decimals <= 3, "{name} is finer than a microsecond: {line}");
        }
    }
}

#[test]
fn control_characters_are_escaped() {
    for format in [Format::Text, Format::Long, Format::Json] {
        let text = printed(format, false);
        assert!(text.contains("evil"));
        assert!(!text.chars().any(|character| character.is_control() && character != '\n'), "{format:?}");
    }
}

#[test]
fn kernel_addresses_are_not_shown() {
    for format in [Format::Text, Format::Long, Format::Json] {
        let text = printed(format, false);
        assert!(!text.contains("ffff8881") && !text.contains(&0xffff_8881_0000_1234_u64.to_string()));
    }
}
