//! The file of a report, and the report of a live run.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::Pipeline;
use crate::{report::ReportFormat, sink::outputs::Outputs, summary::coverage::CounterBaseline, util::messages::info};

/// A file that a report is written to.
pub(crate) struct ReportFile {
    file: File,
    path: PathBuf,
}

impl ReportFile {
    /// Creates the file, empty. Its mode is 0640 where it is new, because command lines are in a report. Fails where it can be
    /// neither created nor written to.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o640);
        let file = options.open(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Format by the extension; a page where it tells none.
    pub(crate) fn format(path: &Path) -> ReportFormat {
        ReportFormat::of_file(path).unwrap_or(ReportFormat::Html)
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a file of a new name in the working directory, for a report that is asked for at this time. Fails where it cannot be
    /// created.
    pub(crate) fn create_new(now: Timestamp) -> Result<Self> {
        let path = PathBuf::from(format!("rsttrace-{}.html", now.strftime("%Y%m%dT%H%M%SZ")));
        let mut options = OpenOptions::new();
        // No other file's place is taken, and no link is followed.
        options.write(true).create_new(true).mode(0o640);
        let file =
            options.open(&path).with_context(|| format!("cannot write {}; --report names another", path.display()))?;
        Ok(Self { file, path })
    }

    /// Writes the document in place of what was written before. Fails where that fails, as on a full disk.
    pub(crate) fn write(&self, document: &str) -> Result<()> {
        self.replace(document).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn replace(&self, document: &str) -> io::Result<()> {
        let mut file = &self.file;
        let before = file.metadata()?;
        if before.is_file() && before.len() > 0 {
            file.set_len(0)?;
            file.rewind()?;
        }
        file.write_all(document.as_bytes())
    }
}

impl Pipeline {
    /// Writes the report of this run. Fails where its file cannot be written to.
    pub(super) fn write_report(&mut self, file: &ReportFile, outputs: &Outputs) -> Result<()> {
        let Some(collector) = self.results.report.take() else { return Ok(()) };
        let summary = self.summary(true, CounterBaseline::compare_all, outputs);
        let report = self.report_of(*collector, summary, false);
        let format = ReportFile::format(file.path());
        file.write(&report.document(format))?;
        if !self.trace.output.quiet {
            info(format_args!("report: {}", file.path().display()));
        }
        Ok(())
    }
}

/// The command line of this process, quoted for a shell.
pub(crate) fn own_command() -> String {
    let words = std::env::args_os().skip(1).map(quoted);
    std::iter::once("rsttrace".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: OsString) -> String {
    let word = word.to_string_lossy();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./,:=@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expected) in
            [("--since", "--since"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("", "''"), ("$(x)", "'$(x)'")]
        {
            assert_eq!(quoted(word.into()), expected);
        }
    }

    #[test]
    fn the_extension_tells_the_format() {
        for (path, format) in
            [("a.html", ReportFormat::Html), ("b/c.md", ReportFormat::Markdown), ("x.svg", ReportFormat::Svg)]
        {
            assert_eq!(ReportFile::format(Path::new(path)), format);
        }
        assert_eq!(ReportFile::format(Path::new("-")), ReportFormat::Html);
        assert_eq!(ReportFormat::of_file(Path::new("a/r.PDF")), Err("pdf".to_owned()));
        assert_eq!(ReportFormat::of_file(Path::new("a.d/r")), Ok(ReportFormat::Html));
    }
}
