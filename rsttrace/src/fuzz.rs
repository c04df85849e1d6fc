//! Processing of external input as functions of any bytes: for the fuzz targets in `fuzz/` (`cargo fuzz run TARGET`), and
//! for a test that runs their corpora and mutations of them.
//!
//! Each also checks properties of the result.

use std::{cell::RefCell, io::Cursor, sync::Arc, time::Duration};

use bytes::Buf as _;
use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use jiff::{Timestamp, tz::TimeZone};
use rsttrace_common::event::ResetEvent;
use zerocopy::IntoBytes as _;

use crate::{
    attribute,
    capture::{Capture, Captured},
    cli::Cli,
    conntrack,
    decode::{
        BitFields, Decoder, Reasons,
        clock::{Ticks, WallClock},
        sample,
    },
    diagnose::{DataFileError, Diagnosis, program_hints::ProgramHints, timeouts::Timeouts},
    export::PcapngWriter,
    filter::RecordFilter,
    format::{Format, Formatter as _, TextOptions, TextWidth, TimeFormat, json::JsonFormatter},
    load::btf::{KernelTypes, TypeKind},
    model::{Record, Reset},
    pipeline::testing::{self, Collected, FromEvents, NoKernel},
    replay::{Line, check_file, parse_line},
    summary::coverage,
    util::service_names,
};

/// Function that processes any bytes, and panics on a fault.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 10] = [
    ("sample", sample),
    ("capture", capture),
    ("btf", btf),
    ("timeouts", timeouts),
    ("hints", hints),
    ("replay", replay),
    ("file", file),
    ("arguments", arguments),
    ("process", process),
    ("conntrack", conntrack),
];

const CLOCK: WallClock = WallClock { monotonic_ns: 1 << 50, wall: Timestamp::UNIX_EPOCH };

fn ticks() -> Option<Ticks> {
    Ticks::of_resolution(Duration::from_millis(4))
}

/// Samples of the buffer, through the chain of stages and every format. A sample in two parts is parsed like one in one
/// part, wherever it is cut.
pub fn sample(data: &[u8]) {
    let decoder = Decoder::new("host".into(), Reasons::default(), BitFields::LOWEST, ticks());
    let mut processor = testing::processor(decoder, Diagnosis::default(), FromEvents { complete: |_: &mut Reset| () });
    let mut out = Collected::default();
    for one in data.chunks(size_of::<ResetEvent>().max(1)) {
        let whole = sample::parse(one);
        for split in 0..=one.len() {
            let (head, tail) = one.split_at(split);
            assert_eq!(sample::parse(head.chain(tail)), whole, "split at {split}");
        }
        let Ok(event) = whole else { continue };
        assert_eq!(event.as_bytes(), &one[..size_of::<ResetEvent>()]);
        processor.feed(&mut vec![event], u64::MAX, &CLOCK, &mut NoKernel, &mut out);
        out.0.drain(..).for_each(|record| print(&record));
    }
    processor.finish_all(&NoKernel, &mut out);
    out.0.drain(..).for_each(|record| print(&record));
}

/// Formats a record, and checks that it is whole lines without control characters, and in JSON one object.
fn print(record: &Record) {
    let options = TextOptions {
        color: false,
        time: TimeFormat::Elapsed,
        started_ns: 0,
        zone: TimeZone::UTC,
        folds: false,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        names: false,
    };
    for format in [Format::Text, Format::Long, Format::Json] {
        let mut out = Vec::new();
        assert!(format.formatter(options.clone()).write(record, &mut out).is_ok(), "a vector takes everything");
        let text = String::from_utf8_lossy(&out);
        assert!(text.ends_with('\n') && !text.chars().any(|character| character.is_control() && character != '\n'));
        if format == Format::Json {
            assert!(
                serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() && text.lines().count() == 1,
                "{text}"
            );
        }
    }
}

/// The kernel's type information (BTF).
pub fn btf(data: &[u8]) {
    let Ok(types) = KernelTypes::parse(data) else { return };
    if let Ok(offsets) = types.offsets() {
        assert!(!offsets.is_empty());
    }
    // Names that exist, and names that do not.
    for name in ["tcp_send_reset", "tcp_receive_reset", "inet_csk_accept", "ring", ""] {
        let _ignored =
            (types.find(TypeKind::Typedef, &format!("btf_trace_{name}")), types.find(TypeKind::Function, name));
    }
    drop((types.reset_reasons(), types.drop_reasons()));
}

/// An error is one line that begins with its line and column.
fn has_position(error: &DataFileError) {
    let error = error.to_string();
    let mut parts = error.splitn(3, ':');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<usize>().is_ok());
    assert!(is_number(parts.next()) && is_number(parts.next()), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

/// A line of a recording. What is understood is written as a line that is understood as well, and says what the first said.
pub fn replay(data: &[u8]) {
    let Ok(Line::Record(record)) = parse_line(data) else { return };
    let options = TextOptions {
        color: false,
        time: TimeFormat::Utc,
        started_ns: 0,
        zone: TimeZone::UTC,
        folds: true,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        names: false,
    };
    let written = |format: Format, record: &Record| {
        let mut line = Vec::new();
        let written = format.formatter(options.clone()).write(record, &mut line);
        assert!(written.is_ok(), "{format:?}: {written:?}");
        String::from_utf8_lossy(&line).into_owned()
    };
    for format in [Format::Text, Format::Long, Format::JsonFlat] {
        drop(written(format, &record));
    }
    let first = written(Format::Json, &record);
    let again = parse_line(first.as_bytes());
    assert!(matches!(&again, Ok(Line::Record(_))), "{again:?}: {first}");
    if let Ok(Line::Record(again)) = again {
        assert_eq!(written(Format::Json, &again), first);
    }
    let _ignored = testing::recorded(&[record], Diagnosis::default());
}

/// A file that is replayed, plain or compressed: its lines are bounded, and it comes to an end.
pub fn file(data: &[u8]) {
    check_file(data);
}

/// A packet capture: its records have every form, and what is exported of them can be read again.
pub fn capture(data: &[u8]) {
    let Ok(mut capture) = Capture::new(Cursor::new(data.to_vec()), Vec::new(), 1, false) else { return };
    let (mut resets, mut ignored) = (Vec::new(), Vec::new());
    while let Some(captured) = capture.next_record() {
        match captured {
            Captured::Reset(reset) => resets.push(*reset),
            Captured::Ignored(record) => ignored.push(Record::Ignored(Arc::from(record))),
        }
    }
    let (_, carried) = capture.end();
    let said = || carried.remarks().into_iter().chain(carried.notes());
    assert!(said().all(|one| !one.contains('\n')) && said().next().is_some());
    let mut exported = Vec::new();
    let mut writer = PcapngWriter::new(&mut exported);
    for record in testing::captured(resets, &Diagnosis::default()).iter().chain(&ignored) {
        assert!(writer.write(record).is_ok());
        let mut line = Vec::new();
        assert!(JsonFormatter::with_facts().write(record, &mut line).is_ok());
        let again = parse_line(line.trim_ascii_end());
        assert!(matches!(again, Ok(Line::Record(_))), "{again:?}: {}", String::from_utf8_lossy(&line));
    }
    assert!(writer.begin().is_ok());
    let again = Capture::new(Cursor::new(exported), Vec::new(), 1, false);
    assert!(again.is_ok_and(|mut again| {
        while again.next_record().is_some() {}
        again.end().0.is_none()
    }));
}

/// The file of `--hints`. Errors have a line and a column.
pub fn hints(data: &[u8]) {
    if let Err(error) = ProgramHints::parse(&String::from_utf8_lossy(data)) {
        has_position(&error);
    }
}

/// The file of `--timeouts`. Accepted entries have a name and a time, errors have a line and a column.
pub fn timeouts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Timeouts::parse(&text) {
        Ok(timeouts) => {
            for row in timeouts.rows() {
                assert!(!row.owner.trim().is_empty() && row.seconds.is_finite() && row.seconds > 0.0);
            }
            drop(timeouts.describe(60_000.0, None));
        }
        Err(error) => has_position(&error),
    }
}

thread_local! {
    /// Built once, because building it for each input took four fifths of the time.
    static COMMAND: RefCell<clap::Command> = RefCell::new(Cli::command());
}

/// Arguments, one per line. Arguments that are accepted can be applied.
pub fn arguments(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let arguments = std::iter::once("rsttrace").chain(text.lines().filter(|line| !line.contains('\0')));
    let parsed = COMMAND.with_borrow_mut(|command| {
        let mut matches = command.try_get_matches_from_mut(arguments)?;
        Cli::from_arg_matches_mut(&mut matches)
    });
    match parsed {
        Ok(cli) => {
            for range in [&cli.trace.filters.port, &cli.trace.filters.peer_port, &cli.trace.filters.local_port] {
                assert!(range.iter().all(|range| range.first <= range.last && range.contains(range.first)));
            }
            if let Ok(filter) = RecordFilter::new(cli.trace.filters) {
                let mut decoder = Decoder::new("host".into(), Reasons::default(), BitFields::default(), ticks());
                let _ignored = filter.matches(&decoder.reset(&ResetEvent::default(), &CLOCK));
            }
        }
        // The help is long and does not depend on the input.
        Err(error) => assert!(matches!(error.kind(), ErrorKind::DisplayHelp) || !error.to_string().is_empty()),
    }
}

/// Files of `/proc` and of the cgroup file system, and the paths in them.
pub fn process(data: &[u8]) {
    attribute::fuzz(data);
    let text = String::from_utf8_lossy(data);
    drop((service_names::parse_services(&text), coverage::parse(&text)));
}

/// The kernel's answers to look-ups of tracked connections, and the packets of the process that asks for them.
pub fn conntrack(data: &[u8]) {
    conntrack::fuzz(data);
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use rsttrace_common::event::{KIND_FORWARDED, KIND_SENT};

    use super::*;

    /// Number of mutations of each target's corpus; `RSTTRACE_FUZZ` overrides it.
    const RUNS: u64 = 300;

    /// Pseudorandom numbers, identical in every run, so that a finding can be reproduced.
    struct Dice(u64);

    impl Dice {
        fn next(&mut self) -> u64 {
            // xorshift64*.
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
        }

        fn below(&mut self, limit: usize) -> usize {
            usize::try_from(self.next() % limit.max(1) as u64).expect("below a usize")
        }
    }

    /// Text that parsers often handle wrongly.
    const WORDS: [&[u8]; 24] = [
        b"",
        b"\0",
        b"\xff",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\n",
        b"\r\n",
        b" ",
        b":",
        b"/",
        b")",
        b"-1",
        b"18446744073709551616",
        b"4294967295",
        b"nan",
        b"inf",
        b"1e999",
        b"[[timeout]]\n",
        b"--port\n",
        b"0-65535",
        b"\xf0\x9f\x98",
        b"\xe2\x80\xae",
        b"0::/",
        b" - cgroup2 ",
    ];

    fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
        let mut data = seeds[dice.below(seeds.len())].clone();
        for _ in 0..=dice.below(5) {
            let at = dice.below(data.len() + 1);
            let end = at + dice.below((data.len() - at).min(64) + 1);
            match dice.below(7) {
                0 if at < data.len() => data[at] ^= 1 << dice.below(8),
                1 if at < data.len() => data[at] = u8::try_from(dice.below(256)).expect("a byte"),
                2 => drop(data.drain(at..end)),
                3 => {
                    let again = data[at..end].to_vec();
                    data.splice(at..at, again);
                }
                4 => drop(data.splice(at..end, WORDS[dice.below(WORDS.len())].iter().copied())),
                5 => {
                    let other = &seeds[dice.below(seeds.len())];
                    let from = dice.below(other.len() + 1);
                    data.truncate(at);
                    data.extend_from_slice(&other[from..]);
                }
                _ => data.truncate(at),
            }
        }
        data
    }

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut files: Vec<_> =
            fs::read_dir(corpus).expect("a corpus").map(|file| file.expect("a file").path()).collect();
        files.sort();
        let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
        if target == "sample" {
            // The stored samples have the layout of their time; these have the current one.
            seeds.extend((KIND_SENT..=KIND_FORWARDED).flat_map(|kind| {
                [0, u32::MAX]
                    .map(|flags| ResetEvent { kind, flags, state: 1, ..ResetEvent::default() }.as_bytes().to_vec())
            }));
        }
        assert!(!seeds.is_empty());
        seeds
    }

    #[test]
    fn corpora_and_mutations_of_them_break_nothing() {
        let runs = env::var("RSTTRACE_FUZZ").ok().map_or(RUNS, |runs| runs.parse().expect("a number of runs"));
        let only = env::var("RSTTRACE_FUZZ_TARGET").ok();
        for (name, target) in TARGETS.into_iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
            let seeds = seeds(name);
            for seed in &seeds {
                target(seed);
            }
            let seed =
                env::var("RSTTRACE_FUZZ_SEED").ok().map_or(0x9E37_79B9_7F4A_7C15, |seed| seed.parse().expect("a seed"));
            let mut dice = Dice(seed);
            for run in 0..runs {
                let data = mutated(&seeds, &mut dice);
                let found = std::panic::catch_unwind(|| target(&data));
                assert!(found.is_ok(), "{name}, run {run}: {}", data.escape_ascii());
            }
        }
    }
}
