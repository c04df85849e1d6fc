//! `--cgroup`, with cgroups of any name.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    os::unix::ffi::OsStringExt as _,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    belongs::{Groups, hierarchy},
    receivers::wait_until,
};
use crate::{
    host, netns,
    puppet::Puppet,
    stage::{Stage, V4},
    tracer::Tracer,
};

/// Starts rsttrace for one cgroup in the scenario's network namespace.
fn trace(stage: &Stage, path: &Path) -> Tracer {
    let mut command = Command::new(host::rsttrace());
    command.args(stage.arguments()).args(["--netns", &stage.netns.to_string(), "--cgroup"]).arg(path);
    Tracer::start_command(netns::original(), command, Stdio::piped(), || Ok(()))
}

/// Connects and resets from a client in these cgroups. The client has to exit before they are removed.
fn reset_from(groups: &Groups, server: &mut Puppet, address: SocketAddr) -> Puppet {
    let mut client = Puppet::start("the-client");
    groups.take_in(&client);
    client.connect("c", address);
    server.tell("accept s l");
    client.abort("c");
    server.wait_error("s", "ECONNRESET");
    client
}

/// Names may contain bytes that are not UTF-8, blanks, and what looks like an escape. A path below the root of the
/// hierarchy and the path of the directory both name a cgroup.
pub(crate) fn any_bytes_name_a_cgroup(stage: &Stage) {
    let mut server = Puppet::start("the-server");
    let address = server.listen("l", V4, 16);
    for name in [&b"bk\xff"[..], b"bk blank", "bk\u{e9}".as_bytes(), b"bk\\040", b"bk:0::"] {
        let name = OsString::from_vec([format!("rsttrace-{}-", stage.netns).as_bytes(), name].concat());
        let groups = Groups::make(&name);
        let directory = hierarchy().unwrap().join(&name);
        let tracers = [Path::new("/").join(&name), directory].map(|path| trace(stage, &path));
        let client = reset_from(&groups, &mut server, address);
        for tracer in tracers {
            let run = stage.finish(tracer, 1, 0);
            let shown = format!("/{}", name.to_string_lossy());
            run.the_sent().owner(&client).is("/cgroup/path", shown.clone()).is("/process/cgroup", shown);
        }
        drop(client);
    }
}

/// A cgroup that is deleted and created again has another id, and still matches.
pub(crate) fn recreated_cgroup_matches(stage: &Stage) {
    let name = format!("rsttrace-{}-again", stage.netns);
    let directory = hierarchy().unwrap().join(&name);
    let mut groups = Groups::make(&name);
    let mut tracer = trace(stage, &Path::new("/").join(&name));
    let mut server = Puppet::start("the-server");
    let address = server.listen("l", V4, 16);
    let client = reset_from(&groups, &mut server, address);
    tracer.expect(1);
    drop(client);
    wait_until("the end of the cgroup", || fs::remove_dir(&directory).is_ok());
    drop(groups);
    groups = Groups::make(&name);
    let client = reset_from(&groups, &mut server, address);

    let run = stage.finish(tracer, 2, 0);
    drop(client);
    let ids: Vec<_> = run.sent().map(|reset| reset["cgroup"]["id"].as_u64().unwrap()).collect();
    assert_ne!(ids[0], ids[1]);
    for reset in run.sent() {
        reset.is("/cgroup/path", format!("/{name}"));
    }
}

/// A cgroup that does not exist is noted, and its resets are shown once it does.
pub(crate) fn missing_cgroup_is_awaited(stage: &Stage) {
    let name = format!("rsttrace-{}-late", stage.netns);
    let mut tracer = trace(stage, &Path::new("/").join(&name));
    tracer.expect_said(&format!("no cgroup /{name} now; waiting for it"));
    let mut server = Puppet::start("the-server");
    let address = server.listen("l", V4, 16);
    let groups = Groups::make(&name);
    let client = reset_from(&groups, &mut server, address);

    let run = stage.finish(tracer, 1, 0);
    run.the_sent().owner(&client).is("/cgroup/path", format!("/{name}"));
}
