//! Resets that a listening socket causes.

use std::fs;

use serde_json::Value;

use crate::{
    puppet::Puppet,
    stage::{Stage, V4},
};

/// A listener is closed while connections wait in its queue: each is reset, and belongs to the process that listened
/// although none ever accepted it.
pub(crate) fn close_resets_waiting_connections(stage: &Stage) {
    let mut server = Puppet::start("the-server");
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    let server_end = server.listen("l", V4, 16);
    let names = ["a", "b", "c", "d", "e"];
    let ends = names.map(|name| client.connect(name, server_end));
    server.tell("close l");
    for name in names {
        client.wait_error(name, "ECONNRESET");
    }

    let run = stage.finish(tracer, 5, 5);
    for end in ends {
        let sent = run.sent().find(|sent| sent.end("peer") == end).expect("each connection is reset");
        sent.between(server_end, end)
            .state("ESTABLISHED")
            .owner(&server)
            .provenance("listen")
            .is("/actor", Value::Null)
            .reason("TCP_STATE")
            .cause("listener-closed");
        let received = run.received().find(|received| received.end("local") == end).expect("each end is reset");
        received
            .between(end, server_end)
            .state("ESTABLISHED")
            .owner(&client)
            .provenance("connect")
            .cause("peer-aborted");
        let advice = received["cause"]["advice"].as_str().expect("advice");
        assert!(advice.starts_with("At the other end, the-server["), "{advice}");
    }
}

/// The queue is full and the host does not refuse (`tcp_abort_on_overflow` 0): the client is connected, but the host
/// accepts none of its data, forgets the connection after a while, and resets what arrives then.
pub(crate) fn full_queue_resets_late_data(stage: &Stage) {
    fs::write("/proc/sys/net/ipv4/tcp_synack_retries", "0").unwrap();
    let mut server = Puppet::start("the-server");
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    let server_end = server.listen("l", V4, 16);
    server.tell("defer_accept l 10");
    client.connect("first", server_end);
    let client_end = client.connect("second", server_end);
    server.tell("backlog l 0");
    // From now on a half-open connection is kept for one SYN-ACK only.
    server.tell("defer_accept l 0");
    client.tell("send first 1");
    client.tell("send second 1");
    client.wait_error("second", "ECONNRESET");
    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(client_end, server_end).owner(&client).cause("accept-overflow").says("none of our data");
    run.the_sent().between(server_end, client_end).cause("listen-overflow").says("segments of handshakes since");
}

/// The queue is full and the host refuses (`tcp_abort_on_overflow` 1). The reset is sent for the *listener*, whose
/// addresses are not the connection's: those are in the packet. Connections stay half open until they have sent data,
/// so that two can be pending for a queue of one.
pub(crate) fn full_queue_refuses(stage: &Stage) {
    fs::write("/proc/sys/net/ipv4/tcp_abort_on_overflow", "1").unwrap();
    let mut server = Puppet::start("the-server");
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    let server_end = server.listen("l", V4, 16);
    server.tell("defer_accept l 10");
    client.connect("first", server_end);
    let client_end = client.connect("second", server_end);
    // Only now: with a queue this short, the kernel would use SYN cookies, and never reset.
    server.tell("backlog l 0");
    client.tell("send first 1");
    client.tell("send second 1");
    client.wait_error("second", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(server_end, client_end)
        .owner(&server)
        .provenance("listen")
        .state("LISTEN")
        .is("/actor", Value::Null)
        .passive_reason("INVALID_SYN")
        .cause("listen-overflow");
    run.the_received().between(client_end, server_end).state("ESTABLISHED").owner(&client).provenance("connect");
}
