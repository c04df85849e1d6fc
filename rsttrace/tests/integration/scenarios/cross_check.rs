//! Cross-check against two sources that are independent of rsttrace: the kernel's own counter, and a packet capture.

use std::net::SocketAddr;

use crate::{
    capture::Capture,
    host, netns,
    stage::{CLOSED_V4, CLOSED_V6, Pair, Stage, V4, V6},
};

/// Resets of many kinds: the reported sent resets are as many as `TcpOutRsts` has increased by, and those that a
/// capture of the only interface shows, connection by connection. Where the kernel need not report a reset without a
/// socket, the unreported ones are exactly these.
pub(crate) fn counters_and_wire_agree(stage: &Stage) {
    let before = netns::resets_sent();
    let capture = Capture::start();
    let mut tracer = stage.trace();
    let closed = [CLOSED_V4, CLOSED_V6].map(|address| address.parse::<SocketAddr>().unwrap());
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
        for address in closed {
            assert_eq!(pair.client.ask(format_args!("connect c {address}")), Err("ECONNREFUSED".to_owned()));
        }
    }
    let counted = netns::resets_sent() - before;
    // Twice: one abort, three with unread data, two after close, one disconnect, two waiting, two refused.
    assert_eq!(counted, 2 * 11, "the workload is another than it should be");
    let unreported = if host::traces_without_socket() { 0 } else { 2 * (1 + 2) };
    tracer.expect(2 * counted - unreported);

    let run = tracer.finish();
    let mut sent: Vec<_> = run.sent().map(|sent| (sent.end("local"), sent.end("peer"))).collect();
    let mut captured = capture.resets();
    assert_eq!(captured.len() as u64, counted, "the wire and the kernel's counter");
    let has_socket = |reset: &(SocketAddr, _)| !closed.contains(&reset.0) && !in_time_wait.contains(reset);
    captured.retain(|reset| unreported == 0 || has_socket(reset) || sent.contains(reset));
    sent.sort_unstable();
    captured.sort_unstable();
    assert_eq!(sent, captured, "what rsttrace saw and what crossed the wire");
    run.check_counts(captured.len() as u64, counted);
}
