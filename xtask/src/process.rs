//! Running other programs.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::unistd::Uid;
use serde_json::Value;

use crate::workspace;

/// Command for the cargo that started this program, at the root of the checkout.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root()?);
    Ok(command)
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Whether [`as_root`] has a way to become root.
pub(crate) fn can_be_root() -> bool {
    is_root() || find("sudo", &[]).is_some()
}

/// Command that runs `program` as root: directly if this process is root, otherwise by sudo, keeping the named
/// variables.
pub(crate) fn as_root(program: &Path, keep: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(format!("--preserve-env={keep}")).arg(program);
    command
}

/// Runs a command to its end; any failure is an error that names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if status.success() { Ok(()) } else { bail!("`{}` failed: {status}", line(command)) }
}

/// Replaces this process by the command; returns only if that fails.
pub(crate) fn become_it(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| cannot_start(command))
}

/// Standard output of a command.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("`{}` failed: {}: {}", line(command), output.status, said.trim())
}

/// Standard output of a command, as trimmed text.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let bytes = output(command)?;
    let text = String::from_utf8(bytes).with_context(|| format!("`{}` printed no text", line(command)))?;
    Ok(text.trim().to_owned())
}

/// Full path of a program in `PATH`, or in one of the additional directories.
pub(crate) fn find(program: &str, also: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(also.iter().cloned()).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// `PATH` with these directories before it.
pub(crate) fn path_with(first: Vec<PathBuf>) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(first.into_iter().chain(env::split_paths(&path))).context("a directory in PATH has a colon in it")
}

/// Executable that cargo has built.
pub(crate) struct Executable {
    /// Name of the target.
    pub(crate) name: String,
    /// Kind of the target: `lib`, `bin`, `test`, …
    pub(crate) kind: String,
    /// Whether it is a test runner.
    pub(crate) is_test: bool,
    pub(crate) path: PathBuf,
    /// Directory of its package.
    pub(crate) package_dir: PathBuf,
}

/// Runs a cargo command that builds, and returns the executables.
pub(crate) fn build(command: &mut Command) -> Result<Vec<Executable>> {
    command.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", line(command), output.status);
    }
    let mut executables = Vec::new();
    for message in output.stdout.split(|&byte| byte == b'\n').filter(|message| message.starts_with(b"{")) {
        let message: Value = serde_json::from_slice(message).context("cargo's own message is not JSON")?;
        executables.extend(executable(&message));
    }
    Ok(executables)
}

/// Builds the `rsttrace` binary in a profile and returns its path.
pub(crate) fn build_rsttrace(profile: &str) -> Result<PathBuf> {
    rsttrace(&build(cargo()?.args(["build", "--package", "rsttrace", "--bin", "rsttrace", "--profile", profile]))?)
}

/// Path of the `rsttrace` binary among these executables.
pub(crate) fn rsttrace(built: &[Executable]) -> Result<PathBuf> {
    named(built, "bin", "rsttrace")
}

/// Path of the executable of this kind and name.
pub(crate) fn named(built: &[Executable], kind: &str, name: &str) -> Result<PathBuf> {
    let program = built.iter().find(|built| built.name == name && built.kind == kind && !built.is_test);
    Ok(program.ok_or_else(|| anyhow!("cargo has built no {kind} named {name}"))?.path.clone())
}

fn executable(message: &Value) -> Option<Executable> {
    if message.get("reason")?.as_str()? != "compiler-artifact" {
        return None;
    }
    let target = message.get("target")?;
    Some(Executable {
        name: target.get("name")?.as_str()?.to_owned(),
        kind: target.get("kind")?.get(0)?.as_str()?.to_owned(),
        is_test: message.get("profile")?.get("test")?.as_bool()?,
        path: message.get("executable")?.as_str()?.into(),
        package_dir: Path::new(message.get("manifest_path")?.as_str()?).parent()?.to_path_buf(),
    })
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", command.get_program().to_string_lossy())
}
