//! OTLP client: one request at a time over HTTP/1.1, or as gRPC over HTTP/2, on a connection that is reused.

use std::{io::Write as _, net::ToSocketAddrs as _, time::Duration};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compression as GzipLevel, write::GzEncoder};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::{http1, http2},
    header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, PROXY_AUTHORIZATION, TE, USER_AGENT},
    rt::{Read, Write},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    task::{JoinHandle, yield_now},
    time::timeout,
};

#[cfg(feature = "tls")]
use super::server_name;
use super::{
    PreparedOtlp,
    endpoint::{Compression, OtlpEndpoint},
    outcome::{ExportOutcome, of_grpc, of_http},
};

/// Limit for a response body in bytes; a good one has a few.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

const USER_AGENT_NAME: &str = concat!("rsttrace/", env!("CARGO_PKG_VERSION"));

/// Sender of requests on a connection.
enum RequestSender {
    Http(http1::SendRequest<Full<Bytes>>),
    Grpc(http2::SendRequest<Full<Bytes>>),
}

/// A connection to the collector.
struct HttpConnection {
    sender: RequestSender,
    /// Task that reads and writes; it ends with the connection.
    driver: JoinHandle<Result<(), hyper::Error>>,
}

/// Remedy that the end of a new connection may need.
const CERTIFICATE_HINT: &str = ": does the server want a client certificate (cert=FILE)?";

/// Limit for the task of a broken connection to end with its error.
const DRIVER_TIMEOUT: Duration = Duration::from_millis(200);

impl HttpConnection {
    /// Sends a request and waits for the response.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let sent = match &mut self.sender {
            RequestSender::Http(sender) => sender.send_request(request).await,
            RequestSender::Grpc(sender) => sender.send_request(request).await,
        };
        let Err(error) = sent else { return Ok(sent?) };
        // The request knows that the connection broke, the connection knows why: an alert of TLS, for instance.
        match timeout(DRIVER_TIMEOUT, &mut self.driver).await {
            Ok(Ok(Err(why))) => Err(anyhow::Error::new(why)),
            _ => Err(error.into()),
        }
    }

    /// Whether the connection is still open. Yields first: its task has to run to notice that the collector has closed it.
    async fn is_open(&self) -> bool {
        for _ in 0..3 {
            yield_now().await;
        }
        match &self.sender {
            RequestSender::Http(sender) => sender.is_ready(),
            RequestSender::Grpc(sender) => sender.is_ready(),
        }
    }
}

/// A client of one collector, with its connection while there is one.
pub(super) struct Client {
    prepared: PreparedOtlp,
    connection: Option<HttpConnection>,
}

impl Client {
    pub(super) const fn new(prepared: PreparedOtlp) -> Self {
        Self { prepared, connection: None }
    }

    /// Sends one encoded request. Waits for the response, for the sink's timeout at most, the connection included. Fails
    /// where the connection does; the next request makes a new one.
    pub(super) async fn send(&mut self, message: Vec<u8>) -> Result<ExportOutcome> {
        let limit = self.prepared.timeout;
        let authority = self.prepared.endpoint.authority.clone();
        let outcome = timeout(limit, self.exchange(message))
            .await
            .with_context(|| format!("no answer from {authority} within {limit:?}"))??;
        Ok(outcome.map_text(|text| self.prepared.headers.redact(text)))
    }

    /// Reads the credentials again. Whether they are others now, so that a request that was denied may be repeated.
    pub(super) fn renew_credentials(&mut self) -> bool {
        self.prepared.headers.renew()
    }

    async fn exchange(&mut self, message: Vec<u8>) -> Result<ExportOutcome> {
        let (mut connection, is_new) = match self.connection.take() {
            Some(connection) if connection.is_open().await => (connection, false),
            _ => (self.connect().await?, true),
        };
        let request = self.request(message)?;
        let OtlpEndpoint { authority, is_grpc, .. } = &self.prepared.endpoint;
        let response = connection.send(request).await;
        // With TLS 1.3 such a server closes the connection after the handshake, and not every one says why.
        let hint = if is_new && self.lacks_certificate() { CERTIFICATE_HINT } else { "" };
        let asked = || format!("no answer from {authority}{hint}");
        let answer = answer(response.with_context(asked)?, *is_grpc).await.with_context(asked)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// The request for a message, compressed where the sink is to.
    fn request(&mut self, message: Vec<u8>) -> Result<Request<Full<Bytes>>> {
        let PreparedOtlp { endpoint, compression, headers, proxy, .. } = &mut self.prepared;
        let OtlpEndpoint { authority, path, is_grpc, is_tls } = endpoint;
        let is_gzip = *compression == Compression::Gzip;
        let message = if is_gzip { gzip(&message)? } else { message };
        let via = proxy.as_ref().filter(|proxy| !proxy.is_tunnel);
        let scheme = if *is_tls { "https" } else { "http" };
        // HTTP/2 and a proxy without a tunnel need the whole URL.
        let url = if *is_grpc || via.is_some() { format!("{scheme}://{authority}{path}") } else { path.clone() };
        let body = if *is_grpc { framed(&message, is_gzip)? } else { Bytes::from(message) };
        let mut request = Request::post(url).body(Full::from(body))?;
        let to = request.headers_mut();
        to.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_NAME));
        to.extend(headers.current().iter().map(|(name, value)| (name.clone(), value.clone())));
        if let Some(value) = via.and_then(|proxy| proxy.authorization.clone()) {
            to.insert(PROXY_AUTHORIZATION, value);
        }
        if *is_grpc {
            to.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            to.insert(TE, HeaderValue::from_static("trailers"));
            if is_gzip {
                to.insert("grpc-encoding", HeaderValue::from_static("gzip"));
            }
        } else {
            to.insert(HOST, HeaderValue::from_str(authority)?);
            to.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            if is_gzip {
                to.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        Ok(request)
    }

    /// Connects: to the proxy if there is one, by TLS if the endpoint wants it.
    async fn connect(&mut self) -> Result<HttpConnection> {
        let PreparedOtlp { endpoint, proxy, .. } = &self.prepared;
        let OtlpEndpoint { authority, is_grpc, is_tls, .. } = endpoint;
        let stream = match proxy {
            None => connect(authority).await?,
            Some(proxy) => {
                let stream = connect(&proxy.authority).await.context("the proxy cannot be used")?;
                if proxy.is_tunnel { proxy.tunnel(stream, authority).await? } else { stream }
            }
        };
        let (is_grpc, is_tls) = (*is_grpc, *is_tls);
        #[cfg(feature = "tls")]
        if is_tls {
            return self.secure(stream, is_grpc).await;
        }
        debug_assert!(!is_tls, "an endpoint with TLS is refused where that is not built in");
        handshake(TokioIo::new(stream), is_grpc).await.with_context(|| format!("cannot reach {}", self.authority()))
    }

    /// Whether the endpoint is one with TLS that gets no client certificate.
    fn lacks_certificate(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.prepared.tls.as_ref().is_some_and(|tls| !tls.has_identity());
        #[cfg(not(feature = "tls"))]
        false
    }

    fn authority(&self) -> &str {
        &self.prepared.endpoint.authority
    }

    #[cfg(feature = "tls")]
    async fn secure(&mut self, stream: TcpStream, is_grpc: bool) -> Result<HttpConnection> {
        let name = server_name(self.prepared.server_name.as_deref(), self.prepared.endpoint.host())?;
        let tls = self.prepared.tls.as_mut().context("no certificates were read")?;
        let connector = tokio_rustls::TlsConnector::from(tls.config());
        let cannot = || format!("cannot speak TLS with {}", self.prepared.endpoint.authority);
        let stream = connector.connect(name, stream).await.with_context(cannot)?;
        handshake(TokioIo::new(stream), is_grpc).await.with_context(cannot)
    }
}

/// Connects to the first address of a `HOST:PORT` that accepts. Blocks for the resolver: it runs in the sink's own thread.
async fn connect(authority: &str) -> Result<TcpStream> {
    let cannot = || format!("cannot reach {authority}");
    let mut last = Err(std::io::ErrorKind::NotFound.into());
    for address in authority.to_socket_addrs().with_context(cannot)? {
        last = TcpStream::connect(address).await;
        if last.is_ok() {
            break;
        }
    }
    let stream = last.with_context(cannot)?;
    stream.set_nodelay(true).with_context(cannot)?;
    Ok(stream)
}

/// Begins HTTP on a connection.
async fn handshake(io: impl Read + Write + Send + Unpin + 'static, is_grpc: bool) -> Result<HttpConnection> {
    if is_grpc {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        Ok(HttpConnection { sender: RequestSender::Grpc(sender), driver: tokio::spawn(connection) })
    } else {
        let (sender, connection) = http1::handshake(io).await?;
        Ok(HttpConnection { sender: RequestSender::Http(sender), driver: tokio::spawn(connection) })
    }
}

/// Compresses a message at the fastest level: records of one kind compress to a tenth there already.
fn gzip(message: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(message.len() / 8), GzipLevel::fast());
    encoder.write_all(message)?;
    Ok(encoder.finish()?)
}

/// Frames a gRPC message: whether it is compressed, length, message.
fn framed(message: &[u8], is_compressed: bool) -> Result<Bytes> {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(is_compressed.into());
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
