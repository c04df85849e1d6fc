//! A peer that vanishes without a packet.

use serde_json::Value;

use crate::{
    netns,
    stage::{Pair, Stage, V4},
};

/// The only interface goes down and keep-alive probes get no answer. The reset comes from a timer, so the process on
/// the CPU is a bystander.
pub(crate) fn keepalive_probes_time_out(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client.tell("keepalive c 1 1 1");
    netns::set_loopback(false);
    pair.client.wait_error("c", "ETIMEDOUT");

    let run = stage.finish(tracer, 1, 0);
    run.the_sent()
        .between(pair.client_end, pair.server_end)
        .state("ESTABLISHED")
        .owner(&pair.client)
        .provenance("connect")
        .is("/actor", Value::Null)
        .reason("TCP_KEEPALIVE_TIMEOUT")
        .cause("keepalive-timeout");
}
