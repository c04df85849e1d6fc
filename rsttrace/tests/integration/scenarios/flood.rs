//! Floods of resets to closed ports: identical ones are reported as a count, and none displaces the reset of a
//! connection.
//!
//! These scenarios run alone: an invocation that the kernel skips because the program already runs on the CPU is a loss
//! for every rsttrace on the machine, in whichever network namespace it was.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::signal::Signal,
    unistd::{Pid, SysconfVar, sysconf},
};

use serde_json::Value;

use super::{faults::stop, receivers::wait_until};
use crate::{
    cpu,
    forge::Forger,
    host::{self, Lack},
    mounts, netns,
    reset::Reset,
    stage::{Stage, V4, reset_one},
    tracer::Run,
};

/// Connection attempts to a closed port.
const FLOOD: u64 = 20_011;

/// One host tries one port: its resets are reported in a few records, during the flood.
pub(crate) fn resets_of_one_peer_are_counted(stage: &Stage) {
    let mut tracer = stage.trace();
    flood(|_| 0);
    // All of them are reported before the end of the run.
    tracer.expect(FLOOD);
    let run = stage.finish(tracer, FLOOD, 0);
    assert!(run.resets.iter().any(|reset| reset.count() > 1), "{} records", run.resets.len());
    for reset in &run.resets {
        reset.is("/peer/address", "127.1.0.0").is("/local/port", closed_port().port()).is("/socket", Value::Null);
        reset.cause("port-closed");
    }
}

/// Many hosts try one port: reported and lost resets add up.
pub(crate) fn resets_of_many_peers_add_up(stage: &Stage) {
    let tracer = stage.trace();
    flood(|number| number);
    adds_up(&tracer.finish(), FLOOD);
}

/// User space does not read during a flood of identical resets: all of them are reported, since they are counted in the
/// kernel.
pub(crate) fn stopped_reader_misses_nothing(stage: &Stage) {
    let tracer = stage.trace();
    stop(&tracer);
    flood(|_| 0);
    tracer.signal(Signal::SIGCONT);
    let run = tracer.finish();
    adds_up(&run, FLOOD);
    assert_eq!(run.lost, 0, "they are all alike");
}

/// A thousand connections are reset during a flood of distinct resets: all of them are reported.
pub(crate) fn connections_are_not_displaced(stage: &Stage) {
    const CONNECTIONS: u64 = 1_009;
    const BETWEEN: u64 = 20;
    let tracer = stage.trace();
    let listener = TcpListener::bind(V4).unwrap();
    let forger = Forger::start();
    for connection in 0..CONNECTIONS {
        for number in 0..BETWEEN {
            let number = connection * BETWEEN + number;
            forger.syn(peer(number, number), closed_port());
        }
        reset_one(&listener);
        // The kernel has no packet of the flood left in a queue, and has dropped none.
        wait_until("the resets", || netns::resets_sent() == (connection + 1) * (BETWEEN + 1));
    }
    let run = tracer.finish();
    adds_up(&run, CONNECTIONS * (BETWEEN + 2));
    let of_connections = |is_sent| {
        run.resets.iter().filter(|reset| reset.is_sent() == is_sent && !reset["socket"].is_null()).count() as u64
    };
    assert_eq!((of_connections(true), of_connections(false)), (CONNECTIONS, CONNECTIONS), "{} lost", run.lost);
}

/// What this host lacks to steer packets of the loopback device to one CPU.
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

/// One CPU resets connections, another tries closed ports, and the first is interrupted to answer: the kernel skips a
/// program that is already running on the CPU, and a backup program handles the invocation.
pub(crate) fn backup_program_handles_recursion(stage: &Stage) {
    const CONNECTIONS: u64 = 20_011;
    mounts::leave().unwrap();
    mounts::mount("sysfs", "/sys", "").unwrap();
    let (one, other) = (cpu::shared_by(0).unwrap(), cpu::shared_by(1).unwrap());
    let mask = (0..CpuSet::count()).filter(|&cpu| one.is_set(cpu).unwrap()).map(|cpu| 1_u64 << cpu).sum::<u64>();
    fs::write("/sys/class/net/lo/queues/rx-0/rps_cpus", format!("{mask:x}")).unwrap();

    // A large buffer, since this scenario is not about reading in time.
    let tracer = stage.trace_with(&["--buffer-size", "67108864"]);
    let (asked, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    // A CPU that stands still for a while drops packets that are steered to it.
    let before = netns::packets_dropped();
    let answered = || netns::resets_sent() + netns::packets_dropped() - before;
    thread::scope(|scope| {
        scope.spawn(|| {
            sched_setaffinity(Pid::from_raw(0), &other).unwrap();
            let forger = Forger::start();
            while !is_over.load(Ordering::Relaxed) {
                forger.syn(peer(0, asked.fetch_add(1, Ordering::Relaxed)), closed_port());
                // The kernel's backlog of a device is a thousand packets.
                wait_until("the resets", || asked.load(Ordering::Relaxed) < answered() + 500);
            }
        });
        let listener = TcpListener::bind(V4).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        (0..CONNECTIONS).for_each(|_| reset_one(&listener));
        is_over.store(true, Ordering::Relaxed);
    });
    let all = CONNECTIONS + asked.into_inner();
    wait_until("the resets", || answered() >= all);
    let asked = netns::resets_sent() - CONNECTIONS;
    let run = tracer.finish();
    // Received, sent by connections, sent without a socket.
    let kinds = [(false, false), (true, false), (true, true)].map(|(is_sent, is_bare)| {
        let of_kind = |reset: &&Reset| reset.is_sent() == is_sent && reset["socket"].is_null() == is_bare;
        run.resets.iter().filter(of_kind).map(Reset::count).sum::<u64>()
    });
    let [received, sent, bare] = kinds;
    // The kernel runs no program for some of them, and does not count these either: see docs/design/recursion.md.
    let all_but_few = |seen: u64, made: u64, part: u64| seen <= made && (made - seen) * part <= made;
    assert!(
        all_but_few(received, CONNECTIONS, 1000) && all_but_few(sent, CONNECTIONS, 1000),
        "{received} received and {sent} sent of {CONNECTIONS}, {bare} of {asked} without socket, {} lost, {:?}",
        run.lost,
        run.summaries.last()
    );
    assert!(all_but_few(bare + run.lost, asked, 4), "{bare} of {asked}, {} lost", run.lost);
}

/// Sends SYNs, each from the host of this number, and waits until all have been refused.
fn flood(host: fn(u64) -> u64) {
    /// SYNs in flight: the kernel's backlog of a device is a thousand packets.
    const TOGETHER: u64 = 500;
    let forger = Forger::start();
    for number in 0..FLOOD {
        forger.syn(peer(host(number), number), closed_port());
        if number % TOGETHER == 0 || number + 1 == FLOOD {
            wait_until("the resets", || netns::resets_sent() == number + 1);
        }
    }
}

#[track_caller]
fn adds_up(run: &Run, made: u64) {
    assert_eq!(run.total() + run.lost, made, "{} reported, {} lost", run.total(), run.lost);
}

/// Address that is closed in a new network namespace.
fn closed_port() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9)
}

/// A port of one of 65,536 hosts.
fn peer(host: u64, port: u64) -> SocketAddrV4 {
    let [.., high, low] = host.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(127, 1, high, low), u16::try_from(1024 + port % 60_000).unwrap())
}
