//! The keep-alive race between libraries that keep connections and servers that close idle ones, on paths of several
//! lengths: the next request leaves when the server's FIN is on its way.

use std::{net::SocketAddr, ops::Deref, time::Duration};

use super::{
    hear_head,
    http_client::Client,
    http_server::{self, Server},
    nginx::Nginx,
    program,
    relayed::Relayed,
    truth::End,
};
use crate::{
    chain,
    delay::{Note, Seen},
    host::{self, Lack},
    scenarios::receivers::wait_until,
    stage::Stage,
    tracer::Run,
};

const PORT: u16 = 8080;
/// Attempts until a request and the FIN cross: on a busy machine the client may be too late.
const ATTEMPTS: u32 = 6;

/// Shortest round trip over which the order of FIN and request is clear in spite of the kernel's clock tick.
const CLEAR_MS: u64 = 10;

/// A client, a server, and the round trip between them.
#[derive(Clone, Copy)]
pub(crate) struct Race {
    client: Client,
    server: Server,
    round_trip_ms: u64,
}

const fn race(client: Client, server: Server, round_trip_ms: u64) -> Race {
    Race { client, server, round_trip_ms }
}

/// requests, which waits for its answer, and nginx.
pub(crate) const REQUESTS_NGINX: Race = race(Client::Requests, Server::Nginx, 30);
/// Node.js, an event loop, and HAProxy.
pub(crate) const NODE_HAPROXY: Race = race(Client::Node, Server::Haproxy, 30);
/// aiohttp, an event loop, and gunicorn, over a long path.
pub(crate) const AIOHTTP_GUNICORN: Race = race(Client::Aiohttp, Server::Gunicorn, 200);
/// httpx, which waits for its answer, and uvicorn, over a short path.
pub(crate) const HTTPX_UVICORN: Race = race(Client::Httpx, Server::Uvicorn, 2);
/// The JDK's client and gunicorn.
pub(crate) const JAVA_GUNICORN: Race = race(Client::Java, Server::Gunicorn, 30);
/// requests and Node.js, over a short path. (A client in Node.js heeds the time that a server in Node.js announces.)
pub(crate) const REQUESTS_NODE: Race = race(Client::Requests, Server::Node, 2);
/// httpx, which waits for its answer, and nginx, over a long path.
pub(crate) const HTTPX_NGINX: Race = race(Client::Httpx, Server::Nginx, 200);
/// aiohttp, an event loop, and nginx, over a short path.
pub(crate) const AIOHTTP_NGINX: Race = race(Client::Aiohttp, Server::Nginx, 2);

impl Race {
    /// What this host lacks for it.
    pub(crate) fn lack(self) -> Option<Lack> {
        lack().or_else(|| self.client.lack()).or_else(|| self.server.lack())
    }

    /// Sends requests into the server's FINs until one crosses one, and checks what both ends say of it.
    pub(crate) fn play(self, stage: &Stage) {
        let path = Path::between(stage, self.round_trip_ms);
        let _server = path.inside_server(|| self.server.start(path.server));
        let tracer = path.trace(stage, &[]);
        let mut client = path.client.inside(|| self.client.start());
        let url = format!("http://{}/", path.server);
        let crossings = path.crossings(|| client.ask(&format!("post {url} 0")).starts_with('2'));
        check(&tracer.finish(), &crossings, self.round_trip_ms);
    }
}

/// What this host lacks for requests that cross FINs.
pub(crate) fn lack() -> Option<Lack> {
    let why = "an emulated processor is slower than the path";
    let is_slow = || host::is_guest().then(|| Lack::Guest(why.to_owned()));
    chain::lack().or_else(is_slow)
}

/// What this host lacks for [`gateway_answers_502`].
pub(crate) fn gateway_lack() -> Option<Lack> {
    lack().or_else(|| Server::Nginx.lack()).or_else(|| Server::Gunicorn.lack())
}

/// What this host lacks for [`blocking_client_does_not_look`].
pub(crate) fn blocking_client_lack() -> Option<Lack> {
    lack().or_else(|| Client::Stdlib.lack()).or_else(|| Server::Uvicorn.lack())
}

/// What this host lacks for [`node_closes_with_a_request_unread`].
pub(crate) fn unread_lack() -> Option<Lack> {
    lack().or_else(|| Server::Node.lack())
}

/// nginx keeps connections to an upstream that closes idle ones sooner; the client of nginx gets a 502.
pub(crate) fn gateway_answers_502(stage: &Stage) {
    let near: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    let path = Path::between(stage, 30);
    let _upstream = path.inside_server(|| http_server::gunicorn(path.server, &["--keep-alive", "1"]));
    let tracer = path.trace(stage, &[]);
    let location = "location / { proxy_pass http://far; proxy_http_version 1.1; proxy_set_header Connection \"\"; }";
    let upstream = format!("upstream far {{ server {}; keepalive 4; }}", path.server);
    let _nginx = path.client.inside(|| Nginx::start(&near.to_string(), location, &upstream));
    let mut client = path.client.puppet("the-client");
    let mut statuses = Vec::new();
    let crossings = path.crossings(|| {
        // Two requests on each connection, so that one worker gets both.
        let is_first = statuses.len() % 2 == 0;
        if is_first {
            client.connect("c", near);
        }
        // It may not be repeated.
        ask(&mut client);
        let status = hear_head(&mut client, "c");
        client.tell(if is_first { "recv c 5" } else { "close c" });
        statuses.push(status.clone());
        status.starts_with("HTTP/1.1 200")
    });
    assert!(statuses.iter().any(|status| status.starts_with("HTTP/1.1 502")), "{statuses:?}");
    let run = tracer.finish();
    check(&run, &crossings, 30);
    for received in run.received() {
        received.is("/process/comm", "nginx");
    }
}

/// Python's own client waits for its next request without a look at the connection, which the server has closed.
pub(crate) fn blocking_client_does_not_look(stage: &Stage) {
    let path = Path(Relayed::between(stage, Duration::from_millis(30), PORT));
    let _server = path.inside_server(|| Server::Uvicorn.start(path.server));
    let tracer = path.trace(stage, &[]);
    let mut client = path.client.inside(|| Client::Stdlib.start());
    let command = format!("post http://{}/ 0", path.server);
    assert_eq!(client.ask(&command), "200");
    let (port, ends) = path.last_used();
    // Long ago, by the kernel's clock.
    let is_fin =
        |note: &Note| note.port == port && note.what == Seen::Fin && note.at.elapsed() > Duration::from_millis(100);
    wait_until("the server's FIN", || path.relay.notes().iter().any(is_fin));
    client.ask(&command);
    wait_until("the reset", || path.has(port, Seen::Reset));
    let met = path.met(port);
    assert_eq!(met, Met::EarlierFin);
    check(&tracer.finish(), &[Crossing { port, met, ends }], 30);
}

/// Node.js stands still for a moment in which its timer goes off and the next request comes: the timer is first, and the
/// request lies unread when it closes. No FIN crosses anything.
pub(crate) fn node_closes_with_a_request_unread(stage: &Stage) {
    let path = Path::between(stage, 2);
    let _server = path.inside_server(|| Server::Node.start(path.server));
    let tracer = path.trace(stage, &[]);
    let mut client = path.client.puppet("the-client");
    let request_bytes = u32::try_from(REQUEST.replace('|', "\r\n").len() + 4).unwrap();
    let mut found = None;
    for _ in 0..ATTEMPTS {
        let local = client.connect("c", path.server);
        ask(&mut client);
        hear_head(&mut client, "c");
        let (port, ends) = path.last_used();
        assert_eq!(port, local.port());
        // The body; then silence until shortly before its time (500 ms, and a second) is up.
        client.tell("recv c 5");
        client.tell("idle c 1350");
        program::stop(ends.1.pid());
        ask(&mut client);
        path.inside_server(|| ends.1.has_unread(request_bytes));
        client.ask("idle c 300").ok();
        program::signal(ends.1.pid(), nix::sys::signal::Signal::SIGCONT);
        wait_until("an answer or a reset", || path.answered_or_reset(port));
        if path.met(port) == Met::Nothing {
            client.wait_error("c", "ECONNRESET");
            found = Some(ends);
            break;
        }
        client.tell("close c");
    }
    let (client_end, server_end) = found.expect("the timer was first once");
    let run = tracer.finish();
    let received = run.received().next().expect("the client's reset");
    received.cause("keepalive-race").is("/cause/fault", "local").is("/cause/benign", false).says("had not answered");
    client_end.owns(received);
    let sent = run.sent().next().expect("the server's reset");
    sent.cause("keepalive-race").is("/cause/fault", "peer").is("/cause/benign", false).says("were not read");
    server_end.owns(sent);
}

/// Apache shuts down its side of an idle connection and reads on for two seconds: the request that crosses its FIN is lost,
/// and nothing is reset.
pub(crate) fn apache_lingers(stage: &Stage) {
    let path = Path::between(stage, 30);
    let _server = path.inside_server(|| Server::Apache.start(path.server));
    let tracer = path.trace(stage, &[]);
    let mut client = path.client.inside(|| Client::Httpx.start());
    let command = format!("post http://{}/ 0", path.server);
    assert_eq!(client.ask(&command), "204");
    let port = path.last_port();
    wait_until("the server's FIN", || path.has(port, Seen::FinLeaves));
    assert_eq!(client.ask(&command), "RemoteProtocolError");
    wait_until("the client's FIN", || path.has(port, Seen::ClientFin));
    assert_eq!(path.requests(port), 2, "the request crossed the FIN");
    assert!(!path.has(port, Seen::Reset) && !path.has(port, Seen::ClientReset));
    tracer.finish().check_counts(0, 0);
}

/// What this host lacks for [`apache_lingers`].
pub(crate) fn apache_lack() -> Option<Lack> {
    lack().or_else(|| Server::Apache.lack()).or_else(|| Client::Httpx.lack())
}

const REQUEST: &str = "POST / HTTP/1.1|Host: example|Content-Length: 0";

fn ask(client: &mut crate::puppet::Puppet) {
    client.tell(format_args!("say c {REQUEST}"));
}

/// What a request on a kept connection met, by the order of segments at the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    /// The server's FIN was on its way.
    CrossingFin,
    /// The server's FIN had arrived.
    EarlierFin,
    /// A reset, and no FIN.
    Nothing,
    /// The server answered.
    Answer,
}

/// A request that was reset.
struct Crossing {
    port: u16,
    met: Met,
    /// The client's end and the server's.
    ends: (End, End),
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
    fn between(stage: &Stage, round_trip_ms: u64) -> Self {
        Self(Relayed::crossing(stage, Duration::from_millis(round_trip_ms), PORT))
    }

    /// Lets `post` send a request on a connection that is kept, just after the server's FIN has left, until the two cross.
    /// `post` returns whether it was answered. Returns the requests that were reset.
    fn crossings(&self, mut post: impl FnMut() -> bool) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        for _ in 0..ATTEMPTS {
            self.relay.take_seen();
            assert!(post(), "the first request is answered");
            let (port, ends) = self.last_used();
            wait_until("the server's FIN", || self.has(port, Seen::FinLeaves));
            let requests = self.requests(port);
            post();
            // On another connection, where the FIN was noticed.
            if self.requests(port) == requests {
                continue;
            }
            wait_until("an answer or a reset", || self.answered_or_reset(port));
            let met = self.met(port);
            crossings.push(Crossing { port, met, ends });
            if met == Met::CrossingFin {
                return crossings;
            }
        }
        let met: Vec<Met> = crossings.iter().map(|crossing| crossing.met).collect();
        panic!("in {ATTEMPTS} attempts no request crossed a FIN: {met:?}");
    }

    /// The client's port of the connection with the last request, and both its ends.
    fn last_used(&self) -> (u16, (End, End)) {
        let port = self.last_port();
        (port, self.ends(port))
    }

    fn requests(&self, port: u16) -> usize {
        self.seen(port).iter().filter(|&&what| what == Seen::Request).count()
    }

    /// Whether the last request has been answered or reset.
    fn answered_or_reset(&self, port: u16) -> bool {
        let seen = self.seen(port);
        let asked = seen.iter().rposition(|&what| what == Seen::Request).expect("a request");
        seen[asked..].iter().any(|what| matches!(what, Seen::Answer | Seen::Reset))
    }

    fn met(&self, port: u16) -> Met {
        let seen = self.seen(port);
        let asked = seen.iter().rposition(|&what| what == Seen::Request).expect("a request");
        let fin = seen.iter().position(|&what| what == Seen::Fin);
        match fin {
            _ if seen[asked..].contains(&Seen::Answer) => Met::Answer,
            Some(fin) if fin < asked => Met::EarlierFin,
            Some(_) => Met::CrossingFin,
            None => Met::Nothing,
        }
    }
}

/// Checks both ends' records of each request that was reset, and that there are no others with a fault.
fn check(run: &Run, crossings: &[Crossing], round_trip_ms: u64) {
    assert_eq!(run.lost, 0, "events were lost");
    let mut told = Vec::new();
    for Crossing { port, met, ends: (client, server) } in
        crossings.iter().filter(|crossing| crossing.met != Met::Answer)
    {
        let mut received = run.received().filter(|reset| reset.end("local").port() == *port);
        let record = received.next().expect("the client's reset");
        assert!(received.next().is_none(), "one reset, two records");
        client.owns(record);
        record.is("/cause/fault", "local").is("/cause/benign", false);
        match met {
            Met::EarlierFin => record.cause("reused-closed-connection"),
            // On a busy machine the reset comes later than the order of so close segments can be told from.
            _ if round_trip_ms < CLEAR_MS => {
                record.is_one_of("/cause/code", ["keepalive-race", "reused-closed-connection"])
            }
            _ => record.cause("keepalive-race"),
        };
        told.push(record["seq"].clone());
        let sent = run.sent().find(|reset| reset.end("peer").port() == *port && reset["cause"]["code"] != "aftermath");
        // Kernels before 6.10 do not report a reset for a TIME_WAIT socket.
        assert!(sent.is_some() || !host::traces_without_socket(), "the server's reset of {port} is missing");
        if let Some(sent) = sent {
            sent.cause("keepalive-race").is("/cause/fault", "peer").is("/cause/benign", false).says("of silence");
            server.owns(sent);
            told.push(sent["seq"].clone());
        }
    }
    for rest in run.resets.iter().filter(|reset| !told.contains(&reset["seq"])) {
        rest.is("/cause/benign", true);
    }
}
