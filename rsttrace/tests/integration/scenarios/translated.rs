//! Routers that translate or filter a connection, and forget it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{conntrack_lookups::listed, receivers::wait_until};
use crate::{
    chain::{Chain, TO_SERVER},
    forge::{Forger, Sniffer},
    host::{self, Lack},
    netfilter,
    puppet::Puppet,
    reset::Reset,
    stage::{Pair, Stage},
    tracer::Tracer,
    wire::Wire,
};

/// Causes of a reset from a router or NAT that did not know the connection.
const FORGOTTEN: [&str; 2] = ["path-lost-state", "peer-lost-state"];

/// What this host lacks for a router with connection tracking.
pub(crate) fn lack() -> Option<Lack> {
    crate::chain::lack().or_else(|| host::lacks_program("nft")).or_else(|| host::lacks_runtime("conntrack"))
}

/// Address on the router's side of the chain, for a virtual server.
fn virtual_server(chain: &Chain) -> SocketAddr {
    let IpAddr::V4(server) = chain.server.v4 else { panic!("the chain has an IPv4 address") };
    let [a, b, c, _] = server.octets();
    SocketAddr::from((Ipv4Addr::new(a, b, c, 0xf1), 7))
}

/// Address of the router towards the server, in whose name it translates.
fn router_at_server(chain: &Chain) -> IpAddr {
    let IpAddr::V4(server) = chain.server.v4 else { panic!("the chain has an IPv4 address") };
    let [a, b, c, last] = server.octets();
    Ipv4Addr::new(a, b, c, last - 1).into()
}

/// Makes the router pass connections to a virtual server on to the server, and starts rsttrace and a capture.
fn behind_virtual_server(stage: &Stage, chain: &Chain, address: SocketAddr) -> (Wire, Tracer) {
    let virtual_ip = address.ip();
    host::run("ip", &["address", "add", &format!("{virtual_ip}/32"), "dev", "lo"]);
    netfilter::rules(&format!(
        "add table ip n
         add chain ip n d {{ type nat hook prerouting priority -100; }}
         add rule ip n d ip daddr {virtual_ip} tcp dport 7 dnat to {}:7",
        chain.server.v4
    ));
    (Wire::tap_ends(chain), chain.trace(stage, &["--peer", &virtual_ip.to_string()]))
}

/// A client connected to a virtual server.
fn connect(chain: &Chain, to: SocketAddr) -> Pair {
    let mut server = chain.server.puppet("the-server");
    server.listen("l", SocketAddr::new(chain.server.v4, 7), 16);
    let mut client = chain.client.puppet("the-client");
    let client_end = client.connect("c", to);
    server.tell("accept s l");
    let mut pair = Pair { server, client, server_end: SocketAddr::new(chain.server.v4, 7), client_end };
    pair.exchange("c", "s");
    pair
}

/// Has the router forget every connection, and take segments in the middle of one for no beginning.
fn forget() {
    fs::write("/proc/sys/net/netfilter/nf_conntrack_tcp_loose", "0").unwrap();
    host::run("conntrack", &["--flush"]);
}

/// Checks that the reset is told to be made by something that did not know the connection, and is blamed on no end.
fn is_forgotten<'a>(received: &'a Reset, owner: &Puppet) -> &'a Reset {
    received.owner(owner).is_one_of("/cause/code", FORGOTTEN).is_one_of("/cause/fault", ["path", "unknown"])
}

/// A router with a stateful filter loses its table, and rejects what it does not know.
pub(crate) fn stateful_filter_forgets(stage: &Stage) {
    let chain = Chain::around(stage);
    netfilter::rules(
        "add table ip f
         add chain ip f w { type filter hook forward priority 0; }
         add rule ip f w ct state established accept
         add rule ip f w ct state invalid reject with tcp reset",
    );
    let tracer = chain.trace(stage, &["--received"]);
    let mut pair = chain.pair_v4();
    pair.exchange("c", "s");
    forget();
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "ECONNRESET");
    let run = chain.finish(tracer, 0, 1);
    is_forgotten(run.the_received(), &pair.client).says("no timestamp");
}

/// A masquerading router forgets a connection; what the server pushes reaches the router's own stack.
pub(crate) fn masquerade_forgets(stage: &Stage) {
    let chain = Chain::around(stage);
    netfilter::rules(&format!(
        "add table ip n
         add chain ip n p {{ type nat hook postrouting priority 100; }}
         add rule ip n p oifname {TO_SERVER} masquerade"
    ));
    let router = router_at_server(&chain);
    let (wire, tracer) = (Wire::tap_ends(&chain), chain.trace(stage, &["--peer", &router.to_string()]));
    let mut pair = chain.pair_v4();
    pair.exchange("c", "s");
    let at_router = SocketAddr::new(router, pair.client_end.port());
    forget();
    pair.server.tell("send s 5");
    pair.server.wait_error("s", "ECONNRESET");

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    is_forgotten(told.received(pair.server_end, at_router), &pair.server);
    if host::shows_without_socket() {
        let sent = told.sent(at_router, pair.server_end).is("/netns/inode", chain.router).cause("no-connection");
        sent.is("/process", serde_json::Value::Null);
    }
    told.rest_is_harmless();
}

/// A virtual server forgets a connection that it had passed on.
pub(crate) fn virtual_server_forgets(stage: &Stage) {
    let chain = Chain::around(stage);
    let address = virtual_server(&chain);
    let (wire, tracer) = behind_virtual_server(stage, &chain, address);
    let mut pair = connect(&chain, address);
    forget();
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "ECONNRESET");

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    is_forgotten(told.received(pair.client_end, address), &pair.client);
    if host::shows_without_socket() {
        told.sent(address, pair.client_end).is("/netns/inode", chain.router).cause("no-connection");
    }
    told.rest_is_harmless();
}

/// The process behind a virtual server aborts: neither the router nor the path did.
pub(crate) fn backend_of_virtual_server_aborts(stage: &Stage) {
    let chain = Chain::around(stage);
    let address = virtual_server(&chain);
    let (wire, tracer) = behind_virtual_server(stage, &chain, address);
    let mut pair = connect(&chain, address);
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");

    let told = wire.finish(tracer, 2);
    let received = told.received(pair.client_end, address).owner(&pair.client);
    received.cause("peer-aborted").is("/cause/fault", "peer");
    told.sent(pair.server_end, pair.client_end).owner(&pair.server).cause("linger-zero");
    told.rest_is_harmless();
}

/// The host behind a virtual server refuses.
pub(crate) fn backend_of_virtual_server_refuses(stage: &Stage) {
    let chain = Chain::around(stage);
    let address = virtual_server(&chain);
    let (wire, tracer) = behind_virtual_server(stage, &chain, address);
    let mut client = chain.client.puppet("the-client");
    assert_eq!(client.ask(format_args!("connect c {address}")), Err("ECONNREFUSED".to_owned()));

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    told.only_received(address).owner(&client).cause("connection-refused").is("/cause/fault", "peer");
}

/// A connection through a masquerading router, at which a segment outside of the window has arrived from the server's side.
struct Invalid {
    chain: Chain,
    pair: Pair,
    at_router: SocketAddr,
    wire: Wire,
    tracer: Tracer,
    _of_router: Puppet,
}

impl Invalid {
    /// `is_liberal`: whether the router takes such a segment for one of the connection (`nf_conntrack_tcp_be_liberal`, in its own
    /// namespace, with which the setting ends).
    /// `before`: what the ends do before the segment comes.
    fn send(stage: &Stage, is_liberal: bool, before: impl FnOnce(&mut Pair)) -> Self {
        let chain = Chain::around(stage);
        netfilter::rules(&format!(
            "add table ip n
             add chain ip n p {{ type nat hook postrouting priority 100; }}
             add rule ip n p oifname {TO_SERVER} masquerade"
        ));
        fs::write("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", u8::from(is_liberal).to_string()).unwrap();
        let router = router_at_server(&chain);
        let sniffer = chain.server.inside(Sniffer::start);
        // The table of a namespace without a process is not asked.
        let of_router = Puppet::start("router");
        let (wire, tracer) = (Wire::tap_ends(&chain), chain.trace(stage, &["--peer", &router.to_string()]));
        let mut pair = chain.pair_v4();
        pair.exchange("c", "s");
        before(&mut pair);
        let at_router = SocketAddr::new(router, pair.client_end.port());
        let (acknowledged, next) = sniffer.next_of(at_router, pair.server_end);
        let forger = chain.server.inside(Forger::start);
        forger.acknowledgement(pair.server_end, at_router, next.wrapping_add(1 << 29), acknowledged);
        Self { chain, pair, at_router, wire, tracer, _of_router: of_router }
    }
}

/// A segment outside of the window is INVALID to a masquerading router: it is not translated, and the router's own
/// stack resets the server's live connection.
pub(crate) fn invalid_segment_kills_a_connection(stage: &Stage) {
    let Invalid { chain, mut pair, at_router, wire, tracer, _of_router } = Invalid::send(stage, false, |_| {});
    pair.server.wait_error("s", "ECONNRESET");

    let told = wire.finish(tracer, 1 + u64::from(host::shows_without_socket()));
    let received = told.received(pair.server_end, at_router).owner(&pair.server);
    let sent = host::shows_without_socket().then(|| told.sent(at_router, pair.server_end));
    // On an emulated processor the answer of conntrack may come after the record has gone out.
    let is_late = |sent: &Reset| host::is_guest() && sent["translated"].is_null();
    if let Some(sent) = sent.filter(|sent| !is_late(sent)) {
        sent.is("/netns/inode", chain.router)
            .cause("conntrack-invalid")
            .is("/cause/fault", "local")
            .says("did not translate this segment");
        // The segment was meant for the client.
        sent.is("/translated/local/port", pair.client_end.port()).is("/translated/by", "conntrack");
        sent.is("/translated/local/address", pair.client_end.ip().to_string());
        received.cause("path-lost-state").is("/cause/fault", "path").is("/other_end/cause", "conntrack-invalid");
        assert_eq!(sent["incident"], received["incident"]);
    } else {
        received.is_one_of("/cause/code", ["injected", "path-lost-state", "peer-lost-state"]);
        received.is_one_of("/cause/fault", ["path", "unknown"]);
    }
    told.rest_is_harmless();
}

/// Such a segment of a connection that both ends have closed: the router resets what is no longer there.
pub(crate) fn invalid_segment_of_a_closed_connection(stage: &Stage) {
    let close = |pair: &mut Pair| {
        pair.client.tell("close c");
        pair.server.tell("close s");
        wait_until("the end of the connection in conntrack", || listed(pair.client_end).ends_with("TIME_WAIT"));
    };
    let Invalid { chain, pair, at_router, wire, tracer, _of_router } = Invalid::send(stage, false, close);
    let told = wire.finish(tracer, u64::from(host::shows_without_socket()));
    if host::shows_without_socket() {
        let sent = told.sent(at_router, pair.server_end).is("/netns/inode", chain.router);
        sent.cause("no-connection").is("/cause/fault", "unknown");
        if !host::is_guest() {
            sent.is("/translated/local/port", pair.client_end.port());
        }
    }
}

/// A router that is liberal about windows translates such a segment: nothing is reset, and the connection goes on.
pub(crate) fn liberal_router_resets_nothing(stage: &Stage) {
    let Invalid { mut pair, wire, tracer, .. } = Invalid::send(stage, true, |_| {});
    pair.exchange("c", "s");
    let told = wire.finish(tracer, 0);
    assert!(told.others().is_empty(), "a reset of a live connection");
}

/// A packet filter at the server begins to reject an established connection; the process there still has it.
pub(crate) fn filter_of_the_server_rejects_a_connection(stage: &Stage) {
    let chain = Chain::around(stage);
    let tracer = chain.trace(stage, &["--received"]);
    let mut pair = chain.pair_v4();
    pair.exchange("c", "s");
    let port = pair.server_end.port();
    chain.server.inside(|| {
        netfilter::rules(&format!(
            "add table ip f
             add chain ip f i {{ type filter hook input priority 0; }}
             add rule ip f i tcp dport {port} reject with tcp reset"
        ));
    });
    pair.client.tell("send c 5");
    pair.client.wait_error("c", "ECONNRESET");
    let run = chain.finish(tracer, 0, 1);
    is_forgotten(run.the_received(), &pair.client).says("no timestamp");
    pair.server.tell("idle s 100");
}

/// A rule of the router refuses a connection to a server whose distance is known, and the server's own refusal.
pub(crate) fn router_and_server_refuse(stage: &Stage) {
    let chain = Chain::around(stage);
    let tracer = chain.trace(stage, &["--received"]);
    let mut pair = chain.pair_v4();
    pair.exchange("c", "s");
    // A reset with a header makes the server's distance known.
    pair.server.abort("s");
    pair.client.wait_error("c", "ECONNRESET");
    let refused = |client: &mut Puppet, port: u16| {
        let address = SocketAddr::new(chain.server.v4, port);
        assert_eq!(client.ask(format_args!("connect c {address}")), Err("ECONNREFUSED".to_owned()));
    };
    refused(&mut pair.client, 8);
    netfilter::rules(
        "add table ip f
         add chain ip f w { type filter hook forward priority 0; }
         add rule ip f w tcp dport 9 reject with tcp reset",
    );
    refused(&mut pair.client, 9);

    let run = chain.finish(tracer, 0, 3);
    let of = |port: u16| run.received().find(|reset| reset.end("peer").port() == port).expect("each port refused");
    of(8).owner(&pair.client).cause("connection-refused").is("/cause/fault", "peer");
    let by_router = of(9).owner(&pair.client);
    if host::lacks_reset_headers().is_none() {
        by_router.cause("refused-by-firewall").is("/cause/fault", "path");
    }
}
