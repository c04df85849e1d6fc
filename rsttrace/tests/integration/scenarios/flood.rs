//! Floods of resets to closed ports: identical ones come out as a count, and none crowds out the reset of a connection.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::{
    sys::{
        signal::Signal,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::{
    forge::Forger,
    puppet::Puppet,
    stage::{Stage, V4},
    tracer::{Run, Tracer},
};

/// Requests for connections that nobody listens for.
const FLOOD: u32 = 20_011;

/// One host asks for one port: its resets are told in a few records, while it goes on.
pub(crate) fn of_one_peer(stage: &Stage) {
    let mut tracer = stage.trace();
    let forger = Forger::start();
    for number in 0..FLOOD {
        forger.syn(peer(0, number), door());
    }
    // All of it comes without an end of the run.
    tracer.expect(FLOOD.into());
    let run = stage.finish(tracer, FLOOD.into(), 0);
    assert!(run.resets.len() < 6_000, "{} records", run.resets.len());
    let folded: Vec<_> = run.resets.iter().filter(|reset| reset.count() > 1).collect();
    assert!(!folded.is_empty());
    for reset in &run.resets {
        reset.is("/peer/address", "127.1.0.0").is("/local/port", door().port()).is("/socket", serde_json::Value::Null);
        reset.cause("port-closed");
    }
}

/// Everybody asks: what is told and what is lost add up.
pub(crate) fn of_many_peers(stage: &Stage) {
    let tracer = stage.trace();
    let forger = Forger::start();
    for number in 0..FLOOD {
        forger.syn(peer(number, number), door());
    }
    let run = tracer.finish();
    adds_up(&run, FLOOD.into());
}

/// Nobody reads meanwhile: what is told and what is lost add up, and most is told, since it is counted.
pub(crate) fn while_nobody_reads(stage: &Stage) {
    let tracer = stage.trace();
    stand_still(&tracer);
    let forger = Forger::start();
    for number in 0..FLOOD {
        forger.syn(peer(0, number), door());
    }
    tracer.signal(Signal::SIGCONT);
    let run = tracer.finish();
    adds_up(&run, FLOOD.into());
    assert_eq!(run.lost, 0, "they are all alike");
}

/// A thousand connections are reset in the middle of a flood of which no two are alike: each of these comes out.
pub(crate) fn connections_come_through(stage: &Stage) {
    const CONNECTIONS: u64 = 1_009;
    let tracer = stage.trace();
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let server_end = server.listen("l", V4, 4096);
    let is_over = AtomicBool::new(false);
    let flood = thread::scope(|scope| {
        scope.spawn(|| {
            client.tell(format_args!("burst {server_end} {CONNECTIONS}"));
            is_over.store(true, Ordering::Relaxed);
        });
        let forger = Forger::start();
        let mut number = 0;
        while number < FLOOD || !is_over.load(Ordering::Relaxed) {
            forger.syn(peer(number, number), door());
            number += 1;
        }
        number
    });
    let run = tracer.finish();
    adds_up(&run, u64::from(flood) + 2 * CONNECTIONS);
    let of_connections = |is_sent| {
        run.resets.iter().filter(|reset| reset.is_sent() == is_sent && !reset["socket"].is_null()).count() as u64
    };
    assert_eq!((of_connections(true), of_connections(false)), (CONNECTIONS, CONNECTIONS), "{} lost", run.lost);
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
fn peer(host: u32, port: u32) -> SocketAddrV4 {
    let [_, _, high, low] = host.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(127, 1, high, low), u16::try_from(1024 + port % 60_000).unwrap())
}
