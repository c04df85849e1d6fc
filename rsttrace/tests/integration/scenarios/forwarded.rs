//! Resets that a router forwards.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    chain::{Chain, TO_SERVER},
    puppet::Puppet,
    stage::Stage,
};

/// The server aborts one connection, and its kernel refuses another; both resets cross the router and are reported. A
/// reset for the router itself is not.
pub(crate) fn router_reports_forwarded_resets(stage: &Stage) {
    let chain = Chain::around(stage);
    let mut tracer = chain.trace_in_the_middle(stage, &["--received", "--forwarded", TO_SERVER]);
    let mut pair = chain.pair_v4();
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    let closed = SocketAddr::new(pair.server_end.ip(), 9);
    assert_eq!(pair.client.ask(format_args!("connect refused {closed}")), Err("ECONNREFUSED".to_owned()));
    let mut router = Puppet::start("the-router");
    assert_eq!(router.ask(format_args!("connect refused {closed}")), Err("ECONNREFUSED".to_owned()));
    tracer.expect_lines("forwarded", 2).expect(3);

    let run = tracer.finish();
    run.check_counts(0, 3);
    let [aborted, refused] = run.others.as_slice() else { panic!("{:#}", Value::from(run.others)) };
    for line in [aborted, refused] {
        assert_eq!(line["type"], "forwarded");
        assert_eq!(line["interface"]["name"], TO_SERVER);
        assert_eq!(line["to"]["address"], pair.client_end.ip().to_string());
        assert_eq!(line["packet"]["ttl"], 64);
    }
    assert_eq!(aborted["from"]["port"], pair.server_end.port());
    assert_eq!(aborted["to"]["port"], pair.client_end.port());
    assert_eq!(aborted["origin"], "socket", "{aborted:#}");
    assert_eq!(refused["from"]["port"], 9);
    assert_eq!(refused["origin"], "stateless", "{refused:#}");
}

/// Resets that cross the router over IPv6.
pub(crate) fn router_reports_forwarded_resets_v6(stage: &Stage) {
    let chain = Chain::around(stage);
    let mut tracer = chain.trace_in_the_middle(stage, &["--received", "--forwarded", TO_SERVER]);
    let mut pair = chain.pair_v6();
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    tracer.expect_lines("forwarded", 1).expect(1);

    let run = tracer.finish();
    run.check_counts(0, 1);
    let [aborted] = run.others.as_slice() else { panic!("{:#}", Value::from(run.others)) };
    assert_eq!(aborted["family"], "ipv6");
    assert_eq!(aborted["from"]["address"], pair.server_end.ip().to_string());
    assert_eq!(aborted["to"]["port"], pair.client_end.port());
    assert_eq!(aborted["origin"], "socket", "{aborted:#}");
}
