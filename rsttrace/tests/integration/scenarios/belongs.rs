//! Attribution beyond the owner's PID, from `/proc` and the cgroup file system: program, user, unit, container.

use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::{
    host::Lack,
    lines::TIMEOUT,
    puppet::{self, Puppet},
    reset::Reset,
    stage::{Pair, Stage, V4},
};

/// Id of a container that does not run.
const ID: &str = "3f4e8c1d2b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0";

pub(crate) fn lack() -> Option<Lack> {
    hierarchy().is_none().then(|| Lack::Missing("no cgroup hierarchy of version 2 is mounted".to_owned()))
}

/// Mount point of the version 2 hierarchy.
pub(crate) fn hierarchy() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").expect("proc is mounted");
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    Some(mount.split(' ').nth(1)?.into())
}

/// Nested cgroups that are removed when this is dropped. The processes in them have to exit first.
pub(crate) struct Groups(Vec<PathBuf>);

impl Groups {
    pub(crate) fn make(path: impl AsRef<Path>) -> Self {
        let mut directory = hierarchy().expect("asked for before");
        let mut made = Self(Vec::new());
        for step in path.as_ref() {
            directory.push(step);
            fs::create_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
            made.0.push(directory.clone());
        }
        made
    }

    pub(crate) fn take_in(&self, puppet: &Puppet) {
        let innermost = self.0.last().expect("a path has one step");
        fs::write(innermost.join("cgroup.procs"), puppet.pid().to_string()).expect("root may move processes");
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            drop(fs::remove_dir(directory));
        }
    }
}

/// Checks a record against the puppet's `/proc` files.
#[track_caller]
fn is_puppet(reset: &Reset, puppet: &Puppet) {
    let program = env::current_exe().expect("this program has a path");
    let line = format!("{} {} {}", program.display(), puppet::ARGUMENT, reset["netns"]["inode"]);
    reset
        .owner(puppet)
        .is("/process/executable", program.to_str())
        .is("/process/command_line", line)
        .is("/process/uid", 0)
        .is("/process/user", name_of_root());
}

/// This host's name for user 0, if it has one.
fn name_of_root() -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let root = users.lines().find(|line| line.split(':').nth(2) == Some("0"))?;
    root.split(':').next().map(str::to_owned)
}

/// Program, arguments and user of both ends; the cgroup is one that the process is in.
pub(crate) fn record_has_program_and_user(stage: &Stage) {
    let tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.client_aborts();

    let run = stage.finish(tracer, 1, 1);
    for (reset, puppet) in [(run.the_sent(), &pair.client), (run.the_received(), &pair.server)] {
        is_puppet(reset, puppet);
        let groups = fs::read_to_string(Path::new("/proc").join(puppet.pid().to_string()).join("cgroup")).unwrap();
        let paths = groups.lines().map(|line| line.splitn(3, ':').nth(2).expect("three fields"));
        reset.is_one_of("/process/cgroup", paths);
    }
}

/// A process that has had a connection reset before dies with another one: its name is remembered.
pub(crate) fn process_dies_after_another_reset(stage: &Stage) {
    let mut tracer = stage.trace();
    let mut pair = Pair::open(V4);
    pair.connect("c2", "s2");
    pair.client_aborts();
    tracer.expect(2);
    pair.leave_unread("c2", "s2", 7);
    pair.server.kill();
    pair.client.wait_error("c2", "ECONNRESET");

    let run = stage.finish(tracer, 2, 2);
    let died = run.sent().find(|reset| reset["cause"]["code"] == "process-died").expect("the server died");
    is_puppet(died, &pair.server);
}

/// A process that has never had a connection reset dies with one: its name is known from the start of the run.
pub(crate) fn process_dies_without_another_reset(stage: &Stage) {
    let mut pair = Pair::open(V4);
    pair.leave_unread("c", "s", 7);
    let tracer = stage.trace();
    await_end_of_look(tracer.pid());
    pair.server.kill();
    pair.client.wait_error("c", "ECONNRESET");

    let run = stage.finish(tracer, 1, 1);
    is_puppet(run.the_sent().cause("process-died"), &pair.server);
}

/// Waits until rsttrace has read the processes of the host. Until then there is a thread `rsttrace-look`, called
/// `rsttrace` before it is renamed.
fn await_end_of_look(pid: u32) {
    let deadline = Instant::now() + TIMEOUT;
    let is_there = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let others = threads.flatten().filter(|thread| thread.file_name().to_str() != Some(&pid.to_string()));
        let comm = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        others.map(comm).any(|comm| ["rsttrace", "rsttrace-look"].contains(&comm.trim_end()))
    };
    while is_there() {
        assert!(Instant::now() < deadline, "{pid} looks for too long");
        thread::yield_now();
    }
}

/// A service in a container in a pod.
pub(crate) fn record_has_container_and_unit(stage: &Stage) {
    let pod = format!("rsttrace-test-{}-pod8dbc1577_d0e2_4706_8787_57d52c03ddf2.slice", stage.netns);
    let groups = Groups::make(format!("{pod}/cri-containerd-{ID}.scope/gateway.service"));
    let tracer = stage.trace();
    {
        let mut server = Puppet::start("the-server");
        let mut client = Puppet::start("the-client");
        groups.take_in(&client);
        let address = server.listen("l", V4, 1);
        client.connect("c", address);
        server.tell("accept s l");
        client.abort("c");
        server.wait_error("s", "ECONNRESET");

        let run = stage.finish(tracer, 1, 1);
        let path = format!("/{pod}/cri-containerd-{ID}.scope/gateway.service");
        run.the_sent()
            .owner(&client)
            .is("/cgroup/path", path.clone())
            .is("/process/cgroup", path)
            .is("/unit", "gateway.service")
            .is("/container/runtime", "containerd")
            .is("/container/id", ID)
            .is("/container/pod_uid", "8dbc1577-d0e2-4706-8787-57d52c03ddf2");
        run.the_received().owner(&server).is("/container", Value::Null);
    }
}

/// A socket that is created in one cgroup and used in another, like that of a socket-activated service of systemd.
pub(crate) fn owner_cgroup_precedes_socket_cgroup(stage: &Stage) {
    let (maker, user) =
        (format!("rsttrace-maker-{}.scope", stage.netns), format!("rsttrace-user-{}.service", stage.netns));
    let (maker_groups, user_groups) = (Groups::make(&maker), Groups::make(&user));
    let tracer = stage.trace();
    {
        let mut server = Puppet::start("the-server");
        let mut client = Puppet::start("the-client");
        maker_groups.take_in(&server);
        let address = server.listen("l", V4, 1);
        user_groups.take_in(&server);
        client.connect("c", address);
        server.tell("accept s l");
        server.abort("s");
        client.wait_error("c", "ECONNRESET");

        let run = stage.finish(tracer, 1, 1);
        run.the_sent()
            .owner(&server)
            .is("/cgroup/path", format!("/{maker}"))
            .is("/process/cgroup", format!("/{user}"))
            .is("/unit", user)
            .is("/container", Value::Null);
    }
}
