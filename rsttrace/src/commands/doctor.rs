//! `rsttrace doctor`: checks what can be traced on this host and how to fix what cannot.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use crate::{
    conntrack::{self, Presence},
    exit::Failure,
    load::{ExtraEvents, Interfaces, KernelInfo, LoadOptions, Loaded, Object, preflight, probes::PROBES},
    model::FilterOptions,
    util::{
        degraded::{self, Degraded},
        messages::sentence,
    },
};

/// Looks at the host, tries every probe, and prints what it found. Blocks while the kernel verifies the programs. Fails with
/// status 3 when nothing can be traced, and when standard output cannot be written to.
pub(crate) fn run() -> Result<(), Failure> {
    let mut report = Report { well: true, limits: Vec::new() };
    for finding in preflight::examine() {
        match &finding.obstacle {
            None => row("ok", finding.subject, &finding.found)?,
            Some(obstacle) => report.obstacle(finding.subject, &format_args!("{}; {obstacle}", finding.found))?,
        }
    }
    if report.well {
        match KernelInfo::read() {
            Ok(kernel) => report.try_everything(&kernel)?,
            Err(error) => report.obstacle("fields", &sentence(&error.into()))?,
        }
    } else {
        for probe in PROBES {
            row("-", probe.hook, &"not tried")?;
        }
    }
    report.close()
}

fn row(mark: &str, subject: &str, text: &dyn Display) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{mark:<8} {subject:<24} {text}").map_err(Failure::stdout)
}

struct Report {
    well: bool,
    limits: Vec<Degraded>,
}

impl Report {
    fn obstacle(&mut self, subject: &str, text: &dyn Display) -> Result<(), Failure> {
        self.well = false;
        row("missing", subject, text)
    }

    fn try_everything(&mut self, kernel: &KernelInfo) -> Result<(), Failure> {
        let absent: Vec<&str> = kernel.absent().collect();
        if absent.is_empty() {
            row("ok", "fields", &format_args!("all {} kernel fields found", kernel.offsets.len()))?;
        } else {
            row("degraded", "fields", &format_args!("this kernel has no {}", absent.join(", ")))?;
        }
        self.limits.extend(look_up(kernel)?);
        let ring = try_object(kernel, Object::Ring, "BPF ring buffer")?;
        let perf = try_object(kernel, Object::Perf, "perf ring buffer")?;
        let Some(mut loaded) = ring.or(perf) else {
            self.well = false;
            return Ok(());
        };
        if let Err(error) = loaded.attach(kernel, &ExtraEvents::default(), Interfaces::default()) {
            self.obstacle("probes", &sentence(&error.into()))?;
        }
        for probe in PROBES.iter().filter(|probe| probe.is_wanted(kernel, &ExtraEvents::default())) {
            let refused = loaded.degraded.iter().find(|degraded| degraded.what == probe.hook);
            match refused {
                Some(refused) => {
                    row("degraded", probe.hook, &format_args!("{}; {}; {}", refused.why, refused.loss, probe.remedy))?;
                }
                None if let Some(option) = loaded.attach_option(probe.hook) => {
                    row("ok", probe.hook, &format_args!("works ({})", option.attach.name()))?;
                }
                None => row("-", probe.hook, &format_args!("not tried; without it {}; {}", probe.loss, probe.remedy))?,
            }
        }
        self.limits.append(&mut loaded.degraded);
        Ok(())
    }

    /// Says in one line what the rows come to.
    fn close(self) -> Result<(), Failure> {
        let conclusion = match degraded::limits(&self.limits) {
            _ if !self.well => "rsttrace cannot run here: see the rows with 'missing'".to_owned(),
            Some(limits) => format!("rsttrace works here; limited: {limits}"),
            None => "rsttrace works here, without limits".to_owned(),
        };
        writeln!(io::stdout().lock(), "\n{conclusion}").map_err(Failure::stdout)?;
        if self.well { Ok(()) } else { Err(Failure::HostSaid) }
    }
}

/// Tries a look-up in the table of tracked connections. Returns what does not work.
fn look_up(kernel: &KernelInfo) -> Result<Vec<Degraded>, Failure> {
    let presence = Presence::detect(kernel.has_conntrack_netlink);
    if presence == Presence::Absent {
        row("-", "conntrack", &"the kernel tracks no connections, so that none is translated")?;
        return Ok(Vec::new());
    }
    let (namespaces, degraded) = conntrack::examine(presence);
    if namespaces > 0 {
        row("ok", "conntrack", &format_args!("works (network namespaces: {namespaces})"))?;
    }
    for Degraded { what, why, loss } in &degraded {
        row("degraded", what, &format_args!("{why}; {loss}"))?;
    }
    Ok(degraded)
}

fn try_object(kernel: &KernelInfo, object: Object, name: &str) -> Result<Option<Loaded>, Failure> {
    let filters = FilterOptions::default();
    let options = LoadOptions { buffer_bytes: Some(1 << 16), remember: None, filters: &filters, netns: None };
    match Loaded::load(kernel, object, &options) {
        Ok(loaded) => {
            row("ok", name, &"works")?;
            Ok(Some(loaded))
        }
        Err(error) => {
            row("degraded", name, &sentence(&error.into()))?;
            Ok(None)
        }
    }
}
