//! Resets that a process causes by ending its own connection.

use serde_json::Value;

use crate::{
    puppet::Puppet,
    stage::{Pair, Stage, V4, V6},
};

/// `SO_LINGER` 0. Two traps: when the kernel reports the reset, the socket is already in CLOSE and has no local port
/// any more; and the peer's end receives it while the *sender*, a bystander, is on the CPU.
pub(crate) fn linger_zero_sends_a_reset(stage: &Stage) {
    linger_zero_at(stage, V4);
}

/// `SO_LINGER` 0 over IPv6.
pub(crate) fn linger_zero_sends_a_reset_v6(stage: &Stage) {
    linger_zero_at(stage, V6);
}

fn linger_zero_at(stage: &Stage, address: &str) {
    let tracer = stage.trace();
    let mut pair = Pair::open(address);
    pair.leave_unread("c", "s", 3);
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.client_end, pair.server_end)
        .is("/hook", "tcp_send_reset")
        .state("ESTABLISHED")
        .owner(&pair.client)
        .provenance("connect")
        .is("/process/confidence", "exact")
        .is("/actor", Value::Null)
        .is("/socket/role", "client")
        .is("/socket/bytes_sent", 3)
        .is("/socket/bytes_acked", 3)
        .is("/socket/unread_bytes", 0)
        .reason("TCP_STATE")
        .cause("linger-zero");
    run.the_received()
        .between(pair.server_end, pair.client_end)
        .is("/hook", "tcp_receive_reset")
        .state("ESTABLISHED")
        .owner(&pair.server)
        .is("/actor", Value::Null)
        .is("/socket/role", "server")
        .is("/socket/bytes_received", 3)
        .is("/socket/unread_bytes", 3)
        .is("/reason", Value::Null)
        .cause("client-cancelled");
}

/// Close with six bytes unread. The receive queue is already empty when the kernel reports the reset.
pub(crate) fn close_with_unread_data_sends_a_reset(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.leave_unread("c", "s", 10);
    pair.server.tell("recv s 4");
    pair.server.tell("close s");
    pair.client.wait_error("c", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.server_end, pair.client_end)
        .state("ESTABLISHED")
        .owner(&pair.server)
        .is("/actor", Value::Null)
        .is("/socket/unread_bytes", 6)
        .is("/socket/bytes_received", 10)
        .reason("TCP_ABORT_ON_CLOSE")
        .cause("closed-with-unread-data");
    run.the_received()
        .between(pair.client_end, pair.server_end)
        .state("ESTABLISHED")
        .owner(&pair.client)
        .provenance("connect")
        .is("/socket/bytes_sent", 10);
    // Without the sender's record, which may come too late on a slow machine, an abort is all that shows.
    let is_joined = run.the_received()["incident_role"] == "other_end";
    run.the_received().cause(if is_joined { "peer-closed-unread" } else { "peer-aborted" });
}

/// A server that is killed resets every connection with unread data, and is named although it has exited by the time it
/// is looked up.
pub(crate) fn killed_server_is_named(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let ends = [pair.client_end, pair.connect("c2", "s2"), pair.connect("c3", "s3")];
    for (client, server) in [("c", "s"), ("c2", "s2"), ("c3", "s3")] {
        pair.leave_unread(client, server, 7);
    }
    pair.server.kill();
    for client in ["c", "c2", "c3"] {
        pair.client.wait_error(client, "ECONNRESET");
    }

    let run = stage.finish(tracer, 3, 3);
    for end in ends {
        let sent = run.sent().find(|sent| sent.end("peer") == end).expect("each connection is reset");
        sent.between(pair.server_end, end)
            .state("ESTABLISHED")
            .owner(&pair.server)
            .is("/socket/unread_bytes", 7)
            .reason("TCP_ABORT_ON_CLOSE")
            .cause("process-died");
        let received = run.received().find(|received| received.end("local") == end).expect("each end is reset");
        received.between(end, pair.server_end).state("ESTABLISHED").owner(&pair.client).provenance("connect");
    }
}

/// `connect` to `AF_UNSPEC`. The socket stays open: it connects again later, and that is another connection.
pub(crate) fn disconnect_keeps_the_socket(stage: &Stage) {
    let tracer = stage.trace();
    let Pair { mut server, mut client, server_end, client_end } = Pair::open(V4);
    client.tell("disconnect c");
    server.wait_error("s", "ECONNRESET");
    let mut bystander = Puppet::start("a-bystander");
    bystander.connect("c", server_end);

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(client_end, server_end)
        .state("ESTABLISHED")
        .owner(&client)
        .provenance("connect")
        .is("/actor", Value::Null)
        .reason("TCP_STATE")
        .cause("linger-zero");
    run.the_received().between(server_end, client_end).state("ESTABLISHED").owner(&server);
}
