//! A gateway in front of a backend that resets connections which the gateway keeps for the next request: at the
//! gateway, the owner of the received reset is the gateway's worker.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use super::{
    ADDRESS, haproxy, hear_head,
    nginx::Nginx,
    program,
    truth::{End, Truth, received_by, sent_by},
    visit_web,
};
use crate::{
    puppet::Puppet,
    stage::{Stage, V4},
};

/// HAProxy as the gateway.
pub(crate) fn backend_resets_haproxy(stage: &Stage) {
    reset_by_backend(stage, |backend| haproxy::start("", backend, ""));
}

/// nginx as the gateway.
pub(crate) fn backend_resets_nginx(stage: &Stage) {
    reset_by_backend(stage, nginx_before);
}

/// Starts an nginx that keeps its connections to a backend.
fn nginx_before(backend: SocketAddr) -> Nginx {
    let location = "location / {
        proxy_pass http://far; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_next_upstream off;
    }";
    Nginx::start(ADDRESS, location, &format!("upstream far {{ server {backend}; keepalive 4; }}"))
}

/// The backend resets an idle connection, and one on which the next request has arrived.
fn reset_by_backend<G>(stage: &Stage, start: impl FnOnce(SocketAddr) -> G) {
    let tracer = stage.trace();
    let (mut play, _gateway) = Play::open(start);
    let mut truth = Truth::default();

    let (idle, its_backend) = play.use_backend("idle");
    play.backend.abort("idle");
    truth.resets(&its_backend, &idle);

    let (asked, its_backend) = play.use_backend("asked");
    play.ask("asked");
    hear_head(&mut play.backend, "asked");
    play.backend.abort("asked");
    play.gets_nothing("asked");
    truth.resets(&its_backend, &asked);

    let run = truth.finish(stage, tracer);
    for end in [&idle, &asked] {
        received_by(&run, end).provenance("connect").is("/process/confidence", "exact");
    }
}

/// The backend closes a connection that nginx keeps just as the next request arrives: the worker handles the request
/// first, and notices the closed connection too late. (HAProxy checks a connection before it uses it.)
pub(crate) fn nginx_is_late(stage: &Stage) {
    let tracer = stage.trace();
    let (mut play, _gateway) = Play::open(nginx_before);
    let mut truth = Truth::default();

    let (closed, its_backend) = play.use_backend("closed");
    program::stop(closed.pid());
    play.ask("closed");
    play.backend.tell("close closed");
    program::signal(closed.pid(), Signal::SIGCONT);
    play.gets_nothing("closed");
    truth.resets(&its_backend, &closed);

    let run = truth.finish(stage, tracer);
    received_by(&run, &closed)
        .provenance("connect")
        .is("/process/confidence", "exact")
        .cause("reused-closed-connection");
    sent_by(&run, &its_backend).cause("data-after-close");
}

struct Play {
    client: Puppet,
    backend: Puppet,
    backend_end: SocketAddr,
}

impl Play {
    /// Starts a backend that listens, and a gateway in front of it.
    fn open<G>(start: impl FnOnce(SocketAddr) -> G) -> (Self, G) {
        let (client, mut backend) = (Puppet::start("the-client"), Puppet::start("the-backend"));
        let backend_end = backend.listen("l", V4, 16);
        (Self { client, backend, backend_end }, start(backend_end))
    }

    /// Requests a page on the client's connection `name`, for which the gateway opens a connection, `name` at the
    /// backend. Returns the gateway's end of it and the backend's.
    fn use_backend(&mut self, name: &str) -> (End, End) {
        let (worker, _) = visit_web(&mut self.client, name);
        self.ask(name);
        let gateway_end = self.backend.tell(format_args!("accept {name} l")).parse().unwrap();
        hear_head(&mut self.backend, name);
        self.backend.tell(format_args!("say {name} HTTP/1.1 200 OK|Content-Length: 0"));
        assert_eq!(hear_head(&mut self.client, name), "HTTP/1.1 200 OK");
        let end = End::held_by(worker.pid(), gateway_end, self.backend_end);
        (end, End::of(&self.backend, self.backend_end, gateway_end))
    }

    /// Requests a page.
    fn ask(&mut self, name: &str) {
        self.client.tell(format_args!("say {name} GET /page HTTP/1.1|Host: example"));
    }

    /// Checks that the client gets no page: nginx answers with an error, HAProxy closes the connection, so that the
    /// client tries again.
    fn gets_nothing(&mut self, name: &str) {
        let answer = self.client.ask(format_args!("hear_line {name}"));
        assert!(answer.as_ref().map_or(true, |line| line.starts_with("HTTP/1.1 502 ")), "{answer:?}");
    }
}
