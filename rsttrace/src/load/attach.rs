//! Attaching one probe, in the best way that the running kernel takes.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    io::Read as _,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    path::Path,
    thread,
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use aya::{
    Btf, Ebpf,
    programs::{FEntry, FExit, Iter, KProbe, Program, ProgramError, SchedClassifier, TcAttachType, tc},
    util::KernelVersion,
};

use super::{
    Kernel,
    btf::Hook,
    left_out,
    probes::{Arguments, Attach, PROBES, Probe, Way},
    types,
};
use crate::{cli::More, exit::sentence};

/// Where the kernel says that it has kprobes.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// Puts programs where they belong.
pub(super) struct Attacher<'a> {
    ebpf: &'a mut Ebpf,
    kernel: &'a Kernel,
    more: &'a More,
    /// The functions of the kernel that programs are for: made when it is first needed.
    btf: OnceCell<Btf>,
}

impl<'a> Attacher<'a> {
    pub(super) const fn new(ebpf: &'a mut Ebpf, kernel: &'a Kernel, more: &'a More) -> Self {
        Self { ebpf, kernel, more, btf: OnceCell::new() }
    }

    /// Puts the programs of tracepoints into the kernel, all at once: to verify the large ones is half of the start, and
    /// takes one CPU each. What is refused is tried again, and the reason told, when it is attached.
    pub(super) fn load_ahead(&mut self) {
        let is_wanted = |probe: &&Probe| probe.is_wanted(self.kernel, self.more);
        let first_way = |probe: &Probe| {
            let is_tracepoint = |way: &&Way| matches!(way.attach, Attach::RawTracepoint(_) | Attach::BtfTracepoint(_));
            probe.ways.iter().filter(is_tracepoint).find(|way| self.fits(way).is_ok())
        };
        let first: Vec<&Way> = PROBES.iter().filter(is_wanted).filter_map(first_way).collect();
        let names = first.iter().flat_map(|way| {
            let behind = left_out::behind(way.program, self.kernel);
            behind.chain([way.program]).map(|name| (name, way.attach))
        });
        let attaches: BTreeMap<&str, Attach> = names.collect();
        // Where it cannot be read, it is tried again as well.
        drop(self.read_btf());
        let btf = self.btf.get();
        thread::scope(|scope| {
            let mut loading = Vec::new();
            for (name, program) in self.ebpf.programs_mut() {
                let Some(attach) = attaches.get(name) else { continue };
                loading.push(scope.spawn(move || load(program, *attach, btf).unwrap_or_default()));
            }
            // The scope itself waits for the closures to return, and not for the ends of the threads, which have all
            // privileges (see `sandbox`).
            for thread in loading {
                // One that panics has not loaded its program, which is tried again.
                thread.join().unwrap_or_default();
            }
        });
    }

    /// Tries the ways of a probe in their order; the way that the kernel took.
    pub(super) fn attach(&mut self, probe: &Probe) -> Result<Way> {
        let mut refusals: Vec<String> = Vec::new();
        for way in probe.ways {
            match self.fits(way).and_then(|()| self.attach_way(way)) {
                Ok(()) => return Ok(*way),
                Err(error) if probe.ways.len() == 1 => return Err(error),
                Err(error) => {
                    let refusal = sentence(&error);
                    // What is the matter with every way need not be said for each.
                    if !refusals.contains(&refusal) {
                        refusals.push(refusal);
                    }
                }
            }
        }
        bail!("{}", refusals.join("; "))
    }

    /// Whether the hook has the arguments that the program reads.
    fn fits(&self, way: &Way) -> Result<()> {
        match (way.attach, self.kernel.hook(way.attach)) {
            (attach, Some(Hook { arguments, .. })) if !way.arguments.fit(arguments) => {
                bail!("{} of this kernel has {arguments} arguments, which no program fits", attach.target())
            }
            (Attach::RawTracepoint(name) | Attach::BtfTracepoint(name), None) => {
                bail!("this kernel has no tracepoint {name}")
            }
            // Where any arguments will do it may be a module's.
            (Attach::Fentry(name) | Attach::Fexit(name) | Attach::Kprobe(name) | Attach::Kretprobe(name), None)
                if way.arguments != Arguments::Any =>
            {
                bail!("this kernel has no function {name}")
            }
            _ => Ok(()),
        }
    }

    fn attach_way(&mut self, way: &Way) -> Result<()> {
        match way.attach {
            Attach::RawTracepoint(_) | Attach::BtfTracepoint(_) => self.attach_tracepoint(way.program, way.attach)?,
            Attach::Iterator(iterator) => {
                self.read_btf()?;
                let Self { ebpf, btf, .. } = self;
                let program: &mut Iter = program(ebpf, way.program)?;
                program.load(iterator, btf.get().context("BTF has been read")?).map_err(explain)?;
                let id = program.attach().map_err(explain)?;
                let mut file = program.take_link(id)?.into_file()?;
                // Reading is what makes it walk; it prints nothing.
                file.read_to_end(&mut Vec::new())?;
                program.unload()?;
            }
            Attach::OnDemand(iterator) => {
                self.read_btf()?;
                let Self { ebpf, btf, .. } = self;
                let program: &mut Iter = program(ebpf, way.program)?;
                program.load(iterator, btf.get().context("BTF has been read")?).map_err(explain)?;
            }
            Attach::Fentry(function) => {
                self.read_btf()?;
                let Self { ebpf, btf, .. } = self;
                let program: &mut FEntry = program(ebpf, way.program)?;
                program.load(function, btf.get().context("BTF has been read")?).map_err(refused_fentry)?;
                program.attach().map_err(refused_fentry)?;
            }
            Attach::Fexit(function) => {
                self.read_btf()?;
                let Self { ebpf, btf, .. } = self;
                let program: &mut FExit = program(ebpf, way.program)?;
                program.load(function, btf.get().context("BTF has been read")?).map_err(refused_fentry)?;
                program.attach().map_err(refused_fentry)?;
            }
            Attach::Kprobe(function) | Attach::Kretprobe(function) => {
                if !Path::new(KPROBES).exists() {
                    bail!("no kprobes");
                }
                let program: &mut KProbe = self.program(way.program)?;
                // One program may serve two functions.
                if program.fd().is_err() {
                    program.load().map_err(|error| explain(error).context("kprobe"))?;
                }
                program.attach(function, 0).map_err(|error| explain(error).context("kprobe"))?;
            }
            Attach::Classifier => {
                let more = self.more;
                let program: &mut SchedClassifier = self.program(way.program)?;
                program.load().map_err(explain)?;
                for interface in &more.forwarded {
                    attach_classifier(program, interface).with_context(|| format!("interface {interface}"))?;
                }
            }
        }
        Ok(())
    }

    /// The descriptor of a program that is in the kernel.
    pub(super) fn fd(&mut self, name: &str) -> Result<RawFd> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| anyhow!("the object has no program {name}"))?;
        Ok(program.fd()?.as_fd().as_raw_fd())
    }

    /// Attaches a program to a tracepoint; it may have been put into the kernel ahead.
    pub(super) fn attach_tracepoint(&mut self, name: &str, attach: Attach) -> Result<()> {
        self.read_btf()?;
        let Self { ebpf, btf, .. } = self;
        let program = ebpf.program_mut(name).ok_or_else(|| anyhow!("the object has no program {name}"))?;
        load(program, attach, btf.get())?;
        match (program, attach) {
            (Program::RawTracePoint(program), Attach::RawTracepoint(tracepoint)) => {
                program.attach(tracepoint).map_err(explain)?;
            }
            (Program::BtfTracePoint(program), _) => {
                program.attach().map_err(explain)?;
            }
            _ => bail!("{name} is not for a tracepoint"),
        }
        Ok(())
    }

    fn read_btf(&mut self) -> Result<()> {
        if self.btf.get().is_none() {
            self.btf = OnceCell::from(types::btf(self.kernel.hooks())?);
        }
        Ok(())
    }

    fn program<T>(&mut self, name: &str) -> Result<&mut T>
    where
        for<'b> &'b mut T: TryFrom<&'b mut Program, Error = ProgramError>,
    {
        program(self.ebpf, name)
    }
}

pub(super) fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| anyhow!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// Whether what comes in by an interface can be seen through a link (6.6). aya goes by the version as well.
pub(super) fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// Attaches to what comes in by an interface: as a link (tcx, from 6.6 on), which goes away with this process; before,
/// as a filter of the queueing discipline clsact.
fn attach_classifier(program: &mut SchedClassifier, interface: &str) -> Result<()> {
    if !has_tcx() {
        // It may be there; where it is not and cannot be had, attaching fails and says so.
        drop(tc::qdisc_add_clsact(interface));
    }
    program.attach(interface, TcAttachType::Ingress).map_err(explain)?;
    Ok(())
}

/// The same for fentry and fexit, which a kernel has both or none of.
fn refused_fentry(error: ProgramError) -> Error {
    match error {
        // Not a word from the verifier: it is not the program that the kernel does not want.
        ProgramError::LoadError { io_error, verifier_log } if verifier_log.to_string().is_empty() => {
            anyhow!("fentry is refused: {io_error}")
        }
        other => explain(other).context("fentry"),
    }
}

/// Puts a tracepoint's program into the kernel, unless that has been done ahead.
fn load(program: &mut Program, attach: Attach, btf: Option<&Btf>) -> Result<()> {
    match (program, attach, btf) {
        (Program::RawTracePoint(program), ..) if program.fd().is_err() => program.load().map_err(explain),
        (Program::BtfTracePoint(program), Attach::BtfTracepoint(tracepoint), Some(btf)) if program.fd().is_err() => {
            program.load(tracepoint, btf).map_err(explain)
        }
        _ => Ok(()),
    }
}

/// The error of a refused program, with the last line of what the verifier said instead of all of it.
pub(super) fn explain(error: ProgramError) -> Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            log::debug!("verifier: {log}");
            let figures = ["processed ", "verification time ", "stack depth "];
            let is_reason = |line: &&str| !figures.iter().any(|figure| line.starts_with(figure));
            let reason = log.lines().rfind(is_reason).unwrap_or_default().to_owned();
            if reason.is_empty() {
                anyhow!("the kernel refuses the program: {io_error}")
            } else {
                anyhow!("the kernel refuses the program: {io_error} ({reason})")
            }
        }
        other => Error::new(other).context("the kernel refuses the probe"),
    }
}
