//! One request at a time, over HTTP/1.1, or as gRPC over HTTP/2, on a connection that is kept.

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

use super::{Endpoint, message::ExportResponse};
use crate::sink::sanitize::Harmless;

/// How long the collector may take for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read; a good one has a few.
const ANSWER_BYTES: usize = 64 << 10;

/// The longest that a collector is left alone because it says so.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

const AGENT: &str = concat!("rsttrace/", env!("CARGO_PKG_VERSION"));

/// What the collector says to a request.
pub(super) enum Answer {
    /// It has them, but for so many.
    Taken { rejected: i64, message: String },
    /// It never will.
    Refused(String),
    /// Not now.
    Later { why: String, after: Option<Duration> },
}

/// A connection to the collector.
enum Link {
    Http(http1::SendRequest<Full<Bytes>>),
    Grpc(http2::SendRequest<Full<Bytes>>),
}

/// The collector, and the connection to it if there is one.
pub(super) struct Client {
    endpoint: Endpoint,
    link: Option<Link>,
}

impl Client {
    pub(super) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, link: None }
    }

    /// Sends one encoded request. An error is one of the connection, which the next request makes anew.
    pub(super) async fn send(&mut self, message: Vec<u8>) -> Result<Answer> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut link = match self.link.take() {
            Some(link) if is_open(&link).await => link,
            _ => self.connect().await?,
        };
        let Endpoint { authority, path, is_grpc } = &self.endpoint;
        let request = Request::post(if *is_grpc { format!("http://{authority}{path}") } else { path.clone() })
            .header(USER_AGENT, AGENT);
        let response = match &mut link {
            Link::Http(sender) => {
                let request = request.header(HOST, authority).header(CONTENT_TYPE, "application/x-protobuf");
                timeout_at(deadline, sender.send_request(request.body(Full::from(message))?)).await
            }
            Link::Grpc(sender) => {
                let request = request.header(CONTENT_TYPE, "application/grpc").header(TE, "trailers");
                timeout_at(deadline, sender.send_request(request.body(Full::from(framed(&message)?))?)).await
            }
        };
        let asked = || format!("no answer from {authority}");
        let response = response.with_context(asked)?.with_context(asked)?;
        let answer = timeout_at(deadline, answer(response, *is_grpc)).await.with_context(asked)?.with_context(asked)?;
        self.link = Some(link);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Link> {
        let Endpoint { authority, is_grpc, .. } = &self.endpoint;
        let cannot = || format!("cannot reach {authority}");
        let mut last = Err(std::io::ErrorKind::NotFound.into());
        for address in authority.to_socket_addrs().with_context(cannot)? {
            last = timeout(PATIENCE, TcpStream::connect(address)).await.unwrap_or_else(|late| Err(late.into()));
            if last.is_ok() {
                break;
            }
        }
        let stream = TokioIo::new(last.with_context(cannot)?);
        Ok(if *is_grpc {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.with_context(cannot)?;
            // Whatever ends it shows in the next request.
            tokio::spawn(async { connection.await.unwrap_or_default() });
            Link::Grpc(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.with_context(cannot)?;
            tokio::spawn(async { connection.await.unwrap_or_default() });
            Link::Http(sender)
        })
    }
}

/// Whether the collector has not closed since; the connection's own task has to have its turn to notice.
async fn is_open(link: &Link) -> bool {
    for _ in 0..3 {
        yield_now().await;
    }
    match link {
        Link::Http(sender) => sender.is_ready(),
        Link::Grpc(sender) => sender.is_ready(),
    }
}

/// A message of gRPC: not compressed, its length, itself.
fn framed(message: &[u8]) -> Result<Bytes> {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len().try_into()?);
    frame.put_slice(message);
    Ok(frame.freeze())
}

async fn answer(response: Response<Incoming>, is_grpc: bool) -> Result<Answer> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(anyhow::Error::from_boxed)?;
    if !is_grpc {
        return Ok(of_http(head.status, &head.headers, &body.to_bytes()));
    }
    if head.status != StatusCode::OK {
        return Ok(of_http(head.status, &head.headers, &[]));
    }
    // Without a body the trailers are among the headers.
    let trailers = body.trailers().cloned().unwrap_or_else(|| head.headers.clone());
    Ok(of_grpc(&trailers, &body.to_bytes()))
}

/// By <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>: only these four are to be tried again.
fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    let why = || format!("the collector answers {status}");
    match status.as_u16() {
        200..=299 => taken(body),
        429 | 502 | 503 | 504 => {
            let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Answer::Later { why: why(), after: seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE)) }
        }
        _ => Answer::Refused(why()),
    }
}

/// By <https://opentelemetry.io/docs/specs/otlp/#failures>.
fn of_grpc(trailers: &HeaderMap, body: &[u8]) -> Answer {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    let status = text("grpc-status").and_then(|status| status.parse::<u8>().ok());
    let why = || format!("the collector answers with status {status:?} {}", text("grpc-message").unwrap_or_default());
    match status {
        Some(0) => taken(body.get(5..).unwrap_or_default()),
        // Cancelled, deadline exceeded, resource exhausted, aborted, out of range, unavailable, data loss.
        Some(1 | 4 | 8 | 10 | 11 | 14 | 15) | None => Answer::Later { why: why(), after: None },
        Some(_) => Answer::Refused(why()),
    }
}

/// Said to be taken, perhaps not all. An answer that cannot be read is not a no.
fn taken(body: &[u8]) -> Answer {
    let partial = ExportResponse::decode(body).unwrap_or_default().partial_success.unwrap_or_default();
    Answer::Taken { rejected: partial.rejected, message: Harmless(&partial.error_message).to_string() }
}
