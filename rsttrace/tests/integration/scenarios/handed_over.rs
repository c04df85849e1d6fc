//! Sockets that pass from one process to another.

use std::net::SocketAddr;

use crate::{
    host,
    puppet::Puppet,
    stage::{Pair, Stage, V4},
    tracer::Run,
};

/// A master listens, its forked worker accepts and closes: the reset is the worker's, not the listener's.
pub(crate) fn worker_owns_what_it_closes(stage: &Stage) {
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let tracer = stage.trace();
    let (worker, server_end, client_end) = accept_in_worker(&mut server, &mut client);
    server.tell("close s");
    client.wait_error("c", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent().between(server_end, client_end).process(worker, "the-server").cause("closed-with-unread-data");
    run.the_received().owner(&client);
}

/// The client resets a connection on which the worker has done nothing but accept. The worker is found by the
/// descriptor that it still has.
pub(crate) fn worker_owns_what_it_accepted(stage: &Stage) {
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let tracer = stage.trace();
    let (worker, server_end, client_end) = accept_in_worker(&mut server, &mut client);
    client.abort("c");
    server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent().owner(&client);
    run.the_received()
        .between(server_end, client_end)
        .process(worker, "the-server")
        .is_one_of("/process/provenance", ["accept", "lookup"])
        .is("/process/confidence", "exact");
}

/// The server listens and forks; its child accepts `s` and leaves six bytes in it unread. Returns the child's PID, and
/// the server's and the client's end.
fn accept_in_worker(server: &mut Puppet, client: &mut Puppet) -> (u32, SocketAddr, SocketAddr) {
    let server_end = server.listen("l", V4, 16);
    let worker = server.tell("fork keep").parse().unwrap();
    let client_end = client.connect("c", server_end);
    server.tell("accept s l");
    client.tell("send c 6");
    server.tell("wait_unread s 6");
    (worker, server_end, client_end)
}

/// A client opens a connection, forks, and closes its own copy; the child closes the last one. The owner is the opener,
/// and the actor is the child.
pub(crate) fn last_holder_is_the_actor(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client.tell("linger0 c");
    let child: u32 = pair.client.tell("fork hand-over").parse().unwrap();
    pair.client.tell("close c");
    pair.server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.client_end, pair.server_end)
        .state("ESTABLISHED")
        .owner(&pair.client)
        .provenance("connect")
        .is("/actor/pid", child)
        .cause("linger-zero");
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server);
}

/// A process forks after it has opened a connection; the child goes on using it when the server has closed it. The opener is
/// named, which lives, and the evidence says that it may not be alone.
pub(crate) fn child_uses_what_its_parent_opened(stage: &Stage) {
    let run = reuse_after(stage, |pair| drop(pair.client.tell("fork keep")));
    run.the_received().cause("reused-closed-connection").says("2 references to its file");
}

/// The near miss: a process that is alone uses its connection when the server has closed it.
pub(crate) fn opener_is_alone(stage: &Stage) {
    let run = reuse_after(stage, |_| ());
    let received = run.the_received().cause("reused-closed-connection");
    let evidence = received["cause"]["evidence"].to_string();
    assert!(!evidence.contains("references"), "{evidence}");
}

/// Sends a request on a connection that the server has closed, after this has been done to it.
fn reuse_after(stage: &Stage, share: impl FnOnce(&mut Pair)) -> Run {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.exchange("c", "s");
    share(&mut pair);
    pair.server.tell("close s");
    pair.client.tell("peek_eof c");
    // Longer than the clock tick, by which the FIN was before the request.
    pair.server.tell("idle l 50");
    pair.client.tell("send c 5");
    pair.client.tell("wait_error c");

    let both = u64::from(host::shows_without_socket());
    let run = stage.finish(tracer, both, 1);
    run.the_received().between(pair.client_end, pair.server_end).owner(&pair.client).is("/cause/fault", "local");
    run
}
