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
    lines::PATIENCE,
    mounts, netns,
    puppet::Puppet,
    stage::{Pair, Stage, V4, reset_one},
};

/// Without a filter every namespace is seen, and named by its inode. Other scenarios run at the same time, hence the
/// filter by port.
pub(crate) fn every_one_is_seen(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let port = pair.server_end.port().to_string();
    let client_port = pair.client_end.port().to_string();
    // Both ends' ports, since another scenario may be given one of them.
    let mut tracer = stage.trace_everywhere(&["--port", &port, "--port", &client_port]);
    pair.client_aborts();

    tracer.expect(2);
    let mut run = tracer.finish();
    run.resets.retain(|reset| reset["netns"]["inode"] == stage.netns);
    run.check_counts(1, 1);
    run.the_sent().between(pair.client_end, pair.server_end).owner(&pair.client);
    run.the_received().between(pair.server_end, pair.client_end).owner(&pair.server);
}

/// A namespace may be named by a path instead of its number.
pub(crate) fn filter_by_path(stage: &Stage) {
    let mut pair = Pair::open(V4);
    let path = format!("/proc/{}/ns/net", pair.server.pid());
    let tracer = stage.trace_everywhere(&["--netns", &path]);
    pair.client_aborts();

    stage.finish(tracer, 1, 1);
}

/// A network namespace that lasts as long as this, or as something else keeps it.
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

    /// Does something in it.
    fn run(&self, work: impl FnOnce() + Send + 'static) {
        let file = self.file.try_clone().unwrap();
        let enter = move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work();
        };
        thread::spawn(enter).join().unwrap();
    }

    /// Resets one connection in it.
    fn reset_one(&self) {
        self.run(|| reset_one(&TcpListener::bind(V4).unwrap()));
    }

    /// Mounts it at a path, as `ip netns add` does.
    fn keep_at(&self, path: &Path) {
        File::create(path).unwrap();
        let path = path.to_owned();
        self.run(move || mounts::bind("/proc/thread-self/ns/net", &path).unwrap());
    }

    /// The one at a path.
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

/// A path for a mount that this scenario alone sees.
fn path_of_mount(directory: &tempfile::TempDir) -> PathBuf {
    mounts::leave().unwrap();
    directory.path().join("blue")
}

/// The namespace of the path is deleted, and another one gets its number: the resets of that one are nothing to the run
/// until the path names it.
pub(crate) fn number_is_used_again(stage: &Stage) {
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

/// A new namespace of this number, which is free or will be soon. Those of other numbers are kept meanwhile: the kernel
/// gives the lowest free one.
fn with_number(number: u64) -> Namespace {
    let deadline = Instant::now() + PATIENCE;
    let mut others = Vec::new();
    loop {
        let made = Namespace::make();
        if made.inode == number {
            return made;
        }
        others.push(made);
        if others.len() > 50 {
            // The namespaces of other programs of this host are made meanwhile, too: perhaps it is among their numbers.
            others.clear();
        }
        assert!(Instant::now() < deadline, "{number} is not used again");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The namespace of the path is deleted and made again: the new one is watched.
pub(crate) fn path_names_another(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of_mount(&directory);
    let first = Namespace::make();
    first.keep_at(&path);
    let mut tracer = stage.trace_everywhere(&["--netns", path.to_str().unwrap()]);
    first.reset_one();
    tracer.expect(2);
    remove(&path);
    // With the first still there, it has another number.
    let second = Namespace::make();
    second.keep_at(&path);
    tracer.expect_said(&format!("now names network namespace {}", second.inode));
    second.reset_one();
    first.reset_one();

    tracer.expect(4);
    let run = tracer.finish();
    run.check_counts(2, 2);
    let told: Vec<_> = run.sent().map(|reset| reset["netns"]["inode"].as_u64().unwrap()).collect();
    assert_eq!(told, [first.inode, second.inode]);
    remove(&path);
}

/// The process of the path ends.
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

/// A number that no namespace has now is told at the start.
pub(crate) fn number_of_none(stage: &Stage) {
    let mut tracer = stage.trace_everywhere(&["--netns", &u32::MAX.to_string()]);
    tracer.expect_said(&format!("visible from here uses network namespace {}", u32::MAX));
    tracer.finish().check_counts(0, 0);
}
