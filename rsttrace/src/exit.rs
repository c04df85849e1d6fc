//! Exit status and the one sentence that goes with it.

use std::{fmt::Display, io, process::ExitCode};

use anyhow::Error;

pub use crate::util::messages::info as note;

/// Why the program ends with a status other than 0.
#[derive(Debug)]
pub enum Failure {
    /// Status 1: it failed while running.
    Running(Error),
    /// Status 2: the command line makes no sense.
    Usage(Error),
    /// Status 3: this host or this user cannot run it; the sentence names what is missing and the remedy.
    Host(Error),
    /// Status 3, when everything there is to say has been said.
    HostSaid,
}

impl Failure {
    /// Status 3 with this sentence.
    pub fn host(message: impl Display) -> Self {
        Self::Host(anyhow::anyhow!("{message}"))
    }

    /// Status 2 with this sentence.
    pub fn usage(message: impl Display) -> Self {
        Self::Usage(anyhow::anyhow!("{message}"))
    }

    const fn status(&self) -> u8 {
        match self {
            Self::Running(_) => 1,
            Self::Usage(_) => 2,
            Self::Host(_) | Self::HostSaid => 3,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Running(error)
    }
}

/// Prints a failure in one line and turns the result into an exit status. A reader that has gone away is no failure.
pub fn report(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if let Failure::Running(error) = &failure
        && error.chain().any(is_broken_pipe)
    {
        return ExitCode::SUCCESS;
    }
    if let Failure::Running(error) | Failure::Usage(error) | Failure::Host(error) = &failure {
        note(format_args!("error: {}", sentence(error)));
    }
    ExitCode::from(failure.status())
}

/// An error with what led to it, in one sentence. What an error has already quoted of its cause is not said again.
pub fn sentence(error: &Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

/// Prints what clap has to say: help and version to standard output with status 0, errors with status 2.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to do about a standard error that cannot be written.
    error.print().unwrap_or_default();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Whether this error is a reader that went away.
pub fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
