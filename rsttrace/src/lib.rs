//! Every TCP reset of this host: who owns the socket, in what state it was, and why.
//!
//! Data flows one way through the stages: `load` puts the programs into the kernel, `transport` reads their events,
//! `decode` makes a [`model::Reset`] of each, `diagnose` finds its cause, `attribute` its owner, `filter` drops what is
//! not wanted, and `format` and `sink` write what is left. A stage imports [`model`] and [`util`]; [`pipeline`]
//! assembles all of them.

pub mod attribute;
pub mod capture;
pub mod cgroup_mounts;
pub mod cgroup_path;
pub mod cli;
mod commands;
mod config;
pub mod conntrack;
pub mod correlate;
mod credentials;
pub mod decode;
pub mod diagnose;
pub mod exit;
mod export;
pub mod filter;
pub mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod input_file;
pub mod join;
pub mod load;
pub mod metrics;
mod mistakes;
pub mod model;
pub mod pipeline;
pub mod replay;
pub mod report;
mod sandbox;
mod sd_notify;
pub mod sink;
mod stack;
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod static_lookups;
pub mod summary;
pub mod top;
mod transport;
pub mod util;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command},
    config::Refusal,
    exit::Failure,
};

/// Runs the command line of this process and returns its exit status.
#[must_use]
pub fn main() -> ExitCode {
    ignore_file_size_signal();
    util::messages::open();
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    static_lookups::restrict();
    // Before anything that takes much of it.
    if let Err(error) = stack::raise() {
        return exit::report(Err(error.into()));
    }
    command_line()
}

/// Apart from its caller, so that the caller needs little stack.
#[inline(never)]
fn command_line() -> ExitCode {
    let cli = match config::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Refusal::Usage(error)) => return exit::usage(&error),
        Err(Refusal::File(error)) => return exit::report(Err(error.into())),
    };
    exit::report(run(cli))
}

/// Ignores SIGXFSZ, whose default action ends the process without a message at the first write beyond `RLIMIT_FSIZE`. With
/// it ignored that write fails with EFBIG, which is handled like a full disk.
fn ignore_file_size_signal() {
    // SAFETY: no handler is installed, and the signal is one that may be ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        None => pipeline::run(cli.trace),
        Some(Command::Replay(options)) => commands::replay::run(*options),
        Some(Command::Report(options)) => commands::report::run(*options),
        Some(Command::Top(options)) => commands::top::run(*options),
        Some(Command::Join(options)) => commands::join::run(&options),
        Some(Command::Export(options)) => commands::export::run(*options),
        Some(Command::Record(options)) => commands::run_recorder::run(*options),
        Some(Command::Doctor { json }) => commands::doctor::run(json),
        Some(Command::Explain { json, cause }) => commands::explain::run(cause.as_deref(), json),
        Some(Command::CheckConfig { file }) => commands::check_config::run(&file),
        Some(Command::Generate { what }) => commands::generate::run(what),
    }
}
