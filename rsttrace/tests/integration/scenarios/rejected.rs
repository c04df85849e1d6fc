//! Resets that a rule of the packet filter sends.

use std::{
    io::Write as _,
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    chain::Chain,
    host::{self, Lack},
    puppet::Puppet,
    stage::{CLOSED_V4, CLOSED_V6, Stage},
};

pub(crate) fn lack() -> Option<Lack> {
    host::lacks_program("nft").or_else(host::lacks_kprobes)
}

pub(crate) fn lack_in_the_middle() -> Option<Lack> {
    lack().or_else(crate::chain::lack)
}

/// Adds reject rules in the calling thread's namespace, in the hook of this name.
fn reject_in(hook: &str) {
    nft(&format!(
        "add table inet t
         add chain inet t c {{ type filter hook {hook} priority 0; }}
         add rule inet t c tcp dport 9 reject with tcp reset\n"
    ));
}

/// Adds rules in the calling thread's namespace.
pub(super) fn nft(rules: &str) {
    let program = host::program("nft").expect("it is installed");
    let mut nft = Command::new(program).args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft does not take:\n{rules}");
}

pub(crate) fn input_rule_rejects_v4(stage: &Stage) {
    at_the_input(stage, CLOSED_V4, "nf_send_reset");
}

pub(crate) fn input_rule_rejects_v6(stage: &Stage) {
    at_the_input(stage, CLOSED_V6, "nf_send_reset6");
}

/// The reset is the rule's, without a socket or an owner; at the client it looks like the peer's.
fn at_the_input(stage: &Stage, address: &str, hook: &str) {
    reject_in("input");
    let closed: SocketAddr = address.parse().unwrap();
    let mut client = Puppet::start("the-client");
    let tracer = stage.trace();
    assert_eq!(client.ask(format_args!("connect c {closed}")), Err("ECONNREFUSED".to_owned()));

    let run = stage.finish(tracer, 1, 1);
    let client_end = run.the_received().owner(&client).state("SYN_SENT").end("local");
    run.the_sent()
        .between(closed, client_end)
        .is("/hook", hook)
        .is("/process", Value::Null)
        .is("/socket", Value::Null)
        .is("/provoked_by/flags", "SYN")
        .is("/cause/sender", "local_firewall")
        .cause("firewall-reject");
}

pub(crate) fn lack_at_the_output() -> Option<Lack> {
    host::lacks_program("nft").or_else(crate::chain::lack)
}

/// A rule for outgoing packets rejects in the server's name: the SYN never left. Where the filter's functions cannot be traced,
/// no record shows it, and the answer is not certain.
pub(crate) fn output_rule_rejects(stage: &Stage) {
    let chain = Chain::around(stage);
    chain.client.inside(|| reject_in("output"));
    let tracer = chain.trace(stage, &[]);
    let mut client = chain.client.puppet("the-client");
    let closed = SocketAddr::new(chain.server.v4, 9);
    assert_eq!(client.ask(format_args!("connect c {closed}")), Err("ECONNREFUSED".to_owned()));

    let run = chain.finish(tracer, u64::from(host::has_kprobes()), 1);
    let received = run.the_received().owner(&client).state("SYN_SENT");
    if host::has_kprobes() {
        run.the_sent().cause("firewall-reject").is("/netns/inode", chain.client.netns);
        received.cause("refused-by-firewall").is("/cause/fault", "local").is("/translated", Value::Null);
    } else {
        received.is_one_of("/cause/confidence", ["likely", "guess"]);
    }
}

/// A rule of this host redirects to a proxy that is not up, whose port refuses in the server's name; the server's own refusal is
/// the server's.
pub(crate) fn redirected_to_a_closed_port(stage: &Stage) {
    let chain = Chain::around(stage);
    chain.client.inside(|| {
        nft("add table ip n
             add chain ip n o { type nat hook output priority -100; }
             add rule ip n o tcp dport 9 redirect to :15001\n");
    });
    let tracer = chain.trace(stage, &[]);
    let mut client = chain.client.puppet("the-client");
    let refused = |client: &mut Puppet, port: u16| {
        let address = SocketAddr::new(chain.server.v4, port);
        assert_eq!(client.ask(format_args!("connect c {address}")), Err("ECONNREFUSED".to_owned()));
        address
    };
    let (redirected, passed) = (refused(&mut client, 9), refused(&mut client, 10));

    let both = if host::shows_without_socket() { 2 } else { 0 };
    let run = chain.finish(tracer, both, 2);
    let received = |peer| run.received().find(|reset| reset.end("peer") == peer).expect("both were refused");
    let (redirected, passed) = (received(redirected).owner(&client), received(passed).owner(&client));
    passed.cause("connection-refused").is("/cause/fault", "peer");
    redirected.cause("connection-refused");
    if host::shows_without_socket() {
        let advice = redirected["cause"]["advice"].as_str().unwrap();
        assert!(advice.contains("redirect"), "{advice}");
        redirected.is("/cause/fault", "local").says("never left it").is("/translated/peer/port", 15001);
        let sent = run.sent().find(|reset| reset.end("local").port() == 15001).expect("the kernel's record");
        sent.cause("port-closed").is("/cause/fault", "local").says("never left it");
        let sent = run.sent().find(|reset| reset.end("local").port() == 10).expect("the server's record");
        sent.cause("port-closed").is("/cause/fault", "peer");
    }
}

/// A rule on a router rejects, which the record shows; the ends are the connection's.
pub(crate) fn router_rule_rejects(stage: &Stage) {
    let chain = Chain::around(stage);
    reject_in("forward");
    let tracer = chain.trace(stage, &[]);
    let mut client = chain.client.puppet("the-client");
    let closed = SocketAddr::new(chain.server.v4, 9);
    assert_eq!(client.ask(format_args!("connect c {closed}")), Err("ECONNREFUSED".to_owned()));

    let run = chain.finish(tracer, 1, 1);
    let client_end = run.the_received().owner(&client).end("local");
    run.the_sent()
        .between(closed, client_end)
        .is("/netns/inode", chain.router)
        .is("/cause/sender", "local_firewall")
        .cause("firewall-reject");
}
