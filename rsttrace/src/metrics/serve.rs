//! The server that answers scrapes, in a thread of its own. What it says it asks of the pipeline, which may take its time.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

/// What `OpenMetrics` calls itself.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at a time; others wait.
const CONNECTIONS: usize = 16;

/// How long a client may take for its request, and the pipeline for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question to the pipeline: where to send the text to.
pub(crate) type Scrape = oneshot::Sender<String>;

/// Listens, and starts to answer.
pub(super) fn start(address: SocketAddr) -> Result<mpsc::Receiver<Scrape>> {
    let cannot = || format!("cannot serve --metrics at {address}");
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start an event loop")?;
    let (asks, asked) = mpsc::channel(CONNECTIONS);
    // The pipeline runs in an event loop of its own, within which this one cannot.
    let (is_bound, bound) = std::sync::mpsc::channel();
    thread::Builder::new().name("rsttrace-metrics".to_owned()).spawn(move || {
        runtime.block_on(async {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    is_bound.send(Ok(())).unwrap_or_default();
                    accept(listener, asks).await;
                }
                Err(error) => is_bound.send(Err(error)).unwrap_or_default(),
            }
        });
    })?;
    bound.recv().with_context(cannot)?.with_context(cannot)?;
    Ok(asked)
}

async fn accept(listener: TcpListener, asks: mpsc::Sender<Scrape>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, for instance: that passes.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let asks = asks.clone();
        tokio::spawn(async move {
            serve(stream, asks).await;
            drop(place);
        });
    }
}

/// One request on one connection: scrapers come every few seconds at most.
async fn serve(stream: TcpStream, asks: mpsc::Sender<Scrape>) {
    let service = service_fn(|request: Request<Incoming>| {
        let asks = asks.clone();
        async move { Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &asks).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever hangs up has no answer coming; three times is for reading, asking and writing.
    drop(timeout(PATIENCE * 3, connection).await);
}

async fn answer(method: &Method, path: &str, asks: &mpsc::Sender<Scrape>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    match (method, path) {
        (&Method::GET | &Method::HEAD, "/metrics" | "/healthz") => {}
        (&Method::GET | &Method::HEAD, _) => {
            return plain(StatusCode::NOT_FOUND, "there is only /metrics and /healthz\n");
        }
        _ => return plain(StatusCode::METHOD_NOT_ALLOWED, "only to be read\n"),
    }
    let (scrape, text) = oneshot::channel();
    let asked = async {
        asks.send(scrape).await.ok()?;
        text.await.ok()
    };
    match timeout(PATIENCE, asked).await {
        Ok(Some(_)) if path == "/healthz" => plain(StatusCode::OK, "ok\n"),
        Ok(Some(text)) => {
            let mut response = Response::new(Full::from(text));
            response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPEN_METRICS));
            response
        }
        _ => plain(StatusCode::SERVICE_UNAVAILABLE, "the pipeline gives no answer: it waits for standard output\n"),
    }
}
