//! All tests: first those that need no root, then the integration tests as root, then these on other kernels.

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    arch::Arch,
    generate,
    process::{self, Executable},
    progress::Progress,
    setup, test_build, vm,
    workspace::INTEGRATION,
};

/// Integration tests that may fail in one run and are repeated, each alone: the CPUs of a shared machine stand still for
/// longer than a scenario allows for now and then, in the middle of what the kernel does. More failures than that have
/// another cause.
const REPEATED_MAX: usize = 5;
/// Arguments of the runner without others, and those for everyday use.
const USUAL: [&str; 2] = ["--selection", "usual"];
const QUICK: [&str; 2] = ["--selection", "quick"];

/// Run every test, the integration tests as root and on other kernels too
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Skip the virtual machines with other kernels
    #[arg(long)]
    no_vm: bool,
    /// Only what takes a moment, for everyday use: no virtual machines, no doc tests, and of the integration tests those without
    /// other programs, through one kind of buffer
    #[arg(long, conflicts_with_all = ["arch", "filter"])]
    quick: bool,
    /// Architecture; of another one than this machine's the unit tests run, in an emulator
    #[arg(long, value_enum, value_name = "ARCH", default_value = env::consts::ARCH)]
    arch: Arch,
    /// Arguments of the integration runner: `cargo xtask test -- filter` (`-- --selection all`: also what differs in the kind of
    /// buffer alone)
    #[arg(last = true)]
    filter: Vec<OsString>,
}

impl Args {
    /// All tests, without a filter.
    pub(crate) fn all(no_vm: bool) -> Self {
        let [first, second] = Arch::ALL;
        Self { no_vm, quick: false, arch: if first.is_native() { first } else { second }, filter: Vec::new() }
    }
}

/// Runs `cargo xtask test`.
pub(crate) fn main(args: &Args) -> Result<()> {
    if !args.arch.is_native() {
        return units_of(args.arch);
    }
    let mut report = Report::default();
    report.left_out.extend(setup::for_tests()?);
    let built = process::build(&mut test_build::command(&["--no-run"])?)?;
    let (integration, unit): (Vec<_>, Vec<_>) =
        built.iter().filter(|built| built.is_test).partition(|built| built.name == INTEGRATION && built.kind == "test");
    if integration.is_empty() {
        bail!("cargo has built no test named {INTEGRATION}: rsttrace/Cargo.toml has to name it");
    }

    for test in unit {
        report.add(&label(test), in_package(&mut Command::new(&test.path), test))?;
    }
    if !args.quick {
        report.add("doc tests", &mut test_build::command(&["--doc"])?)?;
    }
    let filter = match args.filter.as_slice() {
        [] => if args.quick { QUICK } else { USUAL }.map(OsString::from).to_vec(),
        named => named.to_vec(),
    };
    for test in integration {
        if process::can_be_root() {
            report.add_scenarios(test, &filter)?;
        } else {
            report
                .left_out
                .push("integration tests: they load programs into the kernel, as root; there is no sudo".into());
        }
    }
    if let Err(error) = generate::check(&built) {
        eprintln!("{error:#}");
        report.failed.push("generated files".to_owned());
    }
    if args.quick {
        report.left_out.push("other kernels, doc tests, and scenarios that take longer: --quick".into());
    } else if args.no_vm {
        report.left_out.push("other kernels: --no-vm".into());
    } else if let Some(lack) = setup::lack_for_vm() {
        report.left_out.push(format!("other kernels: {lack}"));
    } else {
        report.add_kernels(&args.filter)?;
    }
    report.finish()
}

/// Unit tests that need what the emulator does not pass on: seccomp, requests to namespaces, the program's own path. They run
/// in a virtual machine: `cargo xtask vm --arch aarch64 --exec TESTS`.
const NOT_EMULATED: [&str; 3] = ["sandbox::seccomp::", "filter::netns::", "process_cache::tests::finds_this_process"];

/// Runs the unit tests of another architecture in an emulator of its processor, which passes system calls on to this kernel.
fn units_of(arch: Arch) -> Result<()> {
    setup::for_foreign_units()?;
    let mut command = process::cargo()?;
    // The profile of the virtual machines, so that the dependencies are built once.
    command.args(["test", "--locked", "--profile", "guest"]);
    command.args(["--package", "rsttrace", "--package", "rsttrace-common", "--lib"]);
    arch.configure(&mut command, &["-C", "target-feature=+crt-static"]);
    let runner = format!("CARGO_TARGET_{}_RUNNER", arch.target().replace('-', "_").to_uppercase());
    command.env(runner, format!("qemu-{}", arch.name())).arg("--");
    process::run(command.args(NOT_EMULATED.iter().flat_map(|tests| ["--skip", tests])))
}

/// Sets the directory and environment in which cargo would run a test.
fn in_package<'a>(command: &'a mut Command, test: &Executable) -> &'a mut Command {
    command.current_dir(&test.package_dir).env("CARGO_MANIFEST_DIR", &test.package_dir)
}

fn label(test: &Executable) -> String {
    let package = test.package_dir.file_name().unwrap_or_default().to_string_lossy();
    format!("{package}, {} {}", test.kind, test.name)
}

/// Closing lines of each runner (one for each crate with doc tests), the runners that failed, and what was not run with the
/// reason.
#[derive(Default)]
struct Report {
    closing: Vec<(String, String)>,
    failed: Vec<String>,
    left_out: Vec<String>,
}

impl Report {
    /// Runs one runner, passing its output through.
    fn add(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.run(name, command)?;
        Ok(())
    }

    /// Runs the integration tests, and each one that failed again, alone. One that passes then is named in the closing
    /// lines.
    fn add_scenarios(&mut self, test: &Executable, args: &[OsString]) -> Result<()> {
        let name = label(test);
        let runner = || process::as_root(&test.path, "NO_COLOR,PATH,RUST_BACKTRACE");
        let failed = self.run(&name, in_package(&mut runner(), test).args(args))?;
        if failed.is_empty() || failed.len() > REPEATED_MAX {
            return Ok(());
        }
        self.failed.retain(|failed| *failed != name);
        for scenario in failed {
            self.run(
                &format!("{name}, again: {scenario}"),
                in_package(&mut runner(), test).args(["--exact", &scenario]),
            )?;
        }
        Ok(())
    }

    /// Runs one runner, passing its output through. Returns the tests that failed.
    fn run(&mut self, name: &str, command: &mut Command) -> Result<Vec<String>> {
        eprintln!("== {name}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the tests of {name}"))?;
        let progress = Progress::of(&[name]);
        let mut closing = Vec::new();
        let mut failed = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.context("cannot read what a test prints")?;
                if line.starts_with(b"test result:") {
                    closing.push(String::from_utf8_lossy(&line).into_owned());
                }
                let text = String::from_utf8_lossy(&line);
                failed.extend(failed_test(&text).map(str::to_owned));
                progress.take(name, text.trim_end());
                let mut out = io::stdout().lock();
                out.write_all(&line).and_then(|()| out.write_all(b"\n")).context("cannot write to standard output")?;
            }
        }
        let status = child.wait().with_context(|| format!("cannot wait for the tests of {name}"))?;
        if !status.success() {
            self.failed.push(name.to_owned());
        }
        if closing.is_empty() {
            closing.push(format!("no closing line: {status}"));
            // The runner itself has failed.
            failed.clear();
        }
        self.closing.extend(closing.into_iter().map(|line| (name.to_owned(), line)));
        Ok(failed)
    }

    /// Runs the integration tests in the virtual machines.
    fn add_kernels(&mut self, args: &[OsString]) -> Result<()> {
        eprintln!("== other kernels");
        for run in vm::run_all(args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect())? {
            let name = format!("kernel {}", run.kernel);
            if !run.is_good {
                self.failed.push(name.clone());
            }
            self.closing.push((name, run.closing));
        }
        Ok(())
    }

    /// Prints the closing lines again; an error if a runner failed.
    fn finish(self) -> Result<()> {
        eprintln!("== all runners");
        for (name, line) in &self.closing {
            eprintln!("{name}: {line}");
        }
        for what in &self.left_out {
            eprintln!("left out: {what}");
        }
        if self.failed.is_empty() { Ok(()) } else { bail!("tests failed: {}", self.failed.join("; ")) }
    }
}

/// The test that a line of a runner's output says has failed.
fn failed_test(line: &str) -> Option<&str> {
    let (name, result) = line.strip_prefix("test ")?.split_once(' ')?;
    (result.trim_start().trim_start_matches("... ") == "FAILED").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::failed_test;

    #[test]
    fn failed_tests_are_named() {
        assert_eq!(failed_test("test ring::a::b      ... FAILED"), Some("ring::a::b"));
        assert_eq!(failed_test("test ring::a::b ... FAILED"), Some("ring::a::b"));
        assert_eq!(failed_test("test ring::a::b ... ok"), None);
        assert_eq!(failed_test("test result: FAILED. 1 passed; 1 failed"), None);
    }
}
