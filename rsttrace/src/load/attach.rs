//! Attaching a probe, by the best option that the running kernel accepts.

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
    ExtraEvents, Interfaces, KernelInfo, aya_compat,
    btf::TargetType,
    probes::{ArgCount, Attach, AttachOption, PROBES, Probe},
    recursion,
};
use crate::util::messages::sentence;

/// Directory in sysfs that exists when the kernel has kprobes.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// Loads and attaches programs.
pub(super) struct Attacher<'a> {
    ebpf: &'a mut Ebpf,
    kernel: &'a KernelInfo,
    more: &'a ExtraEvents,
    interfaces: &'a Interfaces,
    /// Types that programs are loaded for, for aya; made when they are first needed.
    btf: OnceCell<Btf>,
}

impl<'a> Attacher<'a> {
    pub(super) const fn new(
        ebpf: &'a mut Ebpf,
        kernel: &'a KernelInfo,
        more: &'a ExtraEvents,
        interfaces: &'a Interfaces,
    ) -> Self {
        Self { ebpf, kernel, more, interfaces, btf: OnceCell::new() }
    }

    /// Loads the programs of tracepoints in parallel, one thread each: verifying the large ones takes half of the start. Blocks
    /// until the threads have exited.
    /// Errors are dropped; a program that was refused is loaded again when it is attached, and the reason reported then.
    pub(super) fn load_ahead(&mut self) {
        let is_wanted = |probe: &&Probe| probe.is_wanted(self.kernel, self.more);
        let best_fit = |probe: &Probe| {
            let is_tracepoint =
                |option: &&AttachOption| matches!(option.attach, Attach::RawTracepoint(_) | Attach::BtfTracepoint(_));
            probe.options.iter().filter(is_tracepoint).find(|option| self.check_fit(option).is_ok())
        };
        let chosen: Vec<&AttachOption> = PROBES.iter().filter(is_wanted).filter_map(best_fit).collect();
        let names = chosen.iter().flat_map(|option| {
            let backups = recursion::backups_of(option.program, self.kernel);
            backups.chain([option.program]).map(|name| (name, option.attach))
        });
        let attaches: BTreeMap<&str, Attach> = names.collect();
        let _ignored = self.make_btf();
        let btf = self.btf.get();
        thread::scope(|scope| {
            let mut loading = Vec::new();
            for (name, program) in self.ebpf.programs_mut() {
                let Some(attach) = attaches.get(name) else { continue };
                loading.push(scope.spawn(move || {
                    let _ignored = load(program, *attach, btf);
                }));
            }
            // The scope itself waits until the closures have returned, not until the threads have exited. The sandbox must be
            // entered by the only thread: another one would keep all privileges.
            for thread in loading {
                let _ignored = thread.join();
            }
        });
    }

    /// Tries the options of a probe in their order and returns the one that the kernel accepted. Fails with the reasons of all
    /// options when it accepts none.
    pub(super) fn attach(&mut self, probe: &Probe) -> Result<AttachOption> {
        let mut refusals: Vec<String> = Vec::new();
        for option in probe.options {
            match self.check_fit(option).and_then(|()| self.attach_option(option)) {
                Ok(()) => return Ok(*option),
                Err(error) if probe.options.len() == 1 => return Err(error),
                Err(error) => {
                    let refusal = sentence(&error);
                    // One reason may apply to several options.
                    if !refusals.contains(&refusal) {
                        refusals.push(refusal);
                    }
                }
            }
        }
        bail!("{}", refusals.join("; "))
    }

    /// Fails when the kernel has no such hook, or one whose arguments are not those that the program reads.
    fn check_fit(&self, option: &AttachOption) -> Result<()> {
        match (option.attach, self.kernel.target(option.attach)) {
            (attach, Some(TargetType { arguments, .. })) if !option.arguments.accepts(arguments) => {
                bail!("{} of this kernel has {arguments} arguments, which no program fits", attach.target())
            }
            (Attach::RawTracepoint(name) | Attach::BtfTracepoint(name), None) => {
                bail!("this kernel has no tracepoint {name}")
            }
            // A program that accepts any arguments may be for a function of a module, which the kernel's BTF does not have.
            (Attach::Fentry(name) | Attach::Fexit(name) | Attach::Kprobe(name) | Attach::Kretprobe(name), None)
                if option.arguments != ArgCount::Any =>
            {
                bail!("this kernel has no function {name}")
            }
            _ => Ok(()),
        }
    }

    /// Attaches a program. An iterator that runs once runs here, and is unloaded; one that runs on demand is only loaded.
    fn attach_option(&mut self, option: &AttachOption) -> Result<()> {
        match option.attach {
            Attach::RawTracepoint(_) | Attach::BtfTracepoint(_) => {
                self.attach_tracepoint(option.program, option.attach)?;
            }
            Attach::Iterator(iterator) => {
                self.make_btf()?;
                let Self { ebpf, btf, .. } = self;
                let program: &mut Iter = program(ebpf, option.program)?;
                program.load(iterator, btf.get().context("BTF has been made")?).map_err(explain)?;
                let id = program.attach().map_err(explain)?;
                let mut file = program.take_link(id)?.into_file()?;
                // The iterator runs while its file is read; it writes nothing to it.
                file.read_to_end(&mut Vec::new())?;
                program.unload()?;
            }
            Attach::OnDemand(iterator) => {
                self.make_btf()?;
                let Self { ebpf, btf, .. } = self;
                let program: &mut Iter = program(ebpf, option.program)?;
                program.load(iterator, btf.get().context("BTF has been made")?).map_err(explain)?;
            }
            Attach::Fentry(function) => {
                self.make_btf()?;
                let Self { ebpf, btf, .. } = self;
                let program: &mut FEntry = program(ebpf, option.program)?;
                program.load(function, btf.get().context("BTF has been made")?).map_err(refused_fentry)?;
                program.attach().map_err(refused_fentry)?;
            }
            Attach::Fexit(function) => {
                self.make_btf()?;
                let Self { ebpf, btf, .. } = self;
                let program: &mut FExit = program(ebpf, option.program)?;
                program.load(function, btf.get().context("BTF has been made")?).map_err(refused_fentry)?;
                program.attach().map_err(refused_fentry)?;
            }
            Attach::Kprobe(function) | Attach::Kretprobe(function) => {
                if !Path::new(KPROBES).exists() {
                    bail!("no kprobes");
                }
                let program: &mut KProbe = self.program(option.program)?;
                // One program may be attached to two functions.
                if program.fd().is_err() {
                    program.load().map_err(|error| explain(error).context("kprobe"))?;
                }
                program.attach(function, 0).map_err(|error| explain(error).context("kprobe"))?;
            }
            Attach::Classifier => {
                let interfaces = self.interfaces;
                let program: &mut SchedClassifier = self.program(option.program)?;
                program.load().map_err(explain)?;
                // The kernel looks an interface up in the network namespace of the calling thread.
                interfaces.inside(|| {
                    let mut names = interfaces.names();
                    names.try_for_each(|name| {
                        attach_classifier(program, name).with_context(|| format!("interface {name}"))
                    })
                })??;
            }
        }
        Ok(())
    }

    /// Descriptor of a loaded program. Fails when the object has no such program, and when it is not loaded.
    pub(super) fn fd(&mut self, name: &str) -> Result<RawFd> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| anyhow!("the object has no program {name}"))?;
        Ok(program.fd()?.as_fd().as_raw_fd())
    }

    /// Attaches a program to a tracepoint; loads it first, unless [`Self::load_ahead`] has. Fails when the kernel refuses it.
    pub(super) fn attach_tracepoint(&mut self, name: &str, attach: Attach) -> Result<()> {
        self.make_btf()?;
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

    fn make_btf(&mut self) -> Result<()> {
        if self.btf.get().is_none() {
            self.btf = OnceCell::from(aya_compat::target_btf(self.kernel)?);
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

/// Detaches and unloads a program; does nothing where it is not loaded. An error is dropped: the program goes with its object.
pub(super) fn unload(ebpf: &mut Ebpf, name: &str) {
    let _ignored = match ebpf.program_mut(name) {
        Some(Program::RawTracePoint(program)) => program.unload(),
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::KProbe(program)) => program.unload(),
        Some(Program::FEntry(program)) => program.unload(),
        Some(Program::FExit(program)) => program.unload(),
        Some(Program::Iter(program)) => program.unload(),
        Some(Program::SchedClassifier(program)) => program.unload(),
        _ => Ok(()),
    };
}

fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| anyhow!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// Whether aya attaches classifiers by links (tcx, 6.6). By version, since aya decides by version.
pub(super) fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// Attaches a classifier to the ingress of an interface: by a link (tcx, 6.6 and later), which ends with this process; before,
/// as a filter of the queueing discipline clsact.
fn attach_classifier(program: &mut SchedClassifier, interface: &str) -> Result<()> {
    if !has_tcx() {
        // Fails when it exists. When it cannot be added, attaching fails and reports that.
        let _ignored = tc::qdisc_add_clsact(interface);
    }
    program.attach(interface, TcAttachType::Ingress).map_err(explain)?;
    Ok(())
}

/// The error of a refused fentry or fexit program: a kernel has either both or none.
fn refused_fentry(error: ProgramError) -> Error {
    match error {
        // Without a message of the verifier it is not the program that was refused, but its kind.
        ProgramError::LoadError { io_error, verifier_log } if verifier_log.to_string().is_empty() => {
            anyhow!("fentry is refused: {io_error}")
        }
        other => explain(other).context("fentry"),
    }
}

/// Loads a program for a tracepoint, unless it is loaded already. Does nothing for programs of other kinds.
fn load(program: &mut Program, attach: Attach, btf: Option<&Btf>) -> Result<()> {
    match (program, attach, btf) {
        (Program::RawTracePoint(program), ..) if program.fd().is_err() => program.load().map_err(explain),
        (Program::BtfTracePoint(program), Attach::BtfTracepoint(tracepoint), Some(btf)) if program.fd().is_err() => {
            program.load(tracepoint, btf).map_err(explain)
        }
        _ => Ok(()),
    }
}

/// The error of a refused program. Of the verifier's log it has the last line before the statistics; the whole log is logged
/// at debug level.
fn explain(error: ProgramError) -> Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            log::debug!("verifier: {log}");
            let statistics = ["processed ", "verification time ", "stack depth "];
            let is_reason = |line: &&str| !statistics.iter().any(|word| line.starts_with(word));
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
