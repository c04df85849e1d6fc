//! The capabilities that the rest of a run needs.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};

use super::Needs;

/// Of what this process has, what it goes on needing.
///
/// `CAP_BPF` for walks of open files and, before 5.19, for every look into a map; who has `CAP_SYS_ADMIN` alone, or a kernel
/// before 5.8, keeps that for it. `CAP_SYS_PTRACE` for the program and the namespace of other users' processes in `/proc`,
/// and for all of it where that is mounted with `hidepid`.
pub(super) fn to_keep(needs: Needs) -> CapsHashSet {
    let has = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let bpf = if has.contains(&Capability::CAP_BPF) { Capability::CAP_BPF } else { Capability::CAP_SYS_ADMIN };
    let net_admin = needs.network_administration.then_some(Capability::CAP_NET_ADMIN);
    [bpf, Capability::CAP_SYS_PTRACE].into_iter().chain(net_admin).filter(|wanted| has.contains(wanted)).collect()
}

/// Empties the bounding set. Without `CAP_SETPCAP` it cannot be; nothing is run that could gain from it.
pub(super) fn bound() {
    for capability in caps::all() {
        // One that the kernel does not know is not in it.
        drop(caps::drop(None, CapSet::Bounding, capability));
    }
}

/// Keeps these and no other, for itself and not for programs that it might run.
pub(super) fn reduce_to(keep: &CapsHashSet) -> io::Result<()> {
    // A kernel before 4.3 has no ambient set, and so none to clear.
    drop(caps::clear(None, CapSet::Ambient));
    let nothing = CapsHashSet::new();
    for (set, keep) in [(CapSet::Effective, keep), (CapSet::Permitted, keep), (CapSet::Inheritable, &nothing)] {
        caps::set(None, set, keep).map_err(io::Error::other)?;
    }
    Ok(())
}
