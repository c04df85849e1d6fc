//! Names of containers, pods and peers, from files laid out as the engines leave them, in a mount namespace that only
//! the scenario and its rsttrace see.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::belongs::{self, Groups};
use crate::{
    host::{self, Lack},
    mounts,
    puppet::Puppet,
    stage::{Pair, Stage, V4},
};

const DOCKER: &str = include_str!("../../fixtures/host/docker-compose.json");
const POD: &str = include_str!("../../fixtures/host/cni-pod.json");
const BUNDLE: &str = include_str!("../../fixtures/host/containerd-bundle.json");

const DOCKER_ID: &str = "774758ca1db8b0c9d2e5f6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f7081";
const CONTAINERD_ID: &str = "c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4";
const POD_UID: &str = "8dbc1577-d0e2-4706-8787-57d52c03ddf2";
const NETNS: &str = "/run/netns/cni-8b8677c8-8929-4746-8206-514069760f6e";

/// What this host lacks for the scenarios.
pub(crate) fn lack() -> Option<Lack> {
    belongs::lack().or_else(|| host::lacks_program("ip"))
}

/// Leaves the mount namespace, and empties the directories that engines use.
fn leave() {
    // The program may be in one of them: it is started from where it is before.
    mounts::leave().unwrap();
    for directory in ["/var/lib", "/var/log", "/run"] {
        assert!(!host::rsttrace().starts_with(directory) && !env::temp_dir().starts_with(directory));
        mounts::mount("tmpfs", directory, "mode=755").unwrap();
    }
}

fn write(path: impl Into<PathBuf>, text: &str) {
    let path = path.into();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Gives the scenario's loopback interface another address, which is a pod's.
fn add_address(address: &str) {
    let status = Command::new("ip").args(["address", "add", address, "dev", "lo"]).status().unwrap();
    assert!(status.success());
}

fn lay_out_pod() {
    let log = format!("/var/log/pods/shop_cart-7d9f_{POD_UID}/web/0.log");
    write(&log, "");
    fs::create_dir("/var/log/containers").unwrap();
    symlink(&log, format!("/var/log/containers/cart-7d9f_shop_web-{CONTAINERD_ID}.log")).unwrap();
    write(format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{CONTAINERD_ID}/config.json"), BUNDLE);
    write("/var/lib/cni/results/cbr0-3f6940ab-eth0", POD);
    write(NETNS, "");
}

/// Hosts file for this mount namespace alone.
fn set_hosts(directory: &Path, text: &str) {
    let path = directory.join("hosts");
    fs::write(&path, text).unwrap();
    // A virtual machine has none.
    if host::is_guest() && !Path::new("/etc/hosts").exists() {
        fs::write("/etc/hosts", "").unwrap();
    }
    mounts::bind(&path, Path::new("/etc/hosts")).unwrap();
}

/// A client in a pod connects to the address of another pod, inside the sandbox: container, image, pod and peer have
/// their names in the first record, in JSON and in text.
pub(crate) fn pod_and_peer_have_names(stage: &Stage) {
    let pod = format!("rsttrace-names-{}-pod{}.slice", stage.netns, POD_UID.replace('-', "_"));
    let groups = Groups::make(format!("{pod}/cri-containerd-{CONTAINERD_ID}.scope"));
    let directory = tempfile::tempdir().unwrap();
    leave();
    lay_out_pod();
    set_hosts(directory.path(), "127.0.0.1 localhost\n10.244.1.9 client.example\n");
    add_address("10.244.1.4/32");
    add_address("10.244.1.9/32");
    let text = directory.path().join("text");
    let plain = directory.path().join("numeric");
    let netns = stage.netns.to_string();
    let others = [(&text, "--count=2"), (&plain, "--numeric")].map(|(path, option)| {
        let arguments = [&stage.arguments()[2..], &["--output", "text", "--netns", &netns, "--count", "2", option]];
        let arguments: Vec<&str> = arguments.concat().into_iter().filter(|&argument| argument != "--count=2").collect();
        crate::tracer::Tracer::start_writing_to(&arguments, fs::File::create(path).unwrap().into())
    });
    let tracer = stage.trace();
    {
        let mut server = Puppet::start("the-server");
        let mut client = Puppet::start("the-client");
        groups.take_in(&client);
        let address = server.listen("l", "10.244.1.4:0", 1);
        client.tell(format_args!("connect-from c 10.244.1.9:0 {address}"));
        server.tell("accept s l");
        client.abort("c");
        server.wait_error("s", "ECONNRESET");

        let run = stage.finish(tracer, 1, 1);
        run.the_sent()
            .owner(&client)
            .is("/container/id", CONTAINERD_ID)
            .is("/container/name", "web")
            .is("/container/image", "docker.io/library/nginx:1.27")
            .is("/container/service", Value::Null)
            .is("/container/pod_uid", POD_UID)
            .is("/pod/namespace", "shop")
            .is("/pod/name", "cart-7d9f")
            .is("/pod/uid", POD_UID)
            .is("/pod/container", "web")
            .is("/peer/name", "shop/cart-7d9f");
        run.the_received()
            .owner(&server)
            .is("/container", Value::Null)
            .is("/pod", Value::Null)
            .is("/peer/name", "client.example");
        assert!(!run.stderr.contains("degraded: names"), "{}", run.stderr);
        for tracer in others {
            let (status, stderr) = tracer.status();
            assert!(status.success(), "{stderr}");
        }
        let text = fs::read_to_string(text).unwrap();
        let sent = text.lines().find(|line| line.contains(" SENT ")).unwrap();
        assert!(sent.contains(&format!("the-client[{}] shop/cart-7d9f", client.pid())), "{text}");
        let plain = fs::read_to_string(plain).unwrap();
        assert!(!plain.contains("cart") && !plain.contains("client.example"), "{plain}");
    }
}

/// A container of Docker that starts during the run has its names in its first record. Of two networks in the user's
/// file, the smaller one names the peer.
pub(crate) fn new_container_has_names(stage: &Stage) {
    let group = format!("rsttrace-names-{}/docker-{DOCKER_ID}.scope", stage.netns);
    let groups = Groups::make(group);
    let directory = tempfile::tempdir().unwrap();
    leave();
    fs::create_dir_all("/var/lib/docker/containers").unwrap();
    let names = directory.path().join("names.toml");
    fs::write(&names, "\"127.0.0.0/8\" = \"this host\"\n\"127.0.0.0/16\" = \"near\"\n").unwrap();
    let mut tracer = stage.trace_with(&["--names", names.to_str().unwrap()]);
    {
        let mut pair = Pair::open(V4);
        pair.client_aborts();
        tracer.expect(2);
        write(format!("/var/lib/docker/containers/{DOCKER_ID}/config.v2.json"), DOCKER);
        let mut client = Puppet::start("in-docker");
        groups.take_in(&client);
        client.connect("c", pair.server_end);
        pair.server.tell("accept s2 l");
        client.abort("c");
        pair.server.wait_error("s2", "ECONNRESET");

        let run = stage.finish(tracer, 2, 2);
        let sent: Vec<_> = run.sent().collect();
        sent[0].is("/container", Value::Null).is("/peer/name", "near");
        sent[1]
            .owner(&client)
            .is("/container/id", DOCKER_ID)
            .is("/container/name", "shop-web-1")
            .is("/container/image", "nginx:1.27-alpine")
            .is("/container/service", "shop/web")
            .is("/pod", Value::Null);
    }
}

/// A directory that the user of `--user` may not read is reported, and the run goes on without its names.
pub(crate) fn unreadable_names_are_reported(stage: &Stage) {
    use std::os::unix::fs::PermissionsExt as _;
    leave();
    write(format!("/var/lib/docker/containers/{DOCKER_ID}/config.v2.json"), DOCKER);
    fs::set_permissions("/var/lib/docker", fs::Permissions::from_mode(0o710)).unwrap();
    let tracer = stage.trace_with(&["--user", "65534"]);
    let mut pair = Pair::open(V4);
    pair.client_aborts();
    let run = stage.finish(tracer, 1, 1);
    assert!(run.stderr.contains("degraded: names") && run.stderr.contains("/var/lib/docker"), "{}", run.stderr);
}

/// A file of names that is malformed is refused, with its place and the remedy.
pub(crate) fn malformed_names_are_refused(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let names = directory.path().join("names.toml");
    for (text, expected) in [
        ("# peers\n10.0.0.7 = \"db-1\"\n", "names.toml:2:1: write each entry as \"ADDRESS\" = \"NAME\""),
        ("\"10.0.0.7/8\" = \"db-1\"\n", "names.toml:1:1: 10.0.0.7/8 has bits beyond its prefix: write 10.0.0.0/8"),
    ] {
        fs::write(&names, text).unwrap();
        let output =
            Command::new(host::rsttrace()).args(stage.arguments()).arg("--names").arg(&names).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    }
}
