//! `rsttrace top`: the view of a live run, or of what was recorded, on the terminal.

use std::io;

use anstream::ColorChoice;
use jiff::Zoned;

use super::replay;
use crate::{
    cli::{ColorWhen, ReportZone, TopOptions, TraceOptions},
    diagnose::{Diagnosis, program_hints::ProgramHints, timeouts::Timeouts},
    exit::Failure,
    format::{Format, TimeFormat},
    load::ExtraEvents,
    pipeline::{
        self,
        viewed::{self, ViewedInputs},
        viewing::ViewSetup,
    },
    replay::{CaptureView, Inputs},
    top::TerminalDevice,
};

/// Shows the view until it is quit, or a signal, `--duration` or `--count` ends it. Blocks meanwhile. Fails with status 2 where
/// standard output is no terminal, and otherwise as [`pipeline::run`] and `rsttrace replay` do.
pub(crate) fn run(options: TopOptions) -> Result<(), Failure> {
    let TopOptions {
        inputs,
        local,
        times,
        filters,
        report,
        sink,
        metrics,
        metrics_config,
        zone,
        color,
        numeric,
        quiet,
        run,
    } = options;
    if run.config.is_some() {
        return Err(Failure::usage("--config has settings of a trace, and is not for 'top'"));
    }
    let TraceOptions { mut output, .. } = TraceOptions::without_arguments().map_err(Failure::usage)?;
    output.output = Format::None;
    output.time = match zone {
        ReportZone::Local => TimeFormat::Local,
        ReportZone::Utc => TimeFormat::Utc,
    };
    (output.report, output.sink, output.metrics, output.metrics_config) = (report, sink, metrics, metrics_config);
    (output.numeric, output.quiet) = (numeric, quiet);
    let range = replay::range(&times, &Zoned::now())?;
    let device = TerminalDevice::open().map_err(Failure::usage)?;
    let is_colored = match color {
        ColorWhen::Auto => anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never,
        ColorWhen::Always => true,
        ColorWhen::Never => false,
    };
    let setup = ViewSetup { device, is_colored };
    if inputs.is_empty() {
        let trace = TraceOptions { filters, more: ExtraEvents::default(), output, run };
        return pipeline::run_viewed(trace, Some(setup));
    }
    let diagnosis = Diagnosis::new(Timeouts::read(run.timeouts.as_deref())?, ProgramHints::read(run.hints.as_deref())?);
    let view = CaptureView { hosts: local, filters_of_kernel: filters.of_kernel(), ..CaptureView::default() };
    viewed::run(ViewedInputs {
        opened: Inputs::open(&inputs, range, view.clone()).map_err(Failure::usage)?,
        paths: inputs,
        range,
        view,
        filters,
        diagnosis,
        output,
        setup,
    })
}
