//! Network namespaces other than rsttrace's own.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

use crate::{
    lines::TIMEOUT,
    mounts, netns,
    puppet::Puppet,
    stage::{Pair, Stage, V4, reset_one},
};

/// Without a filter every namespace is watched, and each record has its inode number. The filter by port excludes other
/// scenarios that run at the same time.
pub(crate) fn every_namespace_is_watched(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let port = pair.server_end.port().to_string();
    let client_port = pair.client_end.port().to_string();
    // Both ends' ports, since another scenario may use one of them.
    let mut tracer = stage.trace_everywhere(&["--port", &port, "--port", &client_port]);
    pair.client_aborts();

    tracer.expect(2);
    let mut run = tracer.finish();
    run.resets.retain(|reset| reset["netns"]["inode"] == stage.netns);
    run.check_counts(1, 1);
    run.the_sent().between(pair.client_end, pair.server_end).owner(&pair.client);
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server);
}

/// `--netns` accepts a path instead of an inode number.
pub(crate) fn path_selects_a_namespace(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let path = format!("/proc/{}/ns/net", pair.server.pid());
    let tracer = stage.trace_everywhere(&["--netns", &path]);
    pair.client_aborts();

    stage.finish(tracer, 1, 1);
}

/// Network namespace that exists at least as long as this.
struct Namespace {
    file: File,
    inode: u64,
}

impl Namespace {
    fn make() -> Self {
        let make = || {
            let inode = netns::enter_new();
            Self { file: File::open("/proc/thread-self/ns/net").unwrap(), inode }
        };
        thread::spawn(make).join().unwrap()
    }

    /// Runs `work` in the namespace.
    fn run(&self, work: impl FnOnce() + Send + 'static) {
        let file = self.file.try_clone().unwrap();
        let enter = move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work();
        };
        thread::spawn(enter).join().unwrap();
    }

    /// Resets one connection in the namespace.
    fn reset_one(&self) {
        self.run(|| reset_one(&TcpListener::bind(V4).unwrap()));
    }

    /// Mounts the namespace at a path, as `ip netns add` does.
    fn keep_at(&self, path: &Path) {
        File::create(path).unwrap();
        let path = path.to_owned();
        self.run(move || mounts::bind("/proc/thread-self/ns/net", &path).unwrap());
    }

    /// Opens the namespace at a path.
    fn at(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
        Self { file, inode }
    }
}

/// Undoes [`Namespace::keep_at`], as `ip netns del` does.
fn remove(path: &Path) {
    mounts::unmount(path).unwrap();
    fs::remove_file(path).unwrap();
}

/// Path for a mount that only this scenario sees.
fn path_of_mount(directory: &tempfile::TempDir) -> PathBuf {
    mounts::leave().unwrap();
    directory.path().join("blue")
}

/// The namespace of the path is deleted, and another one reuses its number: its resets are not reported until the path
/// names it.
pub(crate) fn reused_number_does_not_match(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of_mount(&directory);
    let first = Namespace::make();
    first.keep_at(&path);
    let number = first.inode;
    drop(first);
    let mut tracer = stage.trace_everywhere(&["--netns", path.to_str().unwrap()]);
    Namespace::at(&path).reset_one();
    tracer.expect(2);
    remove(&path);
    let second = with_number(number);
    for _ in 0..3 {
        second.reset_one();
    }
    tracer.expect_said("is gone: no resets are shown");
    second.reset_one();
    second.keep_at(&path);
    tracer.expect_said(&format!("now names network namespace {number}"));
    second.reset_one();

    tracer.expect(4);
    let run = tracer.finish();
    run.check_counts(2, 2);
    assert_eq!(run.lost, 0);
    remove(&path);
}

/// Creates a namespace with this number, which is free or will be soon. Those with other numbers are kept until then,
/// because the kernel uses the lowest free one.
fn with_number(number: u64) -> Namespace {
    let deadline = Instant::now() + TIMEOUT;
    let mut others = Vec::new();
    loop {
        let made = Namespace::make();
        if made.inode == number {
            return made;
        }
        others.push(made);
        if others.len() > 50 {
            // Other programs of this host create namespaces too; the number may be among those kept here.
            others.clear();
        }
        assert!(Instant::now() < deadline, "{number} is not used again");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The namespace of the path is deleted and created again: the new one is watched.
pub(crate) fn path_names_a_new_namespace(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of_mount(&directory);
    let first = Namespace::make();
    first.keep_at(&path);
    let mut tracer = stage.trace_everywhere(&["--netns", path.to_str().unwrap()]);
    first.reset_one();
    tracer.expect(2);
    remove(&path);
    // The first still exists, so the second has another number.
    let second = Namespace::make();
    second.keep_at(&path);
    tracer.expect_said(&format!("now names network namespace {}", second.inode));
    second.reset_one();
    first.reset_one();

    tracer.expect(4);
    let run = tracer.finish();
    run.check_counts(2, 2);
    let reported: Vec<_> = run.sent().map(|reset| reset["netns"]["inode"].as_u64().unwrap()).collect();
    assert_eq!(reported, [first.inode, second.inode]);
    remove(&path);
}

/// The process whose `/proc` path names the namespace exits.
pub(crate) fn process_of_the_path_ends(stage: &Stage) {
    let mut puppet = Puppet::start("the-server");
    let mut tracer = stage.trace_everywhere(&["--netns", &format!("/proc/{}/ns/net", puppet.pid())]);
    reset_one(&TcpListener::bind(V4).unwrap());
    tracer.expect(2);
    puppet.kill();
    tracer.expect_said("is gone: no resets are shown");
    reset_one(&TcpListener::bind(V4).unwrap());
    stage.finish(tracer, 1, 1);
}

/// A number that no namespace has is reported at the start.
pub(crate) fn unused_number_is_reported(stage: &Stage) {
    let mut tracer = stage.trace_everywhere(&["--netns", &u32::MAX.to_string()]);
    tracer.expect_said(&format!("no network namespace {} is visible from here now; waiting for it", u32::MAX));
    tracer.finish().check_counts(0, 0);
}
