//! Settings of an OTLP sink: its options, then the environment (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>
//! and <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>), then defaults.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::{
    endpoint::{Compression, OtlpEndpoint, OtlpOptions, checked_timeout},
    headers::HeaderOrigin,
};
use crate::credentials::{ClientTlsFiles, Secret};

/// Time for a request without a setting, including the connection.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A look-up in the environment; an empty variable counts as none.
pub(super) type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a sink does, before its files are read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OtlpSettings {
    pub(super) endpoint: OtlpEndpoint,
    pub(super) headers: HeaderOrigin,
    pub(super) tls: ClientTlsFiles,
    pub(super) server_name: Option<String>,
    pub(super) compression: Compression,
    pub(super) timeout: Duration,
    /// Attributes of the resource beside those of rsttrace, which they replace.
    pub(super) resource: Vec<(String, String)>,
}

impl OtlpSettings {
    /// Combines options and environment. The error is a sentence that names the variable; it quotes no value of headers.
    pub(super) fn new(options: OtlpOptions, variable: Variable<'_>) -> Result<Self, String> {
        // A variable of logs takes precedence over that of all signals.
        let exporter = |name: &str| {
            ["OTEL_EXPORTER_OTLP_LOGS_", "OTEL_EXPORTER_OTLP_"].iter().find_map(|prefix| {
                let name = format!("{prefix}{name}");
                Some((variable(&name)?, name))
            })
        };
        let parsed = |name: &str, parse: &dyn Fn(&str) -> Result<Compression, String>| {
            exporter(name).map(|(text, name)| parse(&text).map_err(|error| format!("{name}: {error}"))).transpose()
        };
        let endpoint = match options.endpoint {
            Some(endpoint) => endpoint,
            None => endpoint(variable, exporter("PROTOCOL"), exporter("INSECURE").map(|(text, _)| text))?,
        };
        let compression = match options.compression {
            Some(compression) => Some(compression),
            None => parsed("COMPRESSION", &Compression::parse)?,
        };
        let timeout = match (options.timeout, exporter("TIMEOUT")) {
            (Some(timeout), _) => timeout,
            (None, Some((text, name))) => {
                let milliseconds = text.parse().ok().ok_or_else(|| format!("{name} is a number of milliseconds"))?;
                checked_timeout(Duration::from_millis(milliseconds)).map_err(|error| format!("{name}: {error}"))?
            }
            (None, None) => TIMEOUT,
        };
        let headers = match (options.token, options.headers, exporter("HEADERS")) {
            (Some(token), _, _) => HeaderOrigin::TokenFile(token),
            (None, Some(file), _) => HeaderOrigin::File(file),
            (None, None, Some((text, name))) => {
                pairs(&text, &name)?; // Its form is checked before the run.
                HeaderOrigin::Variable(name, Secret::from(text))
            }
            (None, None, None) => HeaderOrigin::None,
        };
        let file = |option: Option<PathBuf>, name| option.or_else(|| exporter(name).map(|(path, _)| path.into()));
        let tls = ClientTlsFiles {
            ca: file(options.tls.ca, "CERTIFICATE"),
            certificate: file(options.tls.certificate, "CLIENT_CERTIFICATE"),
            key: file(options.tls.key, "CLIENT_KEY"),
        };
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let mut resource = variable(name).map_or_else(|| Ok(Vec::new()), |text| pairs(&text, name))?;
        if let Some(service) = variable("OTEL_SERVICE_NAME") {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_owned(), service));
        }
        Ok(Self {
            endpoint,
            headers,
            tls,
            server_name: options.server_name,
            compression: compression.unwrap_or(Compression::None),
            timeout,
            resource,
        })
    }
}

/// The endpoint that the environment names; the specification's default without one. `protocol` has the name of its
/// variable beside its value.
fn endpoint(
    variable: Variable<'_>,
    protocol: Option<(String, String)>,
    insecure: Option<String>,
) -> Result<OtlpEndpoint, String> {
    let is_grpc = match protocol.as_ref().map(|(text, name)| (text.as_str(), name)) {
        None | Some(("http/protobuf", _)) => false,
        Some(("grpc", _)) => true,
        Some(("http/json", name)) => {
            return Err(format!("{name}: http/json is not supported, http/protobuf and grpc are"));
        }
        Some((_, name)) => return Err(format!("{name} is http/protobuf or grpc")),
    };
    let (of_logs, of_all) = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
    // The variable of logs has the whole path, that of all signals the part before `v1/logs`.
    let (url, name, is_base) = match (variable(of_logs), variable(of_all)) {
        (Some(url), _) => (url, of_logs, false),
        (None, Some(url)) => (url, of_all, true),
        (None, None) => {
            let default = if is_grpc { "http://localhost:4317" } else { "http://localhost:4318" };
            (default.to_owned(), of_all, true)
        }
    };
    let parsed = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), host)) if is_grpc => {
            OtlpEndpoint::grpc(host.trim_end_matches('/'), scheme == "https")
        }
        Some((scheme @ ("http" | "https"), rest)) if is_base => {
            let base = rest.trim_end_matches('/');
            // A colon in brackets belongs to an address of IPv6.
            let has_port = base.rsplit(']').next().unwrap_or(base).contains(':');
            // The specification's ports are those of its default endpoint alone; a URL without one has that of its scheme.
            let port = if has_port || base.contains('/') || scheme == "https" { "" } else { ":80" };
            OtlpEndpoint::http(&format!("{base}{port}/v1/logs"), scheme == "https", "/")
        }
        Some((scheme @ ("http" | "https"), rest)) => OtlpEndpoint::http(rest, scheme == "https", "/"),
        None if is_grpc => OtlpEndpoint::grpc(&url, insecure.as_deref() != Some("true")),
        _ => Err("a URL begins with http:// or https://".to_owned()),
    };
    parsed.map_err(|error| format!("{name}: {error}"))
}

/// Pairs of `key=value,key=value`, with percent-encoded values. Fails for another form; the error does not quote it.
pub(super) fn pairs(text: &str, name: &str) -> Result<Vec<(String, String)>, String> {
    let wrong = || format!("{name} has the form key=value,key=value, with percent-encoded values");
    let decoded =
        |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(Cow::into_owned).ok_or_else(wrong);
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').filter(|(key, _)| !key.trim().is_empty()).ok_or_else(wrong)?;
            Ok((decoded(key)?, decoded(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &str, variables: &[(&str, &str)]) -> Result<OtlpSettings, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty())
        };
        OtlpSettings::new(OtlpOptions::parse(Some(options))?, &variable)
    }

    fn endpoint_of(variables: &[(&str, &str)]) -> String {
        let OtlpEndpoint { authority, path, .. } = settings("", variables).unwrap().endpoint;
        authority + &path
    }

    #[test]
    fn endpoints_follow_the_specification() {
        assert_eq!(endpoint_of(&[]), "localhost:4318/v1/logs");
        assert_eq!(endpoint_of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/x/")]), "a:4318/x/v1/logs");
        assert_eq!(endpoint_of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a")]), "a:80/v1/logs");
        assert_eq!(endpoint_of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]")]), "[::1]:80/v1/logs");
        assert_eq!(endpoint_of(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://a:1/x/")]), "a:1/x/");
        assert_eq!(endpoint_of(&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://a:1")]), "a:1/");
        #[cfg(feature = "tls")]
        assert_eq!(endpoint_of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a")]), "a:443/v1/logs");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert!(endpoint_of(&[grpc]).starts_with("localhost:4317/opentelemetry"));
        let of = |variables: &[(&str, &str)]| settings("", variables).unwrap().endpoint;
        #[cfg(feature = "tls")]
        assert!(of(&[grpc, ("OTEL_EXPORTER_OTLP_ENDPOINT", "a:4317")]).is_tls);
        let insecure = [grpc, ("OTEL_EXPORTER_OTLP_ENDPOINT", "a:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")];
        assert!(!of(&insecure).is_tls);
        // The command line goes first.
        let all = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a")];
        assert_eq!(settings("http://b", &all).unwrap().endpoint.authority, "b:4318");
    }

    #[test]
    fn variables_of_logs_go_first() {
        let found = settings(
            "http://a,timeout=3s",
            &[
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
                ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=x,deployment.environment.name=a%20b"),
                ("OTEL_SERVICE_NAME", "resets"),
            ],
        )
        .unwrap();
        assert_eq!((found.compression, found.timeout), (Compression::Gzip, Duration::from_secs(3)));
        assert_eq!(found.tls.ca, Some("/ca".into()));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(found.resource, [pair("deployment.environment.name", "a b"), pair("service.name", "resets")]);
        assert_eq!(settings("http://a", &[("OTEL_EXPORTER_OTLP_TIMEOUT", "500")]).unwrap().timeout.as_millis(), 500);
    }

    #[test]
    fn errors_name_the_variable_and_no_secret() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@host"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ] {
            let error = settings("", &[(name, value)]).unwrap_err();
            assert!(error.contains(name) && !error.contains("hunter2"), "{error}");
        }
    }
}
