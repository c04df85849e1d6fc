//! Checks of the requirements of tracing, before anything is loaded, so that a message names the lack and not its consequence.

use std::{
    fmt::{self, Display, Formatter},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use caps::{CapSet, Capability};

use super::{btf::KERNEL_BTF, resource_limits};

/// Inode number of the initial user namespace (`PROC_USER_INIT_INO`).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Result of one check.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was checked.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// The reason why nothing can be traced; `None` when the requirement is met.
    pub obstacle: Option<Obstacle>,
}

/// Requirement that is not met.
#[derive(Clone, Debug)]
pub struct Obstacle {
    /// Reason why nothing can be traced, as a part of a sentence.
    pub reason: String,
    /// Remedy, as a part of a sentence, verb first.
    pub remedy: &'static str,
}

impl Display for Obstacle {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { reason, remedy } = self;
        write!(formatter, "{reason}: {remedy}")
    }
}

/// Checks every requirement. Reads `/proc` and `/sys`; a file that cannot be read is no obstacle.
pub fn examine() -> Vec<Finding> {
    vec![
        kernel(),
        btf(),
        user_namespace(),
        capabilities(),
        lockdown(),
        resource_limits::address_space(),
        resource_limits::memory(),
    ]
}

/// The first obstacle; `None` when every requirement is met.
pub fn obstacle() -> Option<Obstacle> {
    examine().into_iter().find_map(|finding| finding.obstacle)
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Finding { subject: "kernel", found: release.trim().to_owned(), obstacle: None }
}

fn btf() -> Finding {
    let there = Path::new(KERNEL_BTF).exists();
    Finding {
        subject: "BTF",
        found: if there { KERNEL_BTF.to_owned() } else { "missing".to_owned() },
        obstacle: (!there).then(|| Obstacle {
            reason: format!("no type information in {KERNEL_BTF}"),
            remedy: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y (the distributions' kernels from 5.10 on are), and \
                     mount sysfs",
        }),
    }
}

/// Capabilities in a user namespace other than the initial one do not apply to `bpf()`, although they read like root's.
fn user_namespace() -> Finding {
    let is_initial =
        fs::metadata("/proc/self/ns/user").map_or(true, |namespace| namespace.ino() == INITIAL_USER_NAMESPACE);
    Finding {
        subject: "user namespace",
        found: if is_initial { "initial" } else { "not the initial one" }.to_owned(),
        obstacle: (!is_initial).then(|| Obstacle {
            reason:
                "the kernel loads programs only from the initial user namespace, whatever the capabilities in another \
                     (a rootless container, 'unshare -r')"
                    .to_owned(),
            remedy: "run it on the host as root",
        }),
    }
}

fn capabilities() -> Finding {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let wanted = [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN];
    let [bpf, perfmon, admin] = wanted.map(has);
    let enough = admin || (bpf && perfmon);
    let held: Vec<String> =
        wanted.into_iter().filter(|&capability| has(capability)).map(|capability| capability.to_string()).collect();
    Finding {
        subject: "capabilities",
        found: if held.is_empty() { "none of CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN".to_owned() } else { held.join(", ") },
        obstacle: (!enough).then(|| Obstacle {
            reason:
                "loading programs into the kernel needs root, or CAP_BPF and CAP_PERFMON (before 5.8 CAP_SYS_ADMIN)"
                    .to_owned(),
            remedy: "run it with sudo",
        }),
    }
}

fn lockdown() -> Finding {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    // The active mode is in brackets: "none [integrity] confidentiality".
    let mode = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    Finding {
        subject: "lockdown",
        found: mode.unwrap_or("none").to_owned(),
        obstacle: (mode == Some("confidentiality")).then(|| Obstacle {
            reason: "the kernel is locked down in confidentiality mode, in which programs cannot read its memory"
                .to_owned(),
            remedy: "boot with lockdown=integrity, or without lockdown",
        }),
    }
}
