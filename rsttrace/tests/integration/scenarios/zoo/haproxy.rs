//! HAProxy: a master, and a worker that does everything.

use std::{fs, net::SocketAddr};

use tempfile::TempDir;

use super::{
    DOOR,
    program::{self, Program},
};

/// A running HAProxy and its directory. A line of its frontend, and options of its only backend server.
pub(super) fn start(frontend: &str, backend: SocketAddr, options: &str) -> (Program, TempDir) {
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
         frontend near
             bind {DOOR}
             {frontend}
             http-request return status 200 content-type text/plain lf-string \"%pid\\n\" if {{ path /pid }}
             default_backend far
         backend far
             http-reuse always
             retries 0
             server one {backend} {options}\n"
    );
    let file = directory.path().join("haproxy.conf");
    fs::write(&file, configuration).unwrap();
    let haproxy = Program::start("haproxy", &["-W", "-f", &file.display().to_string()]);
    haproxy.says("Loading success");
    (haproxy, directory)
}
