//! Connections that this host had given up or closed before the peer spoke again.

use std::net::SocketAddr;

use crate::{
    host::{self, Lack},
    netfilter,
    stage::{Pair, Stage, V4},
    wire::Wire,
};

/// What this host lacks for scenarios with a packet filter.
pub(crate) fn lack() -> Option<Lack> {
    host::lacks_program("nft").or_else(host::lacks_resets_without_socket)
}

/// `TCP_USER_TIMEOUT` runs out with data in flight, without any packet; then the path is there again.
pub(crate) fn peer_speaks_after_user_timeout(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.client.tell("user_timeout c 600");
    netfilter::rules("add table ip t\nadd chain ip t o { type filter hook output priority 0; policy drop; }");
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "ETIMEDOUT");
    netfilter::rules("delete table ip t");
    pair.server.tell("send s 5");
    pair.server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent().cause("given-up-earlier").is("/cause/fault", "path").says("gave the connection up");
    run.the_received().owner(&pair.server).cause("peer-lost-state").is("/cause/fault", "unknown").says("no timestamp");
}

/// Keep-alive probes run out, whose reset is dropped too; then the path is there again.
pub(crate) fn peer_speaks_after_keepalive(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    netfilter::rules("add table ip t\nadd chain ip t o { type filter hook output priority 0; policy drop; }");
    pair.client.tell("keepalive c 1 1 1");
    pair.client.wait_error("c", "ETIMEDOUT");
    netfilter::rules("delete table ip t");
    // Later than what may have been on its way.
    pair.server.tell("idle l 300");
    pair.server.tell("send s 5");
    pair.server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 2, 1);
    let sent: Vec<_> = run.sent().collect();
    sent[0].owner(&pair.client).cause("keepalive-timeout");
    sent[1].cause("given-up-earlier").is("/cause/fault", "path");
    run.the_received().owner(&pair.server).cause("peer-lost-state").is("/cause/fault", "unknown");
}

/// The peer's process does not read, its window is 0, and `TCP_USER_TIMEOUT` runs out; then it speaks.
pub(crate) fn peer_had_stopped_reading(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.client.tell("user_timeout c 600");
    pair.client.tell("fill c");
    pair.client.wait_error("c", "ETIMEDOUT");
    pair.server.tell("send s 5");
    pair.server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent().cause("peer-stopped-reading").is("/cause/fault", "peer").says("window was 0");
    run.the_received().owner(&pair.server).cause("stopped-reading").is("/cause/fault", "local").says("unread");
}

/// An answer comes after its client has closed: to a whole socket, to what stands for it, and when that has gone too.
pub(crate) fn late_answer_has_one_cause(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let mut pair = Pair::open(V4);
    let mut ends = vec![pair.client_end];
    for (name, server) in [("c2", "s2"), ("c3", "s3")] {
        ends.push(pair.connect(name, server));
    }
    for (name, server, linger2) in [("c", "s", "100"), ("c2", "s2", "30"), ("c3", "s3", "1")] {
        pair.client.tell(format_args!("send {name} 300"));
        pair.server.tell(format_args!("recv {server} 300"));
        pair.client.tell(format_args!("linger2 {name} {linger2}"));
    }
    pair.server.tell("idle l 600");
    for (name, server) in [("c", "s"), ("c2", "s2"), ("c3", "s3")] {
        pair.client.tell(format_args!("close {name}"));
        pair.server.tell(format_args!("eof {server}"));
        pair.server.tell(format_args!("quickack {server}"));
    }
    // FIN_WAIT2 of the third is over after a second.
    pair.server.tell("idle l 1500");
    for server in ["s", "s2", "s3"] {
        pair.server.tell(format_args!("send {server} 500"));
        pair.server.wait_error(server, "EPIPE");
    }

    let told = wire.finish(tracer, 6);
    for end in ends {
        let sent = told.sent(end, pair.server_end).owner(&pair.client).cause("gave-up-waiting");
        sent.is("/cause/fault", "local").says("had waited");
        told.received(pair.server_end, end).owner(&pair.server).cause("client-gave-up").is("/cause/fault", "local");
    }
    told.rest_is_harmless();
}

/// A server closes in the middle of a client's requests; the next one comes when its socket has gone.
pub(crate) fn request_after_fin_wait_has_an_owner(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let mut pair = Pair::open(V4);
    pair.client.tell("send c 300");
    pair.server.tell("recv s 300");
    pair.server.tell("linger2 s 1");
    pair.server.tell("close s");
    pair.client.tell("eof c");
    pair.client.tell("quickack c");
    pair.server.tell("idle l 1500");
    pair.client.tell("send c 300");
    pair.client.wait_error("c", "EPIPE");

    let told = wire.finish(tracer, 2);
    told.sent(pair.server_end, pair.client_end).owner(&pair.server).cause("data-after-close").says("closed");
    let received = told.received(pair.client_end, pair.server_end).owner(&pair.client);
    received.cause("reused-closed-connection").is("/cause/fault", "local");
    told.rest_is_harmless();
}

/// A client that began anew on the ports of a connection which the server's process had never closed.
pub(crate) fn new_connection_meets_a_leaked_socket(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    let end = pair.client_end;
    pair.client.tell("linger2 c 1");
    pair.client.tell("close c");
    pair.server.tell("eof s");
    pair.server.tell("quickack s");
    pair.server.tell("idle l 1500");
    connect_again(&mut pair, end);
    pair.server.wait_error("s", "EPIPE");

    let told = wire.finish(tracer, 2);
    let sent = told.sent(end, pair.server_end).owner(&pair.client).cause("cleared-old-connection");
    sent.is("/cause/fault", "none");
    let received = told.received(pair.server_end, end).owner(&pair.server).state("CLOSE_WAIT");
    received.cause("leaked-socket").is("/cause/fault", "local").says("without closing it");
    told.rest_is_harmless();
}

/// A client that vanished, without a FIN, and began anew on the same ports: the server's process has leaked nothing.
pub(crate) fn new_connection_meets_a_lost_client(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    let end = pair.client_end;
    pair.client.tell("vanish c");
    pair.server.tell("idle l 1500");
    connect_again(&mut pair, end);
    pair.server.wait_error("s", "ECONNRESET");

    let told = wire.finish(tracer, 2);
    told.sent(end, pair.server_end).owner(&pair.client).cause("cleared-old-connection").is("/cause/fault", "none");
    let received = told.received(pair.server_end, end).owner(&pair.server).state("ESTABLISHED");
    received.cause("peer-lost-state").is("/cause/fault", "unknown");
    told.rest_is_harmless();
}

/// Connects from the same port; the SYN meets the old connection first, and is repeated after a second.
fn connect_again(pair: &mut Pair, from: SocketAddr) {
    let server = pair.server_end;
    pair.client.tell(format_args!("connect-from again {from} {server}"));
    pair.server.tell("accept again l");
}
