//! Time of each stage of the user side for one event, over the events of the golden cases: `cargo bench -p rsttrace`.
//!
//! Each figure is the time for all cases together; its throughput is in events per second.

#![expect(clippy::expect_used, reason = "what fails here fails the measurement")]

#[path = "../tests/golden/cases/mod.rs"]
#[expect(dead_code, reason = "the cases are the golden test's, which asks more of them")]
mod cases;

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::{Timestamp, tz::TimeZone};
use rsttrace::{
    attribute::{Attribution, owner},
    decode::{BitFields, Decoder, Reasons, clock::WallClock, sample},
    diagnose::{Diagnosis, program_hints::ProgramHints, timeouts::Timeouts},
    filter::RecordFilter,
    format::{Format, TextOptions, TextWidth, TimeFormat},
    model::{Record, Reset},
    pipeline::testing::{self, Collected, NoKernel},
};
use rsttrace_common::{
    abi::tcp,
    event::{PROVENANCE_LISTEN, ResetEvent},
};
use zerocopy::IntoBytes as _;

const CLOCK: WallClock = WallClock { monotonic_ns: cases::NOW_NS, wall: Timestamp::UNIX_EPOCH };

fn events() -> Vec<ResetEvent> {
    cases::all().map(cases::Case::event).collect()
}

fn decoder() -> Decoder {
    let reasons = (1..16).map(|number| (number, format!("REASON_{number}").into())).collect::<BTreeMap<_, _>>();
    Decoder::new(
        "gw-1".into(),
        Reasons { reset: reasons, ..Reasons::default() },
        BitFields::LOWEST,
        cases::events::tick_rate(),
    )
}

fn diagnosis() -> Diagnosis {
    Diagnosis::new(Timeouts::read(None).expect("the known timeouts"), ProgramHints::embedded())
}

/// Records of the golden cases, from the complete chain.
fn resets() -> Vec<Reset> {
    let (mut processor, mut out) =
        (testing::processor(decoder(), diagnosis(), Attribution::detect()), Collected::default());
    for event in events() {
        processor.process_event(&event, 1, &CLOCK, &NoKernel, &mut out);
    }
    processor.finish_all(&NoKernel, &mut out);
    out.resets()
}

fn text_options() -> TextOptions {
    TextOptions {
        color: false,
        time: TimeFormat::Local,
        started_ns: 0,
        zone: TimeZone::UTC,
        folds: false,
        width: TextWidth::Fixed(TextOptions::COLUMNS),
        names: false,
    }
}

fn stages(criterion: &mut Criterion) {
    let events = events();
    let samples: Vec<&[u8]> = events.iter().map(ResetEvent::as_bytes).collect();
    let mut group = criterion.benchmark_group("stages");
    group.throughput(Throughput::Elements(events.len() as u64));

    group.bench_function("decode/sample", |bencher| {
        bencher.iter(|| samples.iter().filter(|&&bytes| black_box(sample::parse(bytes)).is_ok()).count());
    });
    let mut decoder = decoder();
    group.bench_function("decode/record", |bencher| {
        bencher.iter(|| events.iter().map(|event| decoder.reset(event, &CLOCK)).map(black_box).count());
    });

    let decoded: Vec<Reset> = events.iter().map(|event| decoder.reset(event, &CLOCK)).collect();
    let mut each = |name: &str, stage: &mut dyn FnMut(&mut Reset)| {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || decoded.clone(),
                |resets| resets.iter_mut().for_each(&mut *stage),
                BatchSize::SmallInput,
            );
        });
    };
    each("attribute/owner", &mut |reset| drop(black_box(owner::decide(reset))));
    // With processes and cgroups that are already in the caches, as for all but the first reset of each.
    let mut attribution = Attribution::detect();
    each("attribute/all", &mut |reset| attribution.attribute(reset, |_| None));
    let mut diagnosis = diagnosis();
    each("diagnose", &mut |reset| diagnosis.diagnose(reset));
    let filter = RecordFilter::default();
    each("select", &mut |reset| {
        black_box(filter.matches(reset));
    });
    group.finish();
}

fn sinks(criterion: &mut Criterion) {
    let records: Vec<Record> = resets().into_iter().map(|reset| Record::Reset(Arc::new(reset))).collect();
    let mut group = criterion.benchmark_group("sink");
    group.throughput(Throughput::Elements(records.len() as u64));
    for (name, format) in [("text", Format::Text), ("long", Format::Long), ("json", Format::Json)] {
        let mut sink = format.formatter(text_options());
        let mut out = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                for record in &records {
                    sink.write(record, &mut out).expect("a vector takes everything");
                }
                out.len()
            });
        });
    }
    group.finish();
}

/// Connections of the load, so many that caches of the host are of little use.
const CONNECTIONS: u16 = 20_000;
/// Resets that are read together.
const BATCH: u16 = 128;
/// Time between two connections that are reset, nanoseconds.
const INTERVAL_NS: u64 = 10_000;

/// The two ends of a connection that its server, `nginx`, aborted, the receiver's first, as the kernel reports them.
fn both_ends(number: u16, ktime_ns: u64) -> [ResetEvent; 2] {
    let (mut received, mut sent) = (cases::events::common(), cases::events::common());
    let seq = u32::from(number) * 1000 + 1;
    cases::events::client(&mut received, tcp::ESTABLISHED);
    cases::events::exchanged(&mut received, 400, 0, 10);
    (received.netns, received.rcv_nxt, received.local_port, received.peer_port) = (1, seq, 10_000 + number, 8080);
    cases::events::server(&mut sent, tcp::ESTABLISHED);
    cases::events::sent(&mut sent, 11, tcp::ESTABLISHED);
    cases::events::established(&mut sent, 90_000.0);
    cases::events::owner(&mut sent, "nginx", 812, PROVENANCE_LISTEN);
    cases::events::held_by(&mut sent, "nginx", 812);
    (sent.netns, sent.snd_nxt, sent.unread_bytes) = (1, seq, 500);
    (sent.local_address, sent.peer_address) = (received.peer_address, received.local_address);
    (sent.local_port, sent.peer_port) = (8080, received.local_port);
    (received.ktime_ns, sent.ktime_ns) = (ktime_ns, ktime_ns + 3_000);
    [received, sent]
}

/// The whole chain from events to JSON, with `ends` of each connection on this host.
fn chain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chain");
    for (name, ends) in [("receiver only", 1), ("both ends", 2)] {
        let attribution = testing::FromEvents { complete: |_: &mut Reset| () };
        let (mut processor, mut out) = (testing::processor(decoder(), diagnosis(), attribution), Collected::default());
        let mut format = Format::Json.formatter(text_options());
        let (mut number, mut now_ns, mut lines) = (0, cases::NOW_NS, Vec::new());
        group.throughput(Throughput::Elements(u64::from(BATCH) * ends as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for _ in 0..BATCH {
                    number = (number + 1) % CONNECTIONS;
                    now_ns += INTERVAL_NS;
                    let clock = WallClock { monotonic_ns: now_ns + INTERVAL_NS, wall: Timestamp::UNIX_EPOCH };
                    for event in &both_ends(number, now_ns)[..ends] {
                        processor.process_event(event, 1, &clock, &NoKernel, &mut out);
                    }
                }
                processor.release_held(now_ns, &mut out);
                lines.clear();
                for record in out.0.drain(..) {
                    format.write(&record, &mut lines).expect("a vector takes everything");
                    processor.recycle(record);
                }
                lines.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stages, sinks, chain);
criterion_main!(benches);
