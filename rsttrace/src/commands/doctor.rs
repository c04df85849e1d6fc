//! `rsttrace doctor`: checks what can be traced on this host and how to fix what cannot.

use serde::Serialize;

use super::{print_wrapped, write_json};
use crate::{
    conntrack::{self, Presence},
    exit::Failure,
    load::{
        ExtraEvents, Interfaces, KernelInfo, LoadOptions, Loaded, Object, preflight,
        probes::{PROBES, Probe},
    },
    model::FilterOptions,
    util::{
        degraded::{self, Degraded},
        messages::sentence,
    },
};

/// Columns before the text of a check.
const INDENT: usize = 11;

/// Looks at the host, tries every probe, and prints what it found: a row as soon as it is known, or one JSON document at the
/// end. Blocks while the kernel verifies the programs. Fails with status 3 when nothing can be traced, and when standard
/// output cannot be written to.
pub(crate) fn run(json: bool) -> Result<(), Failure> {
    let mut report = Report { works: true, limits: Vec::new(), checks: Vec::new(), prints: !json };
    for finding in preflight::examine() {
        report.add(Check::of_requirement(finding))?;
    }
    if report.works {
        match KernelInfo::read() {
            Ok(kernel) => report.try_everything(&kernel)?,
            Err(error) => report.add(Check::new(Status::Missing, FIELDS, sentence(&error.into())))?,
        }
    } else {
        for probe in PROBES {
            report.add(Check::new(Status::NotTried, probe.ability, "a requirement is missing").by(probe.hook))?;
        }
    }
    report.close()
}

/// Subject of the check for fields.
const FIELDS: &str = "fields of the kernel's structs";

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// Works.
    Ok,
    /// Nothing can be traced without it.
    Missing,
    /// Works less well than it could, or not at all; tracing works.
    Degraded,
    /// Not known.
    NotTried,
}

impl Status {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Degraded => "degraded",
            Self::NotTried => "not tried",
        }
    }
}

/// One row.
#[derive(Debug, Serialize)]
struct Check {
    status: Status,
    /// Requirement, or ability: what can be seen.
    subject: String,
    /// Hook in the kernel, or facility, that the ability comes from; `None` for requirements.
    probe: Option<&'static str>,
    /// What was found, or the reason of a degradation.
    found: String,
    /// What the output lacks; `None` where it lacks nothing.
    loss: Option<String>,
    /// What to do; `None` where there is nothing to do, or it is not known.
    remedy: Option<String>,
}

impl Check {
    fn new(status: Status, subject: &str, found: impl Into<String>) -> Self {
        Self { status, subject: subject.to_owned(), probe: None, found: found.into(), loss: None, remedy: None }
    }

    const fn by(mut self, probe: &'static str) -> Self {
        self.probe = Some(probe);
        self
    }

    fn loses(mut self, loss: &str) -> Self {
        self.loss = Some(loss.to_owned());
        self
    }

    fn helped_by(mut self, remedy: &str) -> Self {
        self.remedy = Some(remedy.to_owned());
        self
    }

    fn of_requirement(finding: preflight::Finding) -> Self {
        match finding.obstacle {
            None => Self::new(Status::Ok, finding.subject, finding.found),
            Some(obstacle) => {
                let found = format!("{}; {}", finding.found, obstacle.reason);
                Self::new(Status::Missing, finding.subject, found).helped_by(obstacle.remedy)
            }
        }
    }

    fn of_probe(probe: &Probe, loaded: &Loaded) -> Self {
        let check = |status, found: String| Self::new(status, probe.ability, found).by(probe.hook);
        if let Some(refused) = loaded.degraded.iter().find(|degraded| degraded.what == probe.hook) {
            return check(Status::Degraded, refused.why.clone()).loses(&refused.loss).helped_by(probe.remedy);
        }
        match loaded.attach_option(probe.hook) {
            Some(option) => check(Status::Ok, format!("works ({})", option.attach.name())),
            None => check(Status::NotTried, "another probe was refused".to_owned())
                .loses(probe.loss)
                .helped_by(probe.remedy),
        }
    }

    /// Its lines in text.
    fn text(&self) -> String {
        let Self { status, subject, probe, found, loss, remedy } = self;
        let probe = probe.map(|probe| format!(" [{probe}]")).unwrap_or_default();
        let mut text = format!("{:<INDENT$}{subject}{probe}: {found}\n", status.in_words());
        for (name, value) in [("loss", loss), ("remedy", remedy)] {
            text.extend(value.as_ref().map(|value| format!("{:INDENT$}{name}: {value}\n", "")));
        }
        text
    }
}

/// All checks, and what they come to.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether resets can be traced here.
    works: bool,
    /// What the output of a run lacks, each once.
    limits: Vec<String>,
    checks: Vec<Check>,
    /// Whether each check is printed as text when it is added.
    #[serde(skip)]
    prints: bool,
}

impl Report {
    fn add(&mut self, check: Check) -> Result<(), Failure> {
        self.works &= check.status != Status::Missing;
        if self.prints {
            print(&check.text())?;
        }
        self.checks.push(check);
        Ok(())
    }

    fn try_everything(&mut self, kernel: &KernelInfo) -> Result<(), Failure> {
        let absent: Vec<&str> = kernel.absent().collect();
        self.add(if absent.is_empty() {
            Check::new(Status::Ok, FIELDS, format!("all {} found", kernel.offsets.len()))
        } else {
            Check::new(Status::Degraded, FIELDS, format!("this kernel has no {}", absent.join(", ")))
        })?;
        let mut degraded = self.look_up(kernel)?;
        let ring = self.try_object(kernel, Object::Ring, "BPF ring buffer", Status::Degraded)?;
        let without_perf = if ring.is_some() { Status::Degraded } else { Status::Missing };
        let perf = self.try_object(kernel, Object::Perf, "perf ring buffer", without_perf)?;
        let Some(mut loaded) = ring.or(perf) else { return Ok(()) };
        if let Err(error) = loaded.attach(kernel, &ExtraEvents::default(), Interfaces::default()) {
            self.add(Check::new(Status::Missing, "probes", sentence(&error.into())))?;
        }
        for probe in PROBES.iter().filter(|probe| probe.is_wanted(kernel, &ExtraEvents::default())) {
            self.add(Check::of_probe(probe, &loaded))?;
        }
        for other in loaded.degraded.iter().filter(|other| PROBES.iter().all(|probe| probe.hook != other.what)) {
            self.add(Check::new(Status::Degraded, &other.what, other.why.clone()).loses(&other.loss))?;
        }
        degraded.append(&mut loaded.degraded);
        self.limits = degraded::losses(&degraded);
        Ok(())
    }

    /// Tries a look-up in the table of tracked connections. Returns what does not work.
    fn look_up(&mut self, kernel: &KernelInfo) -> Result<Vec<Degraded>, Failure> {
        const SUBJECT: &str = "other side of translated connections";
        let add = |report: &mut Self, status, found: String, loss: Option<&str>| {
            let check = Check::new(status, SUBJECT, found).by("conntrack");
            report.add(loss.into_iter().fold(check, Check::loses))
        };
        let presence = Presence::detect(kernel.has_conntrack_netlink);
        if presence == Presence::Absent {
            add(self, Status::Ok, "the kernel tracks no connections, so that none is translated".to_owned(), None)?;
            return Ok(Vec::new());
        }
        let (namespaces, degraded) = conntrack::examine(presence);
        if namespaces > 0 {
            add(self, Status::Ok, format!("works (network namespaces: {namespaces})"), None)?;
        }
        for Degraded { why, loss, .. } in &degraded {
            add(self, Status::Degraded, why.clone(), Some(loss))?;
        }
        Ok(degraded)
    }

    fn try_object(
        &mut self,
        kernel: &KernelInfo,
        object: Object,
        name: &str,
        refused: Status,
    ) -> Result<Option<Loaded>, Failure> {
        let filters = FilterOptions::default();
        let options = LoadOptions { buffer_bytes: Some(1 << 16), remember: None, filters: &filters, netns: None };
        match Loaded::load(kernel, object, &options) {
            Ok(loaded) => {
                self.add(Check::new(Status::Ok, name, "works"))?;
                Ok(Some(loaded))
            }
            Err(error) => {
                self.add(Check::new(refused, name, sentence(&error.into())))?;
                Ok(None)
            }
        }
    }

    /// Says in one line what the rows come to, or prints the document.
    fn close(self) -> Result<(), Failure> {
        if self.prints {
            print(&format!("\n{}\n", self.conclusion()))?;
        } else {
            write_json(&self)?;
        }
        if self.works { Ok(()) } else { Err(Failure::HostSaid) }
    }

    fn conclusion(&self) -> String {
        if !self.works {
            "rsttrace cannot run here: see the rows with 'missing'".to_owned()
        } else if self.limits.is_empty() {
            "rsttrace works here, without limits".to_owned()
        } else {
            format!("rsttrace works here; limited: {}", self.limits.join("; "))
        }
    }
}

/// Prints text on standard output, wrapped on a terminal.
fn print(text: &str) -> Result<(), Failure> {
    print_wrapped(text, |_| INDENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_show_the_same_check() {
        let check = Check::new(Status::Degraded, "headers of received resets (TTL, window)", "no fentry")
            .by("tcp_reset")
            .loses("the headers are not seen")
            .helped_by("use a kernel with fentry");
        assert_eq!(
            check.text(),
            "degraded   headers of received resets (TTL, window) [tcp_reset]: no fentry\n           loss: the headers \
             are not seen\n           remedy: use a kernel with fentry\n"
        );
        let report = Report { works: true, limits: vec!["a".to_owned()], checks: vec![check], prints: false };
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({"works": true, "limits": ["a"], "checks": [{
                "status": "degraded", "subject": "headers of received resets (TTL, window)", "probe": "tcp_reset",
                "found": "no fentry", "loss": "the headers are not seen", "remedy": "use a kernel with fentry",
            }]})
        );
        assert_eq!(report.conclusion(), "rsttrace works here; limited: a");
    }

    #[test]
    fn abilities_are_short_and_different() {
        let mut abilities: Vec<&str> = PROBES.iter().map(|probe| probe.ability).collect();
        assert!(abilities.iter().all(|ability| ability.len() <= 50), "{abilities:?}");
        abilities.sort_unstable();
        abilities.dedup();
        assert_eq!(abilities.len(), PROBES.len());
    }
}
