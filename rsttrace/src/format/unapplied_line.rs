//! Ignored and forwarded resets, one line each, for people. The second word tells them from real ones.
//!
//! ```text
//! 12:03:04.123 IGNORED 10.0.0.5:8080 < 10.0.1.9:43210 nginx[812] ESTABLISHED out-of-window
//! 12:03:04.123 FORWARDED eth0 10.0.1.9:443 > 10.0.0.5:43210 ttl 63 sent from a socket
//! ```

use std::io::{self, Write};

use super::TextOptions;
use crate::{
    model::{Forwarded, Ignored, RstOrigin},
    util::sanitize::Sanitized,
};

/// Writes the line of an ignored reset. Fails where `out` fails.
pub(super) fn ignored(record: &Ignored, options: &TextOptions, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}IGNORED {} < {}", options.format_time(record.time, record.ktime_ns), record.local, record.peer)?;
    if let Some(process) = &record.process {
        write!(out, " {}[{}]", Sanitized(&process.comm), process.pid)?;
    }
    if let Some(socket) = &record.socket {
        write!(out, " {}", socket.state)?;
    }
    write!(out, " {}", record.ignored_because.code)?;
    match &record.reason {
        Some(reason) if record.ignored_because.code == "dropped" => writeln!(out, " {reason}"),
        _ => writeln!(out),
    }
}

/// Writes the line of a forwarded reset. Fails where `out` fails.
pub(super) fn forwarded(record: &Forwarded, options: &TextOptions, out: &mut dyn Write) -> io::Result<()> {
    let interface = &record.interface;
    let name = interface.name.as_deref().map_or_else(|| format!("#{}", interface.index), str::to_owned);
    let origin = match record.origin {
        RstOrigin::Socket => "sent from a socket",
        RstOrigin::Stateless => "sent without a socket (a kernel or firewall)",
    };
    writeln!(
        out,
        "{}FORWARDED {} {} > {} ttl {} {origin}",
        options.format_time(record.time, record.ktime_ns),
        Sanitized(&name),
        record.from,
        record.to,
        record.packet.ttl,
    )
}
