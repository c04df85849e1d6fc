//! HTTP clients that end a request before its answer is complete: because the server is slow, or because they want no more.

use std::{fs, ops::Deref, time::Duration};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    http_client::Client,
    http_server::{self, Server},
    nginx::Nginx,
    program::{self, Program},
    relayed::Relayed,
};
use crate::{
    chain,
    delay::Seen,
    host::{self, Lack},
    reset::Reset,
    scenarios::receivers::wait_until,
    stage::Stage,
    tracer::{Run, Tracer},
};

const PORT: u16 = 8080;
/// Time for which a client waits for an answer that takes 1.9 s, seconds.
const PATIENCE_S: &str = "1.1";
/// Size of a file that no client takes to its end: it does not fit into the buffers of both ends.
const FILE_BYTES: u64 = 64 << 20;

/// Every library that can stop a transfer.
const CLIENTS: [Client; 4] = [Client::Requests, Client::Httpx, Client::Aiohttp, Client::Node];

/// What this host lacks for these scenarios.
pub(crate) fn lack() -> Option<Lack> {
    let clients = CLIENTS.into_iter().chain([Client::Java]).find_map(Client::lack);
    let servers = [Server::Nginx, Server::Haproxy, Server::Gunicorn, Server::Node].into_iter().find_map(Server::lack);
    chain::lack().or(clients).or(servers).or_else(|| host::lacks_program("curl"))
}

/// A server takes longer than its clients wait: each closes, and the answer comes after that.
pub(crate) fn slow_server_is_given_up(stage: &Stage) {
    let path = Path::between(stage);
    let _server = path.inside_server(|| http_server::gunicorn(path.server, &[]));
    let tracer = path.trace(stage, &[]);
    let mut clients = path.clients(&CLIENTS);
    clients.push(path.client.inside(|| Client::Java.start()));
    let mut stops = path.stops(&mut clients, &format!("wait http://{}/slow {PATIENCE_S}", path.server), false);
    let curl = path.curl(&["--max-time", PATIENCE_S, &format!("http://{}/slow", path.server)]);
    stops.push(path.stop(Some(curl.pid()), false));
    check(tracer, &stops, ("gave-up-waiting", "local"), ("client-gave-up", "local"));
}

/// HAProxy in front of a slow server waits for a shorter time than the server takes.
pub(crate) fn haproxy_gives_a_slow_server_up(stage: &Stage) {
    let path = Path::between(stage);
    let _server = path.inside_server(|| http_server::gunicorn(path.server, &[]));
    let tracer = path.trace(stage, &[]);
    let (near, haproxy) = path.haproxy("timeout server 1100ms");
    let _curl = path.curl(&["--fail", &format!("http://{near}/slow")]);
    let stop = path.stop(Some(haproxy.pid()), false);
    // It does not wait for the late answer, and lingers for nothing.
    let run = check(tracer, &[stop], ("linger-zero", "local"), ("client-gave-up", "local"));
    run.sent().next().expect("the reset").says("had waited 1.1 s");
}

/// Clients take the beginning of a large file and close: nothing of theirs is lost, and the server is not slow.
pub(crate) fn downloads_are_stopped(stage: &Stage) {
    let path = Path::between(stage);
    let _nginx = path.serve_file();
    let tracer = path.trace(stage, &[]);
    let mut clients = path.clients(&CLIENTS);
    let mut stops = path.stops(&mut clients, &format!("part http://{}/file 100000", path.server), true);
    path.relay.take_seen();
    let script = format!("curl --silent --noproxy '*' http://{}/file | head --bytes 1000 > /dev/null", path.server);
    let _curl = path.client.inside(|| Program::start("sh", &["-c", &script]));
    stops.push(path.stop(None, true));
    check(tracer, &stops, ("client-cancelled", "none"), ("client-cancelled", "none"));
}

/// Readers leave a stream of events between two of them, as a browser does whose tab is closed.
pub(crate) fn streams_are_left(stage: &Stage) {
    let path = Path::between(stage);
    let _server = path.inside_server(|| http_server::gunicorn(path.server, &[]));
    let tracer = path.trace(stage, &[]);
    let mut clients = path.clients(&CLIENTS);
    let mut stops = path.stops(&mut clients, &format!("part http://{}/events 10", path.server), true);
    let curl = path.curl(&["--no-buffer", &format!("http://{}/events", path.server)]);
    curl.says("data");
    program::signal(curl.pid(), Signal::SIGTERM);
    stops.push(path.stop(Some(curl.pid()), true));
    check(tracer, &stops, ("client-cancelled", "none"), ("client-cancelled", "none"));
}

/// HAProxy lets its server close after each answer, and mostly resets the connection then, so that no socket stays in
/// TIME_WAIT. Nothing is lost either way.
pub(crate) fn haproxy_closes_after_each_answer(stage: &Stage) {
    let path = Path::between(stage);
    let _server = path.inside_server(|| Server::Nginx.start(path.server));
    let mut tracer = path.trace(stage, &[]);
    let (near, haproxy) = path.haproxy("option http-server-close");
    let _curl = path.curl(&["--fail", &format!("http://{near}/")]);
    let port = path.first_port();
    wait_until("the end", || path.has(port, Seen::ClientFin) || path.has(port, Seen::ClientReset));
    let seen = path.seen(port);
    if !seen.contains(&Seen::ClientReset) {
        return tracer.finish().check_counts(0, 0);
    }
    assert!(seen.iter().position(|&what| what == Seen::Fin) < seen.iter().position(|&what| what == Seen::ClientReset));
    tracer.expect(1);
    let run = tracer.finish();
    let sent = run.sent().next().expect("HAProxy's reset").pid(haproxy.pid());
    // Before the FIN is processed, nothing shows that the answer is complete.
    let is_early = sent["socket"]["state"] == "ESTABLISHED";
    if is_early {
        sent.cause("linger-zero");
    } else {
        sent.cause("after-close").is("/cause/benign", true);
    }
    for reset in run.resets.iter().filter(|reset| reset["seq"] != sent["seq"]) {
        reset.is("/cause/fault", "none").is("/cause/benign", true);
    }
}

/// A connection that its client ended.
struct Stop {
    port: u16,
    /// PID of the client; `None` where its name alone is known, which is curl's.
    pid: Option<u32>,
}

/// Path of the scenarios.
struct Path(Relayed);

impl Deref for Path {
    type Target = Relayed;

    fn deref(&self) -> &Relayed {
        &self.0
    }
}

impl Path {
    fn between(stage: &Stage) -> Self {
        Self(Relayed::between(stage, Duration::from_millis(10), PORT))
    }

    /// Serves a large file at `/file`.
    fn serve_file(&self) -> (Nginx, TempDir) {
        let directory = program::directory();
        let file = fs::File::create(directory.path().join("file")).unwrap();
        file.set_len(FILE_BYTES).unwrap();
        let root = format!("root {};", directory.path().display());
        (self.inside_server(|| Nginx::start(&self.server.to_string(), &root, "")), directory)
    }

    /// Lets all clients execute a command that ends with its connection; see [`Self::stop`].
    fn stops(&self, clients: &mut [Program], command: &str, has_begun: bool) -> Vec<Stop> {
        let mut ports = Vec::new();
        for client in &mut *clients {
            client.tell(command);
            let port = self.new_port(&ports);
            ports.push(port);
        }
        let stops = ports.into_iter().zip(&*clients);
        let stops = stops.map(|(port, client)| self.end_of(port, Some(client.pid()), has_begun)).collect();
        for client in clients {
            assert_ne!(client.says(""), "200");
        }
        stops
    }

    /// Waits until the client of the newest connection has ended it and reset what came then. The server had not closed, and
    /// had begun its answer or not.
    fn stop(&self, pid: Option<u32>, has_begun: bool) -> Stop {
        self.end_of(self.first_port(), pid, has_begun)
    }

    fn end_of(&self, port: u16, pid: Option<u32>, has_begun: bool) -> Stop {
        wait_until("the client's reset", || self.has(port, Seen::ClientReset));
        let seen = self.seen(port);
        let ended = seen.iter().position(|what| matches!(what, Seen::ClientFin | Seen::ClientReset)).unwrap();
        assert_eq!(seen[..ended].contains(&Seen::Answer), has_begun, "{seen:?}");
        assert!(!seen[..ended].contains(&Seen::Fin), "{seen:?}");
        Stop { port, pid }
    }
}

/// Checks each end's record of each stop. `client` and `server` are the code, the fault and whether it is benign.
fn check(mut tracer: Tracer, stops: &[Stop], client: (&str, &str), server: (&str, &str)) -> Run {
    while tracer.count(|reset| reset["direction"] == "received") < stops.len() {
        tracer.read_one();
    }
    let run = tracer.finish();
    let mut told = Vec::new();
    for &Stop { port, pid } in stops {
        let mut sent = run.sent().filter(|reset| reset.end("local").port() == port);
        let sent = sent.find(|reset| !is_aftermath(reset)).expect("the client's reset");
        sent.cause(client.0).is("/cause/fault", client.1).is("/cause/benign", client.1 == "none");
        match pid {
            Some(pid) => sent.pid(pid),
            None => sent.is("/process/comm", "curl"),
        };
        let received = run.received().find(|reset| reset.end("peer").port() == port).expect("the server's record");
        // Several clients of one host that leave together are one end of a client, as far as the server sees.
        match received["cause"]["code"].as_str() {
            Some("client-ended") if server.0 == "client-cancelled" => received,
            _ => received.cause(server.0),
        }
        .is("/cause/fault", server.1)
        .is("/cause/benign", server.1 == "none");
        received.is_one_of("/process/comm", ["nginx", "gunicorn"]);
        told.extend([sent["seq"].clone(), received["seq"].clone()]);
    }
    for rest in run.resets.iter().filter(|reset| !told.contains(&reset["seq"])) {
        assert!(is_aftermath(rest), "{:#}", rest.0);
    }
    run
}

/// Whether a record is of the rest of a connection that was reset: a segment that comes late on a busy machine has no cause of
/// its own, and belongs to that incident.
fn is_aftermath(reset: &Reset) -> bool {
    reset["cause"]["code"] == "aftermath" || reset["incident_role"] == "aftermath"
}
