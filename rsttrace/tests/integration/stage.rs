//! What a scenario starts from: a namespace of its own, puppets, and a running rsttrace.

use std::{
    cell::Cell,
    io::{self, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::{
    agreement, host, netns,
    puppet::Puppet,
    reset::Reset,
    tape::Tape,
    tracer::{Run, Tracer},
};

/// Buffer between the kernel and user space.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Ring,
    Perf,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Ring, Self::Perf];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Perf => "perf",
        }
    }
}

/// Environment of one scenario. The calling thread is in its namespace.
pub(crate) struct Stage {
    transport: Transport,
    pub(crate) netns: u64,
    /// A capture of the namespace; `None` in a virtual machine, and once it was compared.
    tape: Cell<Option<Tape>>,
}

/// IPv4 loopback address, with a port that the kernel chooses.
pub(crate) const V4: &str = "127.0.0.1:0";
/// IPv6 loopback address, with a port that the kernel chooses.
pub(crate) const V6: &str = "[::1]:0";
/// IPv4 address of a port that is closed in a new namespace.
pub(crate) const CLOSED_V4: &str = "127.0.0.1:9";
/// IPv6 address of a port that is closed in a new namespace.
pub(crate) const CLOSED_V6: &str = "[::1]:9";

impl Stage {
    /// Moves the calling thread to a new namespace.
    pub(crate) fn set(transport: Transport) -> Self {
        let netns = netns::enter_new();
        Self { transport, netns, tape: Cell::new((!host::is_guest()).then(Tape::start)) }
    }

    /// Buffer that rsttrace uses here.
    pub(crate) const fn transport(&self) -> Transport {
        self.transport
    }

    /// Starts rsttrace for this namespace only.
    pub(crate) fn trace(&self) -> Tracer {
        self.trace_with(&[])
    }

    /// Starts rsttrace for this namespace only, with more arguments.
    pub(crate) fn trace_with(&self, arguments: &[&str]) -> Tracer {
        self.trace_everywhere(&[&["--netns", &self.netns.to_string()], arguments].concat())
    }

    /// Starts rsttrace for every namespace, unless the arguments say otherwise.
    pub(crate) fn trace_everywhere(&self, arguments: &[&str]) -> Tracer {
        Tracer::start(&[&self.arguments(), arguments].concat())
    }

    /// Starts rsttrace in and for this namespace, which its receivers are in too.
    pub(crate) fn trace_here(&self, arguments: &[&str]) -> Tracer {
        self.trace_here_with(arguments, &[])
    }

    /// Starts rsttrace in and for this namespace, with more variables in its environment.
    pub(crate) fn trace_here_with(&self, arguments: &[&str], environment: &[(&str, &std::path::Path)]) -> Tracer {
        let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let own = self.netns.to_string();
        Tracer::start_with(&namespace, &[&self.arguments()[..], &["--netns", &own], arguments].concat(), environment)
    }

    /// Arguments of every run.
    pub(crate) fn arguments(&self) -> [&'static str; 4] {
        ["--output", "json", "--transport", self.transport.name()]
    }

    /// Ends the run and checks that it saw this many resets sent and received, all in this namespace.
    #[track_caller]
    pub(crate) fn finish(&self, mut tracer: Tracer, sent: u64, received: u64) -> Run {
        tracer.expect(sent + received);
        let run = tracer.finish();
        run.check_counts(sent, received);
        assert_eq!(run.lost, 0, "events were lost");
        for reset in &run.resets {
            reset.is("/netns/inode", self.netns);
        }
        if let Some(tape) = self.tape.take() {
            agreement::check(tape, agreement::ALL, &run.resets.iter().collect::<Vec<_>>());
        }
        run
    }
}

/// Two puppets and a connection.
pub(crate) struct Pair {
    pub(crate) server: Puppet,
    pub(crate) client: Puppet,
    pub(crate) server_end: SocketAddr,
    pub(crate) client_end: SocketAddr,
}

impl Pair {
    /// Opens a connection from a client to a server with a listener `l`: `c` at the client, `s` at the server.
    pub(crate) fn open(address: &str) -> Self {
        Self::between(Puppet::start("the-server"), Puppet::start("the-client"), address)
    }

    /// Opens a connection between existing puppets.
    pub(crate) fn between(mut server: Puppet, client: Puppet, address: &str) -> Self {
        let server_end = server.listen("l", address, 64);
        let mut pair = Self { server, client, server_end, client_end: server_end };
        pair.client_end = pair.connect("c", "s");
        pair
    }

    /// Opens one more connection, with a name at each end; returns the client's end.
    pub(crate) fn connect(&mut self, client: &str, server: &str) -> SocketAddr {
        let end = self.client.connect(client, self.server_end);
        self.server.tell(format_args!("accept {server} l"));
        end
    }

    /// Resets the pair's first connection from the client, and waits until the server has seen it.
    pub(crate) fn client_aborts(&mut self) {
        self.client.abort("c");
        self.server.wait_error("s", "ECONNRESET");
    }

    /// Closes the client's end while the server keeps its own open; the socket stays in FIN_WAIT2 for at most this
    /// time.
    pub(crate) fn client_closes(&mut self, linger2_s: u32) {
        self.client.tell(format_args!("linger2 c {linger2_s}"));
        self.client.tell("close c");
        self.server.tell("eof s");
        self.server.tell("quickack s");
    }

    /// Sends from the server on a connection that the client has closed, and waits for the reset.
    pub(crate) fn server_sends_after_close(&mut self) {
        self.server.tell("send s 5");
        self.server.wait_error("s", "EPIPE");
    }

    /// Sends a request and its answer.
    pub(crate) fn exchange(&mut self, client: &str, server: &str) {
        self.client.tell(format_args!("send {client} 5"));
        self.server.tell(format_args!("recv {server} 5"));
        self.server.tell(format_args!("send {server} 9"));
        self.client.tell(format_args!("recv {client} 9"));
    }

    /// Sends this many bytes on the client's connection of this name, which stay unread at the server.
    pub(crate) fn leave_unread(&mut self, client: &str, server: &str, bytes: u32) {
        self.client.tell(format_args!("send {client} {bytes}"));
        self.server.tell(format_args!("wait_unread {server} {bytes}"));
    }
}

impl Run {
    /// Checks that exactly this many resets were sent and received.
    #[track_caller]
    pub(crate) fn check_counts(&self, sent: u64, received: u64) {
        let of = |is_sent| self.resets.iter().filter(|reset| reset.is_sent() == is_sent).map(Reset::count).sum::<u64>();
        let records = || self.resets.iter().map(|reset| format!("{:#}", reset.0)).collect::<Vec<_>>().join("\n");
        assert_eq!((of(true), of(false)), (sent, received), "sent and received, in:\n{}", records());
    }

    /// Number of resets that the records stand for.
    pub(crate) fn total(&self) -> u64 {
        self.resets.iter().map(Reset::count).sum()
    }

    /// Records of resets that this host sent.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &Reset> {
        self.resets.iter().filter(|reset| reset.is_sent())
    }

    /// Records of resets that this host received.
    pub(crate) fn received(&self) -> impl Iterator<Item = &Reset> {
        self.resets.iter().filter(|reset| !reset.is_sent())
    }

    /// The only reset that was sent.
    pub(crate) fn the_sent(&self) -> &Reset {
        self.sent().next().expect("one was sent")
    }

    /// The only reset that was received.
    pub(crate) fn the_received(&self) -> &Reset {
        self.received().next().expect("one was received")
    }
}

/// Opens one more connection to a listener of this process and resets it from the client; both ends are closed
/// afterwards.
pub(crate) fn reset_one(listener: &TcpListener) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&client, sockopt::Linger, &linger).unwrap();
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
