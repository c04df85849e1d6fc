//! Records of one incident: both ends of a connection on this host, what follows, and what a proxy passes on.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::rejected::nft;
use crate::{
    chain::{Chain, TO_CLIENT, TO_ROUTER, TO_SERVER, ip},
    host::{self, Lack},
    puppet::Puppet,
    reset::Reset,
    stage::{Pair, Stage, V4},
    tracer::Run,
};

/// Port of a virtual server.
const VIRTUAL_PORT: u16 = 80;

/// What this host lacks for translated addresses.
pub(crate) fn lack_of_translation() -> Option<Lack> {
    crate::chain::lack().or_else(|| host::lacks_program("nft"))
}

/// Number of a record.
fn seq(reset: &Reset) -> Value {
    reset["seq"].clone()
}

/// Checks that two records are the ends of one reset, and that each names the other's process.
#[track_caller]
fn are_two_ends(sent: &Reset, sender: &Puppet, received: &Reset, receiver: &Puppet) {
    received.is("/incident", seq(sent)).is("/incident_role", "other_end").is("/other_end/seq", seq(sent));
    received.is("/other_end/process/pid", sender.pid()).is("/other_end/process/comm", sender.comm());
    received.is("/other_end/netns/inode", sent["netns"]["inode"].clone());
    received.is("/other_end/cause", sent["cause"]["code"].clone());
    sent.is("/incident", seq(sent));
    // Where the owner of the other end had to be looked up for longer, the sender's record has not waited for that.
    if !sent["other_end"].is_null() {
        sent.is("/other_end/process/pid", receiver.pid());
    }
}

/// Checks that the summary counts this many incidents.
#[track_caller]
fn count_is(run: &Run, incidents: u64) {
    let summary = run.summaries.last().expect("a summary at the end");
    assert_eq!(summary["incidents"], incidents, "{summary:#}");
}

/// Loopback, in one namespace: each of three connections has its own pair of records.
pub(crate) fn both_ends_on_loopback(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.connect("c2", "s2");
    pair.connect("c3", "s3");
    pair.leave_unread("c", "s", 500);
    pair.server.tell("close s");
    pair.client.wait_error("c", "ECONNRESET");
    pair.server.abort("s2");
    pair.client.abort("c3");
    pair.server.wait_error("s3", "ECONNRESET");
    let run = stage.finish(tracer, 3, 3);
    for sent in run.sent() {
        let received =
            run.received().find(|received| received.end("local") == sent.end("peer")).expect("its other end");
        let (sender, receiver) = if sent["process"]["pid"] == pair.server.pid() {
            (&pair.server, &pair.client)
        } else {
            (&pair.client, &pair.server)
        };
        are_two_ends(sent, sender, received, receiver);
    }
    let unread =
        run.received().find(|reset| reset["cause"]["code"] == "peer-closed-unread").expect("the unread request");
    unread.between(pair.client_end, pair.server_end).is("/cause/confidence", "certain");
    count_is(&run, 3);
}

/// Two hosts and a router between them.
pub(crate) fn both_ends_in_two_namespaces(stage: &Stage) {
    let chain = Chain::around(stage);
    let tracer = chain.trace(stage, &[]);
    for mut pair in [chain.pair_v4(), chain.pair_v6()] {
        pair.leave_unread("c", "s", 500);
        pair.server.tell("close s");
        pair.client.wait_error("c", "ECONNRESET");
    }
    let run = chain.finish(tracer, 2, 2);
    for received in run.received() {
        let sent = run.sent().find(|sent| sent.end("peer") == received.end("local")).expect("the other end");
        received.cause("peer-closed-unread").is("/cause/confidence", "certain").is("/incident", seq(sent));
        received.is("/other_end/netns/inode", chain.server.netns).says("sent the reset, closed-with-unread-data");
        sent.is("/other_end/netns/inode", chain.client.netns);
    }
    count_is(&run, 2);
}

/// A virtual address in front of the server: the ends have different addresses.
pub(crate) fn both_ends_behind_a_translation(stage: &Stage) {
    let chain = Chain::around(stage);
    let mut server = chain.server.puppet("the-server");
    let listener = server.listen("l", SocketAddr::new(chain.server.v4, 0), 16);
    // The router's address towards the client is the one before the client's.
    let virtual_end = SocketAddr::new(
        match chain.client.v4 {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() - 1).into(),
            v6 @ IpAddr::V6(_) => v6,
        },
        VIRTUAL_PORT,
    );
    nft(&format!(
        "add table ip translated
         add chain ip translated pre {{ type nat hook prerouting priority -100; }}
         add rule ip translated pre iifname {TO_CLIENT} tcp dport {VIRTUAL_PORT} dnat to {listener}\n"
    ));
    let tracer = chain.trace(stage, &["--peer", &virtual_end.ip().to_string()]);
    let mut client = chain.client.puppet("the-client");
    let client_end = client.connect("c", virtual_end);
    server.tell("accept s l");
    server.abort("s");
    client.wait_error("c", "ECONNRESET");
    let run = chain.finish(tracer, 1, 1);
    let (sent, received) = (run.the_sent(), run.the_received());
    sent.between(listener, client_end);
    received.between(client_end, virtual_end);
    received.is("/translated/peer/port", listener.port()).is("/translated/by", "other_end");
    sent.is("/translated/local/port", VIRTUAL_PORT);
    are_two_ends(sent, &server, received, &client);
    count_is(&run, 1);
}

/// What this host lacks for containers on a bridge.
pub(crate) fn lack_of_bridge() -> Option<Lack> {
    lack_of_translation().or_else(|| host::lacks_program("unshare")).or_else(|| {
        let made = Command::new(host::program("unshare")?)
            .args(["--net", "ip", "link", "add", "pods", "type", "bridge"])
            .stderr(Stdio::null())
            .status();
        let is_made = made.is_ok_and(|status| status.success());
        (!is_made).then(|| Lack::Missing("this kernel has no bridge".to_owned()))
    })
}

/// Two pods on the bridge of a node: one calls the other's service by its virtual address, and by its own. The way back
/// passes the node by a route, as it does by `bridge-nf-call-iptables` on a node of Kubernetes.
pub(crate) fn pods_on_a_bridge(stage: &Stage) {
    let chain = Chain::around(stage);
    let of_subnet = |number: u32| match chain.client.v4 {
        IpAddr::V4(address) => IpAddr::from(Ipv4Addr::from_bits(address.to_bits() & !0xff | 0x30 | number)),
        v6 @ IpAddr::V6(_) => v6,
    };
    let [node, caller, service] = [1, 2, 3].map(of_subnet);
    ip(&format!(
        "link add pods type bridge
         link set pods up
         link set {TO_CLIENT} master pods
         link set {TO_SERVER} master pods
         address add {node}/28 dev pods"
    ));
    chain.client.inside(|| ip(&format!("address add {caller}/28 dev {TO_ROUTER}")));
    chain.server.inside(|| {
        ip(&format!("address add {service}/28 dev {TO_ROUTER}\nroute add {caller} via {node} dev {TO_ROUTER}"));
    });
    let mut server = chain.server.puppet("the-server");
    let listener = server.listen("l", SocketAddr::new(service, 0), 16);
    nft(&format!(
        "add table ip translated
         add chain ip translated pre {{ type nat hook prerouting priority -100; }}
         add rule ip translated pre ip daddr {node} tcp dport {VIRTUAL_PORT} dnat to {listener}\n"
    ));
    let peers = [node, caller, service].map(|address| address.to_string());
    let tracer = stage.trace_everywhere(&peers.iter().flat_map(|peer| ["--peer", peer]).collect::<Vec<_>>());
    let mut client = chain.client.puppet("the-client");
    let virtual_end = SocketAddr::new(node, VIRTUAL_PORT);
    let client_ends = [("c", virtual_end), ("d", listener)].map(|(name, address)| client.connect(name, address));
    for (name, at_client) in [("s", "c"), ("t", "d")] {
        server.tell(format_args!("accept {name} l"));
        server.abort(name);
        client.wait_error(at_client, "ECONNRESET");
    }
    let run = chain.finish(tracer, 2, 2);
    for (client_end, peer) in client_ends.into_iter().zip([virtual_end, listener]) {
        let received = run.received().find(|reset| reset.end("local") == client_end).expect("the caller's record");
        let sent = run.sent().find(|sent| seq(sent) == received["incident"]).expect("the service's record");
        received.between(client_end, peer).cause("peer-aborted").is("/cause/confidence", "certain");
        are_two_ends(sent, &server, received, &client);
        if peer == virtual_end {
            received.is("/translated/peer/port", listener.port());
            sent.is("/translated/local/port", VIRTUAL_PORT);
        } else {
            received.is("/translated", Value::Null);
            sent.between(listener, client_end);
        }
    }
    count_is(&run, 2);
}

/// A closed port refuses, and the connection attempt fails at the other end of the path.
pub(crate) fn both_ends_of_a_refusal(stage: &Stage) {
    let chain = Chain::around(stage);
    let tracer = chain.trace(stage, &[]);
    let mut client = chain.client.puppet("the-client");
    let closed = SocketAddr::new(chain.server.v4, 9);
    assert_eq!(client.ask(format_args!("connect c {closed}")), Err("ECONNREFUSED".to_owned()));
    // Before 6.10 a reset of a closed port is seen only where functions can be traced.
    let sent = u64::from(host::shows_without_socket());
    let run = chain.finish(tracer, sent, 1);
    let received = run.the_received();
    received.cause("connection-refused");
    if let Some(sent) = run.sent().next() {
        received.is("/incident", seq(sent)).is("/other_end/process", Value::Null).is("/other_end/cause", "port-closed");
        sent.is("/other_end/process/pid", client.pid());
    }
    count_is(&run, 1);
}

/// Two pairs of hosts with the same addresses and ports: each end has its own counterpart.
pub(crate) fn mirrored_ends_elsewhere(stage: &Stage) {
    let tracer = stage.trace_everywhere(&["--port", "4711"]);
    let mut pairs = Vec::new();
    for _ in 0..2 {
        crate::netns::enter_new();
        let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
        let listener = server.listen("l", "127.0.0.1:4711", 16);
        client.tell(format_args!("connect-from c 127.0.0.1:4712 {listener}"));
        server.tell("accept s l");
        pairs.push((server, client));
    }
    for (server, _) in &mut pairs {
        server.abort("s");
    }
    for (_, client) in &mut pairs {
        client.wait_error("c", "ECONNRESET");
    }
    let mut tracer = tracer;
    tracer.expect(4);
    let run = tracer.finish();
    for (server, client) in &pairs {
        let sent = run.sent().find(|sent| sent["process"]["pid"] == server.pid()).expect("the sender's record");
        let received = run.received().find(|received| received["process"]["pid"] == client.pid());
        are_two_ends(sent, server, received.expect("the receiver's record"), client);
    }
    count_is(&run, 2);
}
