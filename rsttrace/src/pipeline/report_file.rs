//! The file of a report, and the report of a live run.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, tz::TimeZone};

use super::{Pipeline, setup::time_zone};
use crate::{
    report::{ReportFormat, ReportOrigin},
    sink::outputs::Outputs,
    summary::coverage::CounterBaseline,
    util::messages::info,
};

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

    /// Format by the extension: `.md` is Markdown, `.svg` the main plot, any other one a page.
    pub(crate) fn format(path: &Path) -> ReportFormat {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("md" | "markdown") => ReportFormat::Markdown,
            Some("svg") => ReportFormat::Svg,
            _ => ReportFormat::Html,
        }
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the document. Fails where that fails, as on a full disk.
    pub(crate) fn write(mut self, document: &str) -> Result<()> {
        self.file.write_all(document.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Pipeline {
    /// Writes the report of this run. Fails where its file cannot be written to.
    pub(super) fn write_report(&mut self, file: ReportFile, outputs: &Outputs) -> Result<()> {
        let Some(mut collector) = self.results.report.take() else { return Ok(()) };
        let summary = self.summary(true, CounterBaseline::compare_all, outputs);
        let ran_for = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
        collector.see(summary.time.saturating_sub(ran_for).unwrap_or(summary.time));
        collector.see(summary.time);
        let stages = self.processor.stages();
        let origin = ReportOrigin {
            command: own_command(),
            is_live: true,
            is_filtered: !stages.filter.is_everything(),
            ..ReportOrigin::default()
        };
        let zone: TimeZone = time_zone(self.trace.output.time);
        let report = collector.finish(summary, origin, stages.diagnosis.timeouts(), zone);
        let format = ReportFile::format(file.path());
        let path = file.path().display().to_string();
        file.write(&report.document(format))?;
        if !self.trace.output.quiet {
            info(format_args!("report: {path}"));
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
    }
}
