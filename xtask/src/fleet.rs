//! Plays the fleet part with real engines: `cargo xtask fleet`.
//!
//! The engines are Python packages, and so is what drives them: `xtask/fleet/fleet.py`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{process, setup, workspace};

/// Manifests that are checked against the schemas of these versions of Kubernetes: the first with all fields, and the newest.
const MANIFESTS: [&str; 2] = ["deploy/kubernetes/daemonset.yaml", "deploy/kubernetes/recorder.yaml"];
const KUBERNETES: [&str; 2] = ["1.30", "1.37"];

/// Play the fleet part with real engines, as root: hosts in namespaces, collectors, databases, simulated hosts
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Records of simulated hosts; beyond a million the engine makes copies. 0 leaves the simulation out
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// The rsttrace to use, in place of a release build of this checkout
    #[arg(long, value_name = "FILE")]
    rsttrace: Option<PathBuf>,
}

/// Runs `cargo xtask fleet`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    let python = setup::fleet_python()?;
    if !python.is_file() {
        bail!("the engines are not installed: run `{}` as root", setup::SETUP_FLEET);
    }
    check_manifests(&root, &python)?;
    let rsttrace = match &args.rsttrace {
        Some(file) => file.canonicalize()?,
        None => process::build_rsttrace("release")?,
    };
    let mut command = process::as_root(&python, "PATH");
    command.arg(root.join("xtask/fleet/fleet.py")).arg(rsttrace).arg(workspace::target_dir()?.join("fleet/run"));
    command.args(["--rows", &args.rows.to_string()]);
    if args.rows == 0 {
        command.args(["--step", "hosts"]);
    }
    process::run(&mut command)
}

/// Checks the manifests for Kubernetes, which rejects fields that it does not know only where it is asked to.
fn check_manifests(root: &Path, python: &Path) -> Result<()> {
    KUBERNETES.into_iter().try_for_each(|version| {
        let program = python.with_file_name("kubernetes-validate");
        process::run(
            Command::new(program).args(["--strict", "--quiet", "-k", version]).args(MANIFESTS).current_dir(root),
        )
    })
}
