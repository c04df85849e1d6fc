//! The outputs that the command line asks for.

use std::{io, sync::Arc};

use anstream::ColorChoice;
use anyhow::Result;
use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use super::Run;
use crate::{
    confine::Needs,
    exit::{note, sentence},
    format::{Format, TextOptions, TimeFormat},
    metrics::{Metrics, Scrape},
    sink::{SinkContext, SinkNeeds, outputs::Outputs, set::SinkSet},
};

impl Run {
    /// Starts the metrics and their server, if they are wanted. Fails where the address cannot be bound.
    pub(super) fn start_metrics(&mut self) -> Result<Option<mpsc::Receiver<Scrape>>> {
        let Some(address) = self.trace.output.metrics else { return Ok(None) };
        let (metrics, scrapes) = Metrics::start(address, self.trace.output.metrics_peers)?;
        self.metrics = Some(metrics);
        Ok(Some(scrapes))
    }

    /// Whether the format or a sink shows evidence.
    pub(super) fn explains(&self) -> bool {
        self.trace.output.output.shows_evidence() || !self.trace.output.sink.is_empty()
    }

    /// What the run does from here on, beside reading `/proc` and writing to open descriptors.
    pub(super) fn needs(&self) -> Needs {
        let any_sink = |needs: fn(SinkNeeds) -> bool| self.trace.output.sink.iter().any(|sink| needs(sink.needs()));
        Needs {
            files: any_sink(|needs| needs.files),
            sockets: any_sink(|needs| needs.sockets) || self.trace.output.metrics.is_some(),
            host_names: any_sink(|needs| needs.host_names),
            network_administration: self.loaded.detaches_through_netlink(),
        }
    }

    /// Opens standard output and the sinks. Fails where one of them cannot be opened.
    pub(super) fn ways(&self) -> Result<Outputs> {
        let output = &self.trace.output;
        let limit = output.sink_queue;
        let options = self.text_options();
        let line_options = TextOptions { color: false, time: TimeFormat::None, ..options.clone() };
        let context = SinkContext { options: line_options, host: Arc::clone(self.decoder.host()) };
        let sinks = SinkSet::start(&output.sink, limit, &context)?;
        let stdout = (output.output != Format::None).then(|| output.output.formatter(options));
        let is_one_of_many = !sinks.is_empty() || output.metrics.is_some();
        Outputs::start(stdout, sinks, is_one_of_many.then_some(limit))
    }

    fn text_options(&self) -> TextOptions {
        let color = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        TextOptions {
            color,
            time: self.trace.output.time,
            started_ns: self.started_ns,
            zone: TimeZone::system(),
            names: !self.trace.output.numeric,
        }
    }

    pub(super) fn start_kernel_log(&mut self) -> Option<aya_log::EbpfLogger<&'static dyn log::Log>> {
        env_logger::Builder::new().filter_level(log::LevelFilter::Debug).target(env_logger::Target::Stderr).init();
        self.loaded
            .kernel_log()
            .inspect_err(|error| note(format_args!("the kernel side's messages cannot be read: {}", sentence(error))))
            .ok()
    }
}
