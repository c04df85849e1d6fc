//! Two witnesses that know nothing of rsttrace: the kernel's own counter, and the wire.

use std::net::SocketAddr;

use crate::{
    capture::Capture,
    host, netns,
    stage::{NOBODY_V4, NOBODY_V6, Pair, Stage, V4, V6},
};

/// Resets of many kinds: what rsttrace says was sent is the increase of `TcpOutRsts`, and what a capture of the only
/// interface saw, connection by connection. Where the kernel need not tell of a reset without a socket, those that it
/// does not tell of are just these.
pub(crate) fn counters_and_wire(stage: &Stage) {
    let before = netns::resets_sent();
    let capture = Capture::start();
    let mut tracer = stage.trace();
    let closed = [NOBODY_V4, NOBODY_V6].map(|nobody| nobody.parse::<SocketAddr>().unwrap());
    let mut in_time_wait = Vec::new();
    for address in [V4, V6] {
        let mut pair = Pair::open(address);
        pair.client.abort("c");
        for round in 0..3 {
            pair.connect("c", "s");
            pair.leave_unread("c", "s", round + 1);
            pair.server.tell("close s");
            pair.client.wait_error("c", "ECONNRESET");
        }
        let client_end = pair.connect("c", "s");
        in_time_wait.push((pair.server_end, client_end));
        pair.server.tell("close s");
        pair.client.tell("eof c");
        pair.client.tell("quickack c");
        pair.client.tell("send c 5");
        pair.connect("c", "s");
        pair.server.tell("shutdown s rdwr");
        pair.client.tell("eof c");
        pair.client.tell("send c 5");
        pair.connect("c", "s");
        pair.client.tell("disconnect c");
        for name in ["waiting", "waiting-too"] {
            pair.client.connect(name, pair.server_end);
        }
        pair.server.tell("close l");
        for nobody in closed {
            assert_eq!(pair.client.ask(format_args!("connect c {nobody}")), Err("ECONNREFUSED".to_owned()));
        }
    }
    let counted = netns::resets_sent() - before;
    // Twice: abort, three unread, two after close, disconnect, two waiting, two refused.
    assert_eq!(counted, 2 * 11, "the workload is another than it should be");
    let untold = if host::traces_without_socket() { 0 } else { 2 * (1 + 2) };
    tracer.expect(2 * counted - untold);

    let run = tracer.finish();
    let mut sent: Vec<_> = run.sent().map(|sent| (sent.end("local"), sent.end("peer"))).collect();
    let mut captured = capture.resets();
    assert_eq!(captured.len() as u64, counted, "the wire and the kernel's counter");
    let has_socket = |reset: &(SocketAddr, _)| !closed.contains(&reset.0) && !in_time_wait.contains(reset);
    captured.retain(|reset| untold == 0 || has_socket(reset) || sent.contains(reset));
    sent.sort_unstable();
    captured.sort_unstable();
    assert_eq!(sent, captured, "what rsttrace saw and what crossed the wire");
    run.check_counts(captured.len() as u64, counted);
}
