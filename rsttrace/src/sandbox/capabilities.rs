//! Capabilities of the rest of the run.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};

use super::Requirements;

/// Capabilities that the rest of the run needs, as far as the process has them.
///
/// - `CAP_BPF` for scans of open files and, before 5.19, for every map lookup. A process that has `CAP_SYS_ADMIN`
///   alone, or a kernel before 5.8, keeps `CAP_SYS_ADMIN` in its place.
/// - `CAP_SYS_PTRACE` for the executable and the namespaces of other users' processes in `/proc`, and for all of
///   `/proc/PID` where it is mounted with `hidepid`.
/// - `CAP_NET_ADMIN` if tc filters are removed through netlink.
pub(super) fn to_keep(requirements: Requirements) -> CapsHashSet {
    let permitted = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let bpf = if permitted.contains(&Capability::CAP_BPF) { Capability::CAP_BPF } else { Capability::CAP_SYS_ADMIN };
    let net_admin = requirements.network_administration.then_some(Capability::CAP_NET_ADMIN);
    [bpf, Capability::CAP_SYS_PTRACE]
        .into_iter()
        .chain(net_admin)
        .filter(|capability| permitted.contains(capability))
        .collect()
}

/// Capabilities that a reader of files needs, as far as the process has them: `CAP_DAC_READ_SEARCH` for inputs of other users, and
/// `CAP_DAC_OVERRIDE` where it writes to files.
pub(super) fn to_keep_for_reader(requirements: Requirements) -> CapsHashSet {
    let permitted = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let writing = requirements.files.then_some(Capability::CAP_DAC_OVERRIDE);
    let kept = std::iter::once(Capability::CAP_DAC_READ_SEARCH).chain(writing);
    kept.filter(|capability| permitted.contains(capability)).collect()
}

/// Empties the bounding set. Does nothing without `CAP_SETPCAP`, which is no loss: the seccomp filter allows no
/// `execve` that could gain from the set.
pub(super) fn drop_bounding_set() {
    for capability in caps::all() {
        // Fails for a capability that the kernel does not know, which is not in the set.
        let _ignored = caps::drop(None, CapSet::Bounding, capability);
    }
}

/// Reduces the effective and permitted sets to `keep`, and clears the inheritable and ambient ones, so that no other
/// program inherits any. Fails when the kernel refuses a set, or `keep` has a capability that is not permitted.
pub(super) fn reduce_to(keep: &CapsHashSet) -> io::Result<()> {
    // Fails before 4.3, where there is no ambient set.
    let _ignored = caps::clear(None, CapSet::Ambient);
    let none = CapsHashSet::new();
    for (set, keep) in [(CapSet::Effective, keep), (CapSet::Permitted, keep), (CapSet::Inheritable, &none)] {
        caps::set(None, set, keep).map_err(io::Error::other)?;
    }
    Ok(())
}
