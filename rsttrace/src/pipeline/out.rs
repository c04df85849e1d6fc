//! What the command line wants of the ways out.

use std::{io, sync::Arc};

use anstream::ColorChoice;
use anyhow::Result;
use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use super::Run;
use crate::{
    cli::{Format, TimeFormat},
    exit::{note, sentence},
    metrics::{Metrics, Scrape},
    sandbox::Requirements,
    sink::{
        self, Look,
        outlet::{Given, Reach, Spec, crew::Crew},
        ways::Ways,
    },
};

impl Run {
    /// Begins to count for Prometheus, if that is wanted.
    pub(super) fn start_metrics(&mut self) -> Result<Option<mpsc::Receiver<Scrape>>> {
        let Some(address) = self.trace.output.metrics else { return Ok(None) };
        let (metrics, scrapes) = Metrics::start(address, self.trace.output.metrics_peers)?;
        self.metrics = Some(metrics);
        Ok(Some(scrapes))
    }

    /// Whether somebody shows the evidence.
    pub(super) fn explains(&self) -> bool {
        matches!(self.trace.output.output, Format::Long | Format::Json) || !self.trace.output.sink.is_empty()
    }

    /// What the rest of the run does beside looking at processes and writing to what is open.
    pub(super) fn needs(&self) -> Requirements {
        let reaches = |reach| self.trace.output.sink.iter().any(|sink| sink.reach() == reach);
        Requirements {
            files: reaches(Reach::Files),
            sockets: reaches(Reach::Sockets) || self.trace.output.metrics.is_some(),
            host_names: self.trace.output.sink.iter().any(Spec::names_host),
            network_administration: self.loaded.detaches_through_netlink(),
        }
    }

    /// The ways out.
    pub(super) fn ways(&self) -> Result<Ways> {
        let output = &self.trace.output;
        let limit = output.sink_queue;
        let look = self.look();
        let look_of_lines = Look { color: false, time: TimeFormat::None, ..look.clone() };
        let given = Given { look: look_of_lines, host: Arc::clone(self.decoder.host()) };
        let crew = Crew::start(&output.sink, limit, &given)?;
        let stdout = (output.output != Format::None).then(|| sink::sink(output.output, look));
        let is_one_of_many = !crew.is_empty() || output.metrics.is_some();
        Ways::start(stdout, crew, is_one_of_many.then_some(limit))
    }

    fn look(&self) -> Look {
        let color = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Look {
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
