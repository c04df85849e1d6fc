//! What silence has to do with a reset, and what it has not. The timeouts that are known are the tests' own.

use std::fs;

use tempfile::NamedTempFile;

use crate::{
    stage::{Pair, Stage, V4},
    tracer::{Run, Tracer},
};

/// A silence that matches [`known`] timeouts, in milliseconds.
const IDLE_MS: u32 = 1400;

/// Timeouts of this kind, which have time to spare for a busy machine.
fn known(kind: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("[[timeout]]\nowner = 'a test'\nseconds = 1.5\nkind = '{kind}'\n")).unwrap();
    file
}

fn trace(stage: &Stage, timeouts: &NamedTempFile) -> Tracer {
    stage.trace_with(&["--timeouts", timeouts.path().to_str().unwrap()])
}

/// The request meets a server that has just given the connection up, and whose FIN is not here yet (here it never comes:
/// the server forgets without a word).
pub(crate) fn request_meets_timeout(stage: &Stage) {
    let timeouts = known("server");
    let run = asks_after_silence(stage, &["--timeouts", timeouts.path().to_str().unwrap()]);
    let received = run.the_received();
    received.state("ESTABLISHED").cause("keepalive-race").is("/cause/fault", "local").says("1.5 s: a test");
    let idle = received["socket"]["idle_before_send_ms"].as_f64().expect("the silence is known");
    assert!((1350.0..1875.0).contains(&idle), "{idle}");
}

/// The same without a timeout that would be known: a silence alone is no evidence.
pub(crate) fn silence_that_matches_nothing(stage: &Stage) {
    let run = asks_after_silence(stage, &[]);
    run.the_received().state("ESTABLISHED").cause("peer-aborted").says("no timeout that is known");
}

fn asks_after_silence(stage: &Stage, arguments: &[&str]) -> Run {
    let tracer = stage.trace_with(&[arguments, &["--received"]].concat());
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.server.tell("close l");
    pair.client.tell(format_args!("idle c {IDLE_MS}"));
    pair.server.tell("vanish s");
    pair.client.tell("send c 7");
    pair.client.wait_error("c", "ECONNRESET");
    stage.finish(tracer, 0, 1)
}

/// The silence matches, and yet it was a kill: other connections, which had not been silent, broke with this one.
pub(crate) fn silence_and_a_killed_server(stage: &Stage) {
    let timeouts = known("server");
    let tracer = trace(stage, &timeouts);
    let mut pair = Pair::open(V4);
    // Connections of one age, each breaking on its own, would be another matter: what a dying process closes on a slow
    // machine is milliseconds apart, and their ages differ by far more.
    pair.exchange("c", "s");
    pair.client.tell("idle c 1000");
    // Between two busy ones it is not the first to break, in whatever order a dying process closes.
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

/// The silence matches, and the server had taken the request: what it then does is no matter of idle time.
pub(crate) fn silence_and_a_slow_answer(stage: &Stage) {
    let timeouts = known("server");
    let tracer = trace(stage, &timeouts);
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.client.tell(format_args!("idle c {IDLE_MS}"));
    pair.client.tell("send c 7");
    pair.server.tell("recv s 7");
    pair.server.tell("quickack s");
    pair.client.tell("idle c 100");
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    stage.finish(tracer, 1, 1).the_received().cause("peer-aborted");
}

/// Nothing under way, the last answer given, and the time is up: something on the way resets.
pub(crate) fn reset_when_time_is_up(stage: &Stage) {
    let timeouts = known("path");
    let tracer = trace(stage, &timeouts);
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.client.tell(format_args!("idle c {IDLE_MS}"));
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    let run = stage.finish(tracer, 1, 1);
    run.the_sent().cause("linger-zero");
    run.the_received().cause("idle-reset").is("/cause/fault", "path").says("1.5 s: a test");
}

/// The same time without an answer: that request was given up, the connection was not idle.
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

/// Half of the time is not the time.
pub(crate) fn too_early_for_the_timeout(stage: &Stage) {
    let timeouts = known("path");
    let tracer = trace(stage, &timeouts);
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    pair.client.tell("idle c 500");
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    stage.finish(tracer, 1, 1).the_received().cause("peer-aborted");
}
