//! One virtual machine, from power-on to power-off.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::guest::Guest;
use crate::{arch::Arch, progress::Progress};

/// Emulated in software: slower, but identical everywhere, also without KVM. The code that is translated for it stays (1 GiB). All processors in one thread, because qemu
/// 7.2 with two once executed an instruction that the kernel was patching at that moment, and the guest died of the
/// breakpoint in it.
const ACCELERATOR: [&str; 2] = ["-accel", "tcg,thread=single,tb-size=1024"];
/// The serial line is the guest's console, with nothing else on it.
const CONSOLE: [&str; 10] = ["-m", "2048", "-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none"];
/// For every architecture: a kernel panic ends the machine; programs lie at the addresses where they did before, so that the
/// emulator need not translate them at every start (a start of rsttrace takes half the time in user space). An emulated processor
/// speculates nothing, and pages are cleared once: with these and the processor below, a scenario takes a fifth less.
const KERNEL_ARGUMENTS: &str = "panic=-1 quiet norandmaps mitigations=off init_on_alloc=0";

/// Emulator of an architecture, its hardware, and additional arguments of the kernel.
struct Hardware {
    emulator: &'static str,
    arguments: &'static [&'static str],
    kernel_arguments: &'static str,
}

impl Hardware {
    const fn of(arch: Arch) -> Self {
        match arch {
            // The kernel does not use `cmpxchg16b` (141), after which qemu 7.2 rarely takes garbage for the flags when an
            // interrupt follows, and the guest dies of a double fault. The processor still shows it, because HAProxy requires
            // it. Without fast `rep movsb` the kernel copies and clears eight bytes at a time, which the emulator does no slower
            // than one.
            Arch::X86_64 => Self {
                emulator: "qemu-system-x86_64",
                arguments: &["-cpu", "max,-erms,-fsrm"],
                kernel_arguments: "console=ttyS0 clearcpuid=141",
            },
            // The processor of Graviton 2: without authentication of pointers, which takes an emulator most of its time, and
            // with pages of 16 KiB, which the Cortex-A57 does not have.
            Arch::Aarch64 => Self {
                emulator: "qemu-system-aarch64",
                arguments: &["-machine", "virt", "-cpu", "neoverse-n1"],
                kernel_arguments: "console=ttyAMA0",
            },
        }
    }
}

/// What all machines of a run have in common.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub(super) arch: Arch,
    /// Number of processors.
    pub(super) cpus: u8,
    /// Most time from power on to power off.
    pub(super) limit: Duration,
}

/// Messages of the guest; each is empty until it has arrived.
#[derive(Default)]
pub(super) struct Outcome {
    release: Option<String>,
    /// Exit statuses.
    doctor: Option<i32>,
    tests: Option<i32>,
    /// The runner's closing line.
    closing: Option<String>,
    /// Scenarios that failed and were repeated alone, and those of them that failed again.
    again: Vec<String>,
    failed_again: Vec<String>,
    /// Time from power-on to power-off.
    time: Duration,
}

impl Outcome {
    /// Whether everything passed.
    pub(super) fn is_good(&self) -> bool {
        self.doctor == Some(0) && self.tests == Some(0)
    }

    fn take(&mut self, line: &str) {
        if line.starts_with("test result:") {
            self.closing.get_or_insert_with(|| line.to_owned());
        } else if let Some((what, value)) = line.strip_prefix("vm: ").and_then(|said| said.split_once(' ')) {
            match what {
                "kernel" => self.release = Some(value.to_owned()),
                "doctor" => self.doctor = value.parse().ok(),
                "tests" => self.tests = value.parse().ok(),
                "again" => self.again.push(value.to_owned()),
                "failed-again" => self.failed_again.push(value.to_owned()),
                _ => {}
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = |status: Option<i32>| status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        write!(f, "Linux {}, ", self.release.as_deref().unwrap_or("that did not start"))?;
        if self.doctor != Some(0) {
            write!(f, "status of doctor: {}, ", status(self.doctor))?;
        }
        match &self.closing {
            Some(closing) => f.write_str(closing)?,
            None => write!(f, "status {}, without a closing line of the tests", status(self.tests))?,
        }
        for (scenarios, what) in [(&self.again, "played again"), (&self.failed_again, "failed again")] {
            if !scenarios.is_empty() {
                write!(f, ", {what}: {}", scenarios.join(" "))?;
            }
        }
        write!(f, ", {} s from power on to power off", self.time.as_secs())
    }
}

/// Boots a machine, prints its console, each line after the machine's name, and reads the results of the tests from it.
pub(super) fn boot(
    name: &str,
    guest: &Guest,
    Settings { arch, cpus, limit }: Settings,
    progress: &Progress,
) -> Result<Outcome> {
    let Hardware { emulator, arguments, kernel_arguments } = Hardware::of(arch);
    let mut command = Command::new(emulator);
    command.args(ACCELERATOR).args(arguments).args(["-smp", &cpus.to_string()]).args(CONSOLE).arg("-no-reboot");
    command.arg("-kernel").arg(&guest.kernel).arg("-initrd").arg(&guest.initramfs);
    command.args(["-append", &format!("{kernel_arguments} {KERNEL_ARGUMENTS}")]);
    for disk in &guest.disks {
        // Files that the guest writes are discarded.
        command.arg("-drive").arg(format!("file={},format=raw,if=virtio,snapshot=on", disk.display()));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let start = Instant::now();
    let mut machine = Machine(command.spawn().context("cannot start qemu: run `cargo xtask setup --vm` as root")?);
    let console = lines(machine.0.stdout.take().context("the machine has no console")?);

    let mut outcome = Outcome::default();
    loop {
        match console.recv_timeout((start + limit).saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if !(line.starts_with("test ") && line.ends_with(" ok")) {
                    writeln!(io::stdout(), "{name}: {line}").context("cannot write to standard output")?;
                }
                progress.take(name, &line);
                outcome.take(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("the tests did not end within {} seconds: allow more with --limit", limit.as_secs())
            }
        }
    }
    let status = machine.0.wait().context("cannot wait for qemu")?;
    outcome.time = start.elapsed();
    if status.success() { Ok(outcome) } else { bail!("qemu failed: {status}") }
}

/// Kills the machine at the end of the function that started it.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // Errors mean that it has already ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Lines of a console, read by a thread of their own, so that the caller can wait for them with a deadline.
fn lines(console: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
