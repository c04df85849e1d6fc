//! Network namespaces: one for each scenario, so that concurrent scenarios do not see each other.

use std::{
    fs::{self, File},
    io,
    mem::zeroed,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::OnceLock,
};

use nix::sched::{CloneFlags, unshare};

static ORIGINAL: OnceLock<File> = OnceLock::new();

/// Opens the namespace that the tests were started in, so that it can be entered later.
pub(crate) fn remember_original() {
    ORIGINAL.get_or_init(|| File::open("/proc/self/ns/net").expect("this kernel has network namespaces"));
}

/// Namespace that the tests were started in.
pub(crate) fn original() -> &'static File {
    ORIGINAL.get().expect("main remembers it")
}

/// Moves the calling thread to a new namespace whose loopback interface is up; returns its inode number.
pub(crate) fn enter_new() -> u64 {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
    set_loopback(true);
    inode()
}

/// Inode number of the calling thread's namespace.
pub(crate) fn inode() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").expect("this thread has a namespace").ino()
}

/// Sets the loopback interface of the calling thread's namespace up or down.
pub(crate) fn set_loopback(up: bool) {
    // SAFETY: takes integers and returns a descriptor or -1.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    assert!(raw >= 0, "socket: {}", io::Error::last_os_error());
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all zeros is a valid request.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::try_from(*from).unwrap();
    }
    request.ifr_ifru.ifru_flags = if up { libc::c_short::try_from(libc::IFF_UP).unwrap() } else { 0 };
    // SAFETY: the request lives through the call and is of the kind that this call takes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(result, 0, "SIOCSIFFLAGS: {}", io::Error::last_os_error());
}

/// Packets of all namespaces that found no room in the queue of the CPU that they were steered to
/// (`/proc/net/softnet_stat`, second column).
pub(crate) fn packets_dropped() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/softnet_stat").unwrap();
    let dropped = |line: &str| u64::from_str_radix(line.split(' ').nth(1).unwrap(), 16).unwrap();
    text.lines().map(dropped).sum()
}

/// `TcpOutRsts` of the calling thread's namespace: the resets that the kernel has counted as sent.
pub(crate) fn resets_sent() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let (_, value) = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "OutRsts").unwrap();
    value.parse().unwrap()
}
