//! Writes the files that the program generates: the man page, the completions, the pages of causes and requirements, the
//! JSON Schema of the records, the options in the README.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, Executable},
    workspace,
};

const BEGIN: &str = "<!-- options:begin -->";
const END: &str = "<!-- options:end -->";

/// Feature of `rsttrace` with which [`SCHEMA`] is built.
pub(crate) const SCHEMA_FEATURE: &str = "rsttrace/schema";
/// Example of `rsttrace` that prints the JSON Schema: a build that is shipped cannot.
const SCHEMA: &str = "output_schema";

/// Files that are generated as a whole, and their names for `rsttrace generate`.
const FILES: [(&str, &str); 6] = [
    ("man", "docs/man/rsttrace.1"),
    ("bash", "completions/rsttrace.bash"),
    ("zsh", "completions/_rsttrace"),
    ("fish", "completions/rsttrace.fish"),
    ("causes", "docs/causes.md"),
    ("requirements", "docs/requirements.md"),
];

/// Write the man page, the completions, the pages of causes and requirements, the JSON Schema, and the options in the
/// README
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare them with the existing files instead
    #[arg(long)]
    check: bool,
}

/// Runs `cargo xtask generate`.
pub(crate) fn main(args: &Args) -> Result<()> {
    let mut build = process::cargo()?;
    build.args(["build", "--package", "rsttrace", "--bin", "rsttrace"]);
    build.args(["--example", SCHEMA, "--features", SCHEMA_FEATURE]);
    let built = process::build(&mut build)?;
    if args.check { check(&built) } else { generate(&built) }
}

/// Fails with the names of the files that differ from the output of these programs, built with [`SCHEMA_FEATURE`].
pub(crate) fn check(built: &[Executable]) -> Result<()> {
    let root = workspace::root()?;
    let mut outdated = Vec::new();
    for (path, content) in contents(built)? {
        if std::fs::read(root.join(&path)).ok().as_ref() != Some(&content) {
            outdated.push(path.display().to_string());
        }
    }
    if outdated.is_empty() {
        eprintln!("generated files: up to date");
        return Ok(());
    }
    bail!("{} not what rsttrace says about itself: run `cargo xtask generate`", list(&outdated))
}

fn generate(built: &[Executable]) -> Result<()> {
    let root = workspace::root()?;
    for (path, content) in contents(built)? {
        workspace::write(&root.join(&path), &content)?;
        eprintln!("{}", path.display());
    }
    Ok(())
}

/// Every file with its expected content.
fn contents(built: &[Executable]) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let binary = process::rsttrace(built)?;
    let schema = process::output(&mut Command::new(process::named(built, "example", SCHEMA)?))?;
    let mut contents = vec![("docs/output.schema.json".into(), schema)];
    for (what, path) in FILES {
        contents.push((path.into(), said(&binary, what)?));
    }
    let options =
        String::from_utf8(said(&binary, "options")?).context("`rsttrace generate options` printed no text")?;
    let readme = std::fs::read_to_string(workspace::root()?.join("README.md")).context("cannot read README.md")?;
    contents.push(("README.md".into(), with_options(&readme, &options)?.into_bytes()));
    Ok(contents)
}

/// Output of the binary, independent of the terminal.
fn said(binary: &Path, what: &str) -> Result<Vec<u8>> {
    process::output(Command::new(binary).args(["generate", what]).env("COLUMNS", "100").env("NO_COLOR", "1"))
}

/// The README with the block between the two marks replaced.
fn with_options(readme: &str, options: &str) -> Result<String> {
    let marks = || format!("README.md needs the lines `{BEGIN}` and `{END}`, in this order");
    let (before, rest) = readme.split_once(BEGIN).with_context(marks)?;
    let (_, after) = rest.split_once(END).with_context(marks)?;
    Ok(format!("{before}{BEGIN}\n```text\n{}\n```\n{END}{after}", options.trim_end()))
}

fn list(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_block_and_nothing_else() {
        let readme = format!("# x\n{BEGIN}\nold\n{END}\nrest\n");
        let replaced = with_options(&readme, "-a  all\n").unwrap();
        assert_eq!(replaced, format!("# x\n{BEGIN}\n```text\n-a  all\n```\n{END}\nrest\n"));
        assert_eq!(with_options(&replaced, "-a  all\n").unwrap(), replaced);
    }

    #[test]
    fn requires_both_marks() {
        assert!(with_options("# x\n", "").is_err());
    }
}
