//! Data for a socket that this host has closed or shut down.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    host,
    puppet::Puppet,
    reset::Reset,
    stage::{Pair, Stage, V4},
    tracer::Tracer,
};

/// The client sends after the server has closed and the client has received the FIN, when only a `TIME_WAIT`
/// mini-socket is left. Such a socket has hardly any fields to read, yet its former owner is known.
///
/// The kernel keeps the whole socket instead if the FIN is acknowledged while close is still at work
/// (`tcp_rcv_state_process`, "Bad case"). That is another scenario, so this one is repeated.
pub(crate) fn time_wait_has_an_owner(stage: &Stage) {
    for _ in 0..5 {
        if time_wait_once(stage) {
            return;
        }
    }
    panic!("the kernel never made a TIME_WAIT socket");
}

/// Runs the scenario once; returns whether the kernel made a mini-socket.
fn time_wait_once(stage: &Stage) -> bool {
    let mut tracer = stage.trace();
    let mut pair = open();
    pair.server.tell("close s");
    client_sends(&mut pair);

    // Kernels before 6.10 do not report a reset for a TIME_WAIT socket.
    let sent = u64::from(host::shows_without_socket());
    tracer.expect(sent + 1);
    let run = tracer.finish();
    if run.sent().any(|sent| sent["socket"]["age_ms"].is_f64() || sent["socket"]["state"] == "LISTEN") {
        return false;
    }
    run.check_counts(sent, 1);
    for sent in run.sent() {
        sent.between(pair.server_end, pair.client_end)
            .owner(&pair.server)
            .is_one_of("/socket/state", ["TIME_WAIT", "FIN_WAIT2"])
            .is("/actor", Value::Null)
            .passive_reason("TCP_TIMEWAIT_SOCKET")
            .cause("data-after-close");
    }
    check_client(run.the_received(), &pair.client, pair.client_end, pair.server_end);
    true
}

/// The client sends after the server has closed and has configured the kernel to keep the whole socket for more than a
/// minute.
pub(crate) fn orphan_in_fin_wait2_has_an_owner(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = open();
    pair.server.tell("linger2 s 100");
    pair.server.tell("close s");
    client_sends(&mut pair);

    let run = stage.finish(tracer, 1, 1);
    check_server(run.the_sent(), &pair);
    run.the_sent().state("FIN_WAIT2");
    check_client(run.the_received(), &pair.client, pair.client_end, pair.server_end);
}

/// The server closes with more data in flight than the client accepts. The kernel destroys the socket *before* it
/// reports the reset, so the owner must be kept longer than the socket.
pub(crate) fn orphan_in_fin_wait1_has_an_owner(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell("fill s");
    pair.server.tell("close s");
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    check_server(run.the_sent(), &pair);
    run.the_sent().state("FIN_WAIT1");
    run.the_received()
        .between(pair.client_end, pair.server_end)
        .state("ESTABLISHED")
        .owner(&pair.client)
        .provenance("connect");
}

/// The server shuts down both directions while the client uploads. The kernel reports a *received* reset on the
/// server's socket although none arrived: exactly one reset is sent, and the client receives it.
pub(crate) fn server_shuts_down_during_an_upload(stage: &Stage) {
    let (tracer, pair) = shut_down(stage, &[]);
    let run = stage.finish(tracer, 1, 1);
    check_server(run.the_sent(), &pair);
    run.the_sent().state("FIN_WAIT2");
    check_client(run.the_received(), &pair.client, pair.client_end, pair.server_end);
}

/// With `--received`, the kernel side must drop neither of the two events that decide which reset was real.
pub(crate) fn received_filter_shows_the_clients_reset(stage: &Stage) {
    let (tracer, pair) = shut_down(stage, &["--received"]);
    let run = stage.finish(tracer, 0, 1);
    check_client(run.the_received(), &pair.client, pair.client_end, pair.server_end);
}

/// With `--sent`, the kernel side must drop neither of the two events that decide which reset was real.
pub(crate) fn sent_filter_shows_the_servers_reset(stage: &Stage) {
    let (tracer, pair) = shut_down(stage, &["--sent"]);
    let run = stage.finish(tracer, 1, 0);
    check_server(run.the_sent(), &pair);
    run.the_sent().state("FIN_WAIT2");
}

/// A connection of which the server has read something: it does not turn it away.
fn open() -> Pair {
    let mut pair = Pair::open(V4);
    pair.client.tell("send c 3");
    pair.server.tell("recv s 3");
    pair
}

fn shut_down(stage: &Stage, arguments: &[&str]) -> (Tracer, Pair) {
    let tracer = stage.trace_with(arguments);
    let mut pair = open();
    pair.server.tell("shutdown s rdwr");
    client_sends(&mut pair);
    (tracer, pair)
}

/// The client has received and acknowledged the server's FIN, and sends nevertheless.
fn client_sends(pair: &mut Pair) {
    // The kernel delays the acknowledgement as long as anything, even the FIN, is unread.
    pair.client.tell("eof c");
    pair.client.tell("quickack c");
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "EPIPE");
}

fn check_server(sent: &Reset, pair: &Pair) {
    sent.between(pair.server_end, pair.client_end)
        .owner(&pair.server)
        .is("/actor", Value::Null)
        .passive_reason("TCP_ABORT_ON_DATA")
        .cause("data-after-close");
}

fn check_client(received: &Reset, client: &Puppet, client_end: SocketAddr, server_end: SocketAddr) {
    received
        .between(client_end, server_end)
        .state("CLOSE_WAIT")
        .owner(client)
        .provenance("connect")
        .is("/socket/bytes_sent", 8)
        .cause("reused-closed-connection");
    assert!(received["socket"]["fin_received_ms"].is_f64(), "when did the FIN come: {:#}", received.0);
}
