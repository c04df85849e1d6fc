//! Resource limits that are too low to start: one sentence with the remedy, and status 3.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Command, Output, Stdio},
};

use nix::sys::resource::{Resource, setrlimit};

use super::faults::Limited;
use crate::{host, stage::Stage};

/// Arguments of a run that ends immediately.
fn arguments(stage: &Stage) -> Vec<String> {
    let netns = stage.netns.to_string();
    stage.arguments().into_iter().chain(["--netns", &netns, "--duration", "1ms"]).map(str::to_owned).collect()
}

/// Runs rsttrace with a soft and a hard limit of a resource, in bytes.
fn run_limited(stage: &Stage, resource: Resource, soft: u64, hard: u64) -> Output {
    let mut command = Command::new(host::rsttrace());
    command.args(arguments(stage)).stdin(Stdio::null());
    // SAFETY: one system call.
    unsafe { command.pre_exec(move || setrlimit(resource, soft, hard).map_err(io::Error::from)) };
    command.output().unwrap()
}

#[track_caller]
fn works(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("0 resets in"), "{said}");
}

/// Checks for status 3 and one sentence that contains these words.
#[track_caller]
fn is_refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{} {said}", output.status);
    assert!(said.starts_with("rsttrace: error: ") && said.lines().count() == 1, "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

/// A soft limit is raised as far as the hard one allows. Below about 16 KiB, which arguments, environment and dynamic
/// linking take, the kernel kills the process before it can report anything.
pub(crate) fn stack_limit_is_raised_or_refused(stage: &Stage) {
    for kib in [32, 64, 256] {
        works(&run_limited(stage, Resource::RLIMIT_STACK, kib << 10, 8 << 20));
        let words = [&format!("{kib} KiB"), "ulimit -s"];
        is_refused(&run_limited(stage, Resource::RLIMIT_STACK, kib << 10, kib << 10), &words);
    }
    works(&run_limited(stage, Resource::RLIMIT_STACK, 64 << 10, 512 << 10));
}

pub(crate) fn low_address_space_limit_is_refused(stage: &Stage) {
    // Below 42 MiB a debug build, of 38 MB, does not reach its own check.
    for mib in [48, 54, 60] {
        let words = [&format!("{mib} MiB"), "ulimit -v"];
        is_refused(&run_limited(stage, Resource::RLIMIT_AS, mib << 20, mib << 20), &words);
    }
    works(&run_limited(stage, Resource::RLIMIT_AS, 96 << 20, 96 << 20));
}

/// Root in a user namespace of its own has all capabilities, but none over the kernel.
pub(crate) fn user_namespace_is_refused(stage: &Stage) {
    let mut command = Command::new("unshare");
    command.arg("-Ur").arg(host::rsttrace()).args(arguments(stage));
    is_refused(&command.output().unwrap(), &["user namespace", "on the host as root"]);
}

/// rsttrace refuses to start where the kernel would kill it during the start.
pub(crate) fn low_memory_limit_is_refused(stage: &Stage) {
    for mib in [16, 24, 32, 40, 48] {
        let name = format!("rsttrace-limit-{}-{}-{mib}", std::process::id(), stage.netns);
        let group = Limited::make(&name, mib << 20);
        let output = group.command(&host::rsttrace()).args(arguments(stage)).output().unwrap();
        is_refused(&output, &[&format!("{mib} MiB"), "raise it", "MemoryMax="]);
    }
}
