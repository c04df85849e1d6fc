//! The owner of a socket, however it was opened, passed on and closed: the PID is the one that the scenario itself
//! knows.

use std::fs;

use serde_json::Value;

use crate::{
    host::Lack,
    puppet::{Puppet, uring},
    reset::Reset,
    stage::{Pair, Stage, V4},
};

/// One thread connects, another accepts: the owner is the process, with the process's name.
pub(crate) fn process_owns_what_its_threads_open(stage: &Stage) {
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let tracer = stage.trace();
    let server_end = server.listen("l", V4, 16);
    let client_end = client.tell(format_args!("connect-in-thread c {server_end}")).parse().unwrap();
    server.tell("accept-in-thread s l");
    client.abort("c");
    server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent().between(client_end, server_end).owner(&client).provenance("connect").certain();
    run.the_received().between(server_end, client_end).owner(&server).certain();
}

/// No process calls accept: a worker thread of the kernel does, on behalf of a process that did not listen.
pub(crate) fn io_uring_accepts_for_a_process(stage: &Stage) {
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let tracer = stage.trace();
    let server_end = server.listen("l", V4, 16);
    let worker: u32 = server.tell("fork keep").parse().unwrap();
    let client_end = client.connect("c", server_end);
    server.tell("accept-by-uring s l");
    client.abort("c");
    server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(server_end, client_end).process(worker, "the-server").certain();
}

/// What this host lacks to use `io_uring`.
pub(crate) fn no_io_uring() -> Option<Lack> {
    (!uring::works()).then(|| Lack::Kernel("io_uring is switched off or not built in".to_owned()))
}

/// A descriptor is passed through a Unix socket: the process that received it owns the accepted connection.
pub(crate) fn receiver_of_a_descriptor_owns_it(stage: &Stage) {
    let mut receiver = Puppet::start("the-receiver");
    let name = format!("descriptors-{}", receiver.pid());
    receiver.tell(format_args!("bind-unix {name}"));
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell(format_args!("give s {name}"));
    receiver.tell(format_args!("take s {name}"));
    pair.client.abort("c");
    receiver.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).owner(&receiver).provenance("lookup").certain();
}

/// A descriptor in a Unix socket's queue belongs to no process: the process that sent it is reported as a guess.
pub(crate) fn queued_descriptor_has_a_likely_owner(stage: &Stage) {
    let mut receiver = Puppet::start("the-receiver");
    let name = format!("descriptors-{}", receiver.pid());
    receiver.tell(format_args!("bind-unix {name}"));
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell(format_args!("give s {name}"));
    pair.client.abort("c");

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server).only_likely();
}

/// Two processes hold one accepted connection: the one that listened is named, as one of several.
pub(crate) fn two_holders_share_a_connection(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell("fork-holder");
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server).only_likely();
}

/// The second holder of an accepted connection exits before the reset: the parent is the only holder again.
pub(crate) fn remaining_holder_owns_the_connection(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell("fork-holder");
    pair.server.tell("end-holder");
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server).certain();
}

/// Like inetd: the connection becomes the standard input of a program, which ends as soon as it is reset.
pub(crate) fn executed_program_owns_its_input(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let program: u32 = pair.server.tell("serve s").parse().unwrap();
    pair.client.abort("c");
    pair.server.tell("await-holders");

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).pid(program);
}

/// The opener forks and exits; its child has the connection.
pub(crate) fn child_of_an_exited_opener_owns(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let child: u32 = pair.client.tell("fork leave").parse().unwrap();
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_received()
        .between(pair.client_end, pair.server_end)
        .process(child, "the-client")
        .provenance("lookup")
        .certain();
}

/// The opener forks and exits, and the child resets: the child is the owner, not an actor beside an owner that has
/// exited.
pub(crate) fn child_of_an_exited_opener_resets(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let child: u32 = pair.client.tell("fork leave").parse().unwrap();
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.client_end, pair.server_end)
        .process(child, "the-client")
        .provenance("socket_user")
        .is("/actor", Value::Null)
        .certain();
}

/// The process that listened has exited, as with every daemon that listens before it forks into the background. Its
/// connections are its child's, including those that have not been accepted.
pub(crate) fn daemon_listens_and_forks(stage: &Stage) {
    let tracer = stage.trace();
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let server_end = server.listen("l", V4, 16);
    let daemon: u32 = server.tell("fork leave").parse().unwrap();
    let accepted = client.connect("a", server_end);
    server.tell("accept s l");
    client.abort("a");
    server.wait_error("s", "ECONNRESET");
    let waiting = client.connect("w", server_end);
    client.abort("w");

    let run = stage.finish(tracer, 2, 2);
    for (client_end, provenances) in [(accepted, ["accept", "lookup"]), (waiting, ["listen", "listen"])] {
        let received = run.received().find(|received| received.end("peer") == client_end).expect("each is received");
        received.process(daemon, "the-server").is_one_of("/process/provenance", provenances).certain();
    }
}

/// Several processes listen at one address. A connection that has not been accepted belongs to its own listener,
/// whichever of the group that is.
pub(crate) fn waiting_connection_belongs_to_its_listener(stage: &Stage) {
    const CONNECTIONS: usize = 16;
    let (mut one, mut other) = (Puppet::start("one"), Puppet::start("other"));
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    let place = one.tell(format_args!("listen-in-group l {V4} 64"));
    other.tell(format_args!("listen-in-group l {place} 64"));
    let names: Vec<String> = (0..CONNECTIONS).map(|number| format!("c{number}")).collect();
    let ends: Vec<_> = names.iter().map(|name| client.connect(name, &place)).collect();
    one.tell("close l");
    let ones: Vec<bool> = names.iter().map(|name| client.tell(format_args!("is_reset {name}")) == "true").collect();
    other.tell("close l");

    let run = stage.finish(tracer, CONNECTIONS as u64, CONNECTIONS as u64);
    assert!(ones.contains(&true) && ones.contains(&false), "the kernel gives each of them some: {ones:?}");
    for (end, is_ones) in ends.into_iter().zip(ones) {
        let sent = run.sent().find(|sent| sent.end("peer") == end).expect("each is reset");
        sent.owner(if is_ones { &one } else { &other }).provenance("listen").certain();
    }
}

/// Of two processes that listen at one address, the one that accepts owns the connection.
pub(crate) fn accepting_process_owns(stage: &Stage) {
    let (mut one, mut other) = (Puppet::start("one"), Puppet::start("other"));
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    let place = one.tell(format_args!("listen-in-group l {V4} 64"));
    let client_end = client.connect("c", &place);
    other.tell(format_args!("listen-in-group l {place} 64"));
    one.tell("accept s l");
    client.abort("c");
    one.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(place.parse().unwrap(), client_end).owner(&one).certain();
}

/// The server, which started after rsttrace, has closed and exited when the client sends data for a closed socket: its
/// name and its command line are still known.
pub(crate) fn exited_owner_is_known(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let command_line = fs::read_to_string(format!("/proc/{}/cmdline", pair.server.pid())).expect("it runs");
    pair.server.tell("linger2 s 30");
    pair.server.tell("close s");
    pair.client.tell("eof c");
    pair.client.tell("quickack c");
    pair.server.kill();
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "EPIPE");

    let run = stage.finish(tracer, 1, 1);
    let sent = run.the_sent();
    sent.between(pair.server_end, pair.client_end).owner(&pair.server).certain();
    assert_eq!(sent["process"]["command_line"], command_line.replace('\0', " ").trim_end());
}

/// A forked child closes a connection that its parent opened, and what is left of it is reset later: the owner is the
/// child, its last holder.
pub(crate) fn last_holder_owns_a_closed_socket(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let child: u32 = pair.client.tell("fork hand-over").parse().unwrap();
    pair.client_closes(30);
    pair.server_sends_after_close();

    let run = stage.finish(tracer, 1, 1);
    let sent = run.the_sent().between(pair.client_end, pair.server_end);
    sent.process(child, "the-client").provenance("socket_user").certain();
}

/// A process in a PID namespace of its own is reported with the PID that it has on the host.
pub(crate) fn host_pid_is_reported(stage: &Stage) {
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let tracer = stage.trace();
    let inner: u32 = server.tell("fork namespace").parse().unwrap();
    let server_end = server.listen("l", V4, 16);
    let client_end = client.connect("c", server_end);
    server.tell("accept s l");
    client.abort("c");
    server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    let received = run.the_received().between(server_end, client_end);
    received.process(inner, "the-server").certain();
    assert!(received["process"]["command_line"].is_string(), "it is there to be asked: {:#}", received.0);
}

/// Processes that live for milliseconds: forked with an accepted connection, exited as soon as it is reset, seventeen
/// times.
pub(crate) fn short_lived_processes_are_named(stage: &Stage) {
    const LIVES: u64 = 17;
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let mut owners = vec![];
    for _ in 0..LIVES {
        let client_end = pair.connect("c", "s");
        owners.push((client_end, pair.server.tell("serve s").parse::<u32>().unwrap()));
        pair.client.abort("c");
        pair.server.tell("await-holders");
    }

    let run = stage.finish(tracer, LIVES, LIVES);
    for (client_end, pid) in owners {
        let received: &Reset = run.received().find(|received| received.end("peer") == client_end).expect("each");
        received.pid(pid);
    }
}

/// More connections than the kernel side's history holds: their owners are found otherwise, or unknown, and no other
/// process is named.
pub(crate) fn full_history_names_no_other_process(stage: &Stage) {
    const CONNECTIONS: u64 = 397;
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let tracer = stage.trace_with(&["--remember", "64"]);
    let server_end = server.listen("l", V4, 512);
    for number in 0..CONNECTIONS {
        client.connect(&format!("c{number}"), server_end);
        server.tell(format_args!("accept s{number} l"));
    }
    for number in 0..CONNECTIONS {
        client.abort(&format!("c{number}"));
    }

    let run = stage.finish(tracer, CONNECTIONS, CONNECTIONS);
    let forgotten = run.sent().filter(|sent| sent["process"]["provenance"] != "connect").count();
    assert!(forgotten > 200, "only {forgotten} were forgotten");
    for reset in run.resets.iter().filter(|reset| !reset["process"].is_null()) {
        reset.owner(if reset.is_sent() { &client } else { &server });
    }
}
