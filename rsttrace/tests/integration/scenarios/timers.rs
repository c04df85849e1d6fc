//! Resets by timers and timeouts of TCP.

use crate::{
    netns,
    stage::{Pair, Stage, V4},
};

/// `TCP_USER_TIMEOUT` on an idle connection: keep-alive probes get no answer for that long.
pub(crate) fn user_timeout_expires(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client.tell("user_timeout c 1500");
    pair.client.tell("keepalive c 1 1 9");
    netns::set_loopback(false);
    pair.client.wait_error("c", "ETIMEDOUT");
    let run = stage.finish(tracer, 1, 0);
    run.the_sent().owner(&pair.client).reason("TCP_KEEPALIVE_TIMEOUT").cause("user-timeout").says("1.5 s");
}

/// A negative `TCP_LINGER2`: after the process has closed, the peer gets no time to close too.
pub(crate) fn negative_linger2_resets_the_peer(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client.tell("linger2 c -1");
    pair.client.tell("shutdown c wr");
    pair.server.tell("eof s");
    // The FIN is acknowledged: half of the close is done.
    pair.server.tell("quickack s");
    pair.client.tell("close c");
    pair.server.wait_error("s", "EPIPE");
    let run = stage.finish(tracer, 1, 1);
    run.the_sent().owner(&pair.client).state("FIN_WAIT2").reason("TCP_ABORT_ON_LINGER").cause("linger2-expired");
}
