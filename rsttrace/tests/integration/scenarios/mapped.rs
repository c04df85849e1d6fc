//! IPv6 sockets for IPv4 connections.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    puppet::Puppet,
    stage::{Stage, V4},
};

/// A dual-stack server: its sockets have `::ffff:127.0.0.1`, the records have `127.0.0.1`.
pub(crate) fn dual_stack_listener_has_ipv4_records(stage: &Stage) {
    let mut server = Puppet::start("the-server");
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    let port = server.listen("l", "[::]:0", 16).port();
    let server_end = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let client_end = client.connect("c", server_end);
    server.tell("accept s l");
    client.tell("send c 6");
    server.tell("wait_unread s 6");
    server.tell("close s");
    client.wait_error("c", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(server_end, client_end)
        .is("/family", "ipv4")
        .state("ESTABLISHED")
        .owner(&server)
        .reason("TCP_ABORT_ON_CLOSE")
        .cause("closed-with-unread-data");
    run.the_received().between(client_end, server_end).owner(&client);
}

/// The client's socket is the IPv6 one.
pub(crate) fn ipv6_client_has_ipv4_records(stage: &Stage) {
    let mut server = Puppet::start("the-server");
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    let server_end = server.listen("l", V4, 16);
    let client_end = client.connect("c", format_args!("[::ffff:127.0.0.1]:{}", server_end.port()));
    server.tell("accept s l");
    client.abort("c");
    server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(client_end, server_end)
        .is("/family", "ipv4")
        .state("ESTABLISHED")
        .owner(&client)
        .provenance("connect");
    run.the_received().between(server_end, client_end).owner(&server);
}
