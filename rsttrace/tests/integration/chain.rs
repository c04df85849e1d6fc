//! Three hosts in a row, each a network namespace: a client, a router, a server.
//!
//! The router is the scenario's own namespace, which the calling thread is in, so a puppet, packet filter or capture
//! that the scenario starts runs between the two ends. The namespaces end with the last process and the last descriptor
//! that hold them.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd as _,
    process::{self, Command, Stdio},
};

use nix::sched::{CloneFlags, setns};

use crate::{
    host::{self, Lack},
    netns,
    puppet::Puppet,
    stage::{Pair, Stage},
    tracer::{Run, Tracer},
};

/// Interface of the router towards the client.
pub(crate) const TO_CLIENT: &str = "to-client";
/// Interface of the router towards the server.
pub(crate) const TO_SERVER: &str = "to-server";
/// Interface of each end towards the router; its only one beside loopback.
pub(crate) const TO_ROUTER: &str = "to-router";

/// One end of the chain.
pub(crate) struct Host {
    namespace: File,
    /// Namespace that the calling thread returns to.
    router: u64,
    /// Inode number of this host's namespace.
    pub(crate) netns: u64,
    pub(crate) v4: IpAddr,
    pub(crate) v6: IpAddr,
}

/// Client, router and server.
pub(crate) struct Chain {
    pub(crate) client: Host,
    pub(crate) server: Host,
    /// Inode number of the router's namespace.
    pub(crate) router: u64,
}

/// What this host lacks to build a chain.
pub(crate) fn lack() -> Option<Lack> {
    host::lacks_program("ip")
}

impl Chain {
    /// Builds the chain around the namespace of the stage, with routes and forwarding.
    pub(crate) fn around(stage: &Stage) -> Self {
        // Each chain has addresses of its own: the tracer watches all namespaces, and the filter must not match another
        // chain's resets.
        let [.., high, low] = stage.netns.to_be_bytes();
        let addresses = |number: u8| {
            let v4 = |end| Ipv4Addr::new(10, high, low, number << 4 | end);
            let v6 = |end| Ipv6Addr::new(0xfd00, u16::from_be_bytes([high, low]), number.into(), 0, 0, 0, 0, end);
            ((v4(1), v4(2)), (v6(1), v6(2)))
        };
        let router = File::open("/proc/thread-self/ns/net").unwrap();
        let [client, server] = [(1, TO_CLIENT), (2, TO_SERVER)].map(|(number, interface)| {
            let ((router_v4, v4), (router_v6, v6)) = addresses(number);
            let netns = netns::enter_new();
            let namespace = File::open("/proc/thread-self/ns/net").unwrap();
            no_duplicate_address_detection();
            setns(&router, CloneFlags::CLONE_NEWNET).unwrap();
            no_duplicate_address_detection();
            let path = format!("/proc/{}/fd/{}", process::id(), namespace.as_raw_fd());
            ip(&format!(
                "link add {interface} type veth peer name {TO_ROUTER} netns {path}
                 address add {router_v4}/28 dev {interface}
                 address add {router_v6}/64 dev {interface}
                 link set {interface} up"
            ));
            let end = Host { namespace, router: stage.netns, netns, v4: v4.into(), v6: v6.into() };
            end.inside(|| {
                ip(&format!(
                    "address add {v4}/28 dev {TO_ROUTER}
                     address add {v6}/64 dev {TO_ROUTER}
                     link set {TO_ROUTER} up
                     route add default via {router_v4}
                     route add default via {router_v6}"
                ));
            });
            end
        });
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            sysctl(switch, "1");
        }
        Self { client, server, router: stage.netns }
    }

    /// Starts rsttrace for all namespaces, with a filter for the addresses of this chain.
    pub(crate) fn trace(&self, stage: &Stage, arguments: &[&str]) -> Tracer {
        let hosts = [self.client.v4, self.client.v6, self.server.v4, self.server.v6].map(|host| host.to_string());
        let peers: Vec<&str> = hosts.iter().flat_map(|host| ["--peer", host]).collect();
        stage.trace_everywhere(&[&peers, arguments].concat())
    }

    /// Starts rsttrace in the router's namespace, so that options can name the router's interfaces, for all namespaces,
    /// with a filter for the addresses of this chain.
    pub(crate) fn trace_in_the_middle(&self, stage: &Stage, arguments: &[&str]) -> Tracer {
        let hosts = [self.client.v4, self.client.v6, self.server.v4, self.server.v6].map(|host| host.to_string());
        let peers: Vec<&str> = hosts.iter().flat_map(|host| ["--peer", host]).collect();
        let here = File::open("/proc/thread-self/ns/net").unwrap();
        Tracer::start_in(&here, &[&stage.arguments(), peers.as_slice(), arguments].concat())
    }

    /// Opens an IPv4 connection from the client to the server through the router.
    pub(crate) fn pair_v4(&self) -> Pair {
        self.pair(self.server.v4)
    }

    /// Opens an IPv6 connection from the client to the server through the router.
    pub(crate) fn pair_v6(&self) -> Pair {
        self.pair(self.server.v6)
    }

    fn pair(&self, server: IpAddr) -> Pair {
        Pair::between(
            self.server.puppet("the-server"),
            self.client.puppet("the-client"),
            &SocketAddr::new(server, 0).to_string(),
        )
    }

    /// Ends the run and checks that the two ends together, or the router, sent and received this many resets.
    #[track_caller]
    pub(crate) fn finish(&self, mut tracer: Tracer, sent: u64, received: u64) -> Run {
        tracer.expect(sent + received);
        let run = tracer.finish();
        run.check_counts(sent, received);
        assert_eq!(run.lost, 0, "events were lost");
        for reset in &run.resets {
            reset.is_one_of("/netns/inode", [self.client.netns, self.router, self.server.netns]);
        }
        run
    }
}

impl Host {
    /// Starts a puppet on this host. All puppets of a chain share a CPU, so that packets stay in order.
    pub(crate) fn puppet(&self, comm: &str) -> Puppet {
        self.inside(|| Puppet::start_beside(self.router, comm))
    }

    /// Runs `work` with the calling thread in this namespace; processes that it starts stay there.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = File::open("/proc/thread-self/ns/net").unwrap();
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("root may go where it likes");
        let done = work();
        setns(&before, CloneFlags::CLONE_NEWNET).expect("root may go back");
        done
    }
}

/// Disables duplicate address detection, which delays the use of an IPv6 address for a second or two.
fn no_duplicate_address_detection() {
    sysctl("ipv6/conf/default/accept_dad", "0");
}

/// Sets a sysctl of the calling thread's namespace; it ends with the namespace.
fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Runs `ip` with these commands, one per line, in the calling thread's namespace.
pub(crate) fn ip(commands: &str) {
    let program = host::program("ip").expect("it is installed");
    let mut ip = Command::new(program).args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    ip.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success(), "ip does not do this:\n{commands}");
}
