//! Web servers of several programs, which close an idle connection after a second or so, each at a given address.

use std::{any::Any, fs, net::SocketAddr};

use tempfile::TempDir;

use super::{
    nginx::Nginx,
    program::{self, Program},
};
use crate::host::{self, Lack};

/// Application for gunicorn and uvicorn: `/slow` answers after 1.9 s, `/events` is a stream without an end, `/refused`
/// answers an upload that it has not read.
const APPLICATION: &str = include_str!("http_server.py");
/// Application for Node.js, like [`APPLICATION`]; `/exit` ends the process with status 3.
const SERVE: &str = include_str!("http_server.js");

const MODULES: &str = "/usr/lib/apache2/modules";

/// What runs as long as a scenario holds it.
pub(super) type Running = Box<dyn Any>;

/// A program that serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Nginx,
    Haproxy,
    /// With its prefork module.
    Apache,
    /// With threads: the only kind of its workers that keeps connections.
    Gunicorn,
    Uvicorn,
    Node,
}

impl Server {
    /// What this host lacks to run it.
    pub(super) fn lack(self) -> Option<Lack> {
        match self {
            Self::Nginx => host::lacks_program("nginx"),
            Self::Haproxy => host::lacks_program("haproxy"),
            Self::Apache => host::lacks_program("apache2"),
            Self::Gunicorn => host::lacks_program("gunicorn"),
            Self::Uvicorn => host::lacks_runtime("uvicorn"),
            Self::Node => host::lacks_runtime("node"),
        }
    }

    /// Starts it, and waits until it listens.
    pub(super) fn start(self, listen: SocketAddr) -> Running {
        match self {
            Self::Nginx => {
                let server = "keepalive_timeout 1s; location / { return 200 hello; }";
                Box::new(Nginx::start(&listen.to_string(), server, ""))
            }
            Self::Haproxy => Box::new(Haproxy::start(&format!(
                "frontend near
                     bind {listen}
                     timeout http-keep-alive 1s
                     http-request return status 200 content-type text/plain string hello"
            ))),
            Self::Apache => apache(listen),
            Self::Gunicorn => gunicorn(listen, &["--keep-alive", "1"]),
            Self::Uvicorn => uvicorn(listen),
            // It closes a second later than it is told to.
            Self::Node => {
                let arguments = ["-e", SERVE, &listen.ip().to_string(), &listen.port().to_string(), "500"];
                let node = Program::start("node", &arguments);
                node.says("ready");
                Box::new(node)
            }
        }
    }
}

/// A running HAProxy: a master and one worker.
pub(super) struct Haproxy {
    program: Program,
    _directory: TempDir,
}

impl Haproxy {
    /// Starts it with these proxies.
    pub(super) fn start(proxies: &str) -> Self {
        let directory = program::directory();
        let configuration = format!(
            "global
                 nbthread 1
                 user nobody
                 group nogroup
             defaults
                 mode http
                 timeout connect 10s
                 timeout client 60s
                 timeout server 60s
             {proxies}\n"
        );
        let file = directory.path().join("haproxy.conf");
        fs::write(&file, configuration).unwrap();
        let program = Program::start("haproxy", &["-W", "-f", &file.display().to_string()]);
        program.says("Loading success");
        Self { program, _directory: directory }
    }

    /// PID of the worker, which has all connections.
    pub(super) fn pid(&self) -> u32 {
        let master = self.program.pid();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap();
        children.trim().parse().expect("one worker")
    }
}

fn apache(listen: SocketAddr) -> Running {
    let directory = program::directory();
    let path = directory.path().display();
    let configuration = format!(
        "ServerRoot {path}
         ServerName example
         DefaultRuntimeDir {path}
         PidFile {path}/pid
         Mutex pthread
         ErrorLog /dev/stderr
         Listen {listen}
         User nobody
         Group nogroup
         LoadModule mpm_prefork_module {MODULES}/mod_mpm_prefork.so
         LoadModule alias_module {MODULES}/mod_alias.so
         StartServers 2
         KeepAliveTimeout 1
         Redirect 204 /
         "
    );
    let file = directory.path().join("apache.conf");
    fs::write(&file, configuration).unwrap();
    let apache = Program::start("apache2", &["-D", "FOREGROUND", "-f", &file.display().to_string()]);
    apache.says("resuming normal operations");
    Box::new((apache, directory))
}

/// Starts gunicorn with eight threads.
pub(super) fn gunicorn(listen: SocketAddr, options: &[&str]) -> Running {
    let directory = program::directory();
    let path = directory.path().display().to_string();
    fs::write(directory.path().join("http_server.py"), APPLICATION).unwrap();
    let own = ["--worker-class", "gthread", "--threads", "8", "--worker-tmp-dir", &path, "--chdir", &path, "--bind"];
    let gunicorn =
        Program::start("gunicorn", &[&own[..], &[&listen.to_string()], options, &["http_server:wsgi"]].concat());
    gunicorn.says("Booting worker");
    Box::new((gunicorn, directory))
}

fn uvicorn(listen: SocketAddr) -> Running {
    let directory = program::directory();
    let path = directory.path().display().to_string();
    fs::write(directory.path().join("http_server.py"), APPLICATION).unwrap();
    let [host, port] = [listen.ip().to_string(), listen.port().to_string()];
    let arguments =
        ["--host", &host, "--port", &port, "--timeout-keep-alive", "1", "--app-dir", &path, "http_server:asgi"];
    let uvicorn = Program::start("uvicorn", &arguments);
    uvicorn.says("Uvicorn running on");
    Box::new((uvicorn, directory))
}
