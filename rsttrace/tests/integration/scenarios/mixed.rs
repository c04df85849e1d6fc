//! Resets of several kinds at once: the sum of what is told and what is lost is what the kernel has counted, and what has
//! crossed the wire.
//!
//! The kinds follow each other on sockets at the same addresses, since the kernel gives a freed one to the next connection;
//! where functions cannot be hooked, data after a close show as a receive that is none.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    thread,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::Signal,
        socket::{setsockopt, sockopt},
    },
};

use super::{faults::stop, receivers::wait_until};
use crate::{
    capture::Capture,
    host, netns,
    reset::Reset,
    stage::{NOBODY_V4, Stage},
    tracer::Run,
};

/// Sender and receiver of a reset.
type Ends = (SocketAddr, SocketAddr);

/// A kind of reset. Each makes one that is sent and one that is received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The client closes with `SO_LINGER` 0.
    Abort,
    /// The server closes with data unread.
    Unread,
    /// The client connects to a closed port.
    Refusal,
    /// The client sends after the server has closed.
    DataAfterClose,
}

const ALL: [Kind; 4] = [Kind::Abort, Kind::DataAfterClose, Kind::Refusal, Kind::Unread];

/// Rounds of each thread: a prime number, so that no batch divides them.
const ROUNDS: u64 = 127;

/// Threads that make resets at once. In a guest one processor is emulated: from Linux 7.0 on, threads are preempted there in
/// the middle of programs so often that a reset is lost now and then, which docs/limitations.md says and `machine` plays.
fn threads() -> u64 {
    if host::is_guest() { 1 } else { 3 }
}

/// What the kernel reports here of [`ALL`].
fn kinds() -> Vec<Kind> {
    ALL.into_iter().filter(|&kind| kind != Kind::Refusal || host::shows_without_socket()).collect()
}

/// Makes so many resets of each kind, in turns, in each of the threads; returns how many were sent in all, by the kernel's
/// own counter, when all of them have been.
fn make(kinds: &[Kind], rounds: u64, threads: u64) -> u64 {
    let before = netns::resets_sent();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                (0..rounds).for_each(|_| kinds.iter().for_each(|kind| kind.make(&listener)));
            });
        }
    });
    let made = kinds.len() as u64 * rounds * threads;
    wait_until("all resets", || netns::resets_sent() - before >= made);
    assert_eq!(netns::resets_sent() - before, made, "the workload is another than it should be");
    made
}

impl Kind {
    fn make(self, listener: &TcpListener) {
        if self == Self::Refusal {
            let closed: SocketAddr = NOBODY_V4.parse().unwrap();
            assert_eq!(TcpStream::connect(closed).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            return;
        }
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        match self {
            Self::Refusal => {}
            Self::Abort => {
                setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
                drop(client);
                assert_eq!(server.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            }
            Self::Unread => {
                client.write_all(b"hello").unwrap();
                assert_eq!(server.peek(&mut [0]).unwrap(), 1);
                drop(server);
                assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            }
            Self::DataAfterClose => {
                drop(server);
                assert_eq!(client.read(&mut [0]).unwrap(), 0);
                client.write_all(b"hello").unwrap();
                // Closed before the reset is there, it would send a FIN, and get another for that.
                let mut error = [PollFd::new(client.as_fd(), PollFlags::empty())];
                assert_eq!(poll(&mut error, PollTimeout::from(30_000_u16)), Ok(1));
            }
        }
    }
}

/// One thread, in turns data after a close and an abort: the socket of the one is the next connection's.
pub(crate) fn in_turns(stage: &Stage) {
    let tracer = stage.trace();
    let made = make(&[Kind::DataAfterClose, Kind::Abort], 4 * ROUNDS, 1);
    stage.finish(tracer, made, made);
}

/// Every kind, from several threads: as many as the kernel has counted, and the same as have crossed the wire.
pub(crate) fn from_several_threads(stage: &Stage) {
    let capture = Capture::start();
    let tracer = stage.trace();
    let made = make(&kinds(), ROUNDS, threads());
    let run = stage.finish(tracer, made, made);
    let mut captured = capture.resets();
    assert_eq!(captured.len() as u64, made, "on the wire");
    // Many refusals of one port are one record with a count.
    let closed: SocketAddr = NOBODY_V4.parse().unwrap();
    captured.retain(|ends| ends.0 != closed);
    let ends = |reset: &Reset| (reset.end("local"), reset.end("peer"));
    let turned = |reset: &Reset| (reset.end("peer"), reset.end("local"));
    assert_alike("sent", run.sent().map(ends).filter(|ends| ends.0 != closed), &captured);
    assert_alike("received", run.received().map(turned).filter(|ends| ends.0 != closed), &captured);
}

/// The resets that are told are the captured ones, by their sender and receiver.
#[track_caller]
fn assert_alike(what: &str, told: impl Iterator<Item = Ends>, captured: &[Ends]) {
    let mut untold = captured.to_vec();
    let mut is_captured = |ends: &Ends| {
        let found = untold.iter().position(|other| other == ends);
        found.map(|at| untold.swap_remove(at)).is_some()
    };
    let invented: Vec<Ends> = told.filter(|ends| !is_captured(ends)).collect();
    assert!(invented.is_empty() && untold.is_empty(), "{what}, told alone {invented:?}, captured alone {untold:?}");
}

/// The same, where only one direction is wanted: the other may be needed to tell what a receive is.
pub(crate) fn only_received(stage: &Stage) {
    let tracer = stage.trace_with(&["--received"]);
    let made = make(&kinds(), ROUNDS, threads());
    stage.finish(tracer, 0, made);
}

/// See [`only_received`].
pub(crate) fn only_sent(stage: &Stage) {
    let tracer = stage.trace_with(&["--sent"]);
    let made = make(&kinds(), ROUNDS, threads());
    stage.finish(tracer, made, 0);
}

/// The same with filters that let everything through.
pub(crate) fn with_filters(stage: &Stage) {
    let own = std::process::id().to_string();
    // A refused connection's reset has no owner.
    let kinds: Vec<Kind> = kinds().into_iter().filter(|&kind| kind != Kind::Refusal).collect();
    let tracer = stage.trace_with(&["-4", "--peer", "127.0.0.0/8", "--port", "1-65535", "--pid", &own]);
    let made = make(&kinds, ROUNDS, threads());
    let run = stage.finish(tracer, made, made);
    for reset in &run.resets {
        reset.pid(std::process::id());
    }
}

/// More than the buffer holds while it is not read: what is told and what is lost add up, whichever event of the pair that
/// one reset makes was lost.
pub(crate) fn with_losses(stage: &Stage) {
    let tracer = stage.trace_with(&["--buffer-size", "65536"]);
    stop(&tracer);
    let made = make(&[Kind::DataAfterClose, Kind::Abort], 4 * ROUNDS, 1);
    tracer.signal(Signal::SIGCONT);
    let Run { resets, lost, .. } = tracer.finish();
    let told: u64 = resets.iter().map(Reset::count).sum();
    assert!(lost > 0, "nothing was lost of {told}");
    assert_eq!(told + lost, 2 * made, "{told} told, {lost} lost");
}
