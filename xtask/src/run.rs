//! Builds rsttrace and executes it, as root.

use std::ffi::OsString;

use anyhow::Result;

use crate::process;

/// Build rsttrace and run it, with sudo unless this is root already
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The cargo profile to build in
    #[arg(long, default_value = "release")]
    profile: String,
    /// Arguments of rsttrace: `cargo xtask run -- --output json`
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Runs `cargo xtask run`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let binary = process::build_rsttrace(&args.profile)?;
    process::become_it(process::as_root(&binary, "NO_COLOR").args(&args.args))
}
