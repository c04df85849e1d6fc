//! Uploads that servers do not read to their end: answered early, dropped, or left by a process that ends.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    http_client::Client,
    http_server::{self, Server},
    nginx::Nginx,
    program,
    relayed::Relayed,
    truth::End,
};
use crate::{chain, delay::Seen, host::Lack, scenarios::receivers::wait_until, stage::Stage, tracer::Tracer};

const PORT: u16 = 8080;
const ROUND_TRIP: Duration = Duration::from_millis(10);
/// Size of an upload that does not fit into the buffers of both ends.
const BYTES: u32 = 16_000_000;
/// Segments of an upload that are more than a server reads at once.
const SEGMENTS: usize = 20;
const CLIENTS: [Client; 4] = [Client::Requests, Client::Httpx, Client::Aiohttp, Client::Node];

/// What this host lacks for these scenarios.
pub(crate) fn lack() -> Option<Lack> {
    let clients = CLIENTS.into_iter().find_map(Client::lack);
    let servers = [Server::Nginx, Server::Gunicorn, Server::Node].into_iter().find_map(Server::lack);
    chain::lack().or(clients).or(servers)
}

/// gunicorn answers 401 and closes, without a look at what is uploaded. (Its workers with threads read on.)
pub(crate) fn gunicorn_answers_early(stage: &Stage) {
    let path = Relayed::between(stage, ROUND_TRIP, PORT);
    let _server =
        path.inside_server(|| http_server::gunicorn(path.server, &["--worker-class", "sync", "--threads", "1"]));
    let tracer = path.trace(stage, &[]);
    let uploads = upload(&path, "refused", |_| {});
    for upload in &uploads {
        assert!(upload.was_answered, "the answer is early");
    }
    // All that was sent may have been acknowledged in that microsecond.
    let received = ["peer-closed-unread", "peer-aborted"];
    check(tracer, &uploads, &["closed-with-unread-data", "data-after-close"], &received);
}

/// nginx is told to hang up (`return 444`).
pub(crate) fn nginx_hangs_up(stage: &Stage) {
    let path = Relayed::between(stage, ROUND_TRIP, PORT);
    let server = "client_max_body_size 0; location = /dropped { return 444; }";
    let _server = path.inside_server(|| Nginx::start(&path.server.to_string(), server, ""));
    let tracer = path.trace(stage, &[]);
    let uploads = upload(&path, "dropped", |_| {});
    for upload in &uploads {
        assert!(!upload.was_answered, "nginx says nothing");
    }
    let sent = ["closed-with-unread-data", "data-after-close", "linger-zero"];
    check(tracer, &uploads, &sent, &["peer-closed-unread", "peer-aborted"]);
}

/// A worker of gunicorn is killed, as by the out-of-memory killer, before it has read an upload.
pub(crate) fn worker_is_killed(stage: &Stage) {
    let path = Relayed::between(stage, ROUND_TRIP, PORT);
    let _server = path.inside_server(|| http_server::gunicorn(path.server, &[]));
    let tracer = path.trace(stage, &[]);
    let uploads = upload(&path, "slow", |server| program::signal(server.pid(), Signal::SIGKILL));
    check(tracer, &uploads, &["process-died"], &["peer-aborted", "peer-restarted"]);
}

/// Node.js exits by itself before it has read an upload.
pub(crate) fn process_exits(stage: &Stage) {
    let path = Relayed::between(stage, ROUND_TRIP, PORT);
    for client in CLIENTS {
        let _server = path.inside_server(|| Server::Node.start(path.server));
        let tracer = path.trace(stage, &[]);
        let uploads = [upload_by(&path, client, "exit", |_| {})];
        // Whether anything is unread in that microsecond is by chance.
        check(
            tracer,
            &uploads,
            &["process-exited", "data-after-close"],
            &["peer-aborted", "peer-closed-unread", "peer-restarted"],
        );
    }
}

/// An upload that ended with a reset.
struct Upload {
    port: u16,
    /// PID of the client.
    client: u32,
    /// The server's end.
    server: Option<End>,
    /// Whether an answer had come before the reset.
    was_answered: bool,
}

/// Lets each client upload to `/NAME`, one after the other; `act` is done when the server has got the first segments.
fn upload(path: &Relayed, name: &str, act: impl Fn(&End)) -> Vec<Upload> {
    CLIENTS.into_iter().map(|client| upload_by(path, client, name, &act)).collect()
}

fn upload_by(path: &Relayed, library: Client, name: &str, act: impl Fn(&End)) -> Upload {
    let mut client = path.client.inside(|| library.start());
    path.relay.take_seen();
    client.tell(&format!("upload http://{}/{name} {BYTES}", path.server));
    let port = path.first_port();
    let is_going_on = || path.seen(port).iter().filter(|&&what| what == Seen::Request).count() >= SEGMENTS;
    wait_until("an upload", || is_going_on() || path.has(port, Seen::Reset));
    // A server that ends the connection by itself may have done so.
    let server = (name == "slow").then(|| path.ends(port).1);
    server.iter().for_each(act);
    wait_until(&format!("a reset of the upload by {library:?}"), || path.has(port, Seen::Reset));
    client.says("");
    let seen = path.seen(port);
    let reset = seen.iter().position(|&what| what == Seen::Reset).unwrap();
    let was_answered = seen[..reset].contains(&Seen::Answer);
    assert!(!seen[..reset].iter().any(|what| matches!(what, Seen::ClientFin | Seen::ClientReset)), "{seen:?}");
    Upload { port, client: client.pid(), server, was_answered }
}

/// Checks each end's record of each upload: whose codes these are, that the server's side has something to change, and that
/// no other record has a fault.
fn check(mut tracer: Tracer, uploads: &[Upload], sent_as: &[&str], received_as: &[&str]) {
    let was_told = |reset: &serde_json::Value| reset["direction"] == "received";
    while tracer.count(was_told) < uploads.len() {
        tracer.read_one();
    }
    let run = tracer.finish();
    let mut told = Vec::new();
    for Upload { port, client, server, .. } in uploads {
        let mut sent = run.sent().filter(|reset| reset.end("peer").port() == *port);
        let sent = sent.find(|reset| reset["cause"]["code"] != "aftermath").expect("the server's reset");
        sent.is_one_of("/cause/code", sent_as.iter().copied()).is("/cause/fault", "local").is("/cause/benign", false);
        if let Some(server) = server {
            server.owns(sent);
        }
        let received = run.received().find(|reset| reset.end("local").port() == *port).expect("the client's record");
        received.is_one_of("/cause/code", received_as.iter().copied()).is("/cause/fault", "peer").pid(*client);
        told.extend([&sent["seq"], &received["seq"]]);
    }
    for rest in run.resets.iter().filter(|reset| !told.contains(&&reset["seq"])) {
        rest.cause("aftermath").is("/cause/benign", true);
    }
}
