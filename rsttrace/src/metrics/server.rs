//! The HTTP server for scrapes and probes of health, in a thread of its own. It gets its answers from the pipeline, which may
//! take its time. Health stands apart: it is answered without credentials, and tells nothing but itself.

use std::{
    convert::Infallible,
    net::SocketAddr,
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    rt::{Read, Write},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::mpsc,
    task::yield_now,
    time::timeout,
};

use super::{
    access::{Refusal, WebAccess},
    connections::{ConnectionTable, Progress},
    pipeline_probe::{CHANNEL_CAPACITY, PipelineProbe, Scrape},
};

/// Content type of `OpenMetrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Most connections at a time. One that has sent a part of a request costs some 20 KB.
const MAX_CONNECTIONS: u64 = 256;

/// Most scrapes at a time; each has a text in memory.
const MAX_SCRAPES: usize = 16;

/// Limit for a client to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit for a whole connection: request, the pipeline's answer, and reading it.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Largest request in bytes, and memory of a connection for it.
const MAX_REQUEST_BYTES: usize = 16 << 10;

/// State that all connections share.
struct Server {
    pipeline: Arc<PipelineProbe>,
    connections: Mutex<ConnectionTable>,
    /// Who may read the metrics, and TLS; `None` without `--metrics-config`.
    access: Option<WebAccess>,
    is_ready: Arc<AtomicBool>,
}

/// Starts the thread and waits until it listens. Fails where the address cannot be bound.
pub(super) fn start(
    address: SocketAddr,
    access: Option<WebAccess>,
    is_ready: Arc<AtomicBool>,
) -> Result<mpsc::Receiver<Scrape>> {
    let cannot = || format!("cannot serve --metrics at {address}");
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start an event loop")?;
    let (scrapes, asked) = mpsc::channel(CHANNEL_CAPACITY);
    // The pipeline's runtime is entered already in this thread, so the server has a runtime and a thread of its own.
    let (is_bound, bound) = std::sync::mpsc::channel();
    thread::Builder::new().name("rsttrace-metrics".to_owned()).spawn(move || {
        runtime.block_on(async {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    let _ignored = is_bound.send(Ok(()));
                    let server = Server::new(scrapes, connection_limit(&listener), access, is_ready);
                    accept(listener, Arc::new(server)).await;
                }
                Err(error) => {
                    let _ignored = is_bound.send(Err(error));
                }
            }
        });
    })?;
    bound.recv().with_context(cannot)?.with_context(cannot)?;
    Ok(asked)
}

/// Most connections: half of the free descriptors, since the pipeline needs some, and [`MAX_CONNECTIONS`] at most.
fn connection_limit(listener: &TcpListener) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    // The listener was opened last, and the kernel assigns the lowest free number.
    let taken = listener.as_raw_fd().unsigned_abs().into();
    usize::try_from((limit.saturating_sub(taken) / 2).clamp(1, MAX_CONNECTIONS)).unwrap_or(1)
}

/// Accepts every connection at once: one that waited in the listener's queue could not be told from those before it.
async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => server.spawn(stream),
            // EMFILE, for instance: evicting a connection frees a descriptor.
            Err(_) if server.connections().evict_one() => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        // The new connection reads its request, and an evicted one closes its socket.
        yield_now().await;
    }
}

impl Server {
    fn new(
        scrapes: mpsc::Sender<Scrape>,
        max_connections: usize,
        access: Option<WebAccess>,
        is_ready: Arc<AtomicBool>,
    ) -> Self {
        Self {
            pipeline: Arc::new(PipelineProbe::new(scrapes)),
            connections: Mutex::new(ConnectionTable::new(max_connections, MAX_SCRAPES)),
            access,
            is_ready,
        }
    }

    fn connections(&self) -> MutexGuard<'_, ConnectionTable> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to serve a connection.
    fn spawn(self: &Arc<Self>, stream: TcpStream) {
        let mut connections = self.connections();
        let task = tokio::spawn(Arc::clone(self).serve(stream, connections.next_number()));
        connections.insert(task.abort_handle());
    }

    /// Serves one connection, by TLS where there is a certificate.
    async fn serve(self: Arc<Self>, stream: TcpStream, number: u64) {
        // A client that hangs up gets no response.
        let _ignored = timeout(CONNECTION_TIMEOUT, self.serve_stream(stream, number)).await;
    }

    async fn serve_stream(self: Arc<Self>, stream: TcpStream, number: u64) {
        #[cfg(feature = "tls")]
        if let Some(acceptor) = self.access.as_ref().and_then(WebAccess::acceptor) {
            // A handshake that fails, or is not finished in time, ends the connection.
            let Ok(Ok(stream)) = timeout(REQUEST_TIMEOUT, acceptor.accept(stream)).await else { return };
            let has_certificate = stream.get_ref().1.peer_certificates().is_some();
            return self.serve_request(TokioIo::new(stream), number, has_certificate).await;
        }
        self.serve_request(TokioIo::new(stream), number, false).await;
    }

    /// Serves one request on one connection: scrapers come every few seconds at most.
    async fn serve_request(self: Arc<Self>, io: impl Read + Write + Unpin, number: u64, has_certificate: bool) {
        let service = service_fn(|request: Request<Incoming>| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(&request, number, has_certificate).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .max_buf_size(MAX_REQUEST_BYTES)
            .keep_alive(false)
            .serve_connection(io, service);
        let _ignored = connection.await;
    }

    /// Response to the request of one connection.
    async fn answer(&self, request: &Request<Incoming>, number: u64, has_certificate: bool) -> Response<Full<Bytes>> {
        if !matches!(request.method().as_str(), "GET" | "HEAD") {
            self.connections().advance(number, Progress::ShortResponse);
            return plain_text(StatusCode::METHOD_NOT_ALLOWED, "only to be read\n");
        }
        match request.uri().path() {
            "/metrics" => self.answer_scrape(request.headers().get(AUTHORIZATION), number, has_certificate).await,
            path => {
                self.connections().advance(number, Progress::ShortResponse);
                self.answer_probe(path).await
            }
        }
    }

    /// Response to a request for the metrics. Credentials come before anything that they protect.
    async fn answer_scrape(
        &self,
        authorization: Option<&HeaderValue>,
        number: u64,
        has_certificate: bool,
    ) -> Response<Full<Bytes>> {
        if let Some(access) = &self.access
            && let Err(refusal) = access.check(authorization, has_certificate).await
        {
            self.connections().advance(number, Progress::ShortResponse);
            return refused(refusal);
        }
        if !self.connections().advance(number, Progress::Scrape) {
            return plain_text(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes at a time\n");
        }
        let Some(text) = self.pipeline.text().await else { return no_answer() };
        self.connections().advance(number, Progress::Response);
        open_metrics(text)
    }

    /// Response to a probe: of liveness, or of readiness, which ends when the run begins to end.
    async fn answer_probe(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/readyz" if !self.is_ready.load(Ordering::Relaxed) => {
                plain_text(StatusCode::SERVICE_UNAVAILABLE, "the run has not begun, or ends\n")
            }
            "/healthz" | "/readyz" if self.pipeline.is_alive().await => plain_text(StatusCode::OK, "ok\n"),
            "/healthz" | "/readyz" => no_answer(),
            _ => plain_text(StatusCode::NOT_FOUND, "not found: there are /metrics, /healthz and /readyz\n"),
        }
    }
}

/// Response to a request without the right credentials, with the ways to show them (RFC 9110, section 11.6.1).
fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    match refusal {
        Refusal::NoCertificate => plain_text(StatusCode::FORBIDDEN, "a client certificate is required\n"),
        Refusal::Unauthorized { basic, bearer } => {
            let mut response = plain_text(StatusCode::UNAUTHORIZED, "unauthorized\n");
            let ways = [(basic, "Basic realm=\"rsttrace\""), (bearer, "Bearer realm=\"rsttrace\"")];
            for (_, way) in ways.into_iter().filter(|(is_there, _)| *is_there) {
                response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(way));
            }
            response
        }
    }
}

fn plain_text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

fn no_answer() -> Response<Full<Bytes>> {
    plain_text(StatusCode::SERVICE_UNAVAILABLE, "the pipeline gives no answer: it waits for standard output\n")
}

fn open_metrics(text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
    response
}
