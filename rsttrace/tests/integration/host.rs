//! What this host can do. A scenario that needs more than that is skipped for a stated lack, and fails where the host
//! should have it. Nothing here asks rsttrace: the truth does not come from the program under test.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::hooks;

/// Why a scenario cannot be played here.
pub(crate) enum Lack {
    /// The kernel cannot do it and is not expected to: it is too old, or hardened.
    Kernel(String),
    /// The project's virtual machines are not given it: too big, or too slow in software emulation.
    Guest(String),
    /// It would change the machine for everybody on it.
    Host(String),
    /// It is to be installed; where everything is to be there, this is a failure.
    Missing(String),
}

/// Whether resets of closed ports and of `TIME_WAIT` sockets can be seen: the kernel traces them (6.10), or lets the
/// functions that send them be hooked.
pub(crate) fn shows_without_socket() -> bool {
    traces_without_socket() || hooks_functions()
}

/// Whether the kernel traces resets of closed ports and of `TIME_WAIT` sockets (6.10), with a reason argument.
pub(crate) fn traces_without_socket() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| has("SK_RST_REASON_NO_SOCKET", (6, 10)))
}

/// Whether a packet that is thrown away comes with the socket that it was for (6.11).
pub(crate) fn names_sockets_of_dropped_packets() -> bool {
    version() >= (6, 11)
}

/// For scenarios that are nothing where TCP throws packets away without a word.
pub(crate) fn lacks_drop_reasons() -> Option<Lack> {
    (version() < (5, 19)).then(|| Lack::Kernel("TCP throws packets away without a word before 5.19".to_owned()))
}

/// For scenarios that are nothing where the header of a received reset does not show.
pub(crate) fn lacks_reset_headers() -> Option<Lack> {
    let old = || Lack::Kernel("tcp_reset does not have the packet before 5.11".to_owned());
    lacks_hooks_on_functions().or_else(|| (version() < (5, 11)).then(old))
}

/// For scenarios that change the whole machine.
pub(crate) fn lacks_a_machine_of_its_own() -> Option<Lack> {
    let why = "it changes the whole machine: only in a virtual machine of the tests' own";
    (!is_guest()).then(|| Lack::Host(why.to_owned()))
}

/// For scenarios that take a processor away.
pub(crate) fn lacks_a_second_processor() -> Option<Lack> {
    let is_alone = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1);
    let why = "one processor: play it with `cargo xtask vm 6.12 --cpus 2 -- machine::`";
    lacks_a_machine_of_its_own().or_else(|| is_alone.then(|| Lack::Host(why.to_owned())))
}

/// For scenarios that are nothing without kprobes.
pub(crate) fn lacks_kprobes() -> Option<Lack> {
    (!has_kprobes()).then(|| Lack::Kernel("the kernel has no kprobes".to_owned()))
}

/// Whether the kernel gives a reason for every reset that a process causes (6.12).
pub(crate) fn gives_reasons() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| has("SK_RST_REASON_TCP_ABORT_ON_CLOSE", (6, 12)))
}

/// Whether programs may be attached to the entry and the exit of the kernel's functions.
pub(crate) fn has_fentry() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| taken("fentry", hooks::try_fentry()))
}

/// Whether probes may be put on the kernel's functions.
pub(crate) fn has_kprobes() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| taken("kprobe", hooks::try_kprobe()))
}

/// Whether the functions of the kernel can be hooked in any way. See [`has_fentry`] and [`has_kprobes`].
pub(crate) fn hooks_functions() -> bool {
    has_fentry() || has_kprobes()
}

/// For scenarios that are nothing where functions cannot be hooked.
pub(crate) fn lacks_hooks_on_functions() -> Option<Lack> {
    (!hooks_functions()).then(|| Lack::Kernel("the kernel lets nobody hook its functions".to_owned()))
}

/// For scenarios that are nothing where a reset without a socket is not traced. See [`shows_without_socket`].
pub(crate) fn lacks_resets_without_socket() -> Option<Lack> {
    let why = "no event for a reset without a socket before 6.10, and no function may be hooked";
    (!shows_without_socket()).then(|| Lack::Kernel(why.to_owned()))
}

/// Whether the kernel took what was tried; the kernels of the virtual machines take everything.
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

/// Whether the running kernel's BTF has this name; a kernel of this version or later must.
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

/// Whether memory of maps counts against a limit of the user who makes them (up to 5.10).
pub(crate) fn charges_memory_to_users() -> bool {
    version() < (5, 11)
}

/// Whether what is missing is a failure: on the build server and in the virtual machines everything is to be there.
pub(crate) fn nothing_may_be_missing() -> bool {
    is_guest() || env::var("CI").is_ok_and(|value| value == "true")
}

/// Runs a program of the system to its end, in the calling thread's network namespace.
#[track_caller]
pub(crate) fn run(name: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program(name).expect("it is installed")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where a program is, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    // The system's own directories first: a version manager's wrapper is another program for a moment.
    let system = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].into_iter().map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    system.chain(env::split_paths(&path)).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// For scenarios that need a program.
pub(crate) fn lacks_program(name: &str) -> Option<Lack> {
    program(name).is_none().then(|| missing(name))
}

/// For scenarios that need what runs or compiles programs in another language. See [`Lack::Guest`].
pub(crate) fn lacks_runtime(name: &str) -> Option<Lack> {
    let lack = || if is_guest() { Lack::Guest(format!("no {name} in a virtual machine")) } else { missing(name) };
    program(name).is_none().then(lack)
}

fn missing(name: &str) -> Lack {
    Lack::Missing(format!("{name} is not installed"))
}

/// The program under test.
pub(crate) fn rsttrace() -> PathBuf {
    env::var_os("RSTTRACE_BIN").map_or_else(|| Path::new(env!("CARGO_BIN_EXE_rsttrace")).to_owned(), PathBuf::from)
}

/// Seconds since this machine was started.
pub(crate) fn uptime_s() -> f64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    uptime.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0)
}
