//! A connection that a third process ends.

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    host::Lack,
    puppet::{self, Puppet},
    stage::{Pair, Stage, V4},
};

/// Whether this kernel can do it: asked to end what does not exist it answers that there is no such thing.
pub(crate) fn lack() -> Option<Lack> {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let error = puppet::destroy(nobody, nobody).err()?;
    (error.raw_os_error() == Some(libc::EOPNOTSUPP))
        .then(|| Lack::Missing("the kernel has no INET_DIAG_DESTROY".to_owned()))
}

/// What `ss -K` does. The owner lost its connection; the actor is who took it away. The state is still the live one.
pub(crate) fn by_another_process(stage: &Stage) {
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
