//! `rsttrace join`: recordings of both ends of connections through a router, which translates, forges and drops.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::receivers::wait_until;
use crate::{
    chain::{Chain, Host, TO_CLIENT, TO_SERVER},
    host::{self, Lack},
    netfilter,
    puppet::Puppet,
    schema,
    stage::Stage,
    tape::Tape,
    tracer::Tracer,
};

/// What this host lacks for the scenario.
pub(crate) fn lack() -> Option<Lack> {
    crate::chain::lack().or_else(|| host::lacks_program("nft")).or_else(|| host::lacks_runtime("conntrack"))
}

/// Port of the service, of the one that the router masquerades, and of the virtual server.
const DIRECT: u16 = 7;
const MASQUERADED: u16 = 8;
const VIRTUAL: u16 = 9;
/// Connections of each kind that the server aborts.
const ABORTED: usize = 5;
/// More than what is added to the spread of the matches.
const UNCERTAINTY: Duration = Duration::from_millis(1_500);
/// What the server's clock is put ahead by, seconds.
const AHEAD_S: i64 = 49;

/// `rsttrace record` in and of a host's namespace.
fn record(stage: &Stage, end: &Host, directory: &Path) -> Tracer {
    let mut command = Command::new(host::rsttrace());
    command.arg("record").arg(directory).args(["--netns", &end.netns.to_string(), "--ignored", "--min-free", "0"]);
    command.args(["--transport", stage.transport().name()]);
    let namespace = end.inside(|| fs::File::open("/proc/thread-self/ns/net").unwrap());
    Tracer::start_command(&namespace, command, Stdio::null(), || Ok(()))
}

/// The lines of a recording that is one plain segment.
fn lines(directory: &Path) -> Vec<Value> {
    let segment = fs::read_dir(directory).unwrap().next().expect("a segment").unwrap().path();
    let text = fs::read_to_string(segment).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Lets more time pass than the clocks of two hosts are uncertain by.
fn let_the_uncertainty_pass() {
    let begun = Instant::now();
    wait_until("the time that the clocks are uncertain by", || begun.elapsed() > UNCERTAINTY);
}

/// The pairs and the last line of `rsttrace join`.
fn join(inputs: &[&Path]) -> (Vec<Value>, Value) {
    let output = Command::new(host::rsttrace()).args(["join", "-o", "json"]).args(inputs).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter().for_each(schema::check);
    let last = lines.pop().expect("a last line");
    assert_eq!(last["type"], "join");
    (lines, last)
}

fn with_verdict<'a>(pairs: &'a [Value], verdict: &str) -> Vec<&'a Value> {
    pairs.iter().filter(|pair| pair["verdict"] == verdict).collect()
}

/// Writes lines as a file of their own.
fn write(path: &Path, lines: &[Value]) {
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    fs::write(path, lines.join("\n")).unwrap();
}

/// Lines of a recording whose clock is ahead.
fn ahead(lines: &[Value]) -> Vec<Value> {
    let mut lines = lines.to_vec();
    for line in &mut lines {
        for name in ["time", "run"] {
            if let Some(time) = line[name].as_str() {
                let time: Timestamp = time.parse().unwrap();
                line[name] = json!(format!("{:.9}", time + SignedDuration::from_secs(AHEAD_S)));
            }
        }
    }
    lines
}

/// The hosts of the scenario.
struct Hosts {
    client: Puppet,
    server: Puppet,
    client_address: IpAddr,
    ends: [SocketAddr; 3],
}

impl Hosts {
    /// Sets up the router, and a service that is reached in three ways.
    fn set_up(chain: &Chain) -> Self {
        let IpAddr::V4(address) = chain.server.v4 else { panic!("the chain has an IPv4 address") };
        let [a, b, c, _] = address.octets();
        let virtual_server = Ipv4Addr::new(a, b, c, 0xf1);
        host::run("ip", &["address", "add", &format!("{virtual_server}/32"), "dev", "lo"]);
        netfilter::rules(&format!(
            "add table ip n
             add chain ip n d {{ type nat hook prerouting priority -100; }}
             add rule ip n d ip daddr {virtual_server} tcp dport {VIRTUAL} dnat to {address}:{DIRECT}
             add chain ip n p {{ type nat hook postrouting priority 100; }}
             add rule ip n p oifname {TO_SERVER} tcp dport {MASQUERADED} masquerade to :20000-20999"
        ));
        let mut server = chain.server.puppet("the-server");
        server.listen("direct", SocketAddr::new(chain.server.v4, DIRECT), 64);
        server.listen("masqueraded", SocketAddr::new(chain.server.v4, MASQUERADED), 64);
        let to = |port| SocketAddr::new(chain.server.v4, port);
        let ends = [to(DIRECT), to(MASQUERADED), SocketAddr::new(virtual_server.into(), VIRTUAL)];
        Self { client: chain.client.puppet("the-client"), server, client_address: chain.client.v4, ends }
    }

    /// Opens a connection of a kind, on which a request is answered.
    fn open(&mut self, kind: usize) {
        self.client.connect("c", self.ends[kind]);
        self.server.tell(format_args!("accept s {}", ["direct", "masqueraded", "direct"][kind]));
        self.client.tell("send c 5");
        self.server.tell("recv s 5");
        self.server.tell("send s 9");
        self.client.tell("recv c 9");
    }

    /// The server aborts connections of each kind, and a connection is refused.
    fn abort_and_refuse(&mut self, closed: SocketAddr) {
        for kind in [0, 1, 2].into_iter().cycle().take(3 * ABORTED) {
            self.open(kind);
            self.server.abort("s");
            self.client.wait_error("c", "ECONNRESET");
        }
        assert_eq!(self.client.ask(format_args!("connect c {closed}")), Err("ECONNREFUSED".to_owned()));
    }

    /// The router resets a connection in the server's name, and drops the reset of another.
    fn forge_and_drop(&mut self, chain: &Chain) {
        self.open(0);
        netfilter::rules(&format!(
            "add table ip f
             add chain ip f w {{ type filter hook forward priority 0; }}
             add rule ip f w ip saddr {} tcp dport {DIRECT} reject with tcp reset",
            chain.client.v4
        ));
        self.client.tell("send c 5");
        self.client.wait_error("c", "ECONNRESET");
        // The server's end of it lives on.
        netfilter::rules("delete table ip f");
        self.open(0);
        netfilter::rules(&format!(
            "add table ip f
             add chain ip f w {{ type filter hook forward priority 0; }}
             add rule ip f w ip saddr {} tcp flags & rst == rst drop",
            chain.server.v4
        ));
        self.server.abort("s");
        netfilter::rules("delete table ip f");
    }
}

/// Resets that the server sent, directly and through two kinds of translation, have its cause; one that the router forged is not
/// sent by it, one that the router dropped never arrived; also with a clock that is 49 s ahead. A side that has lost records proves
/// nothing.
pub(crate) fn recordings_tell_who_sent_a_reset(stage: &Stage) {
    let chain = Chain::around(stage);
    let mut hosts = Hosts::set_up(&chain);
    let directory = tempfile::tempdir().unwrap();
    let [client, server] = ["client", "server"].map(|name| directory.path().join(name));
    let directories = [client.as_path(), server.as_path()];
    let recorders = [record(stage, &chain.client, &client), record(stage, &chain.server, &server)];
    let tapes = [TO_CLIENT, TO_SERVER].map(|interface| Tape::start_on(Some(interface)));
    hosts.abort_and_refuse(SocketAddr::new(chain.server.v4, 99));
    let_the_uncertainty_pass();
    hosts.forge_and_drop(&chain);
    let_the_uncertainty_pass();
    // What comes last on the wire, so that the captures cover the time before.
    hosts.open(0);
    for recorder in recorders {
        recorder.signal(Signal::SIGINT);
        let (status, said) = recorder.status();
        assert!(status.success(), "{status}: {said}");
    }
    let captures = ["to-client.pcap", "to-server.pcap"].map(|name| directory.path().join(name));
    for (tape, path) in tapes.into_iter().zip(&captures) {
        fs::write(path, tape.finish().expect("a small capture")).unwrap();
    }

    for (directory, end) in directories.into_iter().zip([&chain.client, &chain.server]) {
        let header = &lines(directory)[0];
        let addresses = header["addresses"].as_array().expect("its namespace can be entered");
        assert!(addresses.contains(&json!(end.v4)), "{header:#}");
    }
    let (pairs, last) = join(&directories);
    check(&pairs, directories, &hosts);
    assert!(last["clocks"][0]["clock"]["matches"].as_u64() >= Some(ABORTED as u64), "{last:#}");
    // The clock of the one side.
    let later = directory.path().join("later.jsonl");
    write(&later, &ahead(&lines(&server)));
    let (pairs, _) = join(&[&client, &later]);
    check(&pairs, directories, &hosts);
    let skews = pairs
        .iter()
        .filter(|pair| pair["sender_host"] != pair["receiver_host"])
        .map(|pair| pair["clock"]["skew_us"].as_i64());
    for skew in skews {
        let apart = skew.expect("matches").abs() - AHEAD_S * 1_000_000;
        assert!(apart.abs() < 1_000_000, "{skew:?}");
    }
    // A loss at the time of the forged reset, which the marks behind it tell.
    let mut lossy = lines(&server);
    let forged = with_verdict(&pairs, "not-sent");
    let at = forged[0]["receiver"]["time"].as_str().unwrap().to_owned();
    for mark in lossy.iter_mut().filter(|line| line["type"] == "mark" && line["time"].as_str() > Some(&at)) {
        mark["lost"] = json!(3);
    }
    write(&later, &lossy);
    let (pairs, _) = join(&[&client, &later]);
    assert!(with_verdict(&pairs, "not-sent").is_empty(), "{pairs:#?}");
    let open = with_verdict(&pairs, "cannot-be-told");
    assert!(open.iter().any(|pair| pair["reasons"][0].as_str().unwrap().contains("has lost 3 resets")), "{open:#?}");
    // The side of the router on which it was made.
    let (pairs, _) = join(&[&client, &server, &captures[0], &captures[1]]);
    check(&pairs, directories, &hosts);
    let seen = &with_verdict(&pairs, "not-sent")[0]["captures"];
    let passed = |name: &str| {
        seen.as_array()
            .unwrap()
            .iter()
            .find(|capture| capture["capture"] == name)
            .map(|capture| capture["passed"] == true)
    };
    assert_eq!((passed("to-client.pcap"), passed("to-server.pcap")), (Some(true), Some(false)), "{seen:#}");
}

/// A rule on the client's own output that answers in the server's name is named as what may have sent it, or is known by its record.
pub(crate) fn own_output_rule_is_named(stage: &Stage) {
    let chain = Chain::around(stage);
    let mut hosts = Hosts::set_up(&chain);
    let directory = tempfile::tempdir().unwrap();
    let [client, server] = ["client", "server"].map(|name| directory.path().join(name));
    let recorders = [record(stage, &chain.client, &client), record(stage, &chain.server, &server)];
    hosts.abort_and_refuse(SocketAddr::new(chain.server.v4, 99));
    let_the_uncertainty_pass();
    hosts.open(0);
    chain.client.inside(|| {
        netfilter::rules(&format!(
            "add table ip o
             add chain ip o w {{ type filter hook output priority 0; }}
             add rule ip o w tcp dport {DIRECT} reject with tcp reset"
        ));
    });
    // The send may fail already.
    let _ignored = hosts.client.ask("send c 5");
    let_the_uncertainty_pass();
    for recorder in recorders {
        recorder.signal(Signal::SIGINT);
        let (status, said) = recorder.status();
        assert!(status.success(), "{status}: {said}");
    }
    let (pairs, last) = join(&[&client, &server]);
    let is_own = |line: &Value| line["hook"] == "nf_send_reset";
    if lines(&client).iter().any(is_own) {
        let own = |pair: &&Value| pair["verdict"] == "sent" && pair["sender_host"] == pair["receiver_host"];
        assert!(pairs.iter().any(|pair| own(&pair)) || last["within_hosts"] != 0, "{pairs:#?}");
        assert!(with_verdict(&pairs, "not-sent").is_empty(), "{pairs:#?}");
    } else if host::shows_without_socket() {
        let [pair] = with_verdict(&pairs, "not-sent")[..] else { panic!("{pairs:#?}") };
        let names = ["sender_host", "receiver_host"].map(|name| pair[name].as_str().expect("known"));
        let summary = pair["summary"].as_str().expect("a sentence");
        assert!(summary.contains(&format!("or the packet filter of {} or of {}", names[0], names[1])), "{pair:#}");
        assert_eq!(pair["confidence"], "likely");
        assert!(pair["reasons"].to_string().contains("never leaves the host"), "{pair:#}");
    }
}

/// Compares the pairs with what was done, and with the records of their senders.
fn check(pairs: &[Value], directories: [&Path; 2], hosts: &Hosts) {
    let sent = with_verdict(pairs, "sent");
    let recorded = directories.map(lines);
    for pair in &sent {
        // A record is known by its number and its ends: both hosts number theirs from 1.
        let sender = &pair["sender"];
        let is_it =
            |line: &&Value| line["type"] == "reset" && line["seq"] == sender["seq"] && line["local"] == sender["local"];
        let record = recorded.iter().flatten().find(is_it).unwrap_or_else(|| panic!("no record of {pair:#}"));
        assert_eq!(record["direction"], "sent");
        assert_eq!(
            (&pair["cause"]["code"], &pair["cause"]["fault"]),
            (&record["cause"]["code"], &record["cause"]["fault"])
        );
        assert_eq!(sender["process"]["pid"], record["process"]["pid"]);
    }
    let client = hosts.client_address.to_string();
    // The rest is what the client sends on the connections that the server has left, and the answers to that.
    let is_aborted = |pair: &Value| ["linger-zero", "port-closed"].iter().any(|code| pair["cause"]["code"] == *code);
    let is_of_server = |pair: &&&Value| pair["receiver"]["local"]["address"] == client && is_aborted(pair);
    let of_server: Vec<&&Value> = sent.iter().filter(is_of_server).collect();
    let refused = usize::from(host::shows_without_socket());
    assert_eq!(of_server.len(), 3 * ABORTED + refused, "{of_server:#?}");
    for pair in of_server.iter().filter(|pair| pair["receiver"]["cause"] != "connection-refused") {
        assert_eq!(pair["cause"]["code"], "linger-zero", "{pair:#}");
        assert_eq!(pair["sender"]["process"]["pid"], hosts.server.pid(), "{pair:#}");
        assert_eq!(pair["receiver"]["process"]["pid"], hosts.client.pid(), "{pair:#}");
    }
    let of = |port: u16| of_server.iter().filter(|pair| pair["receiver"]["peer"]["port"] == port).count();
    assert_eq!([DIRECT, MASQUERADED, VIRTUAL].map(of), [ABORTED; 3]);
    let dropped = with_verdict(pairs, "never-arrived");
    assert_eq!(dropped.len(), 1, "{pairs:#?}");
    assert_eq!(dropped[0]["cause"]["code"], "linger-zero");
    if host::shows_without_socket() {
        let forged = with_verdict(pairs, "not-sent");
        assert_eq!(forged.len(), 1, "{pairs:#?}");
        let proof = forged[0]["reasons"].to_string();
        assert!(proof.contains("TcpOutRsts") && proof.contains("nothing lost"), "{proof}");
        assert!(forged[0]["sender"].is_null(), "{:#}", forged[0]);
    }
}
