//! Redis: one process with several threads.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use super::{
    ADDRESS, address,
    program::{self, Program},
    truth::{End, Truth, kill_with_unread_data, sent_by},
};
use crate::{
    host,
    puppet::Puppet,
    stage::{Stage, V4},
    wire::Wire,
};

/// Starts Redis with more arguments.
fn start(arguments: &[&str]) -> Program {
    let (address, port) = ADDRESS.split_once(':').unwrap();
    let redis =
        Program::start("redis-server", &[&["--bind", address, "--port", port, "--save", ""], arguments].concat());
    redis.says("Ready to accept connections");
    redis
}

/// Connects `name` and has a command answered; returns the client's end.
fn ping(client: &mut Puppet, name: &str) -> SocketAddr {
    let end = client.connect(name, address());
    client.tell(format_args!("say_line {name} PING"));
    assert_eq!(client.tell(format_args!("hear_line {name}")), "+PONG");
    end
}

/// A client resets its connection; another client has the server close the connection of a third, whose command has
/// arrived but has not been read yet.
pub(crate) fn redis_kills_a_client(stage: &Stage) {
    let tracer = stage.trace();
    let redis = start(&[]);
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();
    let mut connect = |name| {
        let client_end = client.connect(name, address());
        client.tell(format_args!("say_line {name} PING"));
        assert_eq!(client.tell(format_args!("hear_line {name}")), "+PONG");
        (End::held_by(redis.pid(), address(), client_end), End::of(&client, client_end, address()), client_end)
    };
    let (idle, idle_client, _) = connect("idle");
    let (_killer, ..) = connect("killer");
    let (victim, victim_client, victim_address) = connect("victim");

    client.abort("idle");
    truth.resets(&idle_client, &idle);

    // Commands that arrive while the server is stopped are executed in the order in which they arrived.
    program::stop(redis.pid());
    client.tell(format_args!("say_line killer CLIENT KILL {victim_address}"));
    client.tell("say_line victim PING");
    victim.has_unread(5);
    program::signal(redis.pid(), Signal::SIGCONT);
    client.wait_error("victim", "ECONNRESET");
    truth.resets(&victim, &victim_client);

    let run = truth.finish(stage, tracer);
    sent_by(&run, &victim).is("/socket/unread_bytes", 5).cause("closed-with-unread-data");
}

/// `timeout` closes a connection of a pool, which uses it again: both ends name the pool.
pub(crate) fn timeout_meets_a_pool(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let redis = start(&["--timeout", "1"]);
    let mut client = Puppet::start("the-client");
    let end = ping(&mut client, "c");
    client.tell("eof c");
    client.tell("say_line c PING");
    client.wait_error("c", "EPIPE");

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    let received = told.received(end, address()).owner(&client).cause("reused-closed-connection");
    received.is("/cause/fault", "local").says("of silence");
    if host::shows_without_socket() {
        let sent = told.sent(address(), end).pid(redis.pid()).cause("keepalive-race");
        sent.is("/cause/fault", "peer").says("of silence");
    }
    told.rest_is_harmless();
}

/// `CLIENT KILL` ends a connection that was used a moment before: no idle timeout did.
pub(crate) fn killed_client_is_no_timeout(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let redis = start(&[]);
    let mut client = Puppet::start("the-client");
    ping(&mut client, "killer");
    let end = ping(&mut client, "victim");
    client.tell(format_args!("say_line killer CLIENT KILL {end}"));
    client.tell("eof victim");
    client.tell("say_line victim PING");
    client.wait_error("victim", "EPIPE");

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    told.received(end, address()).owner(&client).cause("reused-closed-connection");
    if host::shows_without_socket() {
        told.sent(address(), end).pid(redis.pid()).cause("data-after-close").is("/cause/fault", "local");
    }
    told.rest_is_harmless();
}

/// `maxclients`: the server says so and closes, before a client's first command or with it unread.
pub(crate) fn maxclients_turns_clients_away(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let redis = start(&["--maxclients", "1"]);
    let mut client = Puppet::start("the-client");
    ping(&mut client, "first");

    let late = client.connect("late", address());
    assert!(client.tell("hear_line late").starts_with("-ERR max number of clients"));
    client.tell("eof late");
    client.tell("say_line late PING");
    client.wait_error("late", "EPIPE");

    // It accepts late, as a busy server does.
    program::stop(redis.pid());
    let unread = client.connect("unread", address());
    client.tell("say_line unread PING");
    client.tell("idle unread 100");
    program::signal(redis.pid(), Signal::SIGCONT);
    client.wait_error("unread", "ECONNRESET");

    let told = wire.finish(tracer, 3 + u64::from(host::shows_without_socket()));
    let received = told.received(late, address()).owner(&client).cause("turned-away");
    received.is("/cause/fault", "peer").says("after the handshake");
    told.received(unread, address()).owner(&client).is("/cause/fault", "peer");
    if host::shows_without_socket() {
        told.sent(address(), late).pid(redis.pid()).cause("turned-away").is("/cause/fault", "local");
    }
    let sent = told.sent(address(), unread).pid(redis.pid()).cause("turned-away");
    sent.is("/cause/fault", "local").says("had read nothing");
    told.rest_is_harmless();
}

/// A server that is killed with a command unread, and a connection that it had not accepted: no limit.
pub(crate) fn killed_server_is_no_limit(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let redis = start(&["--maxclients", "2"]);
    let mut client = Puppet::start("the-client");
    let end = ping(&mut client, "c");
    let server_end = End::held_by(redis.pid(), address(), end);
    program::stop(redis.pid());
    let waiting = client.connect("waiting", address());
    client.tell("say_line waiting PING");
    kill_with_unread_data(&server_end, &mut client, "c");
    client.wait_error("waiting", "ECONNRESET");

    let told = wire.finish(tracer, 4);
    told.sent(address(), end).cause("process-died");
    told.sent(address(), waiting).cause("listener-closed");
    for received in [told.received(end, address()), told.received(waiting, address())] {
        received.owner(&client).is("/cause/fault", "peer").is_one_of("/cause/code", ["peer-aborted", "peer-restarted"]);
    }
    told.rest_is_harmless();
}

/// `client-output-buffer-limit`: the server closes the connection of a client that does not read, whose next command
/// comes after that. What ends the connection is the client's own stop.
pub(crate) fn output_limit_ends_a_slow_reader(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let redis = start(&["--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut client = Puppet::start("the-client");
    ping(&mut client, "writer");
    client.tell("say_line writer SETRANGE big 65535 x");
    client.tell("hear_line writer");
    let end = ping(&mut client, "reader");
    let server_end = End::held_by(redis.pid(), address(), end);
    // Until the buffers of both sockets are full, and the server's list with them. When the second command has its answer,
    // the server has done what the first round of its loop had left.
    while !server_end.has_closed() {
        client.tell("say_line reader GET big");
        for _ in 0..2 {
            client.tell("say_line writer PING");
            client.tell("hear_line writer");
        }
    }
    client.tell("idle writer 1000");
    client.tell("say_line reader PING");
    client.wait_error("reader", "ECONNRESET");

    let told = wire.finish(tracer, 2);
    told.sent(address(), end).pid(redis.pid()).is("/cause/fault", "local");
    told.received(end, address()).owner(&client).cause("stopped-reading").is("/cause/fault", "local").says("unread");
    told.rest_is_harmless();
}

/// A client that aborts: the server has the peer's abort, and no connection that it had given up.
pub(crate) fn aborting_client_is_no_slow_reader(stage: &Stage) {
    let (wire, tracer) = (Wire::tap(), stage.trace());
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let server_end = server.listen("l", V4, 16);
    let end = client.connect("c", server_end);
    server.tell("accept s l");
    server.tell("fill s");
    server.abort("s");
    client.wait_error("c", "ECONNRESET");
    let told = wire.finish(tracer, 2);
    told.sent(server_end, end).owner(&server).cause("linger-zero");
    told.received(end, server_end).owner(&client).cause("peer-aborted");
    told.rest_is_harmless();
}
