//! Redis: one process, whatever threads it has.

use nix::sys::signal::Signal;

use super::{
    DOOR, door,
    program::{self, Program},
    truth::{End, Truth, sent_by},
};
use crate::{puppet::Puppet, stage::Stage};

/// A client gives up its connection; another client has the connection of a third closed, whose command has come but
/// was not read yet.
pub(crate) fn kills_a_client(stage: &Stage) {
    let tracer = stage.trace();
    let (_, port) = DOOR.split_once(':').unwrap();
    let redis = Program::start("redis-server", &["--bind", "127.0.0.1", "--port", port, "--save", ""]);
    redis.says("Ready to accept connections");
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();
    let mut connect = |name| {
        let client_end = client.connect(name, door());
        client.tell(format_args!("say_line {name} PING"));
        assert_eq!(client.tell(format_args!("hear_line {name}")), "+PONG");
        (End::held_by(redis.pid(), door(), client_end), End::of(&client, client_end, door()), client_end)
    };
    let (idle, idle_client, _) = connect("idle");
    let (_killer, ..) = connect("killer");
    let (victim, victim_client, victim_address) = connect("victim");

    client.abort("idle");
    truth.resets(&idle_client, &idle);

    // What comes while it is stopped is dealt with in the order in which it came.
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
