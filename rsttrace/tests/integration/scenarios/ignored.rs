//! Resets that arrive and are ignored. They are forged, since no correct peer sends such resets.

use serde_json::Value;

use crate::{
    chain::{self, Chain},
    forge::{self, Sniffer},
    host::{self, Lack},
    stage::Stage,
};

pub(crate) fn lack() -> Option<Lack> {
    chain::lack().or_else(host::lacks_drop_reasons)
}

/// Four resets that are ignored by a connection, its listener and a closed port, and one that is accepted.
pub(crate) fn each_ignored_reset_has_its_reason(stage: &Stage) {
    let chain = Chain::around(stage);
    let mut tracer = chain.trace(stage, &["--received", "--ignored"]);
    let sniffer = Sniffer::start();
    let mut pair = chain.pair_v4();
    pair.leave_unread("c", "s", 6);
    let seq = sniffer.expected(pair.server_end, pair.client_end);
    let (server, client) = (pair.server_end, pair.client_end);
    forge::reset(server, client, seq.wrapping_sub(1_000_000), 64);
    forge::reset(server, client, seq.wrapping_add(1000), 64);
    let mut elsewhere = client;
    elsewhere.set_port(9);
    forge::reset(server, elsewhere, 7, 64);
    let mut stranger = client;
    stranger.set_port(7);
    forge::reset(stranger, server, 7, 64);
    tracer.expect_lines("ignored", 4);
    // None of them has an effect: the connection still ends by a reset of its own.
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");

    tracer.expect(1);
    let run = tracer.finish();
    run.check_counts(0, 1);
    assert_eq!(run.others.len(), 4, "{:#}", Value::from(run.others));
    let of = |code: &str| {
        let found: Vec<&Value> = run.others.iter().filter(|line| line["ignored_because"]["code"] == code).collect();
        let [one] = found.as_slice() else { panic!("{code} in {:#}", Value::from(run.others.clone())) };
        *one
    };
    let names_sockets = host::names_sockets_of_dropped_packets();
    for (code, reasons) in
        [("out-of-window", ["TCP_INVALID_SEQUENCE", "TCP_OLD_SEQUENCE"]), ("challenged", ["TCP_RESET"; 2])]
    {
        // The ignored reset to the listener too: without the socket, the two look alike.
        let line =
            if names_sockets || code != "challenged" { of(code) } else { &challenged(&run.others, client.port()) };
        assert!(reasons.iter().any(|reason| line["reason"] == *reason), "{line:#}");
        assert_eq!(line["hook"], "kfree_skb");
        assert_eq!(line["local"]["port"], client.port());
        assert_eq!(line["peer"]["port"], server.port());
        if names_sockets {
            assert_eq!(line["socket"]["state"], "ESTABLISHED", "{line:#}");
            assert_eq!(line["process"]["pid"], pair.client.pid(), "{line:#}");
        }
    }
    assert_eq!(of("no-connection")["local"]["port"], 9);
    if names_sockets {
        let listener = of("half-open");
        assert_eq!(listener["socket"]["state"], "LISTEN", "{listener:#}");
        assert_eq!(listener["process"]["pid"], pair.server.pid(), "{listener:#}");
    }
}

fn challenged(lines: &[Value], port: u16) -> Value {
    let wanted = |line: &&Value| line["ignored_because"]["code"] == "challenged" && line["local"]["port"] == port;
    lines.iter().find(wanted).cloned().expect("one is")
}

/// Without the option they are not reported.
pub(crate) fn ignored_resets_need_the_option(stage: &Stage) {
    let chain = Chain::around(stage);
    let tracer = chain.trace(stage, &["--received"]);
    let sniffer = Sniffer::start();
    let mut pair = chain.pair_v4();
    pair.leave_unread("c", "s", 6);
    let seq = sniffer.expected(pair.server_end, pair.client_end);
    forge::reset(pair.server_end, pair.client_end, seq.wrapping_sub(1_000_000), 64);
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");

    let run = chain.finish(tracer, 0, 1);
    assert_eq!(run.others, [Value::Null; 0]);
}
