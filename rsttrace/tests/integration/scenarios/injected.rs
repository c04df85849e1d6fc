//! A reset that a router forges, and one that the peer sends.

use crate::{
    chain::Chain,
    forge::{self, Sniffer},
    host::{self, Lack},
    stage::Stage,
};

/// TTL of the forger's packets on arrival; the peer's own have crossed one router, from 64.
const FORGED_TTL: u8 = 41;

pub(crate) fn lack() -> Option<Lack> {
    crate::chain::lack().or_else(host::lacks_reset_headers)
}

/// The router resets an established connection in the server's name. The header of the reset shows that.
pub(crate) fn forged_reset_is_recognised(stage: &Stage) {
    let chain = Chain::around(stage);
    let tracer = chain.trace(stage, &["--received"]);
    let sniffer = Sniffer::start();
    let mut pair = chain.pair_v4();
    pair.leave_unread("c", "s", 6);
    pair.server.tell("send s 5");
    pair.client.tell("wait_unread c 5");
    let seq = sniffer.expected(pair.server_end, pair.client_end);
    forge::reset(pair.server_end, pair.client_end, seq, FORGED_TTL);
    pair.client.wait_error("c", "ECONNRESET");

    let run = chain.finish(tracer, 0, 1);
    run.the_received()
        .between(pair.client_end, pair.server_end)
        .owner(&pair.client)
        .is("/packet/ttl", FORGED_TTL)
        .is("/packet/handshake_ttl", 63)
        .is("/packet/flags", "RST")
        .is("/packet/seq", seq)
        .is("/packet/length", 40)
        .is("/cause/sender", "path")
        .cause("injected");
}

/// The server itself resets an established connection.
pub(crate) fn genuine_reset_is_recognised(stage: &Stage) {
    let chain = Chain::around(stage);
    let tracer = chain.trace(stage, &["--received"]);
    let mut pair = chain.pair_v4();
    pair.leave_unread("c", "s", 6);
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");

    let run = chain.finish(tracer, 0, 1);
    let received = run.the_received();
    received.is("/packet/ttl", 63).is("/packet/handshake_ttl", 63).is("/packet/flags", "RST,ACK");
    assert_ne!(received["cause"]["code"], "injected", "{:#}", received.0);
    assert_eq!(received["cause"]["sender"], "peer", "{:#}", received.0);
}
