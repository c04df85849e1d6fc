//! Workarounds for aya 0.14, which parses all of the kernel's BTF into memory. Each ends with a later release of aya.

use anyhow::{Context as _, Result};
use aya::{Btf, EbpfLoader, Endianness};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    btf::{KernelInfo, minimal},
    trim_heap,
};

/// A loader without the kernel's BTF: our programs have no relocations that need it. Fails when the limit of open files
/// cannot be set back.
pub(super) fn loader<'a>() -> Result<EbpfLoader<'a>> {
    let mut loader = with_btf_discovery_disabled(EbpfLoader::new)?;
    // For hosts where the limit cannot be set: the BTF goes before there are maps, since 64 MB are enough for both only one
    // after the other.
    loader.btf(None);
    trim_heap();
    Ok(loader)
}

/// Runs `work` with `RLIMIT_NOFILE` 0, so that no file can be opened in it.
///
/// `EbpfLoader::new` of aya 0.14 parses all of the kernel's BTF for relocations: 25 MB, and a quarter of the time of a start.
/// There is no way to tell it not to, but it goes on without BTF when the file cannot be opened. Upstream, a loader reads BTF
/// when it is first needed (`TargetBtf::System` in `aya/src/bpf.rs`): delete with the upgrade to such a release, 0.15 or
/// later.
///
/// Open files stay open, and no other thread exists yet that would open any. Where the limit cannot be lowered, `work` runs
/// under the usual one, which costs time and memory only. Fails when the limit cannot be set back.
fn with_btf_discovery_disabled<T>(work: impl FnOnce() -> T) -> Result<T> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(work()) };
    let is_lowered = setrlimit(Resource::RLIMIT_NOFILE, 0, hard).is_ok();
    let done = work();
    if is_lowered {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).context("the limit of open files cannot be set back")?;
    }
    Ok(done)
}

/// BTF in which aya finds the ids of the types that programs are loaded for, and nothing else. Fails when it cannot be
/// encoded.
///
/// `BtfTracePoint`, `FEntry`, `FExit` and `Iter` take the kernel's BTF to look up one id by name. `Btf::from_sys_fs` of aya
/// 0.14 would parse all of it into 25 MB for that, beside the maps that exist by then. Delete when aya looks up names without
/// parsing every type, or takes an id.
pub(super) fn target_btf(kernel: &KernelInfo) -> Result<Btf> {
    let parse = || -> Result<Btf> { Ok(Btf::parse(&minimal::encode(kernel.targets())?, Endianness::default())?) };
    parse().context("cannot describe the kernel's types to the loader")
}
