//! Sockets that were open before rsttrace started.

use crate::stage::{Pair, Stage, V4};

/// rsttrace saw neither end being opened; both owners are named.
pub(crate) fn older_connection_has_owners(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let tracer = stage.trace();
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.client_end, pair.server_end)
        .state("ESTABLISHED")
        .owner(&pair.client)
        .provenance("snapshot")
        .reason("TCP_STATE")
        .cause("linger-zero");
    run.the_received()
        .between(pair.server_end, pair.client_end)
        .state("ESTABLISHED")
        .owner(&pair.server)
        .provenance("snapshot");
}

/// The listener is older than the run, the connection is not: it inherits the listener's owner.
pub(crate) fn older_listener_passes_on_its_owner(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let tracer = stage.trace();
    let client_end = pair.connect("c2", "s2");
    pair.leave_unread("c2", "s2", 6);
    pair.server.tell("close s2");
    pair.client.wait_error("c2", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.server_end, client_end)
        .state("ESTABLISHED")
        .owner(&pair.server)
        .is("/socket/unread_bytes", 6)
        .cause("closed-with-unread-data");
    run.the_received().between(client_end, pair.server_end).owner(&pair.client).provenance("connect");
}

/// The client resets a connection accepted from a listener that is older than the run: no process was seen using the
/// server's end, and its holder is looked up.
pub(crate) fn holder_of_an_accepted_connection_is_looked_up(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let tracer = stage.trace();
    let client_end = pair.connect("c2", "s2");
    pair.client.abort("c2");
    pair.server.wait_error("s2", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_received()
        .between(pair.server_end, client_end)
        .owner(&pair.server)
        .is_one_of("/process/provenance", ["accept", "lookup"])
        .is("/process/confidence", "exact");
}
