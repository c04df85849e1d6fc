//! Idle timeouts and limits of real programs, each at its minimum, and a client that does not notice them.

use std::fs;

use tempfile::NamedTempFile;

use super::{
    ADDRESS, address, haproxy,
    nginx::Nginx,
    program::{self, Program},
    visit_web,
};
use crate::{host, puppet::Puppet, reset::Reset, stage::Stage};

const HTTP_SERVER: &str = "const server = require('http').createServer((_, answer) => answer.end(process.pid + '\\n'));
server.keepAliveTimeout = 1000;
server.listen(process.argv[1], '127.0.0.1', () => console.log('ready'));";

const WSGI_APPLICATION: &str = "import os
def app(environ, start):
    body = b'%d\\n' % os.getpid()
    start('200 OK', [('Content-Length', str(len(body)))])
    return [body]
";

/// nginx closes an idle connection normally.
pub(crate) fn nginx_keepalive_expires(stage: &Stage) {
    uses_what_the_server_closed(stage, || Nginx::start(ADDRESS, "keepalive_timeout 1s;", ""));
}

/// HAProxy closes an idle connection normally.
pub(crate) fn haproxy_keepalive_expires(stage: &Stage) {
    let closed = "127.0.0.1:9".parse().unwrap();
    uses_what_the_server_closed(stage, || haproxy::start("timeout http-keep-alive 1s", closed, ""));
}

/// Node.js closes an idle connection normally.
pub(crate) fn node_keepalive_expires(stage: &Stage) {
    uses_what_the_server_closed(stage, || {
        let node = Program::start("node", &["-e", HTTP_SERVER, &address().port().to_string()]);
        node.says("ready");
        node
    });
}

/// gunicorn closes an idle connection normally.
pub(crate) fn gunicorn_keepalive_expires(stage: &Stage) {
    uses_what_the_server_closed(stage, || {
        let directory = program::directory();
        let path = directory.path().display().to_string();
        fs::write(directory.path().join("application.py"), WSGI_APPLICATION).unwrap();
        let options = ["--keep-alive", "1", "--worker-class", "gthread", "--threads", "2", "--worker-tmp-dir", &path];
        let gunicorn = Program::start(
            "gunicorn",
            &[&["--chdir", &path, "--bind", ADDRESS][..], &options, &["application:app"]].concat(),
        );
        gunicorn.says("Booting worker");
        (gunicorn, directory)
    });
}

/// The client waits until the server has closed, and sends another request on the same connection.
fn uses_what_the_server_closed<G>(stage: &Stage, start: impl FnOnce() -> G) {
    let _server = start();
    let tracer = stage.trace_with(&["--received"]);
    let mut client = Puppet::start("the-client");
    let (server_end, _) = visit_web(&mut client, "c");
    client.tell("eof c");
    // On a slow machine there is time for another request between the server's shutdown and its close.
    server_end.is_closed();
    client.tell("quickack c");
    client.tell("say c GET /pid HTTP/1.1|Host: example");
    client.wait_error("c", "EPIPE");
    let run = stage.finish(tracer, 0, 1);
    run.the_received().state("CLOSE_WAIT").owner(&client).cause("reused-closed-connection").is("/cause/fault", "local");
}

/// Redis closes an idle connection normally.
pub(crate) fn redis_timeout_expires(stage: &Stage) {
    let (_, port) = ADDRESS.split_once(':').unwrap();
    let redis =
        Program::start("redis-server", &["--bind", "127.0.0.1", "--port", port, "--save", "", "--timeout", "1"]);
    redis.says("Ready to accept connections");
    let tracer = stage.trace_with(&["--received"]);
    let mut client = Puppet::start("the-client");
    client.connect("c", address());
    client.tell("say_line c PING");
    assert_eq!(client.tell("hear_line c"), "+PONG");
    client.tell("eof c");
    client.tell("quickack c");
    client.tell("say_line c PING");
    client.wait_error("c", "EPIPE");
    let run = stage.finish(tracer, 0, 1);
    run.the_received().state("CLOSE_WAIT").cause("reused-closed-connection");
}

/// `reset_timedout_connection`: nginx resets a client that does not complete its request. The client had begun one, so
/// the time that it waited is no idle time, though it matches a timeout.
pub(crate) fn nginx_resets_a_slow_client(stage: &Stage) {
    let _nginx = Nginx::start(ADDRESS, "client_header_timeout 1s; reset_timedout_connection on;", "");
    let timeouts = NamedTempFile::new().unwrap();
    fs::write(timeouts.path(), "[[timeout]]\nowner = 'nginx client_header_timeout'\nseconds = 1\n").unwrap();
    let tracer = stage.trace_with(&["--timeouts", timeouts.path().to_str().unwrap()]);
    let mut client = Puppet::start("the-client");
    client.connect("c", address());
    client.tell("say_line c GET / HTTP/1.1");
    client.wait_error("c", "ECONNRESET");
    let run = stage.finish(tracer, 1, 1);
    run.the_sent().is("/process/comm", "nginx").cause("linger-zero");
    advises(run.the_sent(), "reset_timedout_connection");
    run.the_received().cause("peer-aborted").says("had waited");
}

/// An upload that is too large, without lingering close: nginx answers and closes, with data unread or before more
/// arrive.
pub(crate) fn nginx_does_not_linger(stage: &Stage) {
    let _nginx = Nginx::start(ADDRESS, "client_max_body_size 1k; lingering_close off;", "");
    let mut tracer = stage.trace();
    let mut client = Puppet::start("the-client");
    let client_end = client.connect("c", address());
    client.tell("say c POST / HTTP/1.1|Host: example|Content-Length: 100000000");
    // As much as the socket takes; the reset may arrive in the middle of it.
    while client.ask("send c 1000000").is_ok() {}
    while tracer.count(|reset| reset["direction"] == "received") == 0 {
        tracer.read_one();
    }
    // Data that were still in flight may be answered with resets too, for a socket that no longer exists.
    let run = tracer.finish();
    let received = run.the_received().between(client_end, address()).is("/cause/fault", "peer");
    // Resets of other connections at the same moment take seconds where the CPU is emulated.
    let codes = ["peer-closed-unread", "peer-aborted"];
    received.is_one_of("/cause/code", codes.into_iter().take(if host::is_guest() { 2 } else { 1 }));
    let sent = run.sent().find(|sent| sent["process"]["comm"] == "nginx");
    // Kernels before 6.10 do not report a reset for a TIME_WAIT socket.
    assert!(sent.is_some() || !host::traces_without_socket(), "nginx's own reset is missing");
    if let Some(sent) = sent {
        sent.is_one_of("/cause/code", ["closed-with-unread-data", "data-after-close"]);
        advises(sent, "lingering_close");
    }
}

/// Checks that the advice names this setting.
fn advises(reset: &Reset, setting: &str) {
    let advice = reset["cause"]["advice"].as_str().unwrap_or_default();
    assert!(advice.contains(setting), "no {setting} in: {advice}");
}
