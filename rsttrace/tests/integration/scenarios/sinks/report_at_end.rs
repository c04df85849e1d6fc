//! `--report FILE`: the report of a live run at its end, written from inside the sandbox.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::refuse;
use crate::stage::Stage;

/// The report has the counts of the summary, and evidence, which this output alone does not show.
pub(crate) fn report_has_the_numbers_of_the_run(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resets.md");
    let mut tracer = stage.trace_with(&["--received", "--report", path.to_str().unwrap()]);
    refuse(&mut tracer, 23);
    let run = tracer.finish();
    let text = fs::read_to_string(&path).unwrap();
    let incidents = &run.summaries.last().unwrap()["incidents"];
    assert!(*incidents == 23 && text.contains(&format!("| all | {incidents} |")), "{text}");
    assert!(text.contains("connection-refused") && text.contains("  evidence   "), "{text}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}
