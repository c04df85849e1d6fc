//! `rsttrace explain`: the catalogue of causes.

use std::io::{self, BufWriter, Write as _};

use anyhow::Context as _;

use crate::{
    diagnose::catalogue::{self, Row, UNKNOWN},
    exit::Failure,
    reset::{Direction, Fault, Sender},
};

/// Prints all causes, or one in full.
pub(crate) fn run(code: Option<&str>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match code {
        None => catalogue::rows().chain([&UNKNOWN]).try_for_each(|row| line(row, &mut out)),
        Some(code) => {
            let row = catalogue::find(code).ok_or_else(|| {
                Failure::usage(format_args!("there is no cause '{code}': 'rsttrace explain' lists the codes"))
            })?;
            full(row, &mut out)
        }
    }
    .and_then(|()| out.flush())
    .context("cannot write to standard output")
    .map_err(Failure::Running)
}

fn line(row: &Row, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "{:<26}{:<9} {}", row.code, direction(row), row.summary)
}

fn full(row: &Row, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "{}\n\n{}\n", row.code, row.summary)?;
    writeln!(out, "direction  {}", direction(row))?;
    writeln!(out, "sender     {}", sender(row.sender))?;
    writeln!(out, "fault      {}", fault(row.fault))?;
    writeln!(out, "shows by   {}", row.fingerprint)?;
    writeln!(out, "advice     {}", row.advice)
}

const fn direction(row: &Row) -> &'static str {
    match row.direction {
        Some(Direction::Sent) => "sent",
        Some(Direction::Received) => "received",
        None => "either",
    }
}

const fn sender(sender: Sender) -> &'static str {
    match sender {
        Sender::LocalProcess => "a process of this host",
        Sender::LocalKernel => "this host's kernel",
        Sender::LocalFirewall => "this host's packet filter",
        Sender::Peer => "the peer",
        Sender::Path => "something between the two ends",
        Sender::Unknown => "not known",
    }
}

const fn fault(fault: Fault) -> &'static str {
    match fault {
        Fault::Local => "this host's side has something to change",
        Fault::Peer => "the peer's side has something to change",
        Fault::Path => "something between the two ends has something to change",
        Fault::None => "nobody's: it is harmless",
        Fault::Unknown => "not known",
    }
}
