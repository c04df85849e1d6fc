//! The subcommands; without one, [`crate::pipeline`] traces.

pub(crate) mod check_config;
mod completions;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod join;
mod join_inputs;
mod man;
pub(crate) mod replay;
pub(crate) mod report;
mod requirements;
pub(crate) mod run_recorder;
pub(crate) mod top;

use std::io::{self, Write as _};

use serde::Serialize;

use crate::{exit::Failure, util::terminal};

/// Prints one JSON document on standard output, for people and `jq`. Fails when it cannot be written to.
fn write_json(document: &impl Serialize) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, document).map_err(io::Error::from).map_err(Failure::stdout)?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(Failure::stdout)
}

/// Prints text on standard output, wrapped at words on a terminal; the rest of a line is indented by as many columns as `indent`
/// says for it. Fails when it cannot be written to.
fn print_wrapped(text: &str, indent: impl Fn(&str) -> usize) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let wrapped = terminal::columns(&out).map(|columns| terminal::wrap(text, columns, indent));
    out.write_all(wrapped.as_deref().unwrap_or(text).as_bytes()).map_err(Failure::stdout)
}
