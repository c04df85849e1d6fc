//! Encodings of records as the sinks send them, for the tests of hostile input. No part of the public interface.

#[cfg(feature = "otlp")]
use super::otlp;
use super::{journald, syslog};
use crate::{
    format::{TextOptions, fields::MessageText},
    model::Record,
};

/// A record in the encoding of each sink, without being sent.
#[derive(Debug)]
pub struct Encodings {
    /// A datagram of the journal's native protocol.
    pub journal: Vec<u8>,
    /// A syslog message without a frame.
    pub syslog: String,
    /// A `LogRecord` of OpenTelemetry, as protobuf.
    #[cfg(feature = "otlp")]
    pub otlp: Vec<u8>,
}

impl Encodings {
    /// Encodes a record; `options` apply to the line of text in it.
    #[must_use]
    pub fn of(record: &Record, options: TextOptions, host: &str) -> Self {
        let text = MessageText::new(options).of(record);
        let mut journal = Vec::new();
        journald::encode(record, &text, &mut journal);
        let syslog = syslog::message(record, host, &text);
        Self {
            journal,
            syslog,
            #[cfg(feature = "otlp")]
            otlp: otlp::encode(record, text),
        }
    }
}
