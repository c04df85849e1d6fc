//! Sockets that pass from one process to another.

use crate::{
    puppet::Puppet,
    stage::{Stage, V4},
};

/// A master listens, its forked worker accepts: the connection is the worker's. Whoever listened is the wrong answer.
pub(crate) fn worker_owns_what_it_accepts(stage: &Stage) {
    let mut server = Puppet::start("the-server");
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    let server_end = server.listen("l", V4, 16);
    let worker: u32 = server.tell("fork keep").parse().unwrap();
    let mut connect = |name: &str, server: &mut Puppet| {
        let end = client.connect(name, server_end);
        server.tell(format_args!("accept {name} l"));
        client.tell(format_args!("send {name} 6"));
        server.tell(format_args!("wait_unread {name} 6"));
        end
    };
    let closed_by_worker = connect("a", &mut server);
    let closed_by_client = connect("b", &mut server);
    server.tell("close a");
    client.wait_error("a", "ECONNRESET");
    client.abort("b");
    server.wait_error("b", "ECONNRESET");

    let run = stage.finish(tracer, 2, 2);
    let at_server = |peer| {
        let mut all = run.resets.iter();
        all.find(|reset| reset.end("local") == server_end && reset.end("peer") == peer).expect("the server's end")
    };
    at_server(closed_by_worker).is("/direction", "sent").process(worker, "the-server").cause("closed-with-unread-data");
    at_server(closed_by_client).is("/direction", "received").process(worker, "the-server");
}

/// A client opens a connection, forks, and closes its own copy; the child closes the last one. The connection is the
/// opener's, and the actor is the child.
pub(crate) fn last_holder_is_the_actor(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = stage.pair(V4);
    pair.client.tell("linger0 c");
    let heir: u32 = pair.client.tell("fork hand-over").parse().unwrap();
    pair.client.tell("close c");
    pair.server.wait_error("s", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.client_end, pair.server_end)
        .state("ESTABLISHED")
        .owner(&pair.client)
        .provenance("connect")
        .is("/actor/pid", heir)
        .cause("linger-zero");
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server);
}
