//! The build of all tests of the user side.

use std::process::Command;

use anyhow::Result;

use crate::{generate, process, workspace::KERNEL_CRATE};

/// `cargo test` for everything but the kernel side, which builds what [`generate::check`] runs too.
pub(crate) fn command(more: &[&str]) -> Result<Command> {
    let mut command = process::cargo()?;
    command.args(["test", "--locked", "--workspace", "--exclude", KERNEL_CRATE]);
    command.args(["--features", generate::SCHEMA_FEATURE]).args(more);
    Ok(command)
}
