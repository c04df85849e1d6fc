//! Connections through a router, each host in a network namespace of its own.

use crate::{
    chain::Chain,
    stage::{Pair, Stage},
};

/// A reset crosses the router: it is reported where it is sent and where it is received, and not at the router.
pub(crate) fn reset_crosses_the_router_v4(stage: &Stage) {
    abort(stage, Chain::pair_v4);
}

/// A reset crosses the router over IPv6.
pub(crate) fn reset_crosses_the_router_v6(stage: &Stage) {
    abort(stage, Chain::pair_v6);
}

fn abort(stage: &Stage, open: fn(&Chain) -> Pair) {
    let chain = Chain::around(stage);
    let tracer = chain.trace(stage, &[]);
    let mut pair = open(&chain);
    pair.leave_unread("c", "s", 3);
    pair.client_aborts();

    let run = chain.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.client_end, pair.server_end)
        .is("/netns/inode", chain.client.netns)
        .owner(&pair.client)
        .cause("linger-zero");
    run.the_received()
        .between(pair.server_end, pair.client_end)
        .is("/netns/inode", chain.server.netns)
        .owner(&pair.server);
}
