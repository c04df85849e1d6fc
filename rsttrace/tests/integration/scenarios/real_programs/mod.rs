//! Widely used programs, and the ways in which their sockets pass from one process to another. Each scenario knows
//! independently which process holds which end of a connection, and every other owner is a failure.

pub(crate) mod alerts;
pub(crate) mod apache;
pub(crate) mod caches;
pub(crate) mod curl;
pub(crate) mod forwarders;
pub(crate) mod gateway;
pub(crate) mod haproxy;
mod http_client;
mod http_server;
pub(crate) mod inetd;
pub(crate) mod jvm;
pub(crate) mod mariadb;
pub(crate) mod memcached;
pub(crate) mod nginx;
pub(crate) mod node;
pub(crate) mod openssh;
pub(crate) mod ordinary;
pub(crate) mod pools;
pub(crate) mod postgres;
mod program;
pub(crate) mod python;
pub(crate) mod race;
pub(crate) mod redis;
mod relayed;
pub(crate) mod relays;
pub(crate) mod reload;
pub(crate) mod stopped;
pub(crate) mod timeouts;
pub(crate) mod tls;
mod truth;
pub(crate) mod uploads;

use std::net::SocketAddr;

use truth::{End, Truth, sent_by};

use crate::{puppet::Puppet, stage::Stage};

/// Address that a program listens at, in a network namespace of its own.
const ADDRESS: &str = "127.0.0.1:8080";

/// [`ADDRESS`] as a socket address.
fn address() -> SocketAddr {
    ADDRESS.parse().unwrap()
}

/// Connects `name` to a web server that answers with the PID of the process that serves; returns the server's end and
/// the client's.
fn visit_web(client: &mut Puppet, name: &str) -> (End, End) {
    let client_end = client.connect(name, address());
    client.tell(format_args!("say {name} GET /pid HTTP/1.1|Host: example"));
    hear_head(client, name);
    server_and_client(client, name, client_end)
}

/// Connects to a web server by [`visit_web`] and resets the idle connection.
fn abort_after_visit(client: &mut Puppet, truth: &mut Truth) {
    let (server_end, client_end) = visit_web(client, "idle");
    client.abort("idle");
    truth.resets(&client_end, &server_end);
}

/// Reads the head of an HTTP message; returns its first line.
fn hear_head(puppet: &mut Puppet, name: &str) -> String {
    let hear = format!("hear_line {name}");
    let first = puppet.tell(&hear);
    while !puppet.tell(&hear).is_empty() {}
    first
}

/// Connects `name` to a server that executes one command per line, and asks it for the PID of the process that serves;
/// returns the server's end and the client's.
fn visit(client: &mut Puppet, name: &str) -> (End, End) {
    let client_end = client.connect(name, address());
    client.tell(format_args!("say_line {name} pid"));
    server_and_client(client, name, client_end)
}

/// Both ends of a connection on which the PID of the process that serves it comes next.
fn server_and_client(client: &mut Puppet, name: &str, client_end: SocketAddr) -> (End, End) {
    let pid = client.tell(format_args!("hear_line {name}")).parse().unwrap();
    (End::held_by(pid, address(), client_end), End::of(client, client_end, address()))
}

/// Connects to a server that executes one command per line, and resets connections from either side in every way.
fn reset_in_every_way(stage: &Stage, start: impl FnOnce() -> program::Program) {
    let tracer = stage.trace();
    let _server = start();
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();

    let (server_end, client_end) = visit(&mut client, "given-up");
    client.abort("given-up");
    truth.resets(&client_end, &server_end);

    let (aborted, client_end) = visit(&mut client, "aborted");
    client.tell("say_line aborted abort");
    client.wait_error("aborted", "ECONNRESET");
    truth.resets(&aborted, &client_end);

    let (left, client_end) = visit(&mut client, "left");
    client.tell("say_line left leave");
    client.tell("send left 7");
    client.wait_error("left", "ECONNRESET");
    truth.resets(&left, &client_end);

    let (exited, client_end) = visit(&mut client, "exited");
    client.tell("say_line exited exit");
    client.tell("send exited 7");
    client.wait_error("exited", "ECONNRESET");
    truth.resets(&exited, &client_end);

    let run = truth.finish(stage, tracer);
    sent_by(&run, &aborted).cause("linger-zero");
    sent_by(&run, &left).cause("closed-with-unread-data");
    sent_by(&run, &exited).cause("process-exited");
}
