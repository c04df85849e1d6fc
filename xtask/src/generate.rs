//! Writes the files that the program generates: the man pages, the completions, the pages of causes and requirements, the
//! JSON Schema of the records, examples and options in the README.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, Executable},
    workspace,
};

/// Blocks of the README: their names in the marks around them and for `rsttrace generate`, and their languages.
const BLOCKS: [(&str, &str); 2] = [("examples", "sh"), ("options", "text")];

/// Feature of `rsttrace` with which [`SCHEMA`] is built.
pub(crate) const SCHEMA_FEATURE: &str = "rsttrace/schema";
/// Example of `rsttrace` that prints the JSON Schema: a build that is shipped cannot.
const SCHEMA: &str = "output_schema";

/// Recording of the example of a report, and the pages that are made of it, in `docs`.
const REPORT: (&str, [&str; 2]) = ("report-example.jsonl.zst", ["report-example.html", "report-example.svg"]);

/// Files that are generated as a whole, and their names for `rsttrace generate`.
const FILES: [(&str, &str); 15] = [
    ("man", "docs/man/rsttrace.1"),
    ("man-doctor", "docs/man/rsttrace-doctor.1"),
    ("man-explain", "docs/man/rsttrace-explain.1"),
    ("man-record", "docs/man/rsttrace-record.1"),
    ("man-replay", "docs/man/rsttrace-replay.1"),
    ("man-report", "docs/man/rsttrace-report.1"),
    ("man-top", "docs/man/rsttrace-top.1"),
    ("man-join", "docs/man/rsttrace-join.1"),
    ("man-export", "docs/man/rsttrace-export.1"),
    ("man-check-config", "docs/man/rsttrace-check-config.1"),
    ("bash", "completions/rsttrace.bash"),
    ("zsh", "completions/_rsttrace"),
    ("fish", "completions/rsttrace.fish"),
    ("causes", "docs/causes.md"),
    ("requirements", "docs/requirements.md"),
];

/// Write the man pages, the completions, the pages of causes and requirements, the JSON Schema, and examples and options
/// in the README
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
    let docs = workspace::root()?.join("docs");
    let directory = std::env::temp_dir().join(format!("rsttrace-report-{}", std::process::id()));
    std::fs::create_dir_all(&directory).context("cannot make a directory for the example of a report")?;
    for page in REPORT.1 {
        contents.push((Path::new("docs").join(page), example(&binary, &docs, &directory, page)?));
    }
    std::fs::remove_dir_all(&directory).context("cannot remove the directory of the example of a report")?;
    let mut readme = std::fs::read_to_string(workspace::root()?.join("README.md")).context("cannot read README.md")?;
    for (name, language) in BLOCKS {
        let text = String::from_utf8(said(&binary, name)?)
            .with_context(|| format!("`rsttrace generate {name}` printed no text"))?;
        readme = with_block(&readme, name, language, &text)?;
    }
    contents.push(("README.md".into(), readme.into_bytes()));
    Ok(contents)
}

/// A page of the example of a report. The command that it tells is the one in `docs/report.md`, so it runs there, on a link to
/// the file.
fn example(binary: &Path, docs: &Path, directory: &Path, page: &str) -> Result<Vec<u8>> {
    let link = directory.join(REPORT.0);
    if !link.exists() {
        std::os::unix::fs::symlink(docs.join(REPORT.0), &link).context("cannot link the recording")?;
    }
    let mut command = Command::new(binary);
    command.args(["report", "--time", "utc", "-o", page, REPORT.0]).current_dir(directory);
    process::run(&mut command)?;
    workspace::read(&directory.join(page))
}

/// Output of the binary, independent of the terminal.
fn said(binary: &Path, what: &str) -> Result<Vec<u8>> {
    process::output(Command::new(binary).args(["generate", what]).env("COLUMNS", "100").env("NO_COLOR", "1"))
}

/// The README with the block between the two marks of this name replaced.
fn with_block(readme: &str, name: &str, language: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let marks = || format!("README.md needs the lines `{begin}` and `{end}`, in this order");
    let (before, rest) = readme.split_once(&begin).with_context(marks)?;
    let (_, after) = rest.split_once(&end).with_context(marks)?;
    Ok(format!("{before}{begin}\n```{language}\n{}\n```\n{end}{after}", text.trim_end()))
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
        let (begin, end) = ("<!-- options:begin -->", "<!-- options:end -->");
        let readme = format!("# x\n{begin}\nold\n{end}\nrest\n");
        let replaced = with_block(&readme, "options", "text", "-a  all\n").unwrap();
        assert_eq!(replaced, format!("# x\n{begin}\n```text\n-a  all\n```\n{end}\nrest\n"));
        assert_eq!(with_block(&replaced, "options", "text", "-a  all\n").unwrap(), replaced);
    }

    #[test]
    fn requires_both_marks() {
        assert!(with_block("# x\n", "options", "text", "").is_err());
    }
}
