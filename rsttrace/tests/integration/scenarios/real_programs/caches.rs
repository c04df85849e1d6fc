//! Varnish and Squid between a client and a backend.

use std::{fs, net::SocketAddr};

use tempfile::TempDir;

use super::{
    ADDRESS, address, hear_head,
    program::{self, Program, until},
    truth::{End, listens},
};
use crate::{
    host,
    puppet::Puppet,
    stage::{Stage, V4},
    wire::Wire,
};

/// A running cache.
struct Cache {
    /// The process with all connections.
    pid: u32,
    _program: Program,
    _directory: TempDir,
}

/// Starts Varnish, which closes an idle client after a second.
fn varnish(backend: SocketAddr) -> Cache {
    let directory = program::directory();
    let path = directory.path().display().to_string();
    let backend = backend.to_string();
    let arguments = ["-F", "-a", ADDRESS, "-b", &backend, "-n", &path, "-s", "malloc,16m", "-j", "none", "-T", "none"];
    let settings = ["-p", "timeout_idle=1"];
    let program = Program::start("varnishd", &[&arguments[..], &settings].concat());
    program.says("Child launched OK");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", program.pid())).unwrap();
    let pid = children.split_whitespace().next().expect("a child").parse().unwrap();
    until("the child listens", || program::comm(pid) == "cache-main" && listens(address()));
    Cache { pid, _program: program, _directory: directory }
}

/// Starts Squid, which closes an idle client after a second and fetches no more than its client takes.
fn squid(_: SocketAddr) -> Cache {
    let directory = program::directory();
    let configuration = format!(
        "http_port {ADDRESS}
         pid_filename none
         cache deny all
         access_log none
         cache_log /dev/null
         http_access allow all
         netdb_filename none
         pinger_enable off
         visible_hostname example
         client_idle_pconn_timeout 1 second
         quick_abort_min 0 KB
         quick_abort_max 0 KB\n"
    );
    let file = directory.path().join("squid.conf");
    fs::write(&file, configuration).unwrap();
    // With memory to share of its own, which a killed one would leave behind for the next.
    let squid = host::program("squid").expect("it is installed").display().to_string();
    let start = "mount -t tmpfs tmpfs /dev/shm && exec \"$@\"";
    let arguments = ["--mount", "sh", "-c", start, "sh", &squid, "-N", "-d", "1", "-f", &file.display().to_string()];
    let program = Program::start("unshare", &arguments);
    program.says("Accepting HTTP Socket connections");
    until("it listens", || listens(address()));
    Cache { pid: program.pid(), _program: program, _directory: directory }
}

/// A client, a cache, and a backend that listens.
struct Play {
    client: Puppet,
    backend: Puppet,
    backend_end: SocketAddr,
    cache: Cache,
}

impl Play {
    fn open(start: fn(SocketAddr) -> Cache) -> Self {
        let (client, mut backend) = (Puppet::start("the-client"), Puppet::start("the-backend"));
        let backend_end = backend.listen("l", V4, 16);
        Self { client, backend, backend_end, cache: start(backend_end) }
    }

    /// Asks for what no cache keeps, and what is not asked twice.
    fn ask(&mut self) {
        self.ask_by("POST");
    }

    /// Asks by this method.
    fn ask_by(&mut self, method: &str) {
        // Squid is a forward proxy; Varnish takes the form of its requests as well.
        let backend = self.backend_end;
        self.client
            .tell(format_args!("say c {method} http://{backend}/page HTTP/1.1|Host: {backend}|Content-Length: 0"));
    }

    /// Has a request answered on a new connection of the client's, by a new connection to the backend; returns the client's
    /// end and the cache's end towards the backend.
    fn visit(&mut self, method: &str, answer: &str) -> (SocketAddr, SocketAddr) {
        let client_end = self.client.connect("c", address());
        self.ask_by(method);
        let cache_end = self.backend.tell("accept b l").parse().unwrap();
        hear_head(&mut self.backend, "b");
        self.backend.tell(format_args!("say b HTTP/1.1 200 OK|Cache-Control: no-store|{answer}"));
        hear_head(&mut self.client, "c");
        (client_end, cache_end)
    }
}

/// The cache closes an idle client, which asks again.
fn idle_client_asks_again(stage: &Stage, start: fn(SocketAddr) -> Cache) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let mut play = Play::open(start);
    let (client_end, _) = play.visit("POST", "Content-Length: 0");
    let cache_end = End::held_by(play.cache.pid, address(), client_end);
    play.client.tell("eof c");
    cache_end.is_closed();
    play.ask();
    play.client.wait_error("c", "EPIPE");

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    let received = told.received(client_end, address()).owner(&play.client).cause("reused-closed-connection");
    received.is("/cause/fault", "local");
    if host::shows_without_socket() {
        let sent = told.sent(address(), client_end).pid(play.cache.pid).cause("keepalive-race");
        sent.is("/cause/fault", "peer").says("of silence");
    }
    told.rest_is_harmless();
}

/// The backend closes a connection of the cache's pool as the next request comes, after a silence.
fn backend_closes_as_a_request_comes(stage: &Stage, start: fn(SocketAddr) -> Cache) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let mut play = Play::open(start);
    let (_, cache_end) = play.visit("GET", "Content-Length: 0");
    play.client.tell("close c");
    play.backend.tell("idle b 1500");
    let pool_end = End::held_by(play.cache.pid, cache_end, play.backend_end);
    play.client.connect("c", address());
    play.ask_by("GET");
    play.backend.tell("wait_unread b 20");
    play.backend.tell("close b");
    // The cache tries again, or tells its client of a failure; it has closed its end by then.
    pool_end.is_closed();

    let told = wire.finish(tracer, 2);
    let received = told.received(cache_end, play.backend_end).pid(play.cache.pid).cause("keepalive-race");
    received.is("/cause/fault", "local").says("silence");
    let sent = told.sent(play.backend_end, cache_end).owner(&play.backend).cause("keepalive-race");
    sent.is("/cause/fault", "peer");
    told.rest_is_harmless();
}

/// The backend aborts while it owes an answer: no idle timeout.
fn backend_aborts_a_request(stage: &Stage, start: fn(SocketAddr) -> Cache) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let mut play = Play::open(start);
    play.client.connect("c", address());
    play.ask();
    let cache_end = play.backend.tell("accept b l").parse().unwrap();
    hear_head(&mut play.backend, "b");
    let pool_end = End::held_by(play.cache.pid, cache_end, play.backend_end);
    play.backend.abort("b");
    pool_end.is_closed();

    let told = wire.finish(tracer, 2);
    let received = told.received(cache_end, play.backend_end).pid(play.cache.pid).cause("peer-aborted");
    received.is("/cause/fault", "peer");
    told.sent(play.backend_end, cache_end).owner(&play.backend).cause("linger-zero");
    told.rest_is_harmless();
}

/// A client stops a download, and the cache stops fetching.
fn client_stops_a_download(stage: &Stage, start: fn(SocketAddr) -> Cache) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let mut play = Play::open(start);
    let (client_end, cache_end) = play.visit("POST", "Content-Length: 100000000");
    play.backend.tell("send b 1000000");
    play.client.tell("recv c 10000");
    play.client.tell("wait_unread c 10000");
    play.client.tell("close c");
    // Varnish notices with the next part.
    while play.backend.ask("send b 100000").is_ok() {}

    let told = wire.finish(tracer, 4);
    let sent = told.sent(client_end, address()).owner(&play.client);
    sent.is_one_of("/cause/code", ["client-cancelled", "closed-with-unread-data"]);
    let received = told.received(address(), client_end).pid(play.cache.pid).cause("client-cancelled");
    received.is("/cause/fault", "none");
    let sent = told.sent(cache_end, play.backend_end).pid(play.cache.pid);
    sent.is_one_of("/cause/code", ["relayed", "client-cancelled", "closed-with-unread-data"])
        .is_one_of("/cause/fault", ["none", "local"]);
    let received = told.received(play.backend_end, cache_end).owner(&play.backend).cause("client-cancelled");
    received.is("/cause/fault", "none");
    told.rest_is_harmless();
}

/// A client gives up on an answer that does not come: no stopped download.
fn client_gives_up(stage: &Stage, start: fn(SocketAddr) -> Cache) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let mut play = Play::open(start);
    let client_end = play.client.connect("c", address());
    play.ask();
    play.backend.tell("accept b l");
    play.client.tell("idle c 800");
    let cache_end = End::held_by(play.cache.pid, address(), client_end);
    play.client.abort("c");
    cache_end.is_closed();

    let told = wire.finish(tracer, 2);
    told.sent(client_end, address()).owner(&play.client).cause("linger-zero");
    let received = told.received(address(), client_end).pid(play.cache.pid).cause("client-gave-up");
    received.is("/cause/fault", "local").says("had waited");
}

/// Varnish closes an idle client, which asks again.
pub(crate) fn varnish_idle_client_asks_again(stage: &Stage) {
    idle_client_asks_again(stage, varnish);
}

/// Varnish's backend closes an idle connection as a request comes.
pub(crate) fn varnish_backend_closes_as_a_request_comes(stage: &Stage) {
    backend_closes_as_a_request_comes(stage, varnish);
}

/// Varnish's backend aborts a request.
pub(crate) fn varnish_backend_aborts_a_request(stage: &Stage) {
    backend_aborts_a_request(stage, varnish);
}

/// Varnish's client stops a download.
pub(crate) fn varnish_client_stops_a_download(stage: &Stage) {
    client_stops_a_download(stage, varnish);
}

/// Varnish's client gives up.
pub(crate) fn varnish_client_gives_up(stage: &Stage) {
    client_gives_up(stage, varnish);
}

/// Squid closes an idle client, which asks again.
pub(crate) fn squid_idle_client_asks_again(stage: &Stage) {
    idle_client_asks_again(stage, squid);
}

/// Squid's backend closes an idle connection as a request comes.
pub(crate) fn squid_backend_closes_as_a_request_comes(stage: &Stage) {
    backend_closes_as_a_request_comes(stage, squid);
}

/// Squid's backend aborts a request.
pub(crate) fn squid_backend_aborts_a_request(stage: &Stage) {
    backend_aborts_a_request(stage, squid);
}

/// Squid's client stops a download.
pub(crate) fn squid_client_stops_a_download(stage: &Stage) {
    client_stops_a_download(stage, squid);
}

/// Squid's client gives up.
pub(crate) fn squid_client_gives_up(stage: &Stage) {
    client_gives_up(stage, squid);
}
