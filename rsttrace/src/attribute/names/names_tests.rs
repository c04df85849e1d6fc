//! A host with every engine, laid out as the engines do it.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    sync::mpsc,
    time::Instant,
};

use jiff::Timestamp;
use rsttrace_common::event::{KIND_RECEIVED, ResetEvent};

use super::*;
use crate::{
    decode::{BitFields, Decoder, Reasons, clock::WallClock},
    model::Container,
};

const DOCKER: &str = include_str!("../../../tests/fixtures/host/docker-compose.json");
const STORAGE: &str = include_str!("../../../tests/fixtures/host/storage-containers.json");
const POD: &str = include_str!("../../../tests/fixtures/host/cni-pod.json");
const NETWORK: &str = include_str!("../../../tests/fixtures/host/aardvark-network");
const BUNDLE: &str = include_str!("../../../tests/fixtures/host/containerd-bundle.json");

const DOCKER_ID: &str = "774758ca1db8b0c9d2e5f6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f7081";
const PODMAN_ID: &str = "579635db3532e954d07927bdc32bd435bd082f03a0696ded072f04d762a18775";
const POD_UID: &str = "8dbc1577-d0e2-4706-8787-57d52c03ddf2";
const NETNS: &str = "cni-8b8677c8-8929-4746-8206-514069760f6e";

fn id(pair: &str) -> String {
    pair.repeat(32)
}

/// A root file system.
struct Host(tempfile::TempDir);

impl Host {
    fn bare() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
        fs::write(path, text).expect("a file");
        self
    }

    fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
        symlink(to, path).expect("a link");
        self
    }

    fn remove(&self, path: &str) {
        let path = self.0.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it was there");
    }

    /// A host with every engine.
    fn full() -> Self {
        let host = Self::bare();
        let (containerd, nerdctl) = (id("c4"), id("e5"));
        host.write(&format!("var/lib/docker/containers/{DOCKER_ID}/config.v2.json"), DOCKER)
            .write("var/lib/containers/storage/overlay-containers/containers.json", STORAGE)
            .write(
                "var/lib/containers/storage/overlay-containers/volatile-containers.json",
                format!("[{{\"id\":\"{}\",\"names\":[\"short-lived\"]}}]", id("0f")),
            )
            .write("var/lib/nerdctl/1935db59/names/default/proxy", &nerdctl)
            .write(
                &format!("var/lib/cni/results/bridge-default-{nerdctl}-eth0"),
                format!(
                    r#"{{"kind":"cniCacheV1","containerId":"default-{nerdctl}","result":{{"ips":[{{"address":"10.4.0.2/24"}}]}}}}"#
                ),
            )
            .write("var/lib/cni/results/cbr0-3f6940ab-eth0", POD)
            .write(&format!("run/netns/{NETNS}"), "")
            .write("run/containers/networks/aardvark-dns/backend", NETWORK)
            .write("run/containers/networks/aardvark-dns/aardvark.pid", "4242")
            .write(&format!("var/log/pods/shop_cart-7d9f_{POD_UID}/web/0.log"), "")
            .write("var/log/pods/kube-system_etcd-node-1_6e9f5d5d2d7c4f5b8a1f0c9e8d7b6a54/etcd/0.log", "")
            .link(
                &format!("var/log/containers/cart-7d9f_shop_web-{containerd}.log"),
                &format!("/var/log/pods/shop_cart-7d9f_{POD_UID}/web/0.log"),
            )
            .write(
                &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{containerd}/config.json"),
                BUNDLE,
            )
            .write("etc/hosts", "127.0.0.1 localhost\n192.0.2.7 db-1.example db-1\n172.24.0.3 not-this\n");
        host
    }

    fn names(&self) -> Names {
        Names::below(self.0.path().to_owned(), NamesFile::default())
    }
}

/// A record of a process in this container, and of this peer, of now.
fn record(container: Option<(&str, Option<&str>)>, peer: &str) -> Reset {
    let event = ResetEvent { kind: KIND_RECEIVED, ktime_ns: monotonic_ns(), ..ResetEvent::default() };
    let clock = WallClock { monotonic_ns: event.ktime_ns, wall: Timestamp::UNIX_EPOCH };
    let mut decoder = Decoder::new("host".into(), Reasons::default(), BitFields::default(), None);
    let mut reset = decoder.reset(&event, &clock);
    reset.container = container.map(|(id, pod_uid)| Container {
        runtime: None,
        id: id.into(),
        pod_uid: pod_uid.map(Into::into),
        name: None,
        image: None,
        service: None,
    });
    reset.peer.address = peer.parse().expect("an address");
    reset
}

/// Name and image of a container, and its pod with the container's name in it.
type Shown = (Option<String>, Option<String>, Option<(String, Option<String>)>);

fn of_container(names: &mut Names, id: &str, pod_uid: Option<&str>) -> Shown {
    let mut reset = record(Some((id, pod_uid)), "10.0.0.1");
    names.complete(&mut reset);
    let container = reset.container.expect("it stays");
    let text = |text: Option<Arc<str>>| text.map(|text| text.to_string());
    let pod = reset.pod.map(|pod| (pod.to_string(), text(pod.container.clone())));
    (text(container.name), text(container.image), pod)
}

fn of_peer(names: &mut Names, peer: &str) -> Option<String> {
    let mut reset = record(None, peer);
    names.complete(&mut reset);
    reset.peer.name.map(|name| name.to_string())
}

fn shown(name: Option<&str>, image: Option<&str>, pod: Option<(&str, Option<&str>)>) -> Shown {
    let text = |text: Option<&str>| text.map(str::to_owned);
    (text(name), text(image), pod.map(|(pod, container)| (pod.to_owned(), text(container))))
}

#[test]
fn containers_of_every_engine_have_their_names() {
    let host = Host::full();
    let mut names = host.names();
    let cart = |container| Some(("shop/cart-7d9f", container));
    for (id, pod_uid, expected) in [
        (DOCKER_ID.to_owned(), None, shown(Some("shop-web-1"), Some("nginx:1.27-alpine"), None)),
        (
            format!("0a1b2c3d4e5f60718293a4b5c6d7e8f9/{DOCKER_ID}"),
            None,
            shown(Some("shop-web-1"), Some("nginx:1.27-alpine"), None),
        ),
        (PODMAN_ID.to_owned(), None, shown(Some("contenedor1"), Some("quay.io/centos7/httpd-24-centos7:latest"), None)),
        (
            "c0ffee00".repeat(8),
            Some(POD_UID),
            shown(Some("web"), Some("registry.k8s.io/e2e-test-images/nginx:1.14-4"), cart(Some("web"))),
        ),
        (id("0f"), None, shown(Some("short-lived"), None, None)),
        (id("e5"), None, shown(Some("proxy"), None, None)),
        // The image is in the bundle alone, which is read for the first record of the container.
        (id("c4"), Some(POD_UID), shown(Some("web"), Some("docker.io/library/nginx:1.27"), cart(Some("web")))),
        // The pod's own container has no log.
        (id("77"), Some(POD_UID), shown(None, None, cart(None))),
        (
            id("88"),
            Some("6e9f5d5d2d7c4f5b8a1f0c9e8d7b6a54"),
            shown(None, None, Some(("kube-system/etcd-node-1", None))),
        ),
        (id("99"), Some("00000000-d0e2-4706-8787-57d52c03ddf2"), shown(None, None, None)),
        (id("99"), None, shown(None, None, None)),
        ("web-1".to_owned(), None, shown(None, None, None)),
    ] {
        assert_eq!(of_container(&mut names, &id, pod_uid), expected, "{id} {pod_uid:?}");
    }
    assert!(names.take_degraded().is_none());
}

#[test]
fn addresses_have_the_names_of_their_containers() {
    let host = Host::full();
    let mut names = host.names();
    for (peer, expected) in [
        // A container's address before the line of /etc/hosts.
        ("172.24.0.3", Some("shop-web-1")),
        ("fd00:24::3", Some("shop-web-1")),
        ("10.244.1.4", Some("shop/cart-7d9f")),
        ("10.4.0.2", Some("proxy")),
        ("10.89.0.2", Some("db")),
        ("10.89.0.4", Some("web")),
        ("192.0.2.7", Some("db-1.example")),
        ("10.244.1.1", None),
        ("127.0.0.1", None),
        ("8.8.8.8", None),
    ] {
        assert_eq!(of_peer(&mut names, peer).as_deref(), expected, "{peer}");
    }
}

/// The results of network plugins outlive a restart of the host.
#[test]
fn a_pod_whose_namespace_is_gone_has_no_address() {
    let host = Host::full();
    host.remove(&format!("run/netns/{NETNS}"));
    assert_eq!(of_peer(&mut host.names(), "10.244.1.4"), None);
    // From a container, no namespaces are visible, and all may exist.
    host.remove("run/netns");
    assert_eq!(of_peer(&mut host.names(), "10.244.1.4").as_deref(), Some("shop/cart-7d9f"));
}

#[test]
fn the_file_names_networks_and_precedes() {
    let host = Host::full();
    let file =
        NamesFile::parse("'172.24.0.3' = 'mine'\n'10.0.0.0/8' = 'inside'\n'10.244.0.0/16' = 'pods'").expect("good");
    let mut names = Names::below(host.0.path().to_owned(), file);
    for (peer, expected) in [
        ("172.24.0.3", Some("mine")),
        ("10.244.1.4", Some("shop/cart-7d9f")),
        ("10.244.1.5", Some("pods")),
        ("10.1.1.1", Some("inside")),
        ("192.0.2.7", Some("db-1.example")),
        ("192.0.2.8", None),
    ] {
        assert_eq!(of_peer(&mut names, peer).as_deref(), expected, "{peer}");
    }
}

#[test]
fn names_that_nothing_has_are_noted() {
    let host = Host::full();
    let file = NamesFile::parse("'10.0.0.0/8' = 'inside'").expect("good");
    let noted = |running: &[&str], filters: &FilterOptions| {
        let mut names = Names::below(host.0.path().to_owned(), file.clone());
        names.prefetch();
        names.absences(filters, &running.iter().map(|&id| id.into()).collect())
    };
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<String>>();
    let there = FilterOptions {
        host: texts(&["db-1.example", "INSIDE", "shop-*"]),
        container: texts(&["shop-web-1", "77475", "fedcba9876543210"]),
        pod: texts(&["cart-7d9f", "kube-system/etcd-node-1"]),
        ..FilterOptions::default()
    };
    assert_eq!(noted(&[DOCKER_ID], &there), Vec::<String>::new());
    let missing = FilterOptions {
        host: texts(&["db-2", "db-1.example", "cache-*"]),
        container: texts(&["shop-web-2"]),
        pod: texts(&["other/cart-7d9f"]),
        ..FilterOptions::default()
    };
    let pod = "no pod other/cart-7d9f now; waiting for it";
    assert_eq!(
        noted(&[DOCKER_ID], &missing),
        [
            "no address named db-2 or cache-* now; waiting for them",
            "no container named shop-web-2 now; waiting for it",
            pod
        ]
    );
    // What has a container without a known name is read with its first record. The kubelet has named every pod.
    assert_eq!(noted(&[DOCKER_ID, &id("99")], &missing), [pod]);
    host.remove("var/log/pods");
    assert_eq!(noted(&[&id("99")], &missing), Vec::<String>::new());
}

#[test]
fn the_data_root_of_docker_is_found() {
    let host = Host::bare();
    host.write("etc/docker/daemon.json", "{\"data-root\":\"/data/docker\",\"log-driver\":\"journald\"}")
        .write(&format!("data/docker/containers/{DOCKER_ID}/config.v2.json"), DOCKER);
    assert_eq!(of_container(&mut host.names(), DOCKER_ID, None).0.as_deref(), Some("shop-web-1"));
}

/// A container that has started since the last refresh is found at its first record, and once a second at most if it
/// is not to be found.
#[test]
fn a_new_container_is_found_at_its_first_record() {
    let host = Host::bare();
    host.write("var/lib/docker/containers/x/other", "");
    let mut names = host.names();
    assert_eq!(of_container(&mut names, &id("99"), None), shown(None, None, None));
    let before_ns = names.read_ns;
    assert!(before_ns.is_some());
    for _ in 0..100 {
        of_container(&mut names, &id("99"), None);
    }
    assert_eq!(names.read_ns, before_ns, "an unknown container is asked for once");
    host.write(&format!("var/lib/docker/containers/{DOCKER_ID}/config.v2.json"), DOCKER);
    assert_eq!(of_container(&mut names, DOCKER_ID, None).0.as_deref(), Some("shop-web-1"));
    assert!(names.read_ns > before_ns);
}

/// Containers that are made up cost a bounded number of refreshes.
#[test]
fn unknown_containers_are_asked_for_at_a_bounded_rate() {
    let mut names = Host::bare().names();
    names.next_ns = u64::MAX;
    let now_ns = monotonic_ns();
    let burst = |names: &mut Names, at_ns| (0..100).filter(|_| names.may_ask(at_ns)).count();
    assert_eq!(burst(&mut names, now_ns), 16);
    assert_eq!(burst(&mut names, now_ns + UNKNOWN_INTERVAL_NS), 1);
    assert_eq!(burst(&mut names, now_ns + 4 * UNKNOWN_INTERVAL_NS), 3);
    assert_eq!(burst(&mut names, now_ns + 1000 * UNKNOWN_INTERVAL_NS), 16);
}

#[test]
fn a_container_keeps_its_name_after_its_end() {
    let host = Host::full();
    let mut names = host.names();
    assert!(of_container(&mut names, DOCKER_ID, None).0.is_some());
    host.remove(&format!("var/lib/docker/containers/{DOCKER_ID}"));
    let before_ns = names.read_ns;
    let deadline = Instant::now() + Duration::from_secs(30);
    while monotonic_ns() < names.next_ns {
        assert!(Instant::now() < deadline, "the pause is short");
        std::thread::yield_now();
    }
    let mut reset = record(Some((DOCKER_ID, None)), "172.24.0.3");
    reset.internals.ktime_ns += FRESH_NS;
    names.complete(&mut reset);
    assert!(names.read_ns > before_ns, "the names were old");
    assert_eq!(reset.container.and_then(|container| container.name).as_deref(), Some("shop-web-1"));
    assert_eq!(reset.peer.name.as_deref(), Some("shop-web-1"), "resets of its end are to come");
}

/// Links, pipes, devices, large files, odd names, deep and malformed JSON.
#[test]
fn hostile_trees_neither_block_nor_lead_elsewhere() {
    let host = Host::bare();
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("config.v2.json"), DOCKER).expect("a file");
    let outside = outside.path().to_str().expect("UTF-8");
    let containers = "var/lib/docker/containers";
    host.link(&format!("{containers}/{}", id("a1")), outside)
        .link(&format!("{containers}/{}/config.v2.json", id("a2")), &format!("{outside}/config.v2.json"))
        .write(&format!("{containers}/{}/config.v2.json", id("a3")), "[".repeat(1 << 19))
        .write(
            &format!("{containers}/{}/config.v2.json", id("a4")),
            DOCKER.replace("shop-web-1", "\\u001b[2J\\n\u{202e}"),
        )
        .write(&format!("{containers}/{}/config.v2.json", id("a5")), DOCKER.replace("/shop-web-1\"", &"x".repeat(300)))
        .write(&format!("{containers}/{}/config.v2.json", id("a6")), b"{\"Name\":\"/a\xff\xfe\"}")
        .link("var/log/pods/loop", "loop")
        .write("var/log/pods/a_b_c_d/x", "")
        .write("etc/hosts", "10.0.0.9 \u{1b}[31m\n10.0.0.8 ok\n");
    let directory = host.0.path().join(containers);
    for (pair, kind) in [("b1", libc::S_IFIFO), ("b2", libc::S_IFSOCK)] {
        fs::create_dir(directory.join(id(pair))).expect("a directory");
        let path = directory.join(id(pair)).join("config.v2.json");
        let path = std::ffi::CString::new(path.to_str().expect("UTF-8")).expect("no zero");
        // SAFETY: a text that lives through the call.
        assert_eq!(unsafe { libc::mknod(path.as_ptr(), kind | 0o600, 0) }, 0);
    }
    fs::create_dir(directory.join(id("b3"))).expect("a directory");
    let sparse = File::create(directory.join(id("b3")).join("config.v2.json")).expect("a file");
    sparse.set_len(1 << 40).expect("holes cost nothing");

    let (mut names, started) = (host.names(), Instant::now());
    for pair in ["a1", "a2", "a3", "a5", "b1", "b2", "b3"] {
        assert_eq!(of_container(&mut names, &id(pair), None), shown(None, None, None), "{pair}");
    }
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(
        of_container(&mut names, &id("a4"), None).0.is_some_and(|name| name.contains('\u{1b}')),
        "formats escape it"
    );
    assert_eq!(of_container(&mut names, &id("a6"), None).0.as_deref(), Some("a\u{fffd}\u{fffd}"));
    assert_eq!(of_peer(&mut names, "10.0.0.8").as_deref(), Some("ok"));
}

/// A file system that hangs is waited for once.
#[test]
fn a_refresh_that_hangs_is_waited_for_once() {
    let mut names = Host::bare().names();
    names.sources = None;
    let (release, released) = mpsc::channel::<()>();
    let mut sources = Sources::new(Path::new("/no/such/host").to_owned(), Arc::default());
    let refresh = move |wanted| {
        let _ignored = released.recv();
        sources.refresh(wanted)
    };
    names.reader = Some(Reader::start(refresh).expect("a thread"));
    let started = Instant::now();
    for _ in 0..50 {
        assert_eq!(of_container(&mut names, &id("99"), None), shown(None, None, None));
    }
    assert!(started.elapsed() >= REFRESH_TIMEOUT && started.elapsed() < REFRESH_TIMEOUT * 20);
    assert!(names.read_ns.is_none());
    drop(release);
    let deadline = Instant::now() + Duration::from_secs(30);
    while names.read_ns.is_none() {
        assert!(Instant::now() < deadline, "the result is taken when it comes");
        of_peer(&mut names, "10.0.0.1");
    }
}

#[test]
fn the_death_of_the_reader_is_reported_once() {
    let mut names = Host::bare().names();
    names.sources = None;
    let die = |_| -> reader::Refreshed { std::panic::resume_unwind(Box::new("there is no room for its stack")) };
    names.reader = Some(Reader::start(die).expect("a thread"));
    for is_reported in [true, false] {
        assert_eq!(of_peer(&mut names, "10.0.0.1"), None);
        assert_eq!(names.take_degraded().is_some(), is_reported);
    }
}
