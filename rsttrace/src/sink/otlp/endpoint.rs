//! Address of a collector, and the options of the sink.

use std::{path::PathBuf, time::Duration};

use crate::{
    credentials::ClientTlsFiles,
    sink::{host_port, options},
    util::time_span,
};

/// Path of the gRPC method.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Path of a URL without one.
const HTTP_PATH: &str = "/v1/logs";

/// Address of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OtlpEndpoint {
    /// Host and port.
    pub(super) authority: String,
    /// Path of the request, with a query where the URL has one.
    pub(super) path: String,
    pub(super) is_grpc: bool,
    pub(super) is_tls: bool,
}

impl OtlpEndpoint {
    /// Parses `http[s]://HOST[:PORT][/PATH]` or `grpc[s]://HOST[:PORT]`. Fails for another form; the error quotes no
    /// credentials.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let missing = || "a URL is missing, such as http://127.0.0.1:4318 or https://HOST".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(missing)?;
        match scheme {
            "http" | "https" => Self::http(rest, scheme == "https", HTTP_PATH),
            "grpc" | "grpcs" => Self::grpc(rest, scheme == "grpcs"),
            _ => Err(missing()),
        }
    }

    /// An endpoint of OTLP over HTTP: `HOST[:PORT][/PATH]`; `default_path` stands for no path, or `/`.
    pub(super) fn http(rest: &str, is_tls: bool, default_path: &str) -> Result<Self, String> {
        let (host, path) = rest.find(['/', '?']).map_or((rest, "/"), |place| rest.split_at(place));
        let path = if path == "/" { default_path } else { path };
        if !path.starts_with('/') || !path.chars().all(|it| it.is_ascii_graphic() && it != '#') {
            return Err("the path of the URL has characters that a path cannot have".to_owned());
        }
        let authority = authority(host, if is_tls { 443 } else { 4318 })?;
        Self { authority, path: path.to_owned(), is_grpc: false, is_tls }.checked()
    }

    /// An endpoint of OTLP over gRPC: `HOST[:PORT]`.
    pub(super) fn grpc(host: &str, is_tls: bool) -> Result<Self, String> {
        let authority = authority(host.strip_suffix('/').unwrap_or(host), if is_tls { 443 } else { 4317 })?;
        Self { authority, path: GRPC_PATH.to_owned(), is_grpc: true, is_tls }.checked()
    }

    /// Fails for TLS where it is not built in.
    fn checked(self) -> Result<Self, String> {
        if self.is_tls && !cfg!(feature = "tls") {
            return Err("this rsttrace was built without TLS (the feature tls)".to_owned());
        }
        Ok(self)
    }

    /// Host without port and brackets.
    pub(super) fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host).trim_matches(['[', ']'])
    }

    /// The URL without its query, in which some backends expect a key: name of the sink behind `otlp:`.
    pub(super) fn label(&self) -> String {
        let Self { authority, path, is_grpc, is_tls } = self;
        let scheme = match (is_grpc, is_tls) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "grpc",
            (true, true) => "grpcs",
        };
        let path = path.split('?').next().unwrap_or_default();
        let path = if *is_grpc || path == HTTP_PATH { "" } else { path };
        format!("{scheme}://{authority}{path}")
    }
}

/// `HOST:PORT` of a URL. Fails for another form, and for credentials.
fn authority(host: &str, port: u16) -> Result<String, String> {
    if host.contains('@') {
        return Err(
            "credentials do not belong into a URL: token=FILE or headers=FILE names a file with them".to_owned()
        );
    }
    host_port::parse(host, port)
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
}

impl Compression {
    /// Parses `gzip` or `none`. The error is a part of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "none" => Ok(Self::None),
            _ => Err("the compression is gzip or none".to_owned()),
        }
    }
}

/// Longest time for a request that can be set.
const TIMEOUT_MAX: Duration = Duration::from_mins(5);

/// Checks the time for a request. The error is a part of a sentence.
pub(super) fn checked_timeout(timeout: Duration) -> Result<Duration, String> {
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        return Err("the timeout is a time of more than 0, up to 5m".to_owned());
    }
    Ok(timeout)
}

/// What the specification of the sink says; `None` for what the environment or a default decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sink) struct OtlpOptions {
    pub(super) endpoint: Option<OtlpEndpoint>,
    /// File of headers.
    pub(super) headers: Option<PathBuf>,
    /// File of a bearer token.
    pub(super) token: Option<PathBuf>,
    pub(super) tls: ClientTlsFiles,
    /// Name in the server's certificate, where it is not the host of the URL.
    pub(super) server_name: Option<String>,
    pub(super) compression: Option<Compression>,
    pub(super) timeout: Option<Duration>,
}

impl OtlpOptions {
    const NAMES: [&str; 8] = ["headers", "token", "ca", "cert", "key", "name", "compression", "timeout"];

    /// Parses `[URL][,name=value]…`; without a URL the environment names the endpoint. The error is a part of a sentence.
    pub(in crate::sink) fn parse(text: Option<&str>) -> Result<Self, String> {
        let (url, options) = options::split(text.unwrap_or_default(), &Self::NAMES)?;
        let mut parsed = Self::default();
        // `otlp,token=/run/token` has no colon, `otlp:,token=…` one with nothing behind it.
        if !url.is_empty() {
            parsed.endpoint = Some(OtlpEndpoint::parse(url)?);
        }
        for (name, value) in options {
            match name {
                "headers" => parsed.headers = Some(options::secret_path(name, value)?),
                "token" => parsed.token = Some(options::secret_path(name, value)?),
                "ca" => parsed.tls.ca = Some(options::path(name, value)?),
                "cert" => parsed.tls.certificate = Some(options::path(name, value)?),
                "key" => parsed.tls.key = Some(options::path(name, value)?),
                "name" => parsed.server_name = Some(value.to_owned()),
                "compression" => parsed.compression = Some(Compression::parse(value)?),
                _ => parsed.timeout = Some(time_span::parse(value).and_then(checked_timeout)?),
            }
        }
        if parsed.token.is_some() && parsed.headers.is_some() {
            return Err("token and headers do not go together: the file of headers can have authorization".to_owned());
        }
        Ok(parsed)
    }

    /// Kind and destination of the sink, as far as the options say it.
    pub(in crate::sink) fn label(&self) -> String {
        self.endpoint.as_ref().map_or_else(|| "otlp".to_owned(), |endpoint| format!("otlp:{}", endpoint.label()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_endpoints() {
        let of = |text| OtlpOptions::parse(Some(text)).map(|options| options.endpoint.unwrap());
        let http = |authority: &str, path: &str, is_tls| {
            Ok(OtlpEndpoint { authority: authority.to_owned(), path: path.to_owned(), is_grpc: false, is_tls })
        };
        assert_eq!(of("http://collector"), http("collector:4318", "/v1/logs", false));
        assert_eq!(of("http://[::1]:80/"), http("[::1]:80", "/v1/logs", false));
        assert_eq!(of("http://collector:80/otlp/v1/logs?a=b"), http("collector:80", "/otlp/v1/logs?a=b", false));
        #[cfg(feature = "tls")]
        assert_eq!(of("https://api.example/otlp/v1/logs"), http("api.example:443", "/otlp/v1/logs", true));
        assert!(of("grpc://collector").unwrap().is_grpc);
        for bad in ["collector", "http://", "grpc://collector/path", "ftp://collector", "http://c/a b", "http://a:b@c"]
        {
            let error = of(bad).unwrap_err();
            assert!(!error.contains("a:b"), "{bad}: {error}");
        }
    }

    #[test]
    fn labels_have_no_query() {
        let label = |text| OtlpEndpoint::parse(text).unwrap().label();
        assert_eq!(label("http://127.0.0.1:4318"), "http://127.0.0.1:4318");
        assert_eq!(label("http://a:1/x/v1/logs?key=hunter2"), "http://a:1/x/v1/logs");
        assert_eq!(label("grpc://[::1]"), "grpc://[::1]:4317");
    }

    #[test]
    fn parses_options() {
        let options = OtlpOptions::parse(Some("http://a,token=/t,compression=gzip,timeout=3s,name=b")).unwrap();
        assert_eq!((options.token, options.compression), (Some("/t".into()), Some(Compression::Gzip)));
        assert_eq!((options.timeout, options.server_name), (Some(Duration::from_secs(3)), Some("b".to_owned())));
        for (bad, said) in [
            ("http://a,token=Bearer x", "token takes the path of a file"),
            ("http://a,tokn=/t", "did you mean 'token'?"),
            ("http://a,token=/t,headers=/h", "do not go together"),
            ("http://a,compression=zstd", "gzip or none"),
            ("http://a,timeout=0s", "more than 0"),
        ] {
            let error = OtlpOptions::parse(Some(bad)).unwrap_err();
            assert!(error.contains(said) && !error.contains("Bearer"), "{bad}: {error}");
        }
    }
}
