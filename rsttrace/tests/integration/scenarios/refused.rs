//! Connections to closed ports.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    host,
    puppet::Puppet,
    stage::{CLOSED_V4, CLOSED_V6, Stage},
};

/// The reset of a closed port has no owner and no socket; the process that is refused is known.
pub(crate) fn refused_client_is_known_v4(stage: &Stage) {
    refused(stage, CLOSED_V4);
}

/// A refused connection over IPv6, which the kernel handles by another function.
pub(crate) fn refused_client_is_known_v6(stage: &Stage) {
    refused(stage, CLOSED_V6);
}

fn refused(stage: &Stage, address: &str) {
    let closed: SocketAddr = address.parse().unwrap();
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    assert_eq!(client.ask(format_args!("connect c {closed}")), Err("ECONNREFUSED".to_owned()));

    let run = stage.finish(tracer, host::shows_without_socket().into(), 1);
    let received = run.the_received();
    let client_end = received.end("local");
    assert_ne!(client_end.port(), 0, "{:#}", received.0);
    received
        .between(SocketAddr::new(closed.ip(), client_end.port()), closed)
        .state("SYN_SENT")
        .owner(&client)
        .provenance("connect")
        .is("/process/confidence", "exact")
        .is("/socket/role", "client")
        .is("/actor", Value::Null)
        .is("/reason", Value::Null)
        .cause("connection-refused");
    for sent in run.sent() {
        sent.between(closed, client_end)
            .is_one_of("/hook", ["tcp_send_reset", "tcp_v4_send_reset", "tcp_v6_send_reset"])
            .is("/socket", Value::Null)
            .is("/process", Value::Null)
            .is("/actor", Value::Null)
            .passive_reason("NO_SOCKET")
            .cause("port-closed");
    }
}
