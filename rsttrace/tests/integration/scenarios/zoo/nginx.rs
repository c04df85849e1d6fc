//! nginx: a master that listens, workers that accept.

use std::fs;

use tempfile::TempDir;

use super::{
    DOOR,
    program::{self, Program},
    truth::{Truth, kill_with_unread_data, sent_by},
    visit_web,
};
use crate::{puppet::Puppet, stage::Stage};

/// A running nginx and its directory.
pub(super) struct Nginx {
    _program: Program,
    _directory: TempDir,
}

impl Nginx {
    /// Starts a master and two workers; `listen`, what is in `server`, and `more` beside it are of its configuration.
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
        Self { _program: program, _directory: directory }
    }
}

/// A worker is killed while a connection of its has unread data.
pub(crate) fn killed_worker(stage: &Stage) {
    let tracer = stage.trace();
    let _nginx = Nginx::start(DOOR, "", "");
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();
    let (worker, client_end) = visit_web(&mut client, "c");
    kill_with_unread_data(&worker, &mut client, "c");
    truth.resets(&worker, &client_end);
    let run = truth.finish(stage, tracer);
    sent_by(&run, &worker).cause("process-died");
}
