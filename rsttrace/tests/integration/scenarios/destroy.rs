//! A connection that a third process destroys.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    host::Lack,
    puppet::{self, Puppet},
    stage::{Pair, Stage, V4},
};

/// Whether this kernel supports it: asked to destroy a socket that does not exist, it answers ENOENT.
pub(crate) fn lack() -> Option<Lack> {
    let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let error = puppet::destroy(closed, closed).err()?;
    (error.raw_os_error() == Some(libc::EOPNOTSUPP))
        .then(|| Lack::Missing("the kernel has no INET_DIAG_DESTROY".to_owned()))
}

/// `SOCK_DESTROY`, as used by `ss -K`: the owner loses its connection, and the actor is the process that destroyed it.
/// The state is still the one before.
pub(crate) fn another_process_destroys_the_socket(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    let mut destroyer = Puppet::start("the-destroyer");
    destroyer.tell(format_args!("destroy {} {}", pair.client_end, pair.server_end));
    pair.server.wait_error("s", "ECONNRESET");
    pair.client.wait_error("c", "ECONNABORTED");

    let run = stage.finish(tracer, 1, 1);
    run.the_sent()
        .between(pair.client_end, pair.server_end)
        .state("ESTABLISHED")
        .owner(&pair.client)
        .provenance("connect")
        .is("/actor/pid", destroyer.pid())
        .is("/actor/comm", destroyer.comm())
        .reason("TCP_STATE")
        .cause("socket-destroyed");
    run.the_received()
        .between(pair.server_end, pair.client_end)
        .state("ESTABLISHED")
        .owner(&pair.server)
        .cause("peer-aborted");
}
