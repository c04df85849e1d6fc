//! The ways out beside standard output, any number at once. Each has a queue and a thread of its own ([`crew`]), so that
//! one that stands still harms no other. An outlet does one thing: it takes records somewhere.

pub(crate) mod crew;
mod fields;
mod file;
mod host;
mod journald;
#[cfg(feature = "otlp")]
mod otlp;
pub(crate) mod pace;
mod spec;
mod syslog;
#[cfg(feature = "tls")]
mod tls;
mod worker;

pub(crate) use spec::Reach;
pub use spec::Spec;

use std::sync::Arc;

use anyhow::{Error, Result};

use super::{Look, Record};

/// What an outlet is given when it is opened.
pub(crate) struct Given {
    /// How lines of text look: without colours and times, which the receiver adds itself.
    pub(crate) look: Look,
    /// The name of this host.
    pub(crate) host: Arc<str>,
}

/// What became of the records that an outlet was handed, from the first of them on.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// So many are at their destination.
    pub(crate) delivered: usize,
    /// So many behind those were refused for good, and why: to try them again would be of no use.
    pub(crate) refused: Option<(usize, Error)>,
    /// Why it stopped there, if it did. What is left will be tried again.
    pub(crate) trouble: Option<Error>,
}

impl Delivery {
    /// All of them went.
    pub(crate) const fn complete(records: usize) -> Self {
        Self { delivered: records, refused: None, trouble: None }
    }

    /// The first went, the others did not.
    pub(crate) const fn stopped(delivered: usize, trouble: Error) -> Self {
        Self { delivered, refused: None, trouble: Some(trouble) }
    }
}

/// A record in the form in which each outlet sends it, without being sent: the tests put into records what strangers may
/// choose, and look what comes out.
#[derive(Debug)]
pub struct Forms {
    /// A datagram for the journal.
    pub journal: Vec<u8>,
    /// A message of syslog, without a frame.
    pub syslog: String,
    /// A `LogRecord` of OpenTelemetry.
    #[cfg(feature = "otlp")]
    pub otlp: Vec<u8>,
}

impl Forms {
    /// Of a record; lines of text look like this.
    #[must_use]
    pub fn of(record: &Record, look: Look, host: &str) -> Self {
        let words = fields::Words::new(look).of(record);
        let mut journal = Vec::new();
        journald::make(record, &words, &mut journal);
        let syslog = syslog::message(record, host, &words);
        Self {
            journal,
            syslog,
            #[cfg(feature = "otlp")]
            otlp: otlp::encoded(record, words),
        }
    }
}

/// Takes records to a destination. It may block for as long as it likes: it has a thread of its own.
pub(crate) trait Outlet: Send {
    /// Delivers records, in their order, as far as it can.
    fn deliver(&mut self, records: &[Record]) -> Delivery;

    /// Whoever turns files has moved ours away: begin a new one.
    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }

    /// The run is over: make what was delivered last.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
