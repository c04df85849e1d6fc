//! OpenTelemetry logs to a collector or backend, over HTTP or gRPC (OTLP), also with TLS and through a proxy. Retryable errors
//! are retried as the protocol asks for; what the collector rejects is counted.

mod endpoint;
mod exporter;
mod headers;
mod outcome;
mod payload;
mod proxy;
mod settings;

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Error, Result};
use prost::Message as _;
use tokio::runtime::{Builder, Runtime};

pub(super) use self::endpoint::OtlpOptions;
use self::{
    endpoint::{Compression, OtlpEndpoint},
    exporter::Client,
    headers::RequestHeaders,
    outcome::ExportOutcome,
    payload::{
        AnyValue, AnyValueKind, ArrayValue, ExportRequest, KeyValue, LogRecord, Resource, ResourceLogs, Scope,
        ScopeLogs,
    },
    proxy::Proxy,
    settings::OtlpSettings,
};
use super::{DeliveryReport, Sink, SinkContext};
#[cfg(feature = "tls")]
use crate::credentials::ClientTls;
use crate::{
    format::{
        TextOptions,
        fields::{self, MessageText, Severity, Value},
    },
    model::{Record, RecordingContext},
    util::messages::info,
};

/// Size of a request in bytes, by its records: gRPC servers take 4 MB by default, and a larger request would never get
/// through.
const REQUEST_BYTES: usize = 2 << 20;

/// Attribute of a record with the image as the engine was told it, tag included.
const IMAGE: &str = "container.image.name";

/// A sink whose files have been read.
pub(super) struct PreparedOtlp {
    endpoint: OtlpEndpoint,
    headers: RequestHeaders,
    compression: Compression,
    /// Limit for a connection and a request with its response.
    timeout: Duration,
    /// Attributes of the resource from the environment.
    attributes: Vec<(String, String)>,
    proxy: Option<Proxy>,
    #[cfg(feature = "tls")]
    server_name: Option<String>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

impl PreparedOtlp {
    /// Reads the environment and the files that it and the options name. Blocks on the file system. Fails where a setting is
    /// malformed, and where a file cannot be read or used; no error has the value of a header.
    pub(super) fn read(options: OtlpOptions) -> Result<Self> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let settings = OtlpSettings::new(options, &variable).map_err(Error::msg)?;
        let proxy = Proxy::of(&settings.endpoint)?;
        let headers = RequestHeaders::read(settings.headers)?;
        let OtlpSettings { endpoint, compression, timeout, resource, .. } = settings;
        if !endpoint.is_tls && !headers.is_empty() && !is_loopback(endpoint.host()) {
            info(format_args!(
                "sink otlp:{}: headers are sent in clear text; https:// and grpcs:// encrypt them",
                endpoint.label()
            ));
        }
        #[cfg(feature = "tls")]
        let tls = {
            let protocols: &'static [&'static [u8]] = if endpoint.is_grpc { &[b"h2"] } else { &[b"http/1.1"] };
            // The name is checked before the run.
            server_name(settings.server_name.as_deref(), endpoint.host())?;
            endpoint.is_tls.then(|| ClientTls::read(&settings.tls, protocols)).transpose()?
        };
        Ok(Self {
            endpoint,
            headers,
            compression,
            timeout,
            attributes: resource,
            proxy,
            #[cfg(feature = "tls")]
            server_name: settings.server_name,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Destination, without what options and queries change.
    pub(super) fn label(&self) -> String {
        self.endpoint.label()
    }
}

/// Name that the server's certificate has to have: the one that was given, or the host of the URL.
#[cfg(feature = "tls")]
fn server_name(given: Option<&str>, host: &str) -> Result<rustls::pki_types::ServerName<'static>> {
    let name = given.unwrap_or(host);
    rustls::pki_types::ServerName::try_from(name.to_owned())
        .with_context(|| format!("{name} cannot be in a certificate"))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// A sink to a collector.
pub(super) struct OtlpSink {
    runtime: Runtime,
    client: Client,
    resource: Resource,
    text: MessageText,
    /// End of the delay that the collector has asked for (`Retry-After`, `RetryInfo`).
    not_before: Option<Instant>,
    /// Last warning of the collector, which is reported once.
    warning: String,
}

impl OtlpSink {
    /// Prepares the sink; fails when there can be no event loop. Whether the collector is there shows with the first record.
    pub(super) fn open(prepared: PreparedOtlp, options: TextOptions, context: &SinkContext) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start an event loop")?;
        let resource = resource(&context.host, &context.recording, &prepared.attributes);
        let client = Client::new(prepared);
        let text = MessageText::new(options);
        Ok(Self { runtime, client, resource, text, not_before: None, warning: String::new() })
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

    /// Reports a warning that came with accepted records, once for each text.
    fn warn(&mut self, message: String) {
        if !message.is_empty() && message != self.warning {
            info(format_args!("the collector accepts the records with a warning: {message}"));
            self.warning = message;
        }
    }
}

/// The resource of all records: this program on the host of the run, by the semantic conventions; of what is replayed, its name alone
/// is known. Attributes of the environment replace those of the same name.
fn resource(host: &str, run: &RecordingContext, more: &[(String, String)]) -> Resource {
    let own = [
        ("service.name", "rsttrace"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("host.name", host),
        // An identifier that names the host for as long as it is installed.
        ("host.id", run.machine_id.as_deref().unwrap_or_default()),
        ("host.arch", if run.architecture.is_empty() { "" } else { arch() }),
        ("os.type", "linux"),
    ];
    let is_kept = |name: &str, value: &str| !value.is_empty() && more.iter().all(|(other, _)| other != name);
    let own = own.into_iter().filter(|(name, value)| is_kept(name, value));
    let more = more.iter().map(|(name, value)| (&**name, &**value));
    Resource { attributes: own.chain(more).map(|(name, value)| KeyValue::new(name, value)).collect() }
}

/// This architecture by the semantic conventions.
const fn arch() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        env::consts::ARCH
    }
}

/// An attribute of a record. The image of a container is two by the semantic conventions: the name, and its tags.
fn attributes(attribute: &'static str, value: Value<'_>) -> impl Iterator<Item = KeyValue> {
    let image = match &value {
        Value::Str(image) if attribute == IMAGE => {
            split_image(image).map(|(name, tag)| (name.to_owned(), tag.to_owned()))
        }
        _ => None,
    };
    let (first, second) = match image {
        Some((name, tag)) => {
            let tags = ArrayValue { values: vec![AnyValue::from(&*tag)] };
            let tags = AnyValue { kind: Some(AnyValueKind::Array(tags)) };
            (KeyValue::new(IMAGE, &*name), Some(KeyValue::new("container.image.tags", tags)))
        }
        None => (KeyValue::new(attribute, value), None),
    };
    std::iter::once(first).chain(second)
}

/// Name and tag of an image; `None` where it has no tag. A digest belongs to neither and stays with the name.
fn split_image(image: &str) -> Option<(&str, &str)> {
    // The port of a registry is before a slash, which is in no tag.
    let is_of_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_tag = |tag: &str| !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(is_of_tag);
    image.rsplit_once(':').filter(|(name, tag)| !name.is_empty() && is_tag(tag) && !image.contains('@'))
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
            .flat_map(|field| attributes(field.attribute, field.value))
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
            Ok(ExportOutcome::Accepted { rejected: 0, message }) => {
                self.warn(message);
                DeliveryReport::complete(records)
            }
            Ok(ExportOutcome::Accepted { rejected, message }) => {
                let rejected = usize::try_from(rejected).unwrap_or(records).min(records);
                let why = if message.is_empty() { "the collector gives no reason".to_owned() } else { message };
                DeliveryReport {
                    delivered: records - rejected,
                    rejected: Some((rejected, Error::msg(why))),
                    error: None,
                }
            }
            // With other credentials it is another request, which may be sent.
            Ok(ExportOutcome::Denied(why)) if self.client.renew_credentials() => {
                DeliveryReport::stopped(0, Error::msg(format!("{why}; the credentials have changed since")))
            }
            Ok(ExportOutcome::Rejected(why) | ExportOutcome::Denied(why)) => {
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
    fn images_are_split_by_the_conventions() {
        assert_eq!(split_image("docker.io/library/nginx:1.27"), Some(("docker.io/library/nginx", "1.27")));
        for whole in ["nginx", "registry:5000/nginx", "nginx:1@sha256:00ff"] {
            assert_eq!(split_image(whole), None, "{whole}");
        }
        let names =
            |image: &'static str| attributes(IMAGE, Value::Str(image.into())).map(|pair| pair.key).collect::<Vec<_>>();
        assert_eq!(names("nginx:1.27"), [IMAGE, "container.image.tags"]);
        assert_eq!(names("nginx"), [IMAGE]);
    }

    #[test]
    fn the_environment_replaces_attributes_of_the_resource() {
        let more = [("service.name".to_owned(), "resets".to_owned())];
        let run = RecordingContext { machine_id: Some("m".into()), ..RecordingContext::default() };
        let Resource { attributes } = resource("gw-1", &run, &more);
        let services: Vec<_> = attributes.iter().filter(|pair| pair.key == "service.name").collect();
        assert_eq!(services, [&KeyValue::new("service.name", "resets")]);
        assert!(attributes.contains(&KeyValue::new("host.name", "gw-1")));
        assert!(attributes.contains(&KeyValue::new("host.id", "m")));
        // What is replayed has another host than this program.
        let replayed = resource("gw-1", &RecordingContext::default(), &more).attributes;
        assert!(replayed.iter().all(|pair| pair.key != "host.id" && pair.key != "host.arch"));
    }
}
