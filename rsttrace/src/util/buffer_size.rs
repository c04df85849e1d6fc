//! Sizes of the buffer between kernel and user space: the loader creates the one, `transport` opens the other.

/// Default size of each CPU's perf ring buffer, bytes: room for 2,500 events.
pub(crate) const PERF_BYTES: u32 = 1 << 20;

/// Default size of the BPF ring buffer, which all CPUs share, bytes: room for 10,000 events.
pub(crate) const RING_BYTES: u32 = 4 << 20;

/// Rounds a buffer size in bytes up to one that the kernel accepts: pages, by a power of two. At most 1 GiB.
pub(crate) fn buffer_bytes(requested: u32) -> u32 {
    let page = u32::try_from(page_size()).unwrap_or(4096);
    requested.max(page).checked_next_power_of_two().unwrap_or(1 << 30)
}

/// Page size, bytes; 4,096 if it cannot be determined.
pub(crate) fn page_size() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| size.try_into().ok())
        .unwrap_or(4096)
}
