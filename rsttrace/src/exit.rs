//! Exit status and the one sentence that goes with it.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use anyhow::Error;

use crate::{
    attribute::NamesError,
    config::ConfigError,
    diagnose::TableError,
    filter::FilterError,
    load::{InterfacesError, LoadError},
    sandbox::UserError,
    sink::{SinkLoss, StdoutError},
    stack::StackError,
    util::messages::{info, sentence},
};

/// Why the program ends with a status other than 0.
#[derive(Debug)]
pub enum Failure {
    /// Status 1: it failed while running.
    Running(Error),
    /// Status 1, when everything there is to say has been said.
    RunningSaid,
    /// Status 2: the command line makes no sense.
    Usage(Error),
    /// Status 3: this host or this user cannot run it; the sentence names what is missing and the remedy.
    Host(Error),
    /// Status 3, when everything there is to say has been said.
    HostSaid,
    /// Status 0: the reader of standard output has gone away, as `head` does.
    ReaderGone,
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

    /// A failed write to standard output: [`Self::ReaderGone`] when its reader has closed it, else status 1. Any other broken
    /// pipe or connection is a failure.
    pub fn stdout(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Running(Error::new(error).context("cannot write to standard output")),
        }
    }

    /// The result of a run whose outputs have ended so. Fails with the error of standard output, and with status 1 where a sink has
    /// lost records that still waited at the end, which it has reported.
    pub(crate) fn of_outputs(written: Result<(), StdoutError>, losses: &[SinkLoss]) -> Result<(), Self> {
        let has_lost = losses.iter().any(|loss| loss.at_end > 0);
        match written.map_err(Self::from) {
            Ok(()) | Err(Self::ReaderGone) if has_lost => Err(Self::RunningSaid),
            other => other,
        }
    }

    const fn status(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Running(_) | Self::RunningSaid => 1,
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

impl From<StackError> for Failure {
    fn from(error: StackError) -> Self {
        Self::host(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        Self::usage(error)
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Embedded(_) => Self::Running(error.into()),
            TableError::Read { .. } | TableError::Parse { .. } => Self::usage(error),
        }
    }
}

impl From<NamesError> for Failure {
    fn from(error: NamesError) -> Self {
        match error {
            NamesError::Read { .. } | NamesError::Entry { .. } => Self::usage(error),
        }
    }
}

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Lookup { .. } | UserError::Unknown { .. } => Self::usage(error),
            UserError::Switch { .. } => Self::host(error),
        }
    }
}

impl From<InterfacesError> for Failure {
    fn from(error: InterfacesError) -> Self {
        match error {
            InterfacesError::Missing { .. } => Self::usage(error),
            InterfacesError::Enter(_) | InterfacesError::OldKernel => Self::host(error),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        // With its causes, which may have a remedy.
        Self::Host(error.into())
    }
}

impl From<StdoutError> for Failure {
    fn from(error: StdoutError) -> Self {
        match error.error.kind() {
            ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Running(error.into()),
        }
    }
}

/// Prints a failure in one line and turns the result into an exit status. A reader that has gone away is no failure.
pub fn report(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if let Failure::Running(error) | Failure::Usage(error) | Failure::Host(error) = &failure {
        let is_host = matches!(failure, Failure::Host(_));
        // A file may have several faults, each in a line.
        for line in sentence(error).lines() {
            info(format_args!("error: {line}{}", remedy(error, is_host)));
        }
    }
    ExitCode::from(failure.status())
}

/// What to do about an error that has an obvious remedy, as the rest of a sentence that has not named it. That this user may
/// load programs has been checked before `is_host`, so what is not permitted then is forbidden by something else.
fn remedy(error: &Error, is_host: bool) -> &'static str {
    const RAISE: &str = "ulimit -n";
    let is_said = || error.chain().any(|cause| cause.to_string().contains(RAISE));
    let code = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>()?.raw_os_error();
    match error.chain().filter_map(code).last() {
        Some(libc::EMFILE) if !is_said() => "; raise the limit of open files ('ulimit -n')",
        Some(libc::ENFILE) => "; too many files are open on this host: raise fs.file-max",
        Some(libc::EPERM) if is_host => {
            "; the capabilities are sufficient, so something else denies it: the seccomp profile of a container (run it \
             privileged, or on the host), or before Linux 5.11 the limit of locked memory ('ulimit -l')"
        }
        _ => "",
    }
}

/// Prints what clap has to say: help and version to standard output, with the status of that, errors with status 2.
pub fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    if error.use_stderr() {
        // Nothing is left to do about a standard error that cannot be written.
        return ExitCode::from(2);
    }
    report(printed.map_err(Failure::stdout))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn broken_pipe() -> io::Error {
        ErrorKind::BrokenPipe.into()
    }

    #[test]
    fn only_a_closed_standard_output_is_success() {
        assert_eq!(Failure::stdout(broken_pipe()).status(), 0);
        assert_eq!(Failure::from(StdoutError { error: broken_pipe(), missing: 1 }).status(), 0);
        let other = Err::<(), _>(broken_pipe()).context("cannot write to a socket").map_err(Failure::from);
        assert_eq!(other.map_err(|failure| failure.status()), Err(1));
        assert_eq!(Failure::stdout(ErrorKind::StorageFull.into()).status(), 1);
        assert_eq!(Failure::from(StdoutError { error: ErrorKind::StorageFull.into(), missing: 1 }).status(), 1);
    }

    #[test]
    fn what_a_sink_lost_at_the_end_is_a_failure() {
        let status = |written: Result<(), ErrorKind>, at_end: u64| {
            let written = written.map_err(|kind| StdoutError { error: kind.into(), missing: 1 });
            let losses = [SinkLoss { sink: "json".into(), undelivered: 3, at_end }];
            Failure::of_outputs(written, &losses).map_err(|failure| failure.status())
        };
        // What was rejected, or found no room in the queue, was reported meanwhile.
        assert_eq!(status(Ok(()), 0), Ok(()));
        assert_eq!(status(Ok(()), 2), Err(1));
        assert_eq!(status(Err(ErrorKind::BrokenPipe), 0), Err(0));
        assert_eq!(status(Err(ErrorKind::BrokenPipe), 2), Err(1));
        assert_eq!(status(Err(ErrorKind::StorageFull), 0), Err(1));
    }

    #[test]
    fn remedies_are_named_once() {
        let error = Error::new(io::Error::from_raw_os_error(libc::EMFILE));
        assert!(remedy(&error, true).contains("ulimit -n"));
        assert_eq!(remedy(&error.context("raise it ('ulimit -n')"), true), "");
        let denied = Error::new(io::Error::from_raw_os_error(libc::EPERM)).context("x");
        assert!(remedy(&denied, true).contains("seccomp") && remedy(&denied, false).is_empty());
    }

    #[test]
    fn a_failed_write_says_what_and_why() {
        let sentence = |failure| match failure {
            Failure::Running(error) => sentence(&error),
            other => panic!("{other:?}"),
        };
        let error = || io::Error::other("no room");
        assert_eq!(sentence(Failure::stdout(error())), "cannot write to standard output: no room");
        assert_eq!(
            sentence(StdoutError { error: error(), missing: 3 }.into()),
            "cannot write to standard output, 3 records are missing: no room"
        );
    }
}
