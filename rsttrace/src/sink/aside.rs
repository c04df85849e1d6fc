//! Ignored and forwarded resets, one line each, for people. Their second word tells them from real ones.
//!
//! ```text
//! 12:03:04.123 IGNORED 10.0.0.5:8080 < 10.0.1.9:43210 nginx[812] ESTABLISHED out-of-window
//! 12:03:04.123 FORWARDED eth0 10.0.1.9:443 > 10.0.0.5:43210 ttl 63 made by a socket
//! ```

use std::io::{self, Write};

use super::{Look, sanitize::Harmless, text::endpoint};
use crate::aside::{Forwarded, Ignored, Maker};

pub(super) fn ignored(record: &Ignored, look: &Look, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "{}IGNORED {} < {}",
        look.time(record.time, record.ktime_ns),
        endpoint(record.local),
        endpoint(record.peer)
    )?;
    if let Some(process) = &record.process {
        write!(out, " {}[{}]", Harmless(&process.comm), process.pid)?;
    }
    if let Some(socket) = &record.socket {
        write!(out, " {}", socket.state)?;
    }
    write!(out, " {}", record.why.code)?;
    match &record.reason {
        Some(reason) if record.why.code == "dropped" => writeln!(out, " {reason}"),
        _ => writeln!(out),
    }
}

pub(super) fn forwarded(record: &Forwarded, look: &Look, out: &mut dyn Write) -> io::Result<()> {
    let interface = &record.interface;
    let name = interface.name.as_deref().map_or_else(|| format!("#{}", interface.index), str::to_owned);
    let maker = match record.maker {
        Maker::Socket => "made by a socket",
        Maker::Stateless => "made without a socket",
    };
    writeln!(
        out,
        "{}FORWARDED {} {} > {} ttl {} {maker}",
        look.time(record.time, record.ktime_ns),
        Harmless(&name),
        endpoint(record.from),
        endpoint(record.to),
        record.packet.ttl,
    )
}
