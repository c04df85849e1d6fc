//! Whose a socket is, in every kind of life that it can have: the PID is the one that the scenario itself knows.

use std::fs;

use serde_json::Value;

use crate::{
    host::Lack,
    puppet::{Puppet, uring},
    reset::Reset,
    stage::{Pair, Stage, V4},
};

/// Another thread connects, another accepts: the owner is the process, and the name is the process's.
pub(crate) fn threads(stage: &Stage) {
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

/// No process calls accept: a worker of the kernel does, on behalf of a process that did not listen.
pub(crate) fn accepted_through_io_uring(stage: &Stage) {
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

/// What this host lacks for it.
pub(crate) fn no_io_uring() -> Option<Lack> {
    (!uring::works()).then(|| Lack::Kernel("io_uring is switched off or not built in".to_owned()))
}

/// A descriptor travels through a Unix socket: whoever took it owns what was accepted.
pub(crate) fn passed_on(stage: &Stage) {
    let mut heir = Puppet::start("the-heir");
    let name = format!("box-{}", heir.pid());
    heir.tell(format_args!("open-box {name}"));
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell(format_args!("give s {name}"));
    heir.tell(format_args!("take s {name}"));
    pair.client.abort("c");
    heir.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).owner(&heir).provenance("lookup").certain();
}

/// A descriptor that is on its way is nobody's: who had it is the best guess, and no more.
pub(crate) fn on_its_way(stage: &Stage) {
    let mut heir = Puppet::start("the-heir");
    let name = format!("box-{}", heir.pid());
    heir.tell(format_args!("open-box {name}"));
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell(format_args!("give s {name}"));
    pair.client.abort("c");

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server).only_likely();
}

/// Two processes hold one accepted connection: the one that listened is named, as one of several.
pub(crate) fn shared_by_two(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell("twin");
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server).only_likely();
}

/// The same, and the other ends before the reset: now the parent holds it alone.
pub(crate) fn parent_alone_again(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.server.tell("twin");
    pair.server.tell("dismiss");
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server).certain();
}

/// As inetd does: the connection becomes the standard input of a program, which ends as soon as it is reset.
pub(crate) fn served_by_a_program(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let program: u32 = pair.server.tell("serve s").parse().unwrap();
    pair.client.abort("c");
    pair.server.tell("await-holders");

    let run = stage.finish(tracer, 1, 1);
    run.the_received().between(pair.server_end, pair.client_end).pid(program);
}

/// The opener forks and is gone; its child has the connection.
pub(crate) fn opener_has_ended(stage: &Stage) {
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

/// The opener forks and is gone, and the child resets: the child is the owner, not an actor beside a ghost.
pub(crate) fn heir_of_an_ended_opener_resets(stage: &Stage) {
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

/// Whoever listened is gone, as with every daemon that listens first and then goes into the background. Its connections
/// are its child's, those that nobody has accepted too.
pub(crate) fn listener_in_the_background(stage: &Stage) {
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

/// Several processes listen at one place. A connection is its listener's before anybody has accepted it, whichever of the
/// group that is.
pub(crate) fn group_of_listeners(stage: &Stage) {
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

/// The same, accepted: whoever accepts from its own of the two listeners has the connection.
pub(crate) fn accepted_from_a_group(stage: &Stage) {
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

/// The server, which was not there when rsttrace started, has closed and is gone when the client sends data for which there
/// is nobody: its name and its command line are still known.
pub(crate) fn owner_is_gone(stage: &Stage) {
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

/// A forked child closes what another opened and accepted, and the rest of the connection is reset later: it is the
/// child's, who had it last.
pub(crate) fn closed_by_the_child_last(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let child: u32 = pair.client.tell("fork hand-over").parse().unwrap();
    pair.client_closes(30);
    pair.server_sends_after_close();

    let run = stage.finish(tracer, 1, 1);
    let sent = run.the_sent().between(pair.client_end, pair.server_end);
    sent.process(child, "the-client").provenance("socket_user").certain();
}

/// A process in a PID namespace of its own has the PID that the host counts.
pub(crate) fn pid_namespace(stage: &Stage) {
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

/// Processes that live for milliseconds: born with an accepted connection, dead as soon as it is reset, seventeen times.
pub(crate) fn short_lives(stage: &Stage) {
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

/// More connections than the kernel side remembers: whose they were is found out otherwise, or not known, and nobody else
/// is named.
pub(crate) fn more_than_remembered(stage: &Stage) {
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
