//! What a service manager wants to hear (`sd_notify`): that all is attached, that the pipeline still runs, that it ends.

use std::{
    env,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::{Duration, Instant},
};

use crate::exit::note;

/// The way to the service manager, where there is one.
#[derive(Debug, Default)]
pub(crate) struct ServiceNotifier {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear, and when next.
    watchdog: Option<(Duration, Instant)>,
}

impl ServiceNotifier {
    /// Reads what the service manager has left in the environment, and connects, which may not be possible later.
    pub(crate) fn from_env() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let connected = UnixDatagram::unbound().and_then(|socket| {
            let address = match path.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(&path)?,
            };
            socket.connect_addr(&address)?;
            // A service manager that does not read must not hold up the pipeline.
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        if let Err(error) = &connected {
            note(format_args!("cannot reach the service manager at NOTIFY_SOCKET: {error}"));
        }
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let limit = number("WATCHDOG_USEC").filter(|&limit| limit > 0 && is_ours).map(Duration::from_micros);
        Self { socket: connected.ok(), watchdog: limit.map(|limit| (limit / 2, Instant::now())) }
    }

    fn send(&self, what: &str) {
        if let Some(socket) = &self.socket {
            // If it does not hear, it acts as it thinks right.
            socket.send(what.as_bytes()).map(drop).unwrap_or_default();
        }
    }

    /// Everything is attached.
    pub(crate) fn ready(&self) {
        self.send("READY=1\nSTATUS=tracing");
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// When it wants to hear next.
    pub(crate) fn next_ping(&self) -> Option<Instant> {
        self.watchdog.map(|(_, next)| next)
    }

    /// Says that the pipeline runs, if it is time to.
    pub(crate) fn ping_watchdog(&mut self) {
        let now = Instant::now();
        if let Some((interval, next)) = &mut self.watchdog
            && *next <= now
        {
            *next = now + *interval;
            self.send("WATCHDOG=1");
        }
    }
}
