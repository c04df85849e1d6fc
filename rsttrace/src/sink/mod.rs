//! Sinks: the destinations of records beside standard output (`--sink`), any number at once, and standard output itself.
//!
//! Each sink has a queue and a thread of its own ([`set`], [`worker`]), so that one that blocks delays no other. A sink
//! does one thing: it takes records to a destination. Retries, counts and messages are the worker's.

#[doc(hidden)]
pub mod encodings;
mod host_port;
mod journald;
mod json_file;
mod line_file;
mod options;
#[cfg(feature = "otlp")]
mod otlp;
pub(crate) mod outputs;
pub(crate) mod recording;
pub(crate) mod set;
mod spec;
mod stdout;
mod syslog;
pub(crate) mod throttle;
#[cfg(feature = "tls")]
mod tls;
mod worker;

use std::sync::Arc;

use anyhow::{Error, Result};

pub use self::spec::SinkSpec;
pub(crate) use self::spec::{PreparedSink, SinkNeeds};
pub(crate) use self::{set::SinkLoss, stdout::StdoutError};
use crate::{
    format::TextOptions,
    model::{Mark, Record, RecordingContext},
};

/// What every sink is given when it is opened.
pub(crate) struct SinkContext {
    /// Presentation of lines of text: without colours and times, which the receiver adds itself.
    pub(crate) options: TextOptions,
    /// Name of this host.
    pub(crate) host: Arc<str>,
    /// The run, for recordings.
    pub(crate) recording: Arc<RecordingContext>,
}

/// Outcome of one call of [`Sink::deliver`], counted from the first of the records on. Records that are in neither number
/// have not been delivered; the worker offers them again.
#[derive(Debug, Default)]
pub(crate) struct DeliveryReport {
    /// Records that are at their destination.
    pub(crate) delivered: usize,
    /// Records after those that the destination refused for good, and its reason: another attempt would be of no use.
    pub(crate) rejected: Option<(usize, Error)>,
    /// Why the delivery stopped before the end; `None` where it did not fail.
    pub(crate) error: Option<Error>,
}

impl DeliveryReport {
    /// All records were delivered.
    pub(crate) const fn complete(records: usize) -> Self {
        Self { delivered: records, rejected: None, error: None }
    }

    /// The first `delivered` records were delivered; the others are to be tried again.
    pub(crate) const fn stopped(delivered: usize, error: Error) -> Self {
        Self { delivered, rejected: None, error: Some(error) }
    }
}

/// A destination of records.
pub(crate) trait Sink: Send {
    /// Delivers records in their order, as far as it can. May block for as long as it likes: it runs in the sink's own
    /// thread.
    fn deliver(&mut self, records: &[Record]) -> DeliveryReport;

    /// Takes a mark: everything before it has been delivered. Nothing for sinks that are no recordings. Fails where it cannot
    /// be written; it is not tried again.
    fn mark(&mut self, _mark: &Mark) -> Result<()> {
        Ok(())
    }

    /// Reopens the file after an external rotation (SIGHUP); nothing for sinks without a file. Fails where the path cannot
    /// be opened; the next delivery tries again.
    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes what was delivered durable, once, at the end of the run. May block; the run waits for a limited time.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
