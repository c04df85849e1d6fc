//! Integration tests of one family with the static program, which sees the root of the trial and the tests' temporary files.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context as _, Result};

use super::{Root, bare};
use crate::{
    process,
    workspace::{self, INTEGRATION},
};

/// Family of scenarios, through both kinds of buffers.
const FAMILY: &str = "aborts::";

/// Builds the tests and runs the family; `root` has the program and nothing else.
pub(super) fn run(root: &Root) -> Result<()> {
    let mut build = process::cargo()?;
    build.args(["test", "--locked", "--no-run", "--package", "rsttrace", "--test", INTEGRATION]);
    let mut built = process::build(&mut build)?;
    let runner = built.iter().position(|built| built.is_test && built.name == INTEGRATION);
    let runner = built.swap_remove(runner.context("cargo has built no integration tests")?);
    let program = root.0.with_extension("program");
    workspace::write(&program, format!("#!/bin/sh\nexec chroot {} /rsttrace \"$@\"\n", root.0.display()).as_bytes())?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("cannot change the program")?;
    bare::in_namespaces(root, move |root| {
        // Configurations and files of records, which the tests write for the program and read.
        fs::create_dir(root.path("/tmp")).context("cannot make /tmp")?;
        process::output(Command::new("mount").args(["--bind", "/tmp"]).arg(root.path("/tmp")))?;
        let mut command = Command::new(&runner.path);
        command.arg(FAMILY).current_dir(&runner.package_dir);
        process::run(command.env("CARGO_MANIFEST_DIR", &runner.package_dir).env("RSTTRACE_BIN", &program))
    })
}
