//! Loads: ordinary traffic of a host, and bad cases, as fast as its CPUs allow.
//!
//! One thread has both ends of a connection, so that no step waits for another thread to be scheduled: the figures are
//! the kernel's. All traffic is on the loopback device of this process's own network namespace.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::Barrier,
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt, socket, sockopt,
    },
    unistd::Pid,
};

use super::syn;

/// Connections to one address before the next is used: a pair of addresses has 28,000 ports, each of which stays in
/// TIME_WAIT.
const PER_ADDRESS: u64 = 1000;

/// Keep-alive connections of one thread.
const KEPT_ALIVE: usize = 64;

/// Bytes of a request.
const REQUEST: usize = 200;
/// Bytes of a response.
const RESPONSE: usize = 2000;

/// Kind of load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Connections opened and closed normally: the worst case for a tracer of resets that keeps a history of
    /// connections.
    Churn,
    /// Connections ended by a reset, which is sent and received here.
    Reset,
    /// Requests and responses over connections that are kept.
    KeepAlive,
    /// Requests and responses while packets of the device are inspected for resets.
    KeepAliveForwarded,
    /// SYNs to a closed port, from one thread.
    ClosedPort,
}

impl Load {
    pub(crate) const ALL: [Self; 5] =
        [Self::Churn, Self::KeepAlive, Self::KeepAliveForwarded, Self::Reset, Self::ClosedPort];

    /// Name in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Churn => "connections closed normally",
            Self::KeepAlive => "keep-alive requests",
            Self::KeepAliveForwarded => "keep-alive requests, `--forwarded lo`",
            Self::Reset => "connections reset",
            Self::ClosedPort => "SYNs to a closed port",
        }
    }

    /// Traceable resets of one unit; of a reset without a socket only the sending can be traced.
    pub(crate) const fn resets(self) -> f64 {
        match self {
            Self::Churn | Self::KeepAlive | Self::KeepAliveForwarded => 0.0,
            Self::Reset => 2.0,
            Self::ClosedPort => 1.0,
        }
    }

    /// Additional options of rsttrace, which the other programs do not have.
    pub(crate) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::KeepAliveForwarded => &["--forwarded", "lo"],
            _ => &[],
        }
    }

    /// Unit of the load's rate.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Churn | Self::Reset => "connection",
            Self::KeepAlive | Self::KeepAliveForwarded => "request",
            Self::ClosedPort => "SYN",
        }
    }

    const fn work(self) -> fn(&Shift<'_>) -> io::Result<u64> {
        match self {
            Self::Churn => |shift| connect(shift, false),
            Self::Reset => |shift| connect(shift, true),
            Self::KeepAlive | Self::KeepAliveForwarded => keep_alive,
            Self::ClosedPort => knock,
        }
    }

    fn threads(self, cpus: &[usize]) -> &[usize] {
        // A flood leaves the other CPUs to the tracing program.
        if self == Self::ClosedPort { cpus.get(..1).unwrap_or(cpus) } else { cpus }
    }

    /// Runs the load on these CPUs for this time; returns units per second.
    pub(crate) fn run(self, cpus: &[usize], time: Duration) -> Result<f64> {
        let cpus = self.threads(cpus);
        let ready = Barrier::new(cpus.len());
        let work = self.work();
        let units = thread::scope(|scope| {
            let start = |(number, &cpu): (u8, &usize)| {
                let shift = Shift { number, ready: &ready, time };
                scope.spawn(move || stay_on(cpu).and_then(|()| work(&shift)))
            };
            let workers: Vec<_> = (1..).zip(cpus).map(start).collect();
            let end = |worker: ScopedJoinHandle<'_, io::Result<u64>>| {
                worker.join().map_err(|_panic| anyhow!("a thread has died"))?.context(self.name())
            };
            workers.into_iter().map(end).sum::<Result<u64>>()
        })?;
        #[expect(clippy::cast_precision_loss, reason = "some millions")]
        let units = units as f64;
        Ok(units / time.as_secs_f64())
    }
}

/// Parameters of one thread.
struct Shift<'a> {
    /// 1, 2, 3 …
    number: u8,
    ready: &'a Barrier,
    time: Duration,
}

impl Shift<'_> {
    /// Repeats a step until the time is over; returns the number of steps.
    fn repeat(&self, mut step: impl FnMut(u64) -> io::Result<()>) -> io::Result<u64> {
        self.ready.wait();
        let end = Instant::now() + self.time;
        let mut done = 0;
        while Instant::now() < end {
            step(done)?;
            done += 1;
        }
        Ok(done)
    }

    /// Address in the loopback network for one thread.
    fn address(&self, connection: u64) -> Ipv4Addr {
        let [.., high, low] = (connection / PER_ADDRESS + 1).to_be_bytes();
        Ipv4Addr::new(127, self.number, high, low)
    }
}

fn stay_on(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

fn listen() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Opens a connection and ends it, repeatedly.
fn connect(shift: &Shift<'_>, reset: bool) -> io::Result<u64> {
    let (listener, port) = listen()?;
    shift.repeat(|done| {
        let client = TcpStream::connect(SocketAddrV4::new(shift.address(done), port))?;
        let (server, _) = listener.accept()?;
        if reset {
            setsockopt(&client, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        }
        drop(client);
        drop(server);
        Ok(())
    })
}

/// Sends a request and its response, on one connection after the other.
fn keep_alive(shift: &Shift<'_>) -> io::Result<u64> {
    let (listener, port) = listen()?;
    let mut pairs = Vec::with_capacity(KEPT_ALIVE);
    for _ in 0..KEPT_ALIVE {
        let client = TcpStream::connect((shift.address(0), port))?;
        client.set_nodelay(true)?;
        let (server, _) = listener.accept()?;
        server.set_nodelay(true)?;
        pairs.push((client, server));
    }
    let (mut request, mut response) = ([0; REQUEST], [0; RESPONSE]);
    let mut next = (0..KEPT_ALIVE).cycle();
    shift.repeat(|_| {
        let Some((client, server)) = next.next().and_then(|index| pairs.get_mut(index)) else { return Ok(()) };
        client.write_all(&request)?;
        server.read_exact(&mut request)?;
        server.write_all(&response)?;
        client.read_exact(&mut response)
    })
}

/// Sends SYNs to a closed port of this namespace, each of which is answered by a reset.
fn knock(shift: &Shift<'_>) -> io::Result<u64> {
    let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    let to = SockaddrIn::new(127, 0, 0, 1, 0);
    shift.repeat(|done| {
        sendto(raw.as_raw_fd(), &syn::packet(shift.address(0), done), &to, MsgFlags::empty())?;
        Ok(())
    })
}
