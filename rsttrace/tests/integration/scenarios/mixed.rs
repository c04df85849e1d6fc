//! Resets of several kinds at the same time: reported and lost resets add up to the kernel's own counter, and to the
//! captured packets.
//!
//! The kinds alternate on sockets at the same addresses, since the kernel reuses a freed socket for the next
//! connection; where functions cannot be hooked, data after a close are reported as a received reset that did not
//! happen.

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
    stage::{CLOSED_V4, Stage},
    tracer::Run,
};

/// Sender and receiver of a reset.
type Ends = (SocketAddr, SocketAddr);

/// Kind of reset. Each makes one sent and one received reset.
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

/// Number of threads that make resets concurrently. In a virtual machine one CPU is emulated: from Linux 7.0 on,
/// threads are preempted within programs so often that a reset is lost now and then, see docs/limitations.md; the
/// scenarios in `machine` cover that.
fn threads() -> u64 {
    if host::is_guest() { 1 } else { 3 }
}

/// Kinds that this kernel reports.
fn kinds() -> Vec<Kind> {
    ALL.into_iter().filter(|&kind| kind != Kind::Refusal || host::shows_without_socket()).collect()
}

/// Makes this many resets of each kind, alternating, in each of the threads; waits until all have been sent, and
/// returns their number by the kernel's own counter.
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
            let closed: SocketAddr = CLOSED_V4.parse().unwrap();
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
                // Closed before the reset arrives, the client would send a FIN, which is answered by another reset.
                let mut error = [PollFd::new(client.as_fd(), PollFlags::empty())];
                assert_eq!(poll(&mut error, PollTimeout::from(30_000_u16)), Ok(1));
            }
        }
    }
}

/// One thread alternates between data after a close and an abort, which reuse each other's sockets.
pub(crate) fn kinds_alternate_in_one_thread(stage: &Stage) {
    let tracer = stage.trace();
    let made = make(&[Kind::DataAfterClose, Kind::Abort], 4 * ROUNDS, 1);
    stage.finish(tracer, made, made);
}

/// Every kind, from several threads: as many as the kernel has counted, between the ends that were captured.
pub(crate) fn several_threads_reset(stage: &Stage) {
    let capture = Capture::start();
    let tracer = stage.trace();
    let made = make(&kinds(), ROUNDS, threads());
    let run = stage.finish(tracer, made, made);
    let mut captured = capture.resets();
    assert_eq!(captured.len() as u64, made, "on the wire");
    // Several refusals of one port are one record with a count.
    let closed: SocketAddr = CLOSED_V4.parse().unwrap();
    captured.retain(|ends| ends.0 != closed);
    let ends = |reset: &Reset| (reset.end("local"), reset.end("peer"));
    let turned = |reset: &Reset| (reset.end("peer"), reset.end("local"));
    assert_alike("sent", run.sent().map(ends).filter(|ends| ends.0 != closed), &captured);
    assert_alike("received", run.received().map(turned).filter(|ends| ends.0 != closed), &captured);
}

/// Checks that the reported resets are the captured ones, by sender and receiver.
#[track_caller]
fn assert_alike(what: &str, reported: impl Iterator<Item = Ends>, captured: &[Ends]) {
    let mut unreported = captured.to_vec();
    let mut is_captured = |ends: &Ends| {
        let found = unreported.iter().position(|other| other == ends);
        found.map(|at| unreported.swap_remove(at)).is_some()
    };
    let invented: Vec<Ends> = reported.filter(|ends| !is_captured(ends)).collect();
    assert!(
        invented.is_empty() && unreported.is_empty(),
        "{what}, reported alone {invented:?}, captured alone {unreported:?}"
    );
}

/// With `--received`, all received resets are reported, although the sent ones are needed to classify them.
pub(crate) fn received_filter_shows_all_received(stage: &Stage) {
    let tracer = stage.trace_with(&["--received"]);
    let made = make(&kinds(), ROUNDS, threads());
    stage.finish(tracer, 0, made);
}

/// With `--sent`, all sent resets are reported, although the received ones are needed to classify them.
pub(crate) fn sent_filter_shows_all_sent(stage: &Stage) {
    let tracer = stage.trace_with(&["--sent"]);
    let made = make(&kinds(), ROUNDS, threads());
    stage.finish(tracer, made, 0);
}

/// With filters that match everything, all resets are reported.
pub(crate) fn matching_filters_show_all(stage: &Stage) {
    let own = std::process::id().to_string();
    // The reset of a refused connection has no owner.
    let kinds: Vec<Kind> = kinds().into_iter().filter(|&kind| kind != Kind::Refusal).collect();
    let tracer = stage.trace_with(&["-4", "--peer", "127.0.0.0/8", "--port", "1-65535", "--pid", &own]);
    let made = make(&kinds, ROUNDS, threads());
    let run = stage.finish(tracer, made, made);
    for reset in &run.resets {
        reset.pid(std::process::id());
    }
}

/// A buffer overflow while rsttrace is stopped: reported and lost resets add up, whichever of the two events of a reset
/// was lost.
pub(crate) fn losses_are_counted(stage: &Stage) {
    let tracer = stage.trace_with(&["--buffer-size", "65536"]);
    stop(&tracer);
    let made = make(&[Kind::DataAfterClose, Kind::Abort], 4 * ROUNDS, 1);
    tracer.signal(Signal::SIGCONT);
    let Run { resets, lost, .. } = tracer.finish();
    let reported: u64 = resets.iter().map(Reset::count).sum();
    assert!(lost > 0, "nothing was lost of {reported}");
    assert_eq!(reported + lost, 2 * made, "{reported} reported, {lost} lost");
}
