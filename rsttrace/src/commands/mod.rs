//! The subcommands; without one, [`crate::pipeline`] traces.

pub(crate) mod check_config;
mod completions;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod generate;
mod man;
pub(crate) mod replay;
pub(crate) mod report;
mod requirements;
pub(crate) mod run_recorder;

use std::io::{self, Write as _};

use serde::Serialize;

use crate::exit::Failure;

/// Prints one JSON document on standard output, for people and `jq`. Fails when it cannot be written to.
fn write_json(document: &impl Serialize) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, document).map_err(io::Error::from).map_err(Failure::stdout)?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(Failure::stdout)
}
