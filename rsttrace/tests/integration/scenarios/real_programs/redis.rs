//! Redis: one process with several threads.

use nix::sys::signal::Signal;

use super::{
    ADDRESS, address,
    program::{self, Program},
    truth::{End, Truth, sent_by},
};
use crate::{puppet::Puppet, stage::Stage};

/// A client resets its connection; another client has the server close the connection of a third, whose command has
/// arrived but has not been read yet.
pub(crate) fn redis_kills_a_client(stage: &Stage) {
    let tracer = stage.trace();
    let (_, port) = ADDRESS.split_once(':').unwrap();
    let redis = Program::start("redis-server", &["--bind", "127.0.0.1", "--port", port, "--save", ""]);
    redis.says("Ready to accept connections");
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
