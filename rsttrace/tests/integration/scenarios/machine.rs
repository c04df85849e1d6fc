//! Changes to the machine during a run: a CPU goes offline and returns, and the clock is set.
//!
//! Both affect every process on the machine, so these scenarios run alone, and only in a virtual machine.

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

/// Number of connections: a prime number, so that no batch divides it.
const MANY: u64 = 23;

/// CPU that stays online.
const FIRST: usize = 0;
/// CPU that goes offline.
const SECOND: usize = 1;

/// Amount by which the clock is set.
const HOUR: Duration = Duration::from_hours(1);

/// Keeps the second CPU offline until it is dropped.
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
        // Whether the CPU is online again is checked where it matters.
        drop(fs::write(Self::SWITCH, "1"));
    }
}

fn online() -> String {
    fs::read_to_string("/sys/devices/system/cpu/online").unwrap().trim().to_owned()
}

/// Resets this many connections of this process on one CPU, which reports the events of both ends.
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

/// Resets before a CPU goes offline, while it is offline, and after it has returned are all reported. With perf ring
/// buffers, those of the CPU that was offline are counted as lost instead, since Linux removes its buffer.
pub(crate) fn cpu_goes_offline(stage: &Stage) {
    let listener = TcpListener::bind(V4).unwrap();
    let mut tracer = stage.trace();
    let mut reported = 0;
    let mut reset_on = |tracer: &mut Tracer, cpu: usize| {
        reset_many_on(cpu, &listener);
        reported += 2 * MANY;
        tracer.expect(reported);
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
            stage.finish(tracer, reported / 2, reported / 2)
        }
        Transport::Perf => {
            reset_many_on(SECOND, &listener);
            let run = tracer.finish();
            assert_eq!(run.total() + run.lost, reported + 2 * MANY, "{} lost", run.lost);
            assert!(run.lost == 0 || run.stderr.contains(" lost: "), "{}", run.stderr);
            run
        }
    };
    for reset in &run.resets {
        reset.is("/process/pid", std::process::id());
    }
}

/// Keeps the clock of the machine an hour ahead until it is dropped.
struct Ahead;

impl Ahead {
    fn of_time() -> Self {
        set_clock(|now| now + HOUR).expect("root may set the clock");
        Self
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The next round checks whether the clock is right again.
        set_clock(|now| now.saturating_sub(HOUR)).unwrap_or_default();
    }
}

fn set_clock(change: impl FnOnce(Duration) -> Duration) -> nix::Result<()> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
    clock_settime(ClockId::CLOCK_REALTIME, change(now).into())
}

/// The clock is set an hour ahead and back: each record has the time of the clock at its event, the order stays, and no
/// figure is wrong by an hour.
pub(crate) fn clock_is_set(stage: &Stage) {
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
        // All records are written before the clock is set again, so the expected time of each is unambiguous.
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
    let reported: Vec<_> = run.sent().map(|sent| sent.end("local")).collect();
    assert_eq!(reported, ends);
    let duration_s = run.summaries.last().expect("a summary")["duration_s"].as_f64().unwrap();
    assert!(duration_s * 1000.0 < HALF_AN_HOUR_MS, "{duration_s}");
}
