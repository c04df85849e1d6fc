//! `rsttrace check-config`: a file for `--config`, checked as far as that goes without tracing.

use std::path::Path;

use crate::{
    attribute::NamesFile,
    config::ConfigFile,
    diagnose::{program_hints::ProgramHints, timeouts::Timeouts},
    exit::Failure,
    filter::RecordFilter,
    metrics::MetricsAccess,
    sandbox::User,
    util::messages::{info, sentence},
};

/// Checks a file, and what it names on this host. Blocks as reading the files does. Fails with status 2 and everything
/// that is wrong.
pub(crate) fn run(path: &Path) -> Result<(), Failure> {
    let (mut file, cli) = ConfigFile::read_alone(path)?;
    let (filters, run, output) = (cli.trace.filters, cli.trace.run, cli.trace.output);
    // With what each fault comes from: the file of a certificate, for instance.
    let fault = |error: anyhow::Error| sentence(&error);
    for (name, fault) in [
        ("netns", RecordFilter::new(filters).err().map(|error| error.to_string())),
        ("timeouts", Timeouts::read(run.timeouts.as_deref()).err().map(|error| error.to_string())),
        ("hints", ProgramHints::read(run.hints.as_deref()).err().map(|error| error.to_string())),
        ("names", NamesFile::read(run.names.as_deref()).err().map(|error| error.to_string())),
        ("sink", output.sink.iter().find_map(|sink| sink.prepare().err()).map(fault)),
        ("metrics-config", MetricsAccess::read(output.metrics_config.as_deref()).err().map(fault)),
        ("user", run.user.and_then(|user| User::find(&user).err()).map(|error| error.to_string())),
    ] {
        if let Some(fault) = fault {
            file.add_fault(name, fault);
        }
    }
    file.check()?;
    let found = if file.has_settings() { "all settings are valid" } else { "the file has no settings" };
    info(format_args!("{}: {found}", path.display()));
    Ok(())
}
