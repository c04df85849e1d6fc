//! Look-ups of translated connections, compared with what the rules say and with what `conntrack -L` shows.

use std::{
    fs,
    net::SocketAddr,
    os::fd::AsFd as _,
    process::{Command, Stdio},
    time::Instant,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use super::rejected::nft;
use crate::{
    chain::{self, Chain, TO_CLIENT, TO_SERVER},
    conntrack_client::{ConntrackClient, pidfd},
    host::{self, Lack},
    lines::{Lines, Next, TIMEOUT},
    netns,
    puppet::Puppet,
    stage::{CLOSED_V4, Stage, V4},
};

/// Virtual addresses, which no host has.
const VIRTUAL_V4: &str = "10.96.0.10:80";
const VIRTUAL_V6: &str = "[fd96::10]:80";
/// Mask of `CAP_NET_ADMIN`.
const CAP_NET_ADMIN: &str = "0000000000001000";

pub(crate) fn lack() -> Option<Lack> {
    host::lacks_program("nft").or_else(|| host::lacks_program("conntrack")).or_else(chain::lack).or_else(|| {
        // A kernel that has them as modules loads the first with a rule that translates, and the second with the first
        // request, which rsttrace leaves to others.
        if let Some(modprobe) = host::program("modprobe") {
            let modules = ["-a", "-q", "nf_conntrack", "nf_conntrack_netlink"];
            // It fails where they are part of the kernel and there is no list of modules.
            let _ignored = Command::new(modprobe).args(modules).stderr(Stdio::null()).status();
        }
        let tracks = fs::exists("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
        (!tracks).then(|| Lack::Kernel("the kernel does not track connections".to_owned()))
    })
}

/// Entry of the connection with this original source, as `conntrack` shows it: both tuples, and the state.
pub(super) fn listed(source: SocketAddr) -> String {
    let program = host::program("conntrack").expect("it is installed");
    let family = if source.is_ipv4() { "ipv4" } else { "ipv6" };
    let output = Command::new(program).args(["-L", "-p", "tcp", "-f", family]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let found = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let values = |name: &str| words.iter().filter_map(|word| word.strip_prefix(name)).collect::<Vec<_>>();
        let [sources, destinations] = ["src=", "dst="].map(values);
        let [from, to] = ["sport=", "dport="].map(values);
        let end = |address: &str, port: &str| SocketAddr::new(address.parse().unwrap(), port.parse().unwrap());
        let tuple = |at: usize| format!("{} {}", end(sources[at], from[at]), end(destinations[at], to[at]));
        let state = words.get(3)?;
        (end(sources[0], from[0]) == source).then(|| format!("{} {} {state}", tuple(0), tuple(1)))
    });
    let found: Vec<String> = found.collect();
    assert_eq!(found.len(), 1, "{source}, in:\n{text}");
    found[0].clone()
}

/// Two ends of a connection, and the address that the client has connected to.
struct Connection {
    client_end: SocketAddr,
    server_end: SocketAddr,
}

/// Opens a connection to `address`, which a rule may translate to the server's listener `l`, and resets it from the server.
fn reset(server: &mut Puppet, client: &mut Puppet, listener: SocketAddr, address: SocketAddr) -> Connection {
    let client_end = client.connect("c", address);
    server.tell("accept s l");
    server.abort("s");
    client.wait_error("c", "ECONNRESET");
    client.tell("close c");
    Connection { client_end, server_end: listener }
}

/// DNAT and redirect on the way out, IPv4 and IPv6, and beside them a connection that is not translated.
pub(crate) fn local_translations_are_found(stage: &Stage) {
    chain::ip("address add 10.96.0.10/32 dev lo\naddress add fd96::10/128 dev lo nodad");
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let mut lookups = None;
    for (host, virtual_address) in [("127.0.0.1", VIRTUAL_V4), ("[::1]", VIRTUAL_V6)] {
        let listener = server.listen("l", format_args!("{host}:0"), 8);
        let (family, destination) = if listener.is_ipv4() { ("ip", "10.96.0.10") } else { ("ip6", "fd96::10") };
        nft(&format!(
            "add table {family} t
             add chain {family} t o {{ type nat hook output priority -100; }}
             add rule {family} t o {family} daddr {destination} tcp dport 80 dnat to {listener}
             add rule {family} t o tcp dport 81 redirect to :{}\n",
            listener.port()
        ));
        let lookups = lookups.get_or_insert_with(ConntrackClient::start);
        let redirected = format!("{host}:81").parse().unwrap();
        for address in [virtual_address.parse().unwrap(), redirected, listener] {
            let Connection { client_end, server_end } = reset(&mut server, &mut client, listener, address);
            let is_plain = address == listener;
            let of_client = lookups.look_up(stage.netns, client_end, address).expect("it has an entry");
            assert_eq!(of_client.translated, (!is_plain).then_some((client_end, server_end)), "{address}");
            let of_server = lookups.look_up(stage.netns, server_end, client_end).expect("it has an entry");
            assert_eq!(of_server.translated, (!is_plain).then_some((address, client_end)), "{address}");
            let listed = listed(client_end);
            assert!(listed.ends_with(" CLOSE"), "{listed}");
            for found in [of_client, of_server] {
                assert_eq!(found.entry, listed);
                assert_eq!(found.untranslated, None);
            }
        }
        server.tell("close l");
    }
}

/// The received records alone, whose sender would tell the server's address: the record has it from the kernel's table. A
/// connection that is not translated has none.
pub(crate) fn record_has_the_server_behind_an_address(stage: &Stage) {
    chain::ip("address add 10.96.0.10/32 dev lo");
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let listener = server.listen("l", V4, 8);
    nft(&format!(
        "add table ip t
         add chain ip t o {{ type nat hook output priority -100; }}
         add rule ip t o ip daddr 10.96.0.10 tcp dport 80 dnat to {listener}\n"
    ));
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("names.toml");
    fs::write(&names, "\"127.0.0.1\" = \"orders-db\"\n").unwrap();
    let tracer = stage.trace_with(&["--received", "--names", names.to_str().unwrap()]);
    let virtual_address: SocketAddr = VIRTUAL_V4.parse().unwrap();
    // An answer that takes longer than a record waits is not known: on a busy machine, of one or the other.
    let mut visit = |address| reset(&mut server, &mut client, listener, address).client_end;
    let (translated, plain) = ([(); 20].map(|()| visit(virtual_address)), visit(listener));
    let run = stage.finish(tracer, 0, 21);
    let of = |end| run.received().find(|received| received.end("local") == end).expect("each end is reset");
    of(plain).is("/translated", Value::Null);
    let known = translated.map(of).into_iter().filter(|received| !received["translated"].is_null());
    let known: Vec<_> = known
        .map(|received| {
            received
                .is("/translated/peer/address", "127.0.0.1")
                .is("/translated/peer/port", listener.port())
                .is("/translated/by", "conntrack")
                // The virtual address has no name.
                .is("/peer/name", "orders-db")
        })
        .collect();
    // A processor that is emulated may not answer in time.
    assert!(!known.is_empty() || host::is_guest(), "no answer came within 10 ms");
}

/// A router with a virtual address and masquerading: both ends are translated at once, and a packet that is not would meet the
/// router itself.
pub(crate) fn router_translates_both_ends(stage: &Stage) {
    let chain = Chain::around(stage);
    let mut lookups = None;
    for (ip, virtual_address, server_host) in
        [("ip", VIRTUAL_V4, chain.server.v4), ("ip6", VIRTUAL_V6, chain.server.v6)]
    {
        let mut server = chain.server.puppet("the-server");
        let mut client = chain.client.puppet("the-client");
        let listener = server.listen("l", SocketAddr::new(server_host, 0), 8);
        let virtual_address: SocketAddr = virtual_address.parse().unwrap();
        nft(&format!(
            "add table {ip} t
             add chain {ip} t i {{ type nat hook prerouting priority -100; }}
             add rule {ip} t i iifname {TO_CLIENT} {ip} daddr {} tcp dport 80 dnat to {listener}
             add chain {ip} t o {{ type nat hook postrouting priority 100; }}
             add rule {ip} t o oifname {TO_SERVER} masquerade\n",
            virtual_address.ip()
        ));
        let lookups = lookups.get_or_insert_with(ConntrackClient::start);
        let client_end = client.connect("c", virtual_address);
        // The server sees the router.
        let router_end: SocketAddr = {
            server.tell("accept s l");
            let entry = listed(client_end);
            entry.split(' ').nth(3).unwrap().parse().unwrap()
        };
        assert!(!server_host.eq(&router_end.ip()) && router_end.ip() != client_end.ip(), "{router_end}");
        server.abort("s");
        client.wait_error("c", "ECONNRESET");

        let listed = listed(client_end);
        let mut found = |local, peer| lookups.look_up(stage.netns, local, peer).expect("it has an entry");
        let of_client = found(client_end, virtual_address);
        assert_eq!(of_client.translated, Some((router_end, listener)));
        let of_server = found(listener, router_end);
        assert_eq!(of_server.translated, Some((virtual_address, client_end)));
        // What the server sends to the router's address is meant for the client.
        let untranslated = found(router_end, listener);
        assert_eq!((untranslated.translated, untranslated.untranslated), (None, Some((client_end, virtual_address))));
        for found in [&of_client, &of_server, &untranslated] {
            assert_eq!(found.entry, listed);
        }
        assert_eq!((of_client.untranslated, of_server.untranslated), (None, None));
        // A near miss: another port.
        let other = SocketAddr::new(client_end.ip(), client_end.port() ^ 1);
        assert_eq!(lookups.look_up_in_vain(stage.netns, other, virtual_address), "absent");
        // The client's own namespace has no entry. The host's is looked up as well, which is that of PID 1, or the router's
        // where that of PID 1 may not be entered.
        let of_namespace = lookups.look_up(chain.client.netns, client_end, virtual_address);
        let router_is_host = fs::metadata("/proc/1/ns/net").is_err();
        assert_eq!(of_namespace.map(|found| found.translated), router_is_host.then_some(of_client.translated));
    }
}

/// The kernel deletes the entry of a connection that is refused with the reset (`nf_ct_kill_acct` in
/// `nf_conntrack_tcp_packet`), so that its translation cannot be found.
pub(crate) fn refusal_leaves_no_entry(stage: &Stage) {
    nft("add table ip t
         add chain ip t o { type nat hook output priority -100; }
         add rule ip t o tcp dport 81 redirect to :9\n");
    let mut client = Puppet::start("the-client");
    let mut lookups = ConntrackClient::start();
    for address in ["127.0.0.1:81", CLOSED_V4] {
        let peer: SocketAddr = address.parse().unwrap();
        // An address of its own, so that the connection is known although it never is.
        let local: SocketAddr = "127.0.0.7:40007".parse().unwrap();
        assert_eq!(
            client.ask(format_args!("connect-from c {local} {peer}")),
            Err("ECONNREFUSED".to_owned()),
            "{address}"
        );
        assert_eq!(lookups.look_up_in_vain(stage.netns, local, peer), "absent");
    }
}

/// The helper has `CAP_NET_ADMIN` and no other capability, runs under a filter, has none of the process's descriptors, and ends
/// with it even when it is killed.
pub(crate) fn helper_has_one_capability(_: &Stage) {
    let mut lookups = ConntrackClient::start();
    let helper = lookups.helper();
    let status = fs::read_to_string(format!("/proc/{helper}/status")).unwrap();
    let value = |name: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        line.trim().to_owned()
    };
    assert_eq!(value("Name:"), "rsttrace-ct");
    for (name, expected) in [
        ("CapEff:", CAP_NET_ADMIN),
        ("CapPrm:", CAP_NET_ADMIN),
        ("CapInh:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
        ("CapBnd:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
        ("Threads:", "1"),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    for entry in fs::read_dir(format!("/proc/{helper}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_string_lossy();
        let is_its_own =
            ["socket:", "/dev/null", "anon_inode:[pidfd]", "pidfd:"].iter().any(|kind| target.starts_with(kind));
        assert!(is_its_own, "{target}");
    }
    let pidfd = pidfd(helper);
    lookups.kill();
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(TIMEOUT).unwrap();
    assert_eq!(poll(&mut polled, timeout), Ok(1), "the helper outlives its process");
}

/// A socket of the helper's does not keep a namespace whose processes have ended: its interfaces go.
pub(crate) fn ended_namespace_is_released(stage: &Stage) {
    let chain = Chain::around(stage);
    let netns = chain.client.netns;
    let mut resident = chain.client.puppet("the-resident");
    let mut lookups = ConntrackClient::start();
    assert!(lookups.has_table_of(netns) && lookups.has_table_of(netns::inode()));
    // Nothing of the tests holds it any more.
    drop(chain);
    let program = host::program("ip").expect("it is installed");
    let mut monitor =
        crate::child::Guard(Command::new(program).args(["monitor", "link"]).stdout(Stdio::piped()).spawn().unwrap());
    let links = Lines::of(monitor.stdout.take().unwrap());
    // A change that it reports shows that it watches.
    let deadline = Instant::now() + TIMEOUT;
    while !matches!(
        {
            chain::ip("link set lo mtu 1500\nlink set lo mtu 65536");
            links.next(Instant::now() + std::time::Duration::from_millis(100))
        },
        Next::Line(_)
    ) {
        assert!(Instant::now() < deadline, "`ip monitor` reports nothing");
    }
    resident.kill();
    lookups.wait_released(netns);
    loop {
        match links.next(deadline) {
            Next::Line(line) if line.starts_with("Deleted") && line.contains(TO_CLIENT) => break,
            Next::Line(_) => {}
            Next::End | Next::Late => panic!("the interface of the ended namespace stays"),
        }
    }
    assert!(!lookups.has_table_of(netns) && lookups.has_table_of(netns::inode()));
}
