//! Network namespaces other than rsttrace's own.

use crate::stage::{Pair, Stage, V4};

/// Without a filter every namespace is seen, and named by its inode. Other scenarios run at the same time, hence the
/// filter by port.
pub(crate) fn every_one_is_seen(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let port = pair.server_end.port().to_string();
    let client_port = pair.client_end.port().to_string();
    // Both ends' ports, since another scenario may be given one of them.
    let mut tracer = stage.trace_everywhere(&["--port", &port, "--port", &client_port]);
    pair.client_aborts();

    tracer.expect(2);
    let mut run = tracer.finish();
    run.resets.retain(|reset| reset["netns"]["inode"] == stage.netns);
    run.check_counts(1, 1);
    run.the_sent().between(pair.client_end, pair.server_end).owner(&pair.client);
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server);
}

/// A namespace may be named by a path instead of its number.
pub(crate) fn filter_by_path(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let path = format!("/proc/{}/ns/net", pair.server.pid());
    let tracer = stage.trace_everywhere(&["--netns", &path]);
    pair.client_aborts();

    stage.finish(tracer, 1, 1);
}
