//! The outputs of a run, and what they need.

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    os::fd::AsFd,
    path::Path,
    sync::Arc,
};

use anstream::ColorChoice;
use anyhow::Result;
use jiff::tz::TimeZone;
use nix::sys::stat::{SFlag, fstat};
use tokio::sync::mpsc;

use super::Pipeline;
use crate::{
    cli::{ColorWhen, FoldWhen, OutputOptions, SummaryPlace},
    exit::Failure,
    format::{
        Format, Formatter, TextOptions, TextWidth, TimeFormat,
        summary_text::{SummaryFormatter, SummaryText},
    },
    metrics::{Metrics, MetricsAccess, Scrape},
    model::{RecordingContext, Summary},
    sandbox::Requirements,
    sink::{PreparedSink, SinkContext, SinkNeeds, SinkSpec, outputs::Outputs, set::SinkSet},
    util::{
        counted,
        messages::{info, sentence},
    },
};

/// What these sinks need of the sandbox.
pub(super) fn needs_of_sinks(sinks: &[SinkSpec]) -> Requirements {
    let any = |needs: fn(SinkNeeds) -> bool| sinks.iter().any(|sink| needs(sink.needs()));
    Requirements {
        files: any(|needs| needs.files),
        sockets: any(|needs| needs.sockets),
        host_names: any(|needs| needs.host_names),
        network_administration: false,
        terminal: false,
    }
}

impl Pipeline {
    /// Starts the metrics server, if there is one to be. Fails when its address cannot be bound.
    pub(super) fn start_metrics(&mut self, access: MetricsAccess) -> Result<Option<mpsc::Receiver<Scrape>>> {
        let Some(address) = self.trace.output.metrics else { return Ok(None) };
        let (metrics, scrapes) = Metrics::start(address, self.trace.output.metrics_peers, access)?;
        self.results.metrics = Some(metrics);
        Ok(Some(scrapes))
    }

    /// What the rest of the run needs of the sandbox, beside reading `/proc` and writing to open descriptors.
    pub(super) fn needs(&self) -> Requirements {
        let outputs = needs_of_sinks(&self.trace.output.sink);
        Requirements {
            sockets: outputs.sockets || self.trace.output.metrics.is_some(),
            network_administration: self.loaded.detaches_through_netlink(),
            terminal: self.is_viewed,
            ..outputs
        }
    }

    /// The outputs of the run, not open yet.
    pub(super) fn output_setup(&self) -> OutputSetup<'_> {
        OutputSetup { options: &self.trace.output, started_ns: self.started_ns }
    }

    /// Opens every output. Fails when a sink cannot be opened.
    pub(super) fn open_outputs(&self, sinks: Vec<PreparedSink>) -> Result<Outputs> {
        let host = self.processor.stages().decoder.host();
        let others = self.trace.output.metrics.is_some();
        self.output_setup().open(sinks, host, self.recording_context(), others)
    }

    /// Presentation of text on standard output.
    pub(super) fn text_options(&self) -> TextOptions {
        self.output_setup().text_options()
    }

    pub(super) fn start_kernel_log(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        env_logger::Builder::new().filter_level(log::LevelFilter::Debug).target(env_logger::Target::Stderr).init();
        self.loaded
            .kernel_log()
            .inspect_err(|error| info(format_args!("the kernel side's messages cannot be read: {}", sentence(error))))
            .ok()
    }
}

/// The outputs as the command line names them.
#[derive(Clone, Copy)]
pub(super) struct OutputSetup<'a> {
    pub(super) options: &'a OutputOptions,
    /// Start of the run on the events' clock, nanoseconds.
    pub(super) started_ns: u64,
}

/// Files of sinks and of the metrics server, read as the user who starts rsttrace: secrets may be readable for that one alone.
pub(super) struct PreparedOutputs {
    pub(super) sinks: Vec<PreparedSink>,
    pub(super) metrics: MetricsAccess,
}

impl PreparedOutputs {
    /// Reads the files, and the environment. Blocks on the file system. Fails with status 2 where one cannot be used.
    pub(super) fn read(output: &OutputOptions) -> Result<Self, Failure> {
        let metrics = MetricsAccess::read(output.metrics_config.as_deref())
            .map_err(|error| Failure::Usage(error.context("--metrics-config")))?;
        Ok(Self { sinks: prepare_sinks(&output.sink)?, metrics })
    }
}

/// Reads the files that sinks need, and the environment. Blocks on the file system. Fails with status 2 where one cannot be
/// used.
pub(super) fn prepare_sinks(specs: &[SinkSpec]) -> Result<Vec<PreparedSink>, Failure> {
    specs.iter().map(SinkSpec::prepare).collect::<Result<_>>().map_err(Failure::Usage)
}

impl OutputSetup<'_> {
    /// Opens every output. Where standard output is not the only one, or there are `others`, a slow reader of it is not waited
    /// for. Fails when a sink cannot be opened.
    pub(super) fn open(
        &self,
        sinks: Vec<PreparedSink>,
        host: &Arc<str>,
        recording: RecordingContext,
        others: bool,
    ) -> Result<Outputs> {
        let output = self.options;
        let limit = output.sink_queue;
        let options = self.text_options();
        // Receivers add the time themselves.
        let sink_options = TextOptions {
            color: false,
            time: TimeFormat::None,
            folds: false,
            width: TextWidth::Fixed(TextOptions::COLUMNS),
            ..options.clone()
        };
        let context = SinkContext { options: sink_options, host: Arc::clone(host), recording: Arc::new(recording) };
        let sinks = SinkSet::start(sinks, limit, &context)?;
        let stdout = self.stdout_formatter(options);
        // Alone, standard output is waited for.
        let has_others = others || !sinks.is_empty();
        Outputs::start(stdout, sinks, has_others.then_some(limit))
    }

    /// Formatter for standard output; `None` where nothing goes there.
    fn stdout_formatter(&self, options: TextOptions) -> Option<Box<dyn Formatter>> {
        let (format, names, zone) = (self.options.output, options.names, options.zone.clone());
        let formatter = format.formatter(options);
        match (format, self.summary_streams().stdout) {
            (Format::None, false) => None,
            (Format::Json | Format::JsonFlat, true) | (Format::Text | Format::Long, false) => Some(formatter),
            (Format::Json | Format::JsonFlat, false) => Some(Box::new(SummaryFormatter::without(formatter))),
            (Format::None | Format::Text | Format::Long, true) => {
                Some(Box::new(SummaryFormatter::with_text(formatter, SummaryText { zone, names })))
            }
        }
    }

    /// The streams that the summary goes to.
    pub(super) fn summary_streams(&self) -> SummaryStreams {
        let output = self.options;
        let is_json = matches!(output.output, Format::Json | Format::JsonFlat);
        match output.summary {
            _ if output.no_summary => SummaryStreams { stdout: false, stderr: false },
            SummaryPlace::Stdout => SummaryStreams { stdout: true, stderr: false },
            SummaryPlace::Stderr => SummaryStreams { stdout: false, stderr: !output.quiet },
            SummaryPlace::Auto if is_json => SummaryStreams { stdout: true, stderr: !output.quiet },
            SummaryPlace::Auto => {
                // A pager takes standard error from the screen again.
                let is_text = output.output != Format::None;
                let stdout = is_text && !output.quiet && is_pipe(io::stdout()) && io::stderr().is_terminal();
                SummaryStreams { stdout, stderr: !stdout && !output.quiet }
            }
        }
    }

    /// Presentation of text on standard output.
    pub(super) fn text_options(&self) -> TextOptions {
        let color = match self.options.color {
            ColorWhen::Auto => anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            ColorWhen::Always => true,
            ColorWhen::Never => false,
        };
        let is_terminal = io::stdout().is_terminal();
        TextOptions {
            color,
            time: self.options.time,
            started_ns: self.started_ns,
            zone: time_zone(self.options.time),
            folds: match self.options.fold {
                FoldWhen::Auto => is_terminal,
                FoldWhen::Always => true,
                FoldWhen::Never => false,
            },
            width: if is_terminal { TextWidth::Terminal } else { TextWidth::Fixed(TextOptions::COLUMNS) },
            names: !self.options.numeric,
        }
    }

    /// Prints a summary on standard error, where that is its place; with `--quiet` the groups that were asked for alone.
    pub(super) fn print_summary(&self, summary: &Summary) {
        let SummaryStreams { stdout, stderr } = self.summary_streams();
        if stderr {
            let zone = time_zone(self.options.time);
            info(SummaryText { zone, names: !self.options.numeric }.of(summary));
        } else if !stdout && let Some(groups) = summary.groups_text() {
            info(format_args!("{}\n{groups}", counted(summary.resets, "reset")));
        }
    }
}

/// The local time zone, where times are local; otherwise UTC. A path in TZ is read to its end, so it has to be a file.
pub(super) fn time_zone(time: TimeFormat) -> TimeZone {
    let is_needed = matches!(time, TimeFormat::Local | TimeFormat::Iso);
    let named = env::var("TZ").unwrap_or_default();
    let path = Path::new("/usr/share/zoneinfo").join(named.strip_prefix(':').unwrap_or(&named));
    let is_other = fs::metadata(path).is_ok_and(|path| !path.is_file() && !path.is_dir());
    if is_needed && !is_other { TimeZone::system() } else { TimeZone::UTC }
}

/// The standard streams that the summary goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SummaryStreams {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

fn is_pipe(stream: impl AsFd) -> bool {
    fstat(stream).is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO)
}
