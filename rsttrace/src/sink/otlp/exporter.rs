//! OTLP client: one request at a time over HTTP/1.1, or as gRPC over HTTP/2, on a connection that is reused.

use std::{net::ToSocketAddrs as _, time::Duration};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    client::conn::{http1, http2},
    header::{CONTENT_TYPE, HOST, RETRY_AFTER, TE, USER_AGENT},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::{
    net::TcpStream,
    task::yield_now,
    time::{timeout, timeout_at},
};

use super::{OtlpEndpoint, payload::ExportResponse};
use crate::util::sanitize::Sanitized;

/// Limit for a connection, and for a request with its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit for a response body in bytes; a good one has a few.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Longest `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

const USER_AGENT_NAME: &str = concat!("rsttrace/", env!("CARGO_PKG_VERSION"));

/// Outcome of one request, in the words of the OTLP specification.
pub(super) enum ExportOutcome {
    /// The collector accepted the records, except `rejected` of them (partial success).
    Accepted { rejected: i64, message: String },
    /// The collector rejected the records; the request must not be repeated.
    Rejected(String),
    /// The request may be repeated, after a delay if there is one.
    RetryAfter { why: String, after: Option<Duration> },
}

/// A connection to the collector.
enum HttpConnection {
    Http(http1::SendRequest<Full<Bytes>>),
    Grpc(http2::SendRequest<Full<Bytes>>),
}

/// A client of one collector, with its connection while there is one.
pub(super) struct Client {
    endpoint: OtlpEndpoint,
    connection: Option<HttpConnection>,
}

impl Client {
    pub(super) const fn new(endpoint: OtlpEndpoint) -> Self {
        Self { endpoint, connection: None }
    }

    /// Sends one encoded request. Waits for the response, [`REQUEST_TIMEOUT`] at most. Fails where the connection does;
    /// the next request makes a new one.
    pub(super) async fn send(&mut self, message: Vec<u8>) -> Result<ExportOutcome> {
        let deadline = tokio::time::Instant::now() + REQUEST_TIMEOUT;
        let mut connection = match self.connection.take() {
            Some(connection) if is_open(&connection).await => connection,
            _ => self.connect().await?,
        };
        let OtlpEndpoint { authority, path, is_grpc } = &self.endpoint;
        let request = Request::post(if *is_grpc { format!("http://{authority}{path}") } else { path.clone() })
            .header(USER_AGENT, USER_AGENT_NAME);
        let response = match &mut connection {
            HttpConnection::Http(sender) => {
                let request = request.header(HOST, authority).header(CONTENT_TYPE, "application/x-protobuf");
                timeout_at(deadline, sender.send_request(request.body(Full::from(message))?)).await
            }
            HttpConnection::Grpc(sender) => {
                let request = request.header(CONTENT_TYPE, "application/grpc").header(TE, "trailers");
                timeout_at(deadline, sender.send_request(request.body(Full::from(framed(&message)?))?)).await
            }
        };
        let asked = || format!("no answer from {authority}");
        let response = response.with_context(asked)?.with_context(asked)?;
        let answer = timeout_at(deadline, answer(response, *is_grpc)).await.with_context(asked)?.with_context(asked)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<HttpConnection> {
        let OtlpEndpoint { authority, is_grpc, .. } = &self.endpoint;
        let cannot = || format!("cannot reach {authority}");
        let mut last = Err(std::io::ErrorKind::NotFound.into());
        for address in authority.to_socket_addrs().with_context(cannot)? {
            last = timeout(REQUEST_TIMEOUT, TcpStream::connect(address)).await.unwrap_or_else(|late| Err(late.into()));
            if last.is_ok() {
                break;
            }
        }
        let stream = TokioIo::new(last.with_context(cannot)?);
        Ok(if *is_grpc {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.with_context(cannot)?;
            // The error that ends the connection shows in the next request.
            tokio::spawn(async {
                let _ignored = connection.await;
            });
            HttpConnection::Grpc(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.with_context(cannot)?;
            tokio::spawn(async {
                let _ignored = connection.await;
            });
            HttpConnection::Http(sender)
        })
    }
}

/// Whether the connection is still open. Yields first: its task has to run to notice that the collector has closed it.
async fn is_open(connection: &HttpConnection) -> bool {
    for _ in 0..3 {
        yield_now().await;
    }
    match connection {
        HttpConnection::Http(sender) => sender.is_ready(),
        HttpConnection::Grpc(sender) => sender.is_ready(),
    }
}

/// Frames a gRPC message: not compressed, length, message.
fn framed(message: &[u8]) -> Result<Bytes> {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len().try_into()?);
    frame.put_slice(message);
    Ok(frame.freeze())
}

async fn answer(response: Response<Incoming>, is_grpc: bool) -> Result<ExportOutcome> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(anyhow::Error::from_boxed)?;
    if !is_grpc {
        return Ok(of_http(head.status, &head.headers, &body.to_bytes()));
    }
    if head.status != StatusCode::OK {
        return Ok(of_http(head.status, &head.headers, &[]));
    }
    // A response without a body has the trailers among its headers.
    let trailers = body.trailers().cloned().unwrap_or_else(|| head.headers.clone());
    Ok(of_grpc(&trailers, &body.to_bytes()))
}

/// Outcome by <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>: only these four status codes are
/// retryable.
fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ExportOutcome {
    let why = || format!("the collector answers {status}");
    match status.as_u16() {
        200..=299 => taken(body),
        429 | 502 | 503 | 504 => {
            let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            ExportOutcome::RetryAfter {
                why: why(),
                after: seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER)),
            }
        }
        _ => ExportOutcome::Rejected(why()),
    }
}

/// Outcome by <https://opentelemetry.io/docs/specs/otlp/#failures>.
fn of_grpc(trailers: &HeaderMap, body: &[u8]) -> ExportOutcome {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    let status = text("grpc-status").and_then(|status| status.parse::<u8>().ok());
    let why = || format!("the collector answers with status {status:?} {}", text("grpc-message").unwrap_or_default());
    match status {
        Some(0) => taken(body.get(5..).unwrap_or_default()),
        // CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS.
        Some(1 | 4 | 8 | 10 | 11 | 14 | 15) | None => ExportOutcome::RetryAfter { why: why(), after: None },
        Some(_) => ExportOutcome::Rejected(why()),
    }
}

/// Outcome of a successful request, which may be a partial success. A body that cannot be decoded is no rejection.
fn taken(body: &[u8]) -> ExportOutcome {
    let partial = ExportResponse::decode(body).unwrap_or_default().partial_success.unwrap_or_default();
    ExportOutcome::Accepted { rejected: partial.rejected, message: Sanitized(&partial.error_message).to_string() }
}
