//! `rsttrace check-config`: a file for `--config`, checked as far as that goes without tracing.

use std::path::Path;

use crate::{config, diagnose::timeouts::Timeouts, exit::Failure, filter::RecordFilter, util::messages::info};

/// Checks a file, and what it names on this host. Blocks as reading the files does. Fails with status 2 when something is
/// wrong.
pub(crate) fn run(path: &Path) -> Result<(), Failure> {
    let cli = config::parse_file(path)?;
    RecordFilter::new(cli.trace.filters)?;
    Timeouts::read(cli.trace.run.timeouts.as_deref())?;
    info(format_args!("{}: all settings are valid", path.display()));
    Ok(())
}
