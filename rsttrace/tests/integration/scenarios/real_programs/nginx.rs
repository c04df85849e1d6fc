//! nginx: a master that listens, workers that accept.

use std::fs;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    ADDRESS, abort_after_visit,
    program::{self, Program},
    truth::{Truth, kill_with_unread_data, sent_by},
    visit_web,
};
use crate::{puppet::Puppet, stage::Stage};

/// A running nginx and its directory.
pub(super) struct Nginx {
    program: Program,
    _directory: TempDir,
}

impl Nginx {
    /// Starts a master and two workers; `listen`, `server` (the content of the server block) and `more` (beside it) are
    /// parts of its configuration.
    pub(super) fn start(listen: &str, server: &str, more: &str) -> Self {
        let directory = program::directory();
        let path = directory.path().display();
        let configuration = format!(
            "daemon off; worker_processes 2; pid {path}/pid; error_log stderr notice; user nobody nogroup;
             events {{ worker_connections 64; }}
             http {{
                 access_log off; keepalive_timeout 60s;
                 client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;
                 uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
                 server {{ listen {listen}; location = /pid {{ return 200 \"$pid\\n\"; }} {server} }}
                 {more}
             }}"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let path = path.to_string();
        let program = Program::start("nginx", &["-c", &file.display().to_string(), "-p", &path]);
        for _ in 0..2 {
            program.says("start worker process ");
        }
        Self { program, _directory: directory }
    }

    /// Reloads the configuration, and waits until two new workers have started and an old one has gone.
    pub(super) fn reload(&self) {
        program::signal(self.program.pid(), Signal::SIGHUP);
        for _ in 0..2 {
            self.program.says("start worker process ");
        }
        self.program.says("exited with code 0");
    }
}

/// The client resets an idle connection; the worker resets one on which it has read enough to know that it is no
/// request, one whose request does not come in time, and one that it is configured not to answer.
pub(crate) fn workers_own_what_they_accept(stage: &Stage) {
    let tracer = stage.trace();
    let _nginx = Nginx::start(
        ADDRESS,
        "reset_timedout_connection on; client_body_timeout 50ms; lingering_close off;
         location = /slow { proxy_pass http://127.0.0.1:9; }
         location = /never { return 444; }",
        "",
    );
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();

    abort_after_visit(&mut client, &mut truth);

    let (unread, client_end) = visit_web(&mut client, "unread");
    client.tell("send unread 20000");
    client.wait_error("unread", "ECONNRESET");
    truth.resets(&unread, &client_end);

    let (slow, client_end) = visit_web(&mut client, "slow");
    client.tell("say slow POST /slow HTTP/1.1|Host: example|Content-Length: 9000");
    client.wait_error("slow", "ECONNRESET");
    truth.resets(&slow, &client_end);

    let (never, client_end) = visit_web(&mut client, "never");
    client.tell("say never GET /never HTTP/1.1|Host: example");
    client.wait_error("never", "ECONNRESET");
    truth.resets(&never, &client_end);

    let run = truth.finish(stage, tracer);
    sent_by(&run, &unread).cause("closed-with-unread-data");
    sent_by(&run, &slow).cause("linger-zero");
    sent_by(&run, &never).cause("linger-zero");
}

/// Each worker has its own listener on one port, and the kernel chooses the worker.
pub(crate) fn reuseport_workers_own(stage: &Stage) {
    let tracer = stage.trace();
    let _nginx = Nginx::start(&format!("{ADDRESS} reuseport"), "", "");
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        let (worker, client_end) = visit_web(&mut client, name);
        client.abort(name);
        truth.resets(&client_end, &worker);
    }
    truth.finish(stage, tracer);
}

/// nginx and the connection existed before rsttrace started.
pub(crate) fn older_workers_are_known(stage: &Stage) {
    let _nginx = Nginx::start(ADDRESS, "", "");
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();
    let (old, client_end) = visit_web(&mut client, "old");
    truth.resets(&client_end, &old);
    let tracer = stage.trace();
    let (new, client_end) = visit_web(&mut client, "new");
    truth.resets(&client_end, &new);
    client.abort("old");
    client.abort("new");
    truth.finish(stage, tracer);
}

/// A worker is killed while one of its connections has unread data.
pub(crate) fn killed_worker_is_named(stage: &Stage) {
    let tracer = stage.trace();
    let _nginx = Nginx::start(ADDRESS, "", "");
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();
    let (worker, client_end) = visit_web(&mut client, "c");
    kill_with_unread_data(&worker, &mut client, "c");
    truth.resets(&worker, &client_end);
    let run = truth.finish(stage, tracer);
    sent_by(&run, &worker).cause("process-died");
}
