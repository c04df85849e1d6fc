//! The systemd journal, by its native protocol: one datagram a record, with named fields.

use std::{io::Write as _, os::unix::net::UnixDatagram, path::PathBuf};

use anyhow::{Context as _, Error, Result};
use nix::sys::socket::{setsockopt, sockopt::SndBuf};

use super::{DeliveryReport, Sink};
use crate::{
    format::{
        TextOptions,
        fields::{self, MessageText},
    },
    model::Record,
};

/// Default socket of the host's journal.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Send buffer that `sd_journal_send` asks for. The longest record, of some 30 KB, fits into a datagram with the
/// kernel's default too.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// `MESSAGE_ID` of each type of record, for `journalctl MESSAGE_ID=…`.
const MESSAGE_IDS: [(&str, &str); 5] = [
    ("reset", "7d4e2f1b6c5a4b0f9e8d3c2a1b0f5e6d"),
    ("ignored", "2c9f6a7d3e1b48d5a0c4f7e6b5d3a291"),
    ("forwarded", "a1e5c3d97f2b4c6e8d0a9b7c5f3e1d24"),
    ("lost", "5b8d1f3e7a9c4e2db6f0c8a4d2e6f13b"),
    ("summary", "e3c7a5b19d8f4f6a92d4b0e8c6a4f27d"),
];

/// A sink to the journal.
pub(super) struct JournaldSink {
    path: PathBuf,
    socket: UnixDatagram,
    text: MessageText,
    /// Buffer for one datagram.
    entry: Vec<u8>,
}

impl JournaldSink {
    /// Creates the socket; fails when that is refused. Whether the journal is there shows with the first record.
    pub(super) fn open(path: PathBuf, options: TextOptions) -> Result<Self> {
        let socket = UnixDatagram::unbound().context("cannot make a socket")?;
        // A smaller buffer is no failure.
        let _ignored = setsockopt(&socket, SndBuf, &SEND_BUFFER_BYTES);
        Ok(Self { path, socket, text: MessageText::new(options), entry: Vec::new() })
    }
}

/// Encodes a record as a datagram. `text` is its line for people.
pub(super) fn encode(record: &Record, text: &str, entry: &mut Vec<u8>) {
    entry.clear();
    let kind = record.type_name();
    let id = MESSAGE_IDS.iter().find(|(of, _)| *of == kind).map_or("", |(_, id)| id);
    push_field(entry, format_args!("MESSAGE"), text);
    push_field(entry, format_args!("PRIORITY"), &(fields::severity(record) as u8).to_string());
    push_field(entry, format_args!("SYSLOG_IDENTIFIER"), "rsttrace");
    push_field(entry, format_args!("MESSAGE_ID"), id);
    push_field(entry, format_args!("RSTTRACE_TIME"), &format!("{:.9}", record.time()));
    for field in fields::record_fields(record) {
        let value = field.value.to_string();
        if field.name == "pid" {
            // With `OBJECT_PID` the journal adds what it knows of that process, and `journalctl --unit` finds the
            // record there.
            push_field(entry, format_args!("OBJECT_PID"), &value);
        }
        push_field(entry, format_args!("RSTTRACE_{}", field.name.to_ascii_uppercase()), &value);
    }
}

/// Appends a field. A value of several lines has its length before it, 64 bits, little endian.
fn push_field(entry: &mut Vec<u8>, name: std::fmt::Arguments<'_>, value: &str) {
    // Writing to a vector cannot fail.
    let _ignored = entry.write_fmt(name);
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

impl Sink for JournaldSink {
    fn deliver(&mut self, records: &[Record]) -> DeliveryReport {
        for (index, record) in records.iter().enumerate() {
            encode(record, &self.text.of(record), &mut self.entry);
            match self.socket.send_to(&self.entry, &self.path) {
                Ok(_) => {}
                // The datagram would be as large at the next attempt.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    return DeliveryReport { delivered: index, rejected: Some((1, error.into())), error: None };
                }
                Err(error) => {
                    let failure = format!("cannot write to the journal at {}", self.path.display());
                    return DeliveryReport::stopped(index, Error::from(error).context(failure));
                }
            }
        }
        DeliveryReport::complete(records.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multi_line_value_has_its_length() {
        let mut entry = Vec::new();
        push_field(&mut entry, format_args!("A"), "one");
        push_field(&mut entry, format_args!("B"), "one\ntwo");
        assert_eq!(entry, b"A=one\nB\n\x07\0\0\0\0\0\0\0one\ntwo\n");
    }
}
