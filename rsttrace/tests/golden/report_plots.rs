//! The report of a whole run: its plots as stored, and its numbers beside those of the summary and the metrics.

use std::sync::Arc;

use jiff::tz::TimeZone;
use rsttrace::{
    diagnose::timeouts::Timeouts,
    metrics::Metrics,
    model::{Record, Reset, Summary},
    report::{Report, ReportCollector, ReportFormat, ReportOrigin},
};

use crate::{
    compare,
    run::{gateway, play},
};

/// The report of these records.
fn report(resets: &[Reset], summary: &Summary) -> Report {
    let mut collector = ReportCollector::default();
    for reset in resets {
        collector.count(&Record::Reset(Arc::new(reset.clone())));
    }
    let origin = ReportOrigin { command: "rsttrace report FILE".into(), ..ReportOrigin::default() };
    let timeouts = Timeouts::read(None).expect("the known timeouts");
    collector.finish(summary.clone(), origin, &timeouts, TimeZone::UTC)
}

#[test]
fn plots_are_as_stored() {
    let (resets, summary) = play(gateway());
    let report = report(&resets, &summary);
    let drawings = report.drawings();
    let ids: Vec<&str> = drawings.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, ["silence", "times", "peers", "order", "ages", "phase"]);
    for (id, drawing) in drawings {
        // An element a line, so that a difference shows its place.
        compare(&format!("plots/{id}.svg"), &format!("{}\n", drawing.replace("><", ">\n<")));
    }
    compare("plots/standalone.svg", &report.document(ReportFormat::Svg).replace("><", ">\n<"));
    compare("report.md", &report.document(ReportFormat::Markdown));
}

/// One run, told by the text of the summary, the report in both forms, and the metrics.
#[test]
fn summary_report_and_metrics_have_the_same_numbers() {
    let (resets, summary) = play(gateway());
    let mut metrics = Metrics::new(10);
    for reset in &resets {
        metrics.count(reset);
    }
    let (text, series) = (summary.to_string(), metrics.render(&summary));
    let report = report(&resets, &summary);
    let (page, markdown) = (report.document(ReportFormat::Html), report.document(ReportFormat::Markdown));
    let of_series = |name: &str, label: &str| -> u64 {
        let lines = series.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    for (code, count) in &summary.incidents_by_cause {
        assert_eq!(of_series("rsttrace_incidents_total", &format!("cause=\"{code}\"")), *count, "{code}");
        assert!(markdown.contains(&format!("| {code} | {count} |")), "{code}: {markdown}");
        assert_eq!(page.matches(&format!("data-cause=\"{code}\"")).count() as u64, *count, "{code}");
    }
    // The text counts what later records have shown as that.
    for (code, count) in &summary.settled_by_cause {
        assert!(text.contains(&format!("{code} {count}")), "{code}: {text}");
    }
    for (code, count) in &summary.by_cause {
        assert_eq!(of_series("rsttrace_resets_total", &format!("cause=\"{code}\"")), *count, "{code}");
    }
    assert_eq!(of_series("rsttrace_resets_total", ""), summary.resets);
    assert!(text.starts_with(&format!("{} resets", summary.resets)));
    assert!(page.contains(&format!("{} resets (", summary.resets)));
    // The verdict is the summary's.
    let (name, sentence) = &summary.verdict_lines[0];
    assert!(*name == "verdict" && text.contains(sentence) && page.contains(sentence), "{sentence}");
    for (fault, count) in &summary.settled_faults {
        let class = serde_json::to_value(fault).expect("a name");
        let class = class.as_str().expect("a text");
        let tile = page.split(&format!("href=\"#fault={class}\"")).nth(1).expect("a tile");
        let value = tile.split("</span>").next().expect("a value");
        assert!(value.ends_with(&count.to_string()), "{class} {count}: {value}");
    }
}

#[test]
fn a_run_without_resets_has_a_page() {
    let (resets, summary) = play(Vec::new());
    let page = report(&resets, &summary).document(ReportFormat::Html);
    assert!(page.contains("No resets") && !page.contains("<figure") && !page.contains("class=\"row\""), "{page}");
}
