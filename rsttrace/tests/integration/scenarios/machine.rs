//! What happens to the machine under rsttrace: a CPU goes and comes back, somebody sets the clock.
//!
//! Both reach everybody on the machine: these are played alone, and only in a virtual machine of the tests' own.

use std::{fs, net::TcpListener, thread, time::Duration};

use jiff::{SignedDuration, Timestamp};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime, clock_settime},
    unistd::Pid,
};

use crate::{
    stage::{Pair, Stage, Transport, V4, reset_one},
    tracer::Tracer,
};

/// A prime number, so that no batch divides it.
const MANY: u64 = 23;

/// The CPU that stays.
const FIRST: usize = 0;
/// The CPU that goes.
const SECOND: usize = 1;

/// How far the clock is set.
const HOUR: Duration = Duration::from_hours(1);

/// The second CPU is away for as long as this lives.
struct Offline;

impl Offline {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

    fn take() -> Self {
        fs::write(Self::SWITCH, "0").expect("a guest has a second CPU that can be taken away");
        Self
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        // Whether it has come back is asked for where it matters.
        drop(fs::write(Self::SWITCH, "1"));
    }
}

fn online() -> String {
    fs::read_to_string("/sys/devices/system/cpu/online").unwrap().trim().to_owned()
}

/// Resets so many connections of this process's own on one CPU: the events of both ends are that CPU's.
fn reset_many_on(cpu: usize, listener: &TcpListener) {
    let work = || {
        let mut cpus = CpuSet::new();
        cpus.set(cpu).unwrap();
        sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
        for _ in 0..MANY {
            reset_one(listener);
        }
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap());
}

/// Resets before a CPU goes, while it is away, and after it has come back are all told. With perf ring buffers, those of
/// the CPU that has been away are counted as lost instead: Linux takes its buffer away with it.
pub(crate) fn cpu_offline(stage: &Stage) {
    let listener = TcpListener::bind(V4).unwrap();
    let mut tracer = stage.trace();
    let mut told = 0;
    let mut reset_on = |tracer: &mut Tracer, cpu: usize| {
        reset_many_on(cpu, &listener);
        told += 2 * MANY;
        tracer.expect(told);
    };
    reset_on(&mut tracer, FIRST);
    reset_on(&mut tracer, SECOND);
    {
        let _offline = Offline::take();
        assert_eq!(online(), "0");
        reset_on(&mut tracer, FIRST);
    }
    assert_eq!(online(), "0-1");
    reset_on(&mut tracer, FIRST);
    let run = match stage.transport() {
        Transport::Ring => {
            reset_on(&mut tracer, SECOND);
            stage.finish(tracer, told / 2, told / 2)
        }
        Transport::Perf => {
            reset_many_on(SECOND, &listener);
            let run = tracer.finish();
            assert_eq!(run.total() + run.lost, told + 2 * MANY, "{} lost", run.lost);
            assert!(run.lost == 0 || run.stderr.contains("resets were lost"), "{}", run.stderr);
            run
        }
    };
    for reset in &run.resets {
        reset.is("/process/pid", std::process::id());
    }
}

/// The machine's clock is an hour ahead for as long as this lives.
struct Ahead;

impl Ahead {
    fn of_time() -> Self {
        set_clock(|now| now + HOUR).expect("root may set the clock");
        Self
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The next round sees whether it is back.
        set_clock(|now| now.saturating_sub(HOUR)).unwrap_or_default();
    }
}

fn set_clock(change: impl FnOnce(Duration) -> Duration) -> nix::Result<()> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
    clock_settime(ClockId::CLOCK_REALTIME, change(now).into())
}

/// Somebody sets the clock an hour ahead and back again: each record has the time by the clock of its moment, the order
/// stays, and no figure has an hour in it.
pub(crate) fn clock_set(stage: &Stage) {
    const HALF_AN_HOUR_MS: f64 = 1_800_000.0;
    let mut tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let (mut spans, mut ends) = (Vec::new(), Vec::new());
    let mut end = pair.client_end;
    let mut reset_many = |tracer: &mut Tracer| {
        let before = Timestamp::now();
        for _ in 0..MANY {
            ends.push(end);
            pair.client_aborts();
            end = pair.connect("c", "s");
        }
        // All are out before the clock is set again: which clock is that of their moment is beyond doubt.
        tracer.expect(2 * MANY * (spans.len() as u64 + 1));
        spans.push(before..=Timestamp::now());
    };
    reset_many(&mut tracer);
    {
        let _ahead = Ahead::of_time();
        reset_many(&mut tracer);
    }
    reset_many(&mut tracer);

    let almost = SignedDuration::from_mins(59);
    assert!(spans[1].start().duration_since(*spans[0].end()) > almost, "the clock was not set: {spans:?}");
    assert!(spans[1].end().duration_since(*spans[2].start()) > almost, "the clock was not set back: {spans:?}");
    let run = stage.finish(tracer, 3 * MANY, 3 * MANY);
    // In the order of `seq`, which every run is checked for.
    let round = usize::try_from(2 * MANY).unwrap();
    for (resets, span) in run.resets.chunks(round).zip(&spans) {
        for reset in resets {
            let time: Timestamp = reset["time"].as_str().unwrap().parse().unwrap();
            assert!(span.contains(&time), "{time} is not in {span:?}");
            let age_ms = reset["socket"]["age_ms"].as_f64();
            assert!(age_ms.is_none_or(|age| (0.0..HALF_AN_HOUR_MS).contains(&age)), "{:#}", reset.0);
            reset.owner(if reset.is_sent() { &pair.client } else { &pair.server });
        }
    }
    let told: Vec<_> = run.sent().map(|sent| sent.end("local")).collect();
    assert_eq!(told, ends);
    let duration_s = run.summaries.last().expect("a summary")["duration_s"].as_f64().unwrap();
    assert!(duration_s * 1000.0 < HALF_AN_HOUR_MS, "{duration_s}");
}
