//! The units of the `.deb` where systemd runs, in a container: from installation to purge, with the sandbox that they ask for.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{OLDER_PACKAGES, Root, deb};
use crate::{arch::Arch, process};

/// What runs in the container, as a unit of its own, which then powers it off.
const SCRIPT: &str = include_str!("units.sh");
const UNIT: &str = "\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /trial.sh
StandardOutput=append:/trial.log
StandardError=append:/trial.log
TimeoutStartSec=240
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=default.target
";
/// Line with which the script ends.
const PASSED: &str = "passed";
/// Longest time of a container, longer than the limit in [`UNIT`]; then it is told to power off, and killed later.
const LIMIT: [&str; 2] = ["--kill-after=30", "300"];
/// System calls that containers are refused otherwise: those with which programs are loaded into the kernel.
const SYSTEM_CALLS: &str = "bpf perf_event_open seccomp";

/// Installs an older version, runs its units, makes a reset, upgrades, removes and purges.
pub(super) fn life(root: &Root, work: &Path, arch: Arch) -> Result<()> {
    let bring = |directory: &Path, name: &str| -> Result<()> {
        let path = root.bring(&deb::find_package(directory, arch.debian(), "deb")?)?;
        fs::rename(root.path(&path), root.path(name)).with_context(|| format!("cannot rename {path}"))
    };
    bring(&work.join(OLDER_PACKAGES), "/older.deb")?;
    bring(&work.join("release"), "/current.deb")?;
    root.write("/trial.sh", SCRIPT)?;
    root.write("/etc/systemd/system/trial.service", UNIT)?;
    root.run("systemctl", &["enable", "trial.service"])?;

    let mut container = Command::new("timeout");
    container.args(LIMIT).arg("systemd-nspawn").arg("--directory").arg(&root.0);
    // Whether this machine runs systemd or not, and whatever version of cgroups it has mounted.
    container.args(["--boot", "--register=no", "--keep-unit"]).env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
    container.args(["--private-network", "--capability=all"]).arg(format!("--system-call-filter={SYSTEM_CALLS}"));
    let ended = process::output(&mut container);
    remove_cgroups();
    let log = fs::read_to_string(root.path("/trial.log")).unwrap_or_default();
    // What powers the container off may write behind it.
    if log.lines().any(|line| line == PASSED) {
        return Ok(());
    }
    ended.with_context(|| format!("the container failed; its log: {log}"))?;
    bail!("the units do not do what they should:\n{log}")
}

/// Removes the cgroups that the container has left below that of this process.
fn remove_cgroups() {
    for line in fs::read_to_string("/proc/self/cgroup").unwrap_or_default().lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controller), Some(path)) = (parts.next(), parts.next()) else { continue };
        let below = match controller {
            "" => ["", "unified"].as_slice(),
            "name=systemd" => &["systemd"],
            _ => &[],
        };
        for mount in below {
            let cgroup = Path::new("/sys/fs/cgroup").join(mount).join(path.trim_start_matches('/'));
            for left in ["payload/init.scope", "payload", "supervisor"] {
                // Not there, or in use by another container.
                let _ignored = fs::remove_dir(cgroup.join(left));
            }
        }
    }
}
