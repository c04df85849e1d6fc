//! Two witnesses that know nothing of rsttrace: the kernel's own counter, and the wire.

use crate::{
    capture::Capture,
    netns,
    stage::{NOBODY_V4, NOBODY_V6, Pair, Stage, V4, V6},
};

/// Resets of many kinds: what rsttrace says was sent is what `TcpOutRsts` moved by, and what a capture of the only
/// interface saw, connection by connection.
pub(crate) fn counters_and_wire(stage: &Stage) {
    let before = netns::resets_sent();
    let capture = Capture::start();
    let mut tracer = stage.trace();
    for address in [V4, V6] {
        let mut pair = Pair::open(address);
        pair.client.abort("c");
        for round in 0..3 {
            pair.connect("c", "s");
            pair.leave_unread("c", "s", round + 1);
            pair.server.tell("close s");
            pair.client.wait_error("c", "ECONNRESET");
        }
        pair.connect("c", "s");
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
        for nobody in [NOBODY_V4, NOBODY_V6] {
            assert_eq!(pair.client.ask(format_args!("connect c {nobody}")), Err("ECONNREFUSED".to_owned()));
        }
    }
    let counted = netns::resets_sent() - before;
    // Twice: abort, three unread, two after close, disconnect, two waiting, two refused.
    assert_eq!(counted, 2 * 11, "the workload is another than it should be");
    tracer.expect(2 * counted);

    let run = tracer.finish();
    let mut sent: Vec<_> = run.sent().map(|sent| (sent.end("local"), sent.end("peer"))).collect();
    let mut captured = capture.resets();
    sent.sort_unstable();
    captured.sort_unstable();
    assert_eq!(sent, captured, "what rsttrace saw and what crossed the wire");
    run.check_counts(counted, counted);
}
