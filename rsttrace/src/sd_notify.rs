//! Notifications to the service manager (`sd_notify`): ready, alive, stopping.

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

use crate::util::messages::info;

/// The connection to the service manager; does nothing where there is none.
#[derive(Debug, Default)]
pub(crate) struct ServiceNotifier {
    socket: Option<UnixDatagram>,
    /// Interval of the watchdog's pings, and time of the next one.
    watchdog: Option<(Duration, Instant)>,
}

impl ServiceNotifier {
    /// Connects to the service manager that the environment names. Later the sandbox may forbid it. A failure is
    /// reported and not fatal: the run goes on without notifications.
    pub(crate) fn from_env() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let connected = UnixDatagram::unbound().and_then(|socket| {
            let address = match path.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(&path)?,
            };
            socket.connect_addr(&address)?;
            // A service manager that does not read must not block the pipeline.
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        if let Err(error) = &connected {
            info(format_args!("cannot reach the service manager at NOTIFY_SOCKET: {error}"));
        }
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let limit = number("WATCHDOG_USEC").filter(|&limit| limit > 0 && is_ours).map(Duration::from_micros);
        Self { socket: connected.ok(), watchdog: limit.map(|limit| (limit / 2, Instant::now())) }
    }

    fn send(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // A notification that is lost is the service manager's to handle: its timeouts apply.
            let _ignored = socket.send(state.as_bytes());
        }
    }

    /// Notifies that everything is attached.
    pub(crate) fn ready(&self) {
        self.send("READY=1\nSTATUS=tracing");
    }

    /// Notifies that the run ends.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Time of the next ping; `None` without a watchdog.
    pub(crate) fn next_ping(&self) -> Option<Instant> {
        self.watchdog.map(|(_, next)| next)
    }

    /// Pings the watchdog, if it is time.
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
