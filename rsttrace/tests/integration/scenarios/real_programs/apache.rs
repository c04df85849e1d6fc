//! Apache with its prefork module: a parent that listens, children that accept.

use std::fs;

use tempfile::TempDir;

use super::{
    ADDRESS, address, hear_head,
    program::{self, Program},
    truth::{End, Truth, kill_with_unread_data, sent_by},
};
use crate::{puppet::Puppet, stage::Stage};

const MODULES: &str = "/usr/lib/apache2/modules";

/// A client gives up an idle connection, and a child is killed while another connection has unread data.
pub(crate) fn prefork_children_own(stage: &Stage) {
    let tracer = stage.trace();
    let (apache, _directory) = start();
    let mut client = Puppet::start("the-client");
    let mut truth = Truth::default();

    let (idle, client_end) = visit(&apache, &mut client, "idle");
    client.abort("idle");
    truth.resets(&client_end, &idle);

    let (killed, client_end) = visit(&apache, &mut client, "killed");
    kill_with_unread_data(&killed, &mut client, "killed");
    truth.resets(&killed, &client_end);

    let run = truth.finish(stage, tracer);
    sent_by(&run, &killed).cause("process-died");
}

/// Starts Apache; returns it and its directory.
fn start() -> (Program, TempDir) {
    let directory = program::directory();
    let path = directory.path().display();
    let configuration = format!(
        "ServerRoot {path}
         ServerName example
         DefaultRuntimeDir {path}
         PidFile {path}/pid
         Mutex pthread
         ErrorLog /dev/stderr
         CustomLog /dev/stdout \"served by %P\"
         Listen {ADDRESS}
         User nobody
         Group nogroup
         LoadModule mpm_prefork_module {MODULES}/mod_mpm_prefork.so
         LoadModule alias_module {MODULES}/mod_alias.so
         StartServers 2
         KeepAliveTimeout 60
         Redirect 204 /nothing
         "
    );
    let file = directory.path().join("apache.conf");
    fs::write(&file, configuration).unwrap();
    let apache = Program::start("apache2", &["-D", "FOREGROUND", "-f", &file.display().to_string()]);
    apache.says("resuming normal operations");
    (apache, directory)
}

/// Connects `name`, and reads from Apache's log which child serves it; returns the server's end and the client's.
fn visit(apache: &Program, client: &mut Puppet, name: &str) -> (End, End) {
    let client_end = client.connect(name, address());
    client.tell(format_args!("say {name} GET /nothing HTTP/1.1|Host: example"));
    hear_head(client, name);
    let pid = apache.says("served by ").parse().unwrap();
    (End::held_by(pid, address(), client_end), End::of(client, client_end, address()))
}
