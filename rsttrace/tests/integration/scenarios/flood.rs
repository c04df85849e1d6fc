//! Floods of resets to closed ports: identical ones come out as a count, and none crowds out the reset of a connection.
//!
//! They are played alone: a program that the kernel does not run, since it is in the middle of itself, is a loss for every
//! rsttrace on the machine, whichever namespace it was about.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::{
        signal::Signal,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, SysconfVar, sysconf},
};

use serde_json::Value;

use super::receivers::wait_until;
use crate::{
    cpu,
    forge::Forger,
    host::{self, Lack},
    mounts, netns,
    reset::Reset,
    stage::{Stage, V4, reset_one},
    tracer::{Run, Tracer},
};

/// Requests for connections that nobody listens for.
const FLOOD: u64 = 20_011;

/// One host asks for one port: its resets are told in a few records, while it goes on.
pub(crate) fn of_one_peer(stage: &Stage) {
    let mut tracer = stage.trace();
    flood(|_| 0);
    // All of it comes without an end of the run.
    tracer.expect(FLOOD);
    let run = stage.finish(tracer, FLOOD, 0);
    assert!(run.resets.iter().any(|reset| reset.count() > 1), "{} records", run.resets.len());
    for reset in &run.resets {
        reset.is("/peer/address", "127.1.0.0").is("/local/port", door().port()).is("/socket", Value::Null);
        reset.cause("port-closed");
    }
}

/// Everybody asks: what is told and what is lost add up.
pub(crate) fn of_many_peers(stage: &Stage) {
    let tracer = stage.trace();
    flood(|number| number);
    adds_up(&tracer.finish(), FLOOD);
}

/// Nobody reads meanwhile: what is told and what is lost add up, and all is told, since it is counted.
pub(crate) fn while_nobody_reads(stage: &Stage) {
    let tracer = stage.trace();
    stand_still(&tracer);
    flood(|_| 0);
    tracer.signal(Signal::SIGCONT);
    let run = tracer.finish();
    adds_up(&run, FLOOD);
    assert_eq!(run.lost, 0, "they are all alike");
}

/// A thousand connections are reset in the middle of a flood of which no two are alike: each of these comes out.
pub(crate) fn connections_come_through(stage: &Stage) {
    const CONNECTIONS: u64 = 1_009;
    const BETWEEN: u64 = 20;
    let tracer = stage.trace();
    let listener = TcpListener::bind(V4).unwrap();
    let forger = Forger::start();
    for connection in 0..CONNECTIONS {
        for number in 0..BETWEEN {
            let number = connection * BETWEEN + number;
            forger.syn(peer(number, number), door());
        }
        reset_one(&listener);
        // Neither is anything of it left in a queue of the kernel, nor has it thrown anything away.
        wait_until("the resets", || netns::resets_sent() == (connection + 1) * (BETWEEN + 1));
    }
    let run = tracer.finish();
    adds_up(&run, CONNECTIONS * (BETWEEN + 2));
    let of_connections = |is_sent| {
        run.resets.iter().filter(|reset| reset.is_sent() == is_sent && !reset["socket"].is_null()).count() as u64
    };
    assert_eq!((of_connections(true), of_connections(false)), (CONNECTIONS, CONNECTIONS), "{} lost", run.lost);
}

/// Whether what comes in by the loopback device can be led to one CPU.
pub(crate) fn no_steering() -> Option<Lack> {
    let is_possible = fs::exists("/sys/class/net/lo/queues/rx-0/rps_cpus").unwrap_or_default();
    let why = "a second CPU, and receive packet steering (CONFIG_RPS), are needed";
    let is_alone = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().is_none_or(|cpus| cpus < 2);
    let emulated = || host::is_guest().then(|| Lack::Guest("it is about the interrupts of real processors".to_owned()));
    (is_alone || !is_possible)
        .then(|| Lack::Kernel(why.to_owned()))
        .or_else(emulated)
        .or_else(host::lacks_resets_without_socket)
}

/// One CPU resets connections, another asks closed ports, and the first is interrupted to answer: the kernel does not run a
/// program that is in the middle of itself, and another one takes its place.
pub(crate) fn in_the_middle_of_others(stage: &Stage) {
    const CONNECTIONS: u64 = 20_011;
    mounts::leave().unwrap();
    mounts::mount("sysfs", "/sys", "").unwrap();
    let (one, other) = (cpu::shared_by(0).unwrap(), cpu::shared_by(1).unwrap());
    let mask = (0..CpuSet::count()).filter(|&cpu| one.is_set(cpu).unwrap()).map(|cpu| 1_u64 << cpu).sum::<u64>();
    fs::write("/sys/class/net/lo/queues/rx-0/rps_cpus", format!("{mask:x}")).unwrap();

    // It is not about being read in time.
    let tracer = stage.trace_with(&["--buffer-size", "67108864"]);
    let (asked, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            sched_setaffinity(Pid::from_raw(0), &other).unwrap();
            let forger = Forger::start();
            while !is_over.load(Ordering::Relaxed) {
                forger.syn(peer(0, asked.fetch_add(1, Ordering::Relaxed)), door());
                // The kernel keeps a thousand packets for a device at most.
                wait_until("the resets", || asked.load(Ordering::Relaxed) < netns::resets_sent() + 500);
            }
        });
        let listener = TcpListener::bind(V4).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        (0..CONNECTIONS).for_each(|_| reset_one(&listener));
        is_over.store(true, Ordering::Relaxed);
    });
    let all = CONNECTIONS + asked.into_inner();
    wait_until("the resets", || netns::resets_sent() == all);
    let run = tracer.finish();
    // Received, sent by connections, sent without one.
    let kinds = [(false, false), (true, false), (true, true)].map(|(is_sent, is_bare)| {
        let of_kind = |reset: &&Reset| reset.is_sent() == is_sent && reset["socket"].is_null() == is_bare;
        run.resets.iter().filter(of_kind).map(Reset::count).sum::<u64>()
    });
    let [received, sent, bare] = kinds;
    assert_eq!(
        (received, sent),
        (CONNECTIONS, CONNECTIONS),
        "{bare} of {} without socket, {} lost, {:?}",
        all - CONNECTIONS,
        run.lost,
        run.summaries.last()
    );
    // Some are missing that even the kernel has not counted, see docs/limitations.md.
    let asked = all - CONNECTIONS;
    assert!(bare + run.lost <= asked && (asked - bare) * 32 <= asked, "{bare} of {asked}, {} lost", run.lost);
}

/// Asks for connections, each in the name of a host of this number, and waits until all have been refused.
fn flood(host: fn(u64) -> u64) {
    /// The kernel keeps a thousand packets for a device at most.
    const TOGETHER: u64 = 500;
    let forger = Forger::start();
    for number in 0..FLOOD {
        forger.syn(peer(host(number), number), door());
        if number % TOGETHER == 0 || number + 1 == FLOOD {
            wait_until("the resets", || netns::resets_sent() == number + 1);
        }
    }
}

#[track_caller]
fn adds_up(run: &Run, made: u64) {
    assert_eq!(run.total() + run.lost, made, "{} told, {} lost", run.total(), run.lost);
}

fn stand_still(tracer: &Tracer) {
    tracer.signal(Signal::SIGSTOP);
    waitpid(Pid::from_raw(tracer.pid().cast_signed()), Some(WaitPidFlag::WUNTRACED)).unwrap();
}

/// Nobody listens here in a namespace of one's own.
fn door() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9)
}

/// One of 65,536 hosts, and a port of it.
fn peer(host: u64, port: u64) -> SocketAddrV4 {
    let [.., high, low] = host.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(127, 1, high, low), u16::try_from(1024 + port % 60_000).unwrap())
}
