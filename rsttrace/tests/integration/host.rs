//! Capabilities of this host. A scenario that needs more than the host has is skipped for a stated lack, and fails
//! where the host should have it. Nothing here uses rsttrace: the truth must not come from the program under test.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::hooks;

/// Why a scenario cannot run here.
pub(crate) enum Lack {
    /// The kernel cannot do it and is not expected to: it is too old, or hardened.
    Kernel(String),
    /// The project's virtual machines do not have it: it is too big, or too slow in software emulation.
    Guest(String),
    /// The scenario would change the machine for all of its users.
    Host(String),
    /// A program is not installed; a failure where [`nothing_may_be_missing`].
    Missing(String),
}

/// Whether resets of closed ports and of `TIME_WAIT` sockets can be seen: the kernel has a tracepoint for them (6.10),
/// or functions can be hooked.
pub(crate) fn shows_without_socket() -> bool {
    traces_without_socket() || hooks_functions()
}

/// Whether the kernel's tracepoint reports resets of closed ports and of `TIME_WAIT` sockets (6.10), with a reason
/// argument.
pub(crate) fn traces_without_socket() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| has("SK_RST_REASON_NO_SOCKET", (6, 10)))
}

/// Whether the tracepoint of a dropped packet has the packet's socket (6.11).
pub(crate) fn names_sockets_of_dropped_packets() -> bool {
    version() >= (6, 11)
}

/// Lack of a scenario that needs the reasons of packets that TCP drops.
pub(crate) fn lacks_drop_reasons() -> Option<Lack> {
    (version() < (5, 19)).then(|| Lack::Kernel("TCP drops packets without a reason before 5.19".to_owned()))
}

/// Lack of a scenario that needs classifiers which are attached by links (tcx).
pub(crate) fn lacks_links_of_classifiers() -> Option<Lack> {
    (version() < (6, 6)).then(|| Lack::Kernel("classifiers are attached by netlink before 6.6".to_owned()))
}

/// Lack of a scenario that needs the header of a received reset.
pub(crate) fn lacks_reset_headers() -> Option<Lack> {
    let old = || Lack::Kernel("tcp_reset does not have the packet before 5.11".to_owned());
    lacks_hooks_on_functions().or_else(|| (version() < (5, 11)).then(old))
}

/// Lack of a scenario that changes the whole machine.
pub(crate) fn lacks_a_machine_of_its_own() -> Option<Lack> {
    let why = "it changes the whole machine: only in a virtual machine of the tests' own";
    (!is_guest()).then(|| Lack::Host(why.to_owned()))
}

/// Lack of a scenario of a program that takes longer than 20 ms on an emulated processor for what it passes on: later, its
/// reset is not known to belong to the other.
pub(crate) fn lacks_speed() -> Option<Lack> {
    is_guest().then(|| Lack::Guest("an emulated processor is too slow for the program".to_owned()))
}

/// Lack of a scenario that takes a CPU offline.
pub(crate) fn lacks_a_second_processor() -> Option<Lack> {
    let is_alone = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1);
    let why = "one processor: play it with `cargo xtask vm 6.12 --cpus 2 -- machine::`";
    lacks_a_machine_of_its_own().or_else(|| is_alone.then(|| Lack::Host(why.to_owned())))
}

/// Lack of a scenario that needs kprobes.
pub(crate) fn lacks_kprobes() -> Option<Lack> {
    (!has_kprobes()).then(|| Lack::Kernel("the kernel has no kprobes".to_owned()))
}

/// Whether the kernel gives a reason for every reset that a process causes (6.12).
pub(crate) fn gives_reasons() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| has("SK_RST_REASON_TCP_ABORT_ON_CLOSE", (6, 12)))
}

/// Whether programs can be attached to the entry and the exit of kernel functions.
pub(crate) fn has_fentry() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    let attach = || if knows_fentry() { taken("fentry", hooks::try_fentry()) } else { hooks::try_fentry().is_ok() };
    *ANSWER.get_or_init(attach)
}

/// Whether kprobes can be attached to kernel functions.
pub(crate) fn has_kprobes() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| taken("kprobe", hooks::try_kprobe()))
}

/// Whether kernel functions can be hooked by fentry or by kprobes.
pub(crate) fn hooks_functions() -> bool {
    has_fentry() || has_kprobes()
}

/// Lack of a scenario that needs hooks on kernel functions.
pub(crate) fn lacks_hooks_on_functions() -> Option<Lack> {
    (!hooks_functions()).then(|| Lack::Kernel("the kernel does not allow hooks on its functions".to_owned()))
}

/// Lack of a scenario that needs resets without a socket, see [`shows_without_socket`].
pub(crate) fn lacks_resets_without_socket() -> Option<Lack> {
    let why = "no event for a reset without a socket before 6.10, and no function may be hooked";
    (!shows_without_socket()).then(|| Lack::Kernel(why.to_owned()))
}

/// Whether the kernel accepted what was tried; fails if a kernel of the virtual machines refuses it.
fn taken(way: &str, tried: io::Result<()>) -> bool {
    if let Err(error) = &tried {
        assert!(!is_guest(), "{way} is refused by a kernel that should take it: {error}");
    }
    tried.is_ok()
}

/// Whether this is one of the project's own virtual machines.
pub(crate) fn is_guest() -> bool {
    env::var_os("RSTTRACE_GUEST").is_some()
}

/// Whether the running kernel's BTF has this name; fails if a kernel of this version or later has not.
fn has(name: &str, since: (u32, u32)) -> bool {
    let btf = fs::read("/sys/kernel/btf/vmlinux").expect("the kernel has BTF (CONFIG_DEBUG_INFO_BTF)");
    let pattern: Vec<u8> = [b"\0".as_slice(), name.as_bytes(), b"\0"].concat();
    let found = btf.windows(pattern.len()).any(|window| window == pattern);
    assert!(found || version() < since, "a kernel of {}.{} or later has {name} in its BTF", since.0, since.1);
    found
}

/// Major and minor version of the running kernel.
fn version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether this is Linux 7.0 or later, where there are more programs and their verification counts against a cgroup.
pub(crate) fn is_from_7() -> bool {
    version() >= (7, 0)
}

/// Whether this version has fentry on this architecture: on 64-bit ARM, ftrace calls programs directly from 6.4 on. Before, a
/// program loads and fails to attach (524, `ENOTSUPP`).
pub(crate) fn knows_fentry() -> bool {
    cfg!(not(target_arch = "aarch64")) || version() >= (6, 4)
}

/// Whether memory of maps counts against a limit of the user who creates them (up to 5.10).
pub(crate) fn charges_memory_to_users() -> bool {
    version() < (5, 11)
}

/// Whether a missing program is a failure, as on the build server and in the virtual machines.
pub(crate) fn nothing_may_be_missing() -> bool {
    is_guest() || env::var("CI").is_ok_and(|value| value == "true")
}

/// Runs a program of the system to its end, in the calling thread's network namespace, and checks that it succeeds.
#[track_caller]
pub(crate) fn run(name: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program(name).expect("it is installed")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Path of an installed program.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    // The system's own directories first: a version manager's wrapper runs another program before the one it names.
    let system = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].into_iter().map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    system.chain(env::split_paths(&path)).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Lack of a scenario that needs a program.
pub(crate) fn lacks_program(name: &str) -> Option<Lack> {
    program(name).is_none().then(|| missing(name))
}

/// Lack of a scenario that needs an interpreter or a large program, which the virtual machines do not have, see
/// [`Lack::Guest`].
pub(crate) fn lacks_runtime(name: &str) -> Option<Lack> {
    let lack = || if is_guest() { Lack::Guest(format!("no {name} in a virtual machine")) } else { missing(name) };
    program(name).is_none().then(lack)
}

/// Lack of a scenario that needs a file of a package which the virtual machines do not have, see [`Lack::Guest`].
pub(crate) fn lacks_file(path: &str) -> Option<Lack> {
    let lack = || if is_guest() { Lack::Guest(format!("no {path} in a virtual machine")) } else { missing(path) };
    (!Path::new(path).is_file()).then(lack)
}

/// Lack of a scenario that needs a module of Debian's Python, which the virtual machines do not have, see [`Lack::Guest`].
pub(crate) fn lacks_python_module(name: &str) -> Option<Lack> {
    let lack = || if is_guest() { Lack::Guest(format!("no {name} in a virtual machine")) } else { missing(name) };
    (!Path::new("/usr/lib/python3/dist-packages").join(name).exists()).then(lack)
}

fn missing(name: &str) -> Lack {
    Lack::Missing(format!("{name} is not installed"))
}

/// Path of the program under test.
pub(crate) fn rsttrace() -> PathBuf {
    env::var_os("RSTTRACE_BIN").map_or_else(|| Path::new(env!("CARGO_BIN_EXE_rsttrace")).to_owned(), PathBuf::from)
}

/// Seconds since boot.
pub(crate) fn uptime_s() -> f64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    uptime.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0)
}
