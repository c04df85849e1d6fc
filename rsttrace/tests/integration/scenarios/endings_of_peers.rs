//! Causes of received resets: how the peer ended the connection.

use std::net::SocketAddr;

use crate::{
    host,
    puppet::Puppet,
    stage::{Pair, Stage, V4},
};

/// The client gives up its request before there is an answer: after a while it had lost patience, at once it did not wait.
pub(crate) fn client_does_not_wait(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client.tell("send c 300");
    pair.server.tell("recv s 300");
    pair.client.tell("idle c 700");
    pair.client_aborts();
    pair.connect("hasty", "hasty");
    pair.client.tell("send hasty 300");
    pair.server.tell("recv hasty 300");
    pair.client.abort("hasty");
    pair.server.wait_error("hasty", "ECONNRESET");
    let run = stage.finish(tracer, 2, 2);
    for sent in run.sent() {
        sent.cause("linger-zero");
    }
    let received: Vec<_> = run.received().collect();
    received[0].owner(&pair.server).cause("client-gave-up").is("/cause/fault", "local").says("had waited");
    received[1].owner(&pair.server).cause("client-cancelled").is("/cause/fault", "none");
}

/// The answer comes after the client has closed normally.
pub(crate) fn answer_comes_too_late(stage: &Stage) {
    let tracer = stage.trace_with(&["--received"]);
    let mut pair = Pair::open(V4);
    pair.client.tell("send c 300");
    pair.server.tell("recv s 300");
    pair.client.tell("idle c 700");
    pair.client.tell("close c");
    pair.server.tell("eof s");
    pair.server.tell("quickack s");
    pair.server.tell("send s 500");
    pair.server.wait_error("s", "EPIPE");
    stage.finish(tracer, 0, 1).the_received().state("CLOSE_WAIT").cause("client-gave-up");
}

/// The client resets soon after it has received its answer in full, which is not the server's concern.
pub(crate) fn client_resets_after_the_answer(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.client.tell("idle c 100");
    pair.client_aborts();
    let run = stage.finish(tracer, 1, 1);
    run.the_received().owner(&pair.server).cause("client-cancelled").is("/cause/fault", "none");
}

/// The server answers an upload early, and closes with the rest unread.
pub(crate) fn server_answers_an_upload_early(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client.tell("fill c");
    // A server that closes at once, having read nothing, turns its clients away.
    pair.server.tell("idle l 30");
    pair.server.tell("send s 180");
    pair.client.tell("recv c 180");
    pair.server.tell("close s");
    pair.client.wait_error("c", "ECONNRESET");
    let run = stage.finish(tracer, 1, 1);
    run.the_sent().cause("closed-with-unread-data");
    run.the_received().cause("peer-closed-unread").is("/cause/fault", "peer");
}

/// The server's FIN comes while data are in flight, then its reset: the client did not use a closed connection.
pub(crate) fn fin_follows_data_in_flight(stage: &Stage) {
    // Only received resets: a retransmission just when the server closes may be answered by a second reset.
    let tracer = stage.trace_with(&["--received"]);
    let mut pair = Pair::open(V4);
    pair.client.tell("fill c");
    // Longer than a clock tick, so that the order of the two is visible.
    pair.client.tell("idle c 50");
    pair.server.tell("shutdown s wr");
    pair.client.tell("peek_eof c");
    pair.server.tell("close s");
    pair.client.wait_error("c", "EPIPE");
    stage.finish(tracer, 0, 1).the_received().state("CLOSE_WAIT").cause("peer-closed-unread");
}

/// The client shuts down its sending side and waits for the answer; the server resets. That is not a reset after a
/// close.
pub(crate) fn server_resets_a_half_closed_connection(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client.tell("send c 300");
    pair.client.tell("shutdown c wr");
    pair.server.tell("recv s 300");
    pair.server.tell("eof s");
    pair.server.tell("quickack s");
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    stage.finish(tracer, 1, 1).the_received().state("FIN_WAIT2").cause("peer-aborted");
}

/// The client has closed; the server discards the data that it had yet to send.
pub(crate) fn server_resets_after_our_close(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    // The whole socket stays, not a mini-socket, whose resets are not reported.
    pair.client_closes(100);
    pair.server.abort("s");
    let run = stage.finish(tracer, 1, 1);
    run.the_received().state("FIN_WAIT2").cause("after-close").is("/cause/benign", true);
}

/// A server dies with several unanswered requests. The first reset is only an abort; the later ones show a restart. Its own
/// records, which would tell, are left out.
pub(crate) fn restart_is_recognised(stage: &Stage) {
    let tracer = stage.trace_with(&["--received"]);
    let mut pair = Pair::open(V4);
    let names = ["c", "c2", "c3"];
    for (name, server) in [("c2", "s2"), ("c3", "s3")] {
        pair.server.tell("idle l 300");
        pair.connect(name, server);
    }
    for (name, server) in names.into_iter().zip(["s", "s2", "s3"]) {
        pair.leave_unread(name, server, 7);
    }
    pair.server.kill();
    for name in names {
        pair.client.wait_error(name, "ECONNRESET");
    }
    assert_eq!(pair.client.ask(format_args!("connect again {}", pair.server_end)), Err("ECONNREFUSED".to_owned()));

    let run = stage.finish(tracer, 0, 4);
    let received: Vec<_> = run.received().collect();
    received[0].cause("peer-aborted");
    for later in &received[1..3] {
        later.cause("peer-restarted").says("in the");
    }
    received[3].cause("connection-refused").says("broke");
    let summary = run.summaries.last().expect("a summary");
    let patterns = summary["patterns"].as_array().expect("patterns");
    let reported = patterns.iter().any(|pattern| pattern.as_str().is_some_and(|text| text.starts_with("1 of the 3 ")));
    assert!(reported, "{patterns:?}");
}

/// A server is killed under load: two connections break at once, and one by its FIN, which the next request meets. The client's
/// host alone tells that all of this is the end of the server.
pub(crate) fn killed_server_ends_all_connections(stage: &Stage) {
    let tracer = stage.trace_with(&["--received"]);
    kill_server();
    let run = stage.finish(tracer, 0, 3);
    let mut received: Vec<_> = run.received().collect();
    // A record that waited for its owner may come after a later one.
    received.sort_by_key(|reset| reset["time"].as_str());
    received[1].cause("peer-restarted");
    received[2].state("CLOSE_WAIT").cause("peer-restarted");
    let verdict = run.summaries.last().expect("a summary")["verdict"].as_str().expect("a text");
    assert!(verdict.contains("Look first at: peer-restarted (3 in one burst)"), "{verdict}");
    assert!(verdict.contains("To be fixed by: the peers (all 3)"), "{verdict}");
}

/// The host of the server alone tells the same.
pub(crate) fn killed_server_is_named_for_all_connections(stage: &Stage) {
    let tracer = stage.trace_with(&["--sent"]);
    let server = kill_server();
    let run = stage.finish(tracer, 3, 0);
    for sent in run.sent() {
        sent.cause("process-died").is("/process/pid", server);
    }
}

/// Kills a server with three connections, and sends on the one that it had not aborted. Returns its PID.
fn kill_server() -> u32 {
    let mut pair = Pair::open(V4);
    for (name, server) in [("c2", "s2"), ("c3", "s3")] {
        pair.server.tell("idle l 500");
        pair.connect(name, server);
    }
    pair.leave_unread("c", "s", 7);
    pair.leave_unread("c2", "s2", 7);
    // This one had its answer.
    pair.exchange("c3", "s3");
    let pid = pair.server.pid();
    pair.server.kill();
    for name in ["c", "c2"] {
        pair.client.wait_error(name, "ECONNRESET");
    }
    pair.client.tell("peek_eof c3");
    pair.client.tell("send c3 5");
    pair.client.wait_error("c3", "EPIPE");
    pid
}

/// A client's process ends with connections in all conditions: idle, and with requests of different ages.
pub(crate) fn end_of_a_client_is_recognised(stage: &Stage) {
    // The host of the server alone.
    let tracer = stage.trace_with(&["--received"]);
    let mut pair = Pair::open(V4);
    let names = ["c", "c2", "c3", "c4", "c5"].into_iter().zip(["s", "s2", "s3", "s4", "s5"]);
    for (name, server) in names.clone().skip(1) {
        pair.connect(name, server);
    }
    for (name, server) in names.clone() {
        pair.exchange(name, server);
        // What the process does not read makes its end a reset.
        pair.server.tell(format_args!("send {server} 3"));
        pair.client.tell(format_args!("wait_unread {name} 3"));
        if matches!(name, "c2" | "c4") {
            pair.client.tell(format_args!("send {name} 5"));
            pair.server.tell(format_args!("recv {server} 5"));
        }
        pair.server.tell("idle l 300");
    }
    pair.client.kill();
    for (_, server) in names {
        pair.server.wait_error(server, "ECONNRESET");
    }

    let run = stage.finish(tracer, 0, 5);
    let received: Vec<_> = run.received().collect();
    received[1].cause("client-ended").is("/cause/confidence", "guess");
    for later in &received[2..] {
        later
            .cause("client-ended")
            .is("/cause/confidence", "likely")
            .is("/cause/fault", "none")
            .says("other connections");
    }
}

/// The clients of a server that does not answer lose patience at the same moment: none of them has ended.
pub(crate) fn clients_time_out_together(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let names = ["c", "c2", "c3", "c4", "c5"].into_iter().zip(["s", "s2", "s3", "s4", "s5"]);
    for (name, server) in names.clone().skip(1) {
        pair.connect(name, server);
    }
    for (name, server) in names.clone() {
        pair.client.tell(format_args!("send {name} 5"));
        pair.server.tell(format_args!("recv {server} 5"));
    }
    pair.client.tell("idle c 700");
    for (name, server) in names {
        pair.client.abort(name);
        pair.server.wait_error(server, "ECONNRESET");
    }
    let run = stage.finish(tracer, 5, 5);
    for received in run.received() {
        received.cause("client-gave-up").is("/cause/fault", "local");
    }
    for sent in run.sent() {
        sent.cause("linger-zero").is("/cause/fault", "local");
    }
}

/// A health check connects again and again, and resets without data. The first one alone is not recognised.
pub(crate) fn health_check_is_recognised(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    for _ in 0..3 {
        pair.client_aborts();
        pair.server.tell("idle l 200");
        pair.connect("c", "s");
    }
    let run = stage.finish(tracer, 3, 3);
    let received: Vec<_> = run.received().collect();
    received[0].cause("client-ended").is("/cause/benign", true);
    received[1].cause("health-probe").is("/cause/benign", true);
    received[2].cause("health-probe").says("2 times");
}

/// Ten closed ports in a row are a port scan; the first nine are only closed ports.
pub(crate) fn port_scan_is_recognised(stage: &Stage) {
    let tracer = stage.trace_with(&["--sent"]);
    let mut client = Puppet::start("the-client");
    for port in 1..=11 {
        let closed = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(client.ask(format_args!("connect c {closed}")), Err("ECONNREFUSED".to_owned()));
    }
    let run = stage.finish(tracer, 11, 0);
    for (number, sent) in (1..).zip(run.sent()) {
        sent.cause(if number < 10 { "port-closed" } else { "port-scan" });
    }
}

/// The peer has vanished without a packet, and its listener with it, as after a power failure: data for the connection
/// find no socket.
pub(crate) fn vanished_peer_has_no_socket(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.server.tell("close l");
    pair.server.tell("vanish s");
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "ECONNRESET");
    let run = stage.finish(tracer, host::shows_without_socket().into(), 1);
    for sent in run.sent() {
        sent.is("/socket", serde_json::Value::Null).cause("no-connection");
    }
}

/// The peer has vanished, but its listener exists again and does not know the connection.
pub(crate) fn vanished_peer_listens_again(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.server.tell("vanish s");
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "ECONNRESET");
    let run = stage.finish(tracer, 1, 1);
    run.the_sent().state("LISTEN").passive_reason("TCP_FLAGS").cause("no-connection");
}

/// A keep-alive probe finds that the peer has vanished.
pub(crate) fn keepalive_probe_finds_no_socket(stage: &Stage) {
    let tracer = stage.trace_with(&["--received"]);
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.server.tell("close l");
    pair.client.tell("keepalive c 1 1 5");
    pair.server.tell("vanish s");
    pair.client.wait_error("c", "ECONNRESET");
    stage.finish(tracer, 0, 1).the_received().cause("keepalive-answer").says("keep-alive probe");
}

/// A middlebox lets the handshake pass and resets every connection on its first data.
pub(crate) fn middlebox_resets_first_data(stage: &Stage) {
    let tracer = stage.trace_with(&["--received", "--comm", "the-client"]);
    let mut pair = Pair::open(V4);
    let port = pair.server_end.port();
    host::run("nft", &["add", "table", "ip", "t"]);
    host::run("nft", &["add", "chain", "ip", "t", "c", "{ type filter hook input priority 0; }"]);
    let rule = format!("tcp dport {port} tcp flags & psh == psh reject with tcp reset");
    host::run("nft", &["add", "rule", "ip", "t", "c", &rule]);
    for number in 0..4 {
        pair.client.tell("send c 500");
        pair.client.wait_error("c", "ECONNRESET");
        if number < 3 {
            pair.server.tell("idle l 600");
            pair.connect("c", "s");
        }
    }
    let run = stage.finish(tracer, 0, 4);
    let received: Vec<_> = run.received().collect();
    for once in &received[..2] {
        once.cause("peer-lost-state").says("no timestamp");
    }
    for again in &received[2..] {
        again.cause("policy").is("/cause/fault", "path");
    }
}
