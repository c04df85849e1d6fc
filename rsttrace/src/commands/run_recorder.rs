//! `rsttrace record`: a live run whose only output is a recording.

use crate::{
    cli::{RecordOptions, TraceOptions},
    exit::Failure,
    format::Format,
    pipeline,
    sink::{SinkSpec, recording::RecordingOptions},
};

/// Records until a signal, `--duration` or `--count` ends it. Blocks meanwhile. Fails as [`pipeline::run`] does, and with status
/// 2 when the sizes do not go together.
pub(crate) fn run(options: RecordOptions) -> Result<(), Failure> {
    let RecordOptions { directory, size, age, segment, min_free, metrics, metrics_config, quiet, filters, more, run } =
        options;
    if run.config.is_some() {
        return Err(Failure::usage(
            "--config has settings of a trace; set sink = \"recording:DIR\" there, without 'record'",
        ));
    }
    let segment = segment.unwrap_or_else(|| RecordingOptions::default_segment(size));
    let recording = RecordingOptions { directory, size, age, segment, min_free };
    recording.check().map_err(Failure::usage)?;
    let TraceOptions { mut output, .. } = TraceOptions::without_arguments().map_err(Failure::usage)?;
    output.output = Format::None;
    output.sink = vec![SinkSpec::recording(recording)];
    output.metrics = metrics;
    output.metrics_config = metrics_config;
    output.quiet = quiet;
    pipeline::run(TraceOptions { filters, more, output, run })
}
