//! The systemd journal, in its own protocol: a datagram a record, each field by its name.

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

/// Where the journal of the host listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// What `sd_journal_send` asks for. The longest record that there can be, of some 30 KB, fits into a datagram with the
/// kernel's own default too.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// A name for each kind of message, as `journalctl MESSAGE_ID=…` wants it.
const MESSAGE_IDS: [(&str, &str); 5] = [
    ("reset", "7d4e2f1b6c5a4b0f9e8d3c2a1b0f5e6d"),
    ("ignored", "2c9f6a7d3e1b48d5a0c4f7e6b5d3a291"),
    ("forwarded", "a1e5c3d97f2b4c6e8d0a9b7c5f3e1d24"),
    ("lost", "5b8d1f3e7a9c4e2db6f0c8a4d2e6f13b"),
    ("summary", "e3c7a5b19d8f4f6a92d4b0e8c6a4f27d"),
];

/// The journal.
pub(super) struct JournaldSink {
    path: PathBuf,
    socket: UnixDatagram,
    text: MessageText,
    /// The datagram on its way.
    entry: Vec<u8>,
}

impl JournaldSink {
    /// Gets ready; whether the journal is there shows with the first record.
    pub(super) fn open(path: PathBuf, options: TextOptions) -> Result<Self> {
        let socket = UnixDatagram::unbound().context("cannot make a socket")?;
        // Less is no failure.
        setsockopt(&socket, SndBuf, &SEND_BUFFER_BYTES).unwrap_or_default();
        Ok(Self { path, socket, text: MessageText::new(options), entry: Vec::new() })
    }
}

/// Puts a record into a datagram.
pub(super) fn encode(record: &Record, text: &str, entry: &mut Vec<u8>) {
    entry.clear();
    let kind = record.type_name();
    let id = MESSAGE_IDS.iter().find(|(of, _)| *of == kind).map_or("", |(_, id)| id);
    field(entry, format_args!("MESSAGE"), text);
    field(entry, format_args!("PRIORITY"), &(fields::severity(record) as u8).to_string());
    field(entry, format_args!("SYSLOG_IDENTIFIER"), "rsttrace");
    field(entry, format_args!("MESSAGE_ID"), id);
    field(entry, format_args!("RSTTRACE_TIME"), &format!("{:.9}", record.time()));
    for made in fields::record_fields(record) {
        let value = made.value.to_string();
        if made.name == "pid" {
            // The journal adds what it knows of that process, and `journalctl --unit` finds it there.
            field(entry, format_args!("OBJECT_PID"), &value);
        }
        field(entry, format_args!("RSTTRACE_{}", made.name.to_ascii_uppercase()), &value);
    }
}

/// Adds a field. One of several lines has its length before it.
fn field(entry: &mut Vec<u8>, name: std::fmt::Arguments<'_>, value: &str) {
    // A vector takes everything.
    entry.write_fmt(name).unwrap_or_default();
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
                // It will not get smaller.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    return DeliveryReport { delivered: index, rejected: Some((1, error.into())), error: None };
                }
                Err(error) => {
                    let place = format!("cannot write to the journal at {}", self.path.display());
                    return DeliveryReport::stopped(index, Error::from(error).context(place));
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
    fn several_lines_have_their_length() {
        let mut entry = Vec::new();
        field(&mut entry, format_args!("A"), "one");
        field(&mut entry, format_args!("B"), "one\ntwo");
        assert_eq!(entry, b"A=one\nB\n\x07\0\0\0\0\0\0\0one\ntwo\n");
    }
}
