//! The report of a run: one page with the verdict, plots and incidents, or the same as Markdown, or the main plot alone.
//!
//! [`ReportCollector`] takes the records beside the summary's tally, in bounded memory; counts and verdict are the summary's.
//! Everything in a record is untrusted: texts are cut where they are kept, sanitized where they are shown, and escaped by
//! the templates.

mod both_ends;
mod collector;
mod comparison;
mod comparison_page;
mod content;
mod fault_counts;
mod incident_list;
mod kept;
mod markdown;
mod marks;
mod page;
mod plots;
mod scales;
mod shown;
mod signs;
mod time_bins;
mod trust;
mod verdict_panel;

use std::path::Path;

pub use self::{
    both_ends::JoinedSection,
    collector::ReportCollector,
    comparison::Comparison,
    content::{Report, ReportOrigin},
    kept::KeptIncident,
};
pub(crate) use self::{
    collector::{process_name, silence_ms},
    kept::bounded,
};

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// One page with plots, complete without script and network
    Html,
    /// Text for a ticket: verdict, counts, and the incidents to look at first
    Markdown,
    /// The plot of silences alone
    Svg,
}

impl ReportFormat {
    /// Format by the extension of a file: `.md` is Markdown, `.svg` the main plot, `.html` and none a page. Fails with the
    /// extension, in lower case, where it is of another format.
    pub(crate) fn of_file(path: &Path) -> Result<Self, String> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            None | Some("html" | "htm") => Ok(Self::Html),
            Some("md" | "markdown") => Ok(Self::Markdown),
            Some("svg") => Ok(Self::Svg),
            Some(other) => Err(other.to_owned()),
        }
    }
}

impl Report {
    /// The plots that have something to say, as SVG for wide screens, with their identifiers.
    pub fn drawings(&self) -> Vec<(&'static str, String)> {
        plots::of(self).into_iter().map(|plot| (plot.id, plot.wide.into_string())).collect()
    }

    /// The report in a form, as a whole document.
    pub fn document(&self, format: ReportFormat) -> String {
        match format {
            ReportFormat::Html => page::html(self),
            ReportFormat::Markdown => markdown::report(self),
            ReportFormat::Svg => plots::silence_plot::standalone(self),
        }
    }
}

impl Comparison {
    /// The comparison in a form, as a whole document; the SVG form is that of HTML.
    pub fn document(&self, format: ReportFormat) -> String {
        match format {
            ReportFormat::Html | ReportFormat::Svg => comparison_page::html(self),
            ReportFormat::Markdown => markdown::comparison(self),
        }
    }
}
