//! The sinks that there are, and how the command line names one.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

#[cfg(feature = "otlp")]
use super::otlp::{OtlpOptions, OtlpSink, PreparedOtlp};
use super::{
    Sink, SinkContext,
    journald::{self, JournaldSink},
    json_file::{FileSinkOptions, JsonFileSink},
    options,
    recording::{RecordingOptions, RecordingSink},
    syslog::{PreparedSyslog, SyslogAddress, SyslogSink},
};
use crate::util::spelling;

/// Kinds of sinks. The names on the command line are those of the variants: clap derives both directions.
#[derive(Clone, Copy, ValueEnum)]
enum SinkKind {
    Json,
    Journald,
    #[cfg(feature = "otlp")]
    Otlp,
    Recording,
    Syslog,
}

impl SinkKind {
    /// The form of a specification in short, for help.
    const fn synopsis(self) -> &'static str {
        match self {
            Self::Json => "json:PATH",
            Self::Journald => "journald",
            #[cfg(feature = "otlp")]
            Self::Otlp => "otlp[:URL]",
            Self::Recording => "recording:DIR",
            Self::Syslog => "syslog[:ADDRESS]",
        }
    }

    /// The whole form of a specification, for messages.
    const fn form(self) -> &'static str {
        match self {
            Self::Json => "json:PATH[,rotate=SIZE][,keep=N]",
            Self::Journald => "journald[:SOCKET]",
            #[cfg(feature = "otlp")]
            Self::Otlp => {
                "otlp[:http[s]://HOST[:PORT][/PATH]|:grpc[s]://HOST[:PORT]][,token=FILE|,headers=FILE][,ca=FILE][,cert=FILE][,key=FILE][,name=NAME][,compression=gzip][,timeout=TIME]"
            }
            Self::Recording => "recording:DIR[,size=SIZE][,age=TIME][,segment=SIZE][,min-free=SIZE]",
            Self::Syslog => {
                "syslog[:PATH|:udp://HOST[:PORT]|:tcp://HOST[:PORT]|:tls://HOST[:PORT][,ca=FILE][,cert=FILE][,key=FILE][,name=NAME]]"
            }
        }
    }

    /// Beginnings of specifications, each with a description, for completions.
    const fn beginnings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Json => &[("json:", "Lines of JSON in a file")],
            Self::Journald => &[("journald", "The systemd journal")],
            #[cfg(feature = "otlp")]
            Self::Otlp => &[
                ("otlp", "OpenTelemetry, to the endpoint of the environment"),
                ("otlp:http://", "OpenTelemetry over HTTP"),
                ("otlp:grpc://", "OpenTelemetry over gRPC"),
                #[cfg(feature = "tls")]
                ("otlp:https://", "OpenTelemetry over HTTP and TLS"),
                #[cfg(feature = "tls")]
                ("otlp:grpcs://", "OpenTelemetry over gRPC and TLS"),
            ],
            Self::Recording => &[("recording:", "A recording, as 'rsttrace record' makes it")],
            Self::Syslog => &[
                ("syslog", "The system log of this host"),
                ("syslog:udp://", "A log server, over UDP"),
                ("syslog:tcp://", "A log server, over TCP"),
                #[cfg(feature = "tls")]
                ("syslog:tls://", "A log server, over TLS"),
            ],
        }
    }

    /// The short forms of all kinds, as a list in a sentence.
    fn synopses() -> String {
        let texts: Vec<&str> = Self::value_variants().iter().map(|kind| kind.synopsis()).collect();
        texts.join(", ")
    }

    /// Parses what stands after the colon; `None` where there is no colon. The error is a part of a sentence.
    fn parse(self, rest: Option<&str>) -> Result<Destination, String> {
        Ok(match self {
            Self::Json => Destination::JsonFile(FileSinkOptions::parse(rest)?),
            Self::Journald => Destination::Journald(rest.unwrap_or(journald::SOCKET).into()),
            #[cfg(feature = "otlp")]
            Self::Otlp => Destination::Otlp(Box::new(OtlpOptions::parse(rest)?)),
            Self::Recording => Destination::Recording(RecordingOptions::parse(rest)?),
            Self::Syslog => Destination::Syslog(SyslogAddress::parse(rest)?),
        })
    }
}

/// What a sink does during the run beyond writing to descriptors that are open; the sandbox allows the system calls for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SinkNeeds {
    /// Creates, renames and opens files.
    pub(crate) files: bool,
    /// Creates sockets and connects them.
    pub(crate) sockets: bool,
    /// Resolves host names.
    pub(crate) host_names: bool,
}

/// A parsed specification.
#[derive(Clone, Debug)]
enum Destination {
    JsonFile(FileSinkOptions),
    Journald(PathBuf),
    #[cfg(feature = "otlp")]
    Otlp(Box<OtlpOptions>),
    Recording(RecordingOptions),
    Syslog(SyslogAddress),
}

/// A sink as the command line names it, such as `json:/var/log/rsttrace.json`: parsed once, opened later.
#[derive(Clone)]
pub struct SinkSpec {
    /// Kind and destination, without options.
    label: Arc<str>,
    destination: Destination,
}

/// A sink whose files have been read, and whose environment was looked at: before the sandbox, as the user who starts rsttrace.
pub(crate) struct PreparedSink {
    label: Arc<str>,
    destination: PreparedDestination,
}

enum PreparedDestination {
    JsonFile(FileSinkOptions),
    Journald(PathBuf),
    #[cfg(feature = "otlp")]
    Otlp(Box<PreparedOtlp>),
    Recording(RecordingOptions),
    Syslog(Box<PreparedSyslog>),
}

impl PreparedSink {
    /// Kind and destination. The sink goes by it in messages, metrics and the summary.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Opens the sink. Fails where a file or a socket cannot be had; a destination on the network that does not answer yet
    /// is no failure, since the worker tries again. May block on the file system, not on the network.
    pub(super) fn open(self, context: &SinkContext) -> Result<Box<dyn Sink>> {
        let Self { label, destination } = self;
        destination.open(context).with_context(|| format!("cannot open the sink {label}"))
    }
}

impl PreparedDestination {
    fn open(self, context: &SinkContext) -> Result<Box<dyn Sink>> {
        let options = context.options.clone();
        Ok(match self {
            Self::JsonFile(file) => Box::new(JsonFileSink::open(file)?),
            Self::Journald(path) => Box::new(JournaldSink::open(path, options)?),
            Self::Recording(options) => {
                Box::new(RecordingSink::open(options, Arc::clone(&context.host), Arc::clone(&context.recording))?)
            }
            #[cfg(feature = "otlp")]
            Self::Otlp(prepared) => Box::new(OtlpSink::open(*prepared, options, context)?),
            Self::Syslog(prepared) => Box::new(SyslogSink::open(*prepared, options, Arc::clone(&context.host))),
        })
    }
}

impl SinkSpec {
    /// The short forms of all kinds that are built in, for the help of `--sink`.
    pub(crate) fn synopses() -> String {
        SinkKind::synopses()
    }

    /// Beginnings of specifications of all kinds that are built in, each with a description, for completions.
    pub(crate) fn beginnings() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        SinkKind::value_variants().iter().flat_map(|kind| kind.beginnings())
    }

    /// A specification for messages: without what may be secret.
    pub(crate) fn redacted(text: &str) -> String {
        options::redacted(text)
    }

    /// What the sink needs of the sandbox.
    pub(crate) fn needs(&self) -> SinkNeeds {
        match &self.destination {
            Destination::JsonFile(_) | Destination::Recording(_) => SinkNeeds { files: true, ..SinkNeeds::default() },
            Destination::Journald(_) | Destination::Syslog(SyslogAddress::Socket(_)) => {
                SinkNeeds { sockets: true, ..SinkNeeds::default() }
            }
            Destination::Syslog(SyslogAddress::Udp(_) | SyslogAddress::Tcp(_)) => {
                SinkNeeds { sockets: true, host_names: true, ..SinkNeeds::default() }
            }
            #[cfg(feature = "tls")]
            Destination::Syslog(SyslogAddress::Tls(_)) => {
                SinkNeeds { sockets: true, host_names: true, ..SinkNeeds::default() }
            }
            #[cfg(feature = "otlp")]
            Destination::Otlp(_) => SinkNeeds { sockets: true, host_names: true, ..SinkNeeds::default() },
        }
    }

    /// A recording with these options.
    pub(crate) fn recording(options: RecordingOptions) -> Self {
        Self {
            label: format!("recording:{}", options.directory.display()).into(),
            destination: Destination::Recording(options),
        }
    }

    /// Directory and limits of the recording, for messages; `None` for any other sink.
    pub(crate) fn recording_place(&self) -> Option<String> {
        let Destination::Recording(options) = &self.destination else { return None };
        Some(options.to_string())
    }

    /// Directory of the recording; `None` for any other sink.
    pub(crate) fn recording_directory(&self) -> Option<&Path> {
        match &self.destination {
            Destination::Recording(options) => Some(&options.directory),
            _ => None,
        }
    }

    /// Reads the files that the sink needs beside its destination (certificates, tokens) and the environment. Blocks on the
    /// file system. Fails where one cannot be read or used; no error has a secret.
    pub(crate) fn prepare(&self) -> Result<PreparedSink> {
        let cannot = || format!("cannot use the sink {self}");
        let label = Arc::clone(&self.label);
        let destination = match self.destination.clone() {
            #[cfg(feature = "otlp")]
            Destination::Otlp(options) => {
                let prepared = PreparedOtlp::read(*options).with_context(cannot)?;
                // Without a URL only the environment knows the destination.
                let label = format!("otlp:{}", prepared.label()).into();
                return Ok(PreparedSink { label, destination: PreparedDestination::Otlp(Box::new(prepared)) });
            }
            Destination::Syslog(address) => {
                PreparedDestination::Syslog(Box::new(PreparedSyslog::read(address).with_context(cannot)?))
            }
            Destination::JsonFile(file) => PreparedDestination::JsonFile(file),
            Destination::Journald(path) => PreparedDestination::Journald(path),
            Destination::Recording(options) => PreparedDestination::Recording(options),
        };
        Ok(PreparedSink { label, destination })
    }
}

impl FromStr for SinkSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = match text.find([':', ',']) {
            // Options without a destination: `otlp,token=FILE`.
            Some(place) if text.as_bytes().get(place) == Some(&b',') => (&text[..place], Some(&text[place..])),
            Some(place) => (&text[..place], Some(&text[place + 1..])),
            None => (text, None),
        };
        let Ok(kind) = SinkKind::from_str(name, false) else {
            return Err(unknown(name, &options::redacted(text)));
        };
        let destination = kind.parse(rest).map_err(|error| format!("{error}; the form is {}", kind.form()))?;
        let label = match &destination {
            Destination::JsonFile(file) => format!("{name}:{}", file.path().display()),
            Destination::Recording(recording) => format!("{name}:{}", recording.directory.display()),
            Destination::Journald(_) => text.to_owned(),
            #[cfg(feature = "otlp")]
            Destination::Otlp(options) => options.label(),
            Destination::Syslog(address) => address.label(),
        };
        Ok(Self { label: label.into(), destination })
    }
}

/// What is wrong with a specification of no kind, and what may be meant; a part of a sentence.
fn unknown(name: &str, text: &str) -> String {
    let known = format!("there is no sink '{name}', only {}", SinkKind::synopses());
    let rest = text.get(name.len()..).unwrap_or_default().trim_start_matches(':');
    let intended = match name {
        "stdout" | "stderr" | "-" | "text" | "long" => {
            return format!("{known}; --output sets the format on standard output");
        }
        "udp" | "tcp" | "tls" => format!("syslog:{text}"),
        #[cfg(feature = "otlp")]
        "http" | "https" | "grpc" => format!("otlp:{text}"),
        #[cfg(feature = "otlp")]
        "otel" | "opentelemetry" => format!("otlp:{rest}"),
        "file" | "path" if !rest.is_empty() => format!("json:{}", rest.strip_prefix("//").unwrap_or(rest)),
        _ if name.contains('/') => format!("json:{text}"),
        _ => {
            let kinds: Vec<String> = SinkKind::value_variants()
                .iter()
                .filter_map(|kind| Some(kind.to_possible_value()?.get_name().to_owned()))
                .collect();
            let Some(similar) = spelling::similar(name, kinds.iter().map(String::as_str)) else { return known };
            format!("{similar}{}", text.get(name.len()..).unwrap_or_default())
        }
    };
    format!("{known}; did you mean '{intended}'?")
}

impl fmt::Display for SinkSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.label)
    }
}

impl fmt::Debug for SinkSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SinkSpec({})", self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kinds_have_a_suggestion() {
        for (text, said) in [
            ("foo:bar", "there is no sink 'foo', only json:PATH, journald"),
            ("jsn:/a", "did you mean 'json:/a'?"),
            ("file:/a", "did you mean 'json:/a'?"),
            ("file:///a", "did you mean 'json:/a'?"),
            ("/var/log/a.json", "did you mean 'json:/var/log/a.json'?"),
            ("journal", "did you mean 'journald'?"),
            ("udp://logs.example:514", "did you mean 'syslog:udp://logs.example:514'?"),
            ("stdout", "--output sets the format on standard output"),
            ("https://user:hunter2@host", "did you mean 'otlp:https://…@host'?"),
        ] {
            assert!(
                SinkSpec::from_str(text).is_err_and(|error| error.contains(said)),
                "{text}: {}",
                unknown(text, text)
            );
        }
        assert!(!unknown("foo", "foo:bar").contains("did you mean"));
    }

    #[test]
    fn labels_are_kind_and_destination() {
        for (text, label) in [
            ("json:/var/log/a.json,rotate=100M,keep=3", "json:/var/log/a.json"),
            ("recording:/var/log/rsttrace,size=1G", "recording:/var/log/rsttrace"),
            ("journald", "journald"),
            ("syslog", "syslog"),
            ("syslog:tcp://logs", "syslog:tcp://logs:601"),
            #[cfg(feature = "tls")]
            ("syslog:tls://logs,ca=/ca.pem,cert=/cert.pem,name=logs.example", "syslog:tls://logs:6514"),
            #[cfg(feature = "otlp")]
            ("otlp,token=/run/token", "otlp"),
            #[cfg(feature = "otlp")]
            ("otlp:http://collector/v1/logs?key=hunter2,compression=gzip", "otlp:http://collector:4318"),
        ] {
            assert_eq!(SinkSpec::from_str(text).unwrap().to_string(), label, "{text}");
        }
    }
}
