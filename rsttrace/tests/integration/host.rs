//! What this host can do. A scenario that needs more than that is skipped for a stated lack, and fails where the host
//! should have it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Whether the kernel traces resets of closed ports and of `TIME_WAIT` sockets (6.10), with a reason argument.
pub(crate) fn traces_without_socket() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| has("SK_RST_REASON_NO_SOCKET", (6, 10)))
}

/// Whether the kernel gives a reason for every reset that a process causes (6.12).
pub(crate) fn gives_reasons() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| has("SK_RST_REASON_TCP_ABORT_ON_CLOSE", (6, 12)))
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

/// Whether a lack is a failure: on the build server everything is to be there.
pub(crate) fn nothing_may_be_missing() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

/// Where a program is, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    // The system's own directories first: a version manager's wrapper is another program for a moment.
    let system = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].into_iter().map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    system.chain(env::split_paths(&path)).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// What is to be said if a program is not there.
pub(crate) fn lacks_program(name: &str) -> Option<String> {
    program(name).is_none().then(|| format!("{name} is not installed"))
}

/// The program under test.
pub(crate) fn rsttrace() -> PathBuf {
    env::var_os("RSTTRACE_BIN").map_or_else(|| Path::new(env!("CARGO_BIN_EXE_rsttrace")).to_owned(), PathBuf::from)
}
