//! The way to a collector through an HTTP proxy (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use http_body_util::Empty;
use hyper::{
    Method, Request, StatusCode, Uri, body::Bytes, client::conn::http1, header::HOST, header::HeaderValue,
    header::PROXY_AUTHORIZATION,
};
use hyper_util::{client::proxy::matcher::Matcher, rt::TokioIo};
use tokio::net::TcpStream;

use super::endpoint::OtlpEndpoint;

/// A proxy, and how requests go through it.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    /// Host and port.
    pub(super) authority: String,
    /// Credentials for `Proxy-Authorization`; sensitive, so that `Debug` does not show them.
    pub(super) authorization: Option<HeaderValue>,
    /// Whether requests go through a tunnel (CONNECT), as for TLS and HTTP/2; otherwise they name the whole URL.
    pub(super) is_tunnel: bool,
}

impl Proxy {
    /// The proxy that the environment names for an endpoint; `None` without one, and for an endpoint of this host (a name
    /// `localhost`, or a loopback address). Fails for a proxy that speaks neither HTTP nor CONNECT, such as SOCKS; the error
    /// quotes no credentials.
    pub(super) fn of(endpoint: &OtlpEndpoint) -> Result<Option<Self>> {
        Self::matched(endpoint, &Matcher::from_env())
    }

    fn matched(endpoint: &OtlpEndpoint, matcher: &Matcher) -> Result<Option<Self>> {
        let host = endpoint.host();
        let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let scheme = if endpoint.is_tls { "https" } else { "http" };
        let url: Uri = format!("{scheme}://{}/", endpoint.authority).parse().context("the endpoint is no URL")?;
        let Some(found) = matcher.intercept(&url).filter(|_| !is_here) else { return Ok(None) };
        let host = found.uri().host().context("the proxy of the environment has no host")?;
        match found.uri().scheme_str() {
            Some("http") => {}
            other => bail!(
                "the proxy {host} of the environment is of the kind {}: only HTTP proxies are supported",
                other.unwrap_or("unknown")
            ),
        }
        let mut authorization = found.basic_auth().cloned();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let port = found.uri().port_u16().unwrap_or(80);
        let authority = format!("{host}:{port}");
        Ok(Some(Self { authority, authorization, is_tunnel: endpoint.is_tls || endpoint.is_grpc }))
    }

    /// Asks the proxy, over a connection to it, for a tunnel to a host and port. Fails where the proxy refuses.
    pub(super) async fn tunnel(&self, stream: TcpStream, authority: &str) -> Result<TcpStream> {
        let cannot = || format!("no tunnel through the proxy {}", self.authority);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(cannot)?;
        // Its error shows in the response.
        tokio::spawn(async {
            let _ignored = connection.with_upgrades().await;
        });
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(authority)
            .header(HOST, authority)
            .body(Empty::<Bytes>::new())?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value.clone());
        }
        let response = sender.send_request(request).await.with_context(cannot)?;
        if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            bail!("the proxy {} needs credentials: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT", self.authority);
        }
        if !response.status().is_success() {
            bail!("the proxy {} answers {} for {authority}", self.authority, response.status());
        }
        let upgraded = hyper::upgrade::on(response).await.with_context(cannot)?;
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok().with_context(cannot)?;
        if !parts.read_buf.is_empty() {
            bail!("the proxy {} sends data before the server", self.authority);
        }
        Ok(parts.io.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str, matcher: &Matcher) -> Result<Option<String>> {
        let found = Proxy::matched(&OtlpEndpoint::parse(url).unwrap(), matcher)?;
        Ok(found.map(|proxy| format!("{} {} {}", proxy.authority, proxy.is_tunnel, proxy.authorization.is_some())))
    }

    #[test]
    fn the_environment_names_the_proxy() {
        let matcher =
            Matcher::builder().http("http://a:3128").https("http://user:hunter2@b:3129").no("internal.example").build();
        let of = |url| proxy(url, &matcher).unwrap();
        assert_eq!(of("http://collector.example").as_deref(), Some("a:3128 false false"));
        assert_eq!(of("grpc://collector.example").as_deref(), Some("a:3128 true false"));
        #[cfg(feature = "tls")]
        assert_eq!(of("https://collector.example").as_deref(), Some("b:3129 true true"));
        for direct in ["http://x.internal.example", "http://127.0.0.1", "http://[::1]:1", "http://localhost"] {
            assert_eq!(of(direct), None, "{direct}");
        }
        #[cfg(feature = "tls")]
        {
            let found = Proxy::matched(&OtlpEndpoint::parse("https://c.example").unwrap(), &matcher).unwrap();
            assert!(!format!("{found:?}").contains("hunter2"));
        }
        let socks = Matcher::builder().all("socks5://user:hunter2@c:1080").build();
        let error = proxy("http://collector.example", &socks).unwrap_err().to_string();
        assert!(error.contains("only HTTP proxies") && !error.contains("hunter2"), "{error}");
    }
}
