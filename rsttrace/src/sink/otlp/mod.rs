//! OpenTelemetry logs to a collector, over HTTP or gRPC (OTLP). Retryable errors are retried as the protocol asks for;
//! what the collector rejects is counted.

mod exporter;
mod payload;

use std::{borrow::Cow, time::Instant};

use anyhow::{Context as _, Error, Result};
use prost::Message as _;
use tokio::runtime::{Builder, Runtime};

use self::exporter::{Client, ExportOutcome};
use self::payload::{AnyValue, ExportRequest, KeyValue, LogRecord, Resource, ResourceLogs, Scope, ScopeLogs};
use super::{DeliveryReport, Sink, host_port};
use crate::{
    format::{
        TextOptions,
        fields::{self, MessageText, Severity, Value},
    },
    model::Record,
};

/// Size of a request in bytes, by its records: gRPC servers take 4 MB by default, and a larger request would never get
/// through.
const REQUEST_BYTES: usize = 2 << 20;

/// Address of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OtlpEndpoint {
    /// Host and port.
    pub(super) authority: String,
    /// Path of the request.
    pub(super) path: String,
    pub(super) is_grpc: bool,
}

impl OtlpEndpoint {
    /// Parses `http://HOST[:PORT][/PATH]` or `grpc://HOST[:PORT]`. Fails for another form.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, String> {
        match text.and_then(|text| text.split_once("://")) {
            Some(("http", rest)) => {
                let (host, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
                let path = if path == "/" { "/v1/logs" } else { path };
                if !path.chars().all(|character| character.is_ascii_graphic() && character != '#') {
                    return Err(format!("'{path}' is no path of a URL"));
                }
                Ok(Self { authority: host_port::parse(host, 4318)?, path: path.to_owned(), is_grpc: false })
            }
            Some(("grpc", host)) => {
                let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export".to_owned();
                Ok(Self { authority: host_port::parse(host, 4317)?, path, is_grpc: true })
            }
            Some(("https" | "grpcs", _)) => Err("there is no TLS: send to a collector of this host".into()),
            _ => Err("a URL is missing, such as http://127.0.0.1:4318".into()),
        }
    }
}

/// A sink to a collector.
pub(super) struct OtlpSink {
    runtime: Runtime,
    client: Client,
    resource: Resource,
    text: MessageText,
    /// End of the delay that the collector has asked for (`Retry-After`).
    not_before: Option<Instant>,
}

impl OtlpSink {
    /// Prepares the sink; fails when there can be no event loop. Whether the collector is there shows with the first record.
    pub(super) fn open(endpoint: OtlpEndpoint, options: TextOptions, host: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start an event loop")?;
        let text = |text: &'static str| Value::Str(Cow::Borrowed(text));
        let attributes = vec![
            KeyValue::new("service.name", text("rsttrace")),
            KeyValue::new("service.version", text(env!("CARGO_PKG_VERSION"))),
            KeyValue::new("host.name", Value::Str(Cow::Borrowed(host))),
            KeyValue::new("os.type", text("linux")),
        ];
        let (client, resource) = (Client::new(endpoint), Resource { attributes });
        Ok(Self { runtime, client, resource, text: MessageText::new(options), not_before: None })
    }

    /// Encodes a request with the first of the records, as many as fit, and returns it with their number.
    fn request(&mut self, records: &[Record]) -> (Vec<u8>, usize) {
        let mut log_records = Vec::with_capacity(records.len());
        let mut bytes = 0;
        for record in records {
            let made = log_record(record, self.text.of(record));
            bytes += made.encoded_len();
            if bytes > REQUEST_BYTES && !log_records.is_empty() {
                break;
            }
            log_records.push(made);
        }
        let taken = log_records.len();
        let scope = Scope { name: "rsttrace".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records }];
        let logs = ResourceLogs { resource: Some(self.resource.clone()), scope_logs };
        (ExportRequest { resource_logs: vec![logs] }.encode_to_vec(), taken)
    }
}

/// Encodes a record as a `LogRecord`, as protobuf. `text` becomes its body.
pub(super) fn encode(record: &Record, text: String) -> Vec<u8> {
    log_record(record, text).encode_to_vec()
}

fn log_record(record: &Record, text: String) -> LogRecord {
    let (severity_number, severity_text) = match fields::severity(record) {
        Severity::Warning => (13, "WARN"),
        Severity::Notice => (10, "INFO2"),
        Severity::Info => (9, "INFO"),
    };
    let nanoseconds = |time: jiff::Timestamp| u64::try_from(time.as_nanosecond()).unwrap_or(0);
    LogRecord {
        time_unix_nano: nanoseconds(record.time()),
        severity_number,
        severity_text: severity_text.to_owned(),
        body: Some(AnyValue::from(Value::Str(text.into()))),
        attributes: fields::record_fields(record)
            .into_iter()
            .map(|field| KeyValue::new(field.attribute, field.value))
            .collect(),
        observed_time_unix_nano: nanoseconds(jiff::Timestamp::now()),
        event_name: format!("rsttrace.{}", record.type_name()),
    }
}

impl Sink for OtlpSink {
    fn deliver(&mut self, records: &[Record]) -> DeliveryReport {
        if self.not_before.is_some_and(|moment| moment > Instant::now()) {
            return DeliveryReport::stopped(0, Error::msg("the collector has asked to be left alone for a while"));
        }
        let (request, records) = self.request(records);
        match self.runtime.block_on(self.client.send(request)) {
            Ok(ExportOutcome::Accepted { rejected, message }) => {
                let rejected = usize::try_from(rejected).unwrap_or(0).min(records);
                let refusal = (rejected > 0).then(|| Error::msg(message));
                DeliveryReport {
                    delivered: records - rejected,
                    rejected: refusal.map(|why| (rejected, why)),
                    error: None,
                }
            }
            Ok(ExportOutcome::Rejected(why)) => {
                DeliveryReport { delivered: 0, rejected: Some((records, Error::msg(why))), error: None }
            }
            Ok(ExportOutcome::RetryAfter { why, after }) => {
                self.not_before = after.map(|after| Instant::now() + after);
                DeliveryReport::stopped(0, Error::msg(why))
            }
            Err(error) => DeliveryReport::stopped(0, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_endpoints() {
        let of = |text| OtlpEndpoint::parse(Some(text));
        let http = |authority: &str, path: &str| {
            Ok(OtlpEndpoint { authority: authority.to_owned(), path: path.to_owned(), is_grpc: false })
        };
        assert_eq!(of("http://collector"), http("collector:4318", "/v1/logs"));
        assert_eq!(of("http://[::1]:80/"), http("[::1]:80", "/v1/logs"));
        assert_eq!(of("http://collector:80/otlp/v1/logs?a=b"), http("collector:80", "/otlp/v1/logs?a=b"));
        assert!(of("grpc://collector").unwrap().is_grpc);
        for bad in ["", "collector", "http://", "grpc://collector/path", "https://collector", "http://c/a b"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
