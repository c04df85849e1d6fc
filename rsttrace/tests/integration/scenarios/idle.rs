//! Idle time as evidence for a cause. The known timeouts are the tests' own.

use std::fs;

use tempfile::NamedTempFile;

use crate::{
    host,
    stage::{Pair, Stage, V4},
    tracer::{Run, Tracer},
};

/// Idle time that matches the [`known`] timeouts, in milliseconds.
const IDLE_MS: u32 = 1400;

/// File with timeouts of this kind, with tolerance for a busy machine.
fn known(kind: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("[[timeout]]\nowner = 'a test'\nseconds = 1.5\nkind = '{kind}'\n")).unwrap();
    file
}

fn trace(stage: &Stage, timeouts: &NamedTempFile) -> Tracer {
    stage.trace_with(&["--timeouts", timeouts.path().to_str().unwrap()])
}

/// Leaves the sender's records out, which would tell that it is a process of this host.
fn trace_received(stage: &Stage, timeouts: &NamedTempFile) -> Tracer {
    stage.trace_with(&["--timeouts", timeouts.path().to_str().unwrap(), "--received"])
}

/// A request meets a server whose idle timer has just gone off: the server closes with the request unread, and no FIN
/// comes.
pub(crate) fn request_meets_timeout(stage: &Stage) {
    let timeouts = known("server");
    let run = asks_after_silence(stage, &["--timeouts", timeouts.path().to_str().unwrap()], "close s");
    let received = run.the_received();
    received
        .state("ESTABLISHED")
        .cause("keepalive-race")
        .is("/cause/fault", "local")
        .says("1.5 s, the timeout of a test");
    let idle = received["socket"]["idle_before_send_ms"].as_f64().expect("the silence is known");
    assert!((1350.0..1875.0).contains(&idle), "{idle}");
}

/// Without a known timeout, the reset of a process that left the first request after a silence unread is a guess.
pub(crate) fn unknown_idle_time_is_a_guess(stage: &Stage) {
    let run = asks_after_silence(stage, &[], "close s");
    let received = run.the_received().state("ESTABLISHED").cause("keepalive-race");
    received.is("/cause/confidence", "guess").says("no known timeout");
}

/// The silence matches a timeout, but the server's host has no connection any more: no process closed it.
pub(crate) fn lost_connection_is_not_a_timeout(stage: &Stage) {
    let timeouts = known("server");
    let run = asks_after_silence(stage, &["--timeouts", timeouts.path().to_str().unwrap()], "vanish s");
    run.the_received().state("ESTABLISHED").cause("peer-lost-state").is("/cause/fault", "unknown").says("no timestamp");
}

/// The server ends the connection as it is told, and the client sends a request after a silence.
fn asks_after_silence(stage: &Stage, arguments: &[&str], ending: &str) -> Run {
    let tracer = stage.trace_with(&[arguments, &["--received"]].concat());
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.server.tell("close l");
    pair.client.tell(format_args!("idle c {IDLE_MS}"));
    if ending.starts_with("close") {
        pair.leave_unread("c", "s", 7);
        pair.server.tell(ending);
    } else {
        pair.server.tell(ending);
        pair.client.tell("send c 7");
    }
    pair.client.wait_error("c", "ECONNRESET");
    stage.finish(tracer, 0, 1)
}

/// The idle time matches a timeout, but the server was killed: other connections, which had not been idle, broke at the
/// same time.
pub(crate) fn killed_server_is_not_a_timeout(stage: &Stage) {
    let timeouts = known("server");
    let tracer = trace(stage, &timeouts);
    let mut pair = Pair::open(V4);
    // Connections of similar age that break one by one would be a different cause: on a slow machine a dying process
    // closes its sockets milliseconds apart, so their ages differ by far more.
    pair.exchange("c", "s");
    pair.client.tell("idle c 1000");
    // The idle connection is between two busy ones: it is not the first to break, in whichever order a dying process
    // closes.
    let idle = pair.connect("idle", "idle");
    let others = [pair.client_end, pair.connect("c2", "s2")];
    pair.exchange("idle", "idle");
    pair.client.tell(format_args!("idle idle {IDLE_MS}"));
    for (client, server) in [("c", "s"), ("c2", "s2")] {
        pair.exchange(client, server);
    }
    for (client, server) in [("idle", "idle"), ("c", "s"), ("c2", "s2")] {
        pair.leave_unread(client, server, 7);
    }
    pair.server.kill();
    for name in ["c", "idle", "c2"] {
        pair.client.wait_error(name, "ECONNRESET");
    }

    let run = stage.finish(tracer, 3, 3);
    for sent in run.sent() {
        sent.cause("process-died");
    }
    let of = |end| run.received().find(|received| received.end("local") == end).expect("each end is reset");
    of(idle).cause("peer-restarted");
    let of_others = others.map(|end| of(end)["cause"]["code"].as_str().expect("a code").to_owned());
    assert!(of_others.contains(&"peer-restarted".to_owned()), "only the first cannot know: {of_others:?}");
}

/// The idle time matches a timeout, but the server had taken the request. The client alone cannot see that: what looks like a
/// timer that went off late is a guess.
pub(crate) fn slow_answer_after_a_timeout_is_a_guess(stage: &Stage) {
    let timeouts = known("server");
    let tracer = trace_received(stage, &timeouts);
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.client.tell(format_args!("idle c {IDLE_MS}"));
    pair.client.tell("send c 7");
    pair.server.tell("recv s 7");
    pair.server.tell("quickack s");
    pair.client.tell("idle c 100");
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    stage.finish(tracer, 0, 1).the_received().cause("keepalive-race").is("/cause/confidence", "guess");
}

/// The server closes an idle connection, and the next request comes long after a round trip: neither end takes it for one that
/// crossed the FIN, though the server's host has only a `TIME_WAIT` socket left.
pub(crate) fn late_request_is_a_reuse_at_both_ends(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.server.tell("idle l 1000");
    pair.server.tell("close s");
    pair.client.tell("eof c");
    pair.client.tell("quickack c");
    pair.server.tell("idle l 600");
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "EPIPE");
    // Kernels before 6.10 do not report a reset for a TIME_WAIT socket.
    let run = stage.finish(tracer, u64::from(host::shows_without_socket()), 1);
    let received = run.the_received().cause("reused-closed-connection").is("/cause/fault", "local");
    // What is to be changed is at this end, and so is the advice.
    let advice = received["cause"]["advice"].as_str().expect("advice");
    assert!(advice.starts_with("Make the client's connection pool"), "{advice}");
    for sent in run.sent() {
        sent.cause("reused-closed-connection").is("/cause/fault", "peer").says("over a round trip of");
    }
}

/// Nothing in flight, the last request answered, and the timeout has passed: a middlebox resets.
pub(crate) fn middlebox_resets_an_idle_connection(stage: &Stage) {
    let timeouts = known("path");
    let tracer = trace_received(stage, &timeouts);
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.client.tell(format_args!("idle c {IDLE_MS}"));
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    let run = stage.finish(tracer, 0, 1);
    run.the_received().cause("idle-reset").is("/cause/fault", "path").says("1.5 s, the timeout of a test");
}

/// The timeout has passed without an answer: the request was given up, the connection was not idle.
pub(crate) fn waiting_is_not_idle(stage: &Stage) {
    let timeouts = known("path");
    let tracer = trace(stage, &timeouts);
    let mut pair = Pair::open(V4);
    pair.client.tell("send c 7");
    pair.server.tell("recv s 7");
    pair.client.tell(format_args!("idle c {IDLE_MS}"));
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    stage.finish(tracer, 1, 1).the_received().cause("peer-aborted").says("the last request had waited");
}

/// Half of the timeout does not match it.
pub(crate) fn half_a_timeout_does_not_match(stage: &Stage) {
    let timeouts = known("path");
    let tracer = trace(stage, &timeouts);
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.client.tell("idle c 500");
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    stage.finish(tracer, 1, 1).the_received().cause("peer-aborted");
}

/// Something forgets connections that are idle for long: the limit lies between the silences that broke and one that did not.
pub(crate) fn silences_that_break_have_a_limit(stage: &Stage) {
    let tracer = stage.trace_with(&["--comm", "the-client"]);
    let mut pair = Pair::open(V4);
    let names = ["c2", "c3", "c4"].into_iter().zip(["s2", "s3", "s4"]);
    for (name, server) in names.clone() {
        pair.connect(name, server);
    }
    for (name, server) in names.clone().chain([("c", "s")]) {
        pair.exchange(name, server);
    }
    pair.server.tell("idle l 1000");
    pair.client.tell("send c 5");
    pair.server.tell("recv s 5");
    // It has been acknowledged by then.
    pair.client.tell("idle c 300");
    pair.client.abort("c");
    pair.server.wait_error("s", "ECONNRESET");
    let port = pair.server_end.port();
    host::run("nft", &["add", "table", "ip", "t"]);
    host::run("nft", &["add", "chain", "ip", "t", "c", "{ type filter hook input priority 0; }"]);
    // Each is used when the one before has been forgotten: no single loss of state explains them.
    for (name, server) in names {
        pair.exchange(name, server);
        pair.server.tell("idle l 1300");
        host::run("nft", &["add", "rule", "ip", "t", "c", &format!("tcp dport {port} reject with tcp reset")]);
        pair.client.tell(format_args!("send {name} 5"));
        pair.client.wait_error(name, "ECONNRESET");
        host::run("nft", &["flush", "chain", "ip", "t", "c"]);
    }
    let run = stage.finish(tracer, 1, 3);
    for received in run.received() {
        received.cause("peer-lost-state").says("no timestamp").says("there had been silence for");
    }
    let verdict = run.summaries.last().expect("a summary")["verdict"].as_str().expect("a text");
    assert!(verdict.contains("Timing: 3 resets answered data") && verdict.contains("went on"), "{verdict}");
    assert!(verdict.contains("something between the ends (3)"), "{verdict}");
}
