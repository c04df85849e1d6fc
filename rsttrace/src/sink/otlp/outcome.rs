//! What a response means, by <https://opentelemetry.io/docs/specs/otlp/>.

use std::time::{Duration, SystemTime};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use percent_encoding::percent_decode_str;
use prost::Message as _;

use super::payload::{ExportResponse, RetryInfo, RpcStatus};
use crate::util::sanitize::{Sanitized, truncate};

/// Longest delay that is obeyed.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(15);

/// Most columns of a message of the collector.
const MESSAGE_WIDTH: usize = 200;

/// Type of the detail of a gRPC status that has the delay.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Outcome of one request, in the words of the OTLP specification.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExportOutcome {
    /// The collector accepted the records, except `rejected` of them (partial success). A message without rejected records
    /// is a warning.
    Accepted { rejected: u64, message: String },
    /// The collector rejected the records; the request must not be repeated.
    Rejected(String),
    /// The collector did not accept the credentials; the request may be repeated with others.
    Denied(String),
    /// The request may be repeated, after a delay if there is one.
    RetryAfter { why: String, after: Option<Duration> },
}

impl ExportOutcome {
    /// The outcome with its texts changed.
    pub(super) fn map_text(self, change: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Accepted { rejected, message } => Self::Accepted { rejected, message: change(&message) },
            Self::Rejected(why) => Self::Rejected(change(&why)),
            Self::Denied(why) => Self::Denied(change(&why)),
            Self::RetryAfter { why, after } => Self::RetryAfter { why: change(&why), after },
        }
    }
}

/// Outcome over HTTP (section "OTLP/HTTP Response"): only these four status codes are retryable.
pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ExportOutcome {
    let is_protobuf = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/x-protobuf");
    // The body of a failure is a status with a message.
    let message = if is_protobuf { RpcStatus::decode(body).unwrap_or_default().message } else { String::new() };
    let why = || said(&format!("the collector answers {status}"), &message);
    match status.as_u16() {
        200..=299 => taken(body),
        401 | 403 => ExportOutcome::Denied(why()),
        407 => ExportOutcome::RetryAfter { why: "the proxy needs credentials".to_owned(), after: None },
        429 | 502 | 503 | 504 => ExportOutcome::RetryAfter { why: why(), after: retry_after(headers) },
        _ => ExportOutcome::Rejected(why()),
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default(),
    };
    Some(delay.min(RETRY_AFTER_MAX))
}

/// Outcome over gRPC (section "Failures"). `body` is the frame of the response.
pub(super) fn of_grpc(trailers: &HeaderMap, body: &[u8]) -> ExportOutcome {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    let Some(status) = text("grpc-status").and_then(|status| status.parse::<u8>().ok()) else {
        // The stream broke off.
        return ExportOutcome::RetryAfter { why: "the collector answers without a status".to_owned(), after: None };
    };
    let message = percent_decode_str(text("grpc-message").unwrap_or_default()).decode_utf8_lossy();
    let why = || said(&format!("the collector answers with status {status} ({})", status_name(status)), &message);
    let after = text("grpc-status-details-bin").and_then(retry_delay).map(|delay| delay.min(RETRY_AFTER_MAX));
    match status {
        0 => taken(body.get(5..).unwrap_or_default()),
        7 | 16 => ExportOutcome::Denied(why()),
        1 | 4 | 10 | 11 | 14 | 15 => ExportOutcome::RetryAfter { why: why(), after },
        // Only where the server says that it will recover.
        8 if after.is_some() => ExportOutcome::RetryAfter { why: why(), after },
        _ => ExportOutcome::Rejected(why()),
    }
}

/// Name of a gRPC status that an exporter meets.
const fn status_name(status: u8) -> &'static str {
    match status {
        0 => "OK",
        1 => "CANCELLED",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        10 => "ABORTED",
        11 => "OUT_OF_RANGE",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        16 => "UNAUTHENTICATED",
        _ => "UNKNOWN",
    }
}

/// Delay in the details of a gRPC status (`RetryInfo`), which are in base64 with or without padding.
fn retry_delay(details: &str) -> Option<Duration> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let status = RpcStatus::decode(&*BASE64.decode(details).ok()?).ok()?;
    let detail = status.details.iter().find(|detail| detail.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(&*detail.value).ok()?.retry_delay?;
    Some(Duration::new(delay.seconds.try_into().unwrap_or(0), delay.nanos.try_into().unwrap_or(0)))
}

/// Outcome of a successful request, which may be a partial success. A body that cannot be decoded is no rejection.
fn taken(body: &[u8]) -> ExportOutcome {
    let partial = ExportResponse::decode(body).unwrap_or_default().partial_success.unwrap_or_default();
    ExportOutcome::Accepted {
        rejected: partial.rejected.try_into().unwrap_or(0),
        message: shown(&partial.error_message),
    }
}

/// A sentence with the message of the collector behind it, where there is one.
fn said(sentence: &str, message: &str) -> String {
    let message = shown(message);
    if message.is_empty() { sentence.to_owned() } else { format!("{sentence}: {message}") }
}

fn shown(message: &str) -> String {
    Sanitized(&truncate(message.trim(), MESSAGE_WIDTH)).to_string()
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD_NO_PAD;

    use super::{
        super::payload::{Any, PartialSuccess, RpcDuration},
        *,
    };

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn http(status: u16, of: &[(&'static str, &str)]) -> ExportOutcome {
        of_http(StatusCode::from_u16(status).unwrap(), &headers(of), &[])
    }

    #[test]
    fn http_statuses_follow_the_specification() {
        for status in [429, 502, 503, 504] {
            assert!(matches!(http(status, &[]), ExportOutcome::RetryAfter { after: None, .. }), "{status}");
        }
        for status in [400, 404, 405, 413, 500, 501] {
            assert!(matches!(http(status, &[]), ExportOutcome::Rejected(_)), "{status}");
        }
        assert!(matches!(http(401, &[]), ExportOutcome::Denied(_)));
        let after = |text| match http(429, &[("retry-after", text)]) {
            ExportOutcome::RetryAfter { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("99999"), Some(RETRY_AFTER_MAX));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn partial_success_is_counted() {
        let success = PartialSuccess { rejected: 3, error_message: "too\nlong".to_owned() };
        let body = ExportResponse { partial_success: Some(success) }.encode_to_vec();
        let ExportOutcome::Accepted { rejected, message } = of_http(StatusCode::OK, &HeaderMap::new(), &body) else {
            panic!("it was accepted");
        };
        assert!(rejected == 3 && message.starts_with("too") && !message.contains('\n'), "{message}");
        assert!(matches!(
            of_http(StatusCode::OK, &HeaderMap::new(), b"\xff"),
            ExportOutcome::Accepted { rejected: 0, .. }
        ));
    }

    #[test]
    fn grpc_statuses_follow_the_specification() {
        let of = |status: &str, details: Option<&str>| {
            let mut all = vec![("grpc-status", status), ("grpc-message", "not%20now")];
            all.extend(details.map(|details| ("grpc-status-details-bin", details)));
            of_grpc(&headers(&all), &[])
        };
        for status in ["1", "4", "10", "11", "14", "15"] {
            assert!(matches!(of(status, None), ExportOutcome::RetryAfter { after: None, .. }), "{status}");
        }
        for status in ["2", "3", "5", "6", "8", "9", "12", "13"] {
            assert!(matches!(of(status, None), ExportOutcome::Rejected(_)), "{status}");
        }
        assert!(matches!(of("16", None), ExportOutcome::Denied(_)));
        let why = "the collector answers with status 14 (UNAVAILABLE): not now";
        assert_eq!(of("14", None), ExportOutcome::RetryAfter { why: why.to_owned(), after: None });
        let info = RetryInfo { retry_delay: Some(RpcDuration { seconds: 2, nanos: 500_000_000 }) };
        let detail = Any { type_url: RETRY_INFO.to_owned(), value: info.encode_to_vec() };
        let status = RpcStatus { code: 8, message: String::new(), details: vec![detail] };
        let details = BASE64_STANDARD_NO_PAD.encode(status.encode_to_vec());
        let expected = Some(Duration::from_millis(2_500));
        assert!(matches!(of("8", Some(&details)), ExportOutcome::RetryAfter { after, .. } if after == expected));
        assert!(matches!(of_grpc(&HeaderMap::new(), &[]), ExportOutcome::RetryAfter { .. }));
    }
}
