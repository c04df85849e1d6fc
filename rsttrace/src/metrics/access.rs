//! Who may read the metrics, and the server's side of TLS: the file of `--metrics-config` with what it names, read again where
//! one of them has changed.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::header::HeaderValue;
use tokio::task::spawn_blocking;
#[cfg(feature = "tls")]
use tokio_rustls::TlsAcceptor;

use super::web_config::WebConfig;
#[cfg(feature = "tls")]
use super::web_config::{ClientAuth, TlsServerConfig};
#[cfg(feature = "tls")]
use crate::credentials::{certificate_chain, private_key, trusted_roots};
use crate::{
    credentials::{RotatedFile, Secret},
    util::messages::{info, sentence},
};

/// A hash that no password is compared with in earnest: an unknown user takes as long as a known one.
const NO_USER: &str = "$2b$10$abcdefghijklmnopqrstuuHJd9AIZ1bEAc3BFqZbbyBzXFcGrOyCe";

/// Access to the metrics, as the file asks for it now.
pub(super) struct WebAccess {
    current: Mutex<Current>,
    /// Held while a password is hashed, which takes a CPU some 50 ms: one at a time.
    hashing: tokio::sync::Mutex<()>,
    /// Keys of the hashes by which credentials are compared, in a time that says nothing about them.
    keys: RandomState,
}

struct Current {
    file: RotatedFile,
    parts: Arc<Parts>,
    /// Credentials of each user that were accepted, hashed, so that a scrape costs no bcrypt.
    accepted: HashMap<String, u64>,
    /// Whether it has been reported that the changed file cannot be used.
    is_reported: bool,
}

/// What a version of the file and of the files that it names comes to.
struct Parts {
    config: WebConfig,
    token: Option<Mutex<RotatedFile>>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
}

/// The server's side of TLS.
#[cfg(feature = "tls")]
struct ServerTls {
    files: Mutex<Vec<RotatedFile>>,
    config: Arc<rustls::ServerConfig>,
}

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The client has no certificate.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "without TLS there are no certificates"))]
    NoCertificate,
    /// It has no credentials, or wrong ones. Whether there are users, and whether there is a token.
    Unauthorized { basic: bool, bearer: bool },
}

impl WebAccess {
    /// Reads the file and what it names. Blocks on the file system. Fails where one of them cannot be read or used.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = RotatedFile::read(path)?;
        let parts = Arc::new(Parts::read(&file)?);
        let current = Mutex::new(Current { file, parts, accepted: HashMap::new(), is_reported: false });
        Ok(Self { current, hashing: tokio::sync::Mutex::default(), keys: RandomState::new() })
    }

    /// Whether the metrics are for clients that show who they are.
    pub(super) fn needs_authentication(&self) -> bool {
        self.current().parts.config.needs_authentication()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the files come to now. Where changed ones cannot be used, this is reported once and the earlier ones stay in use.
    fn refreshed(&self) -> Arc<Parts> {
        let mut current = self.current();
        let is_changed = current.file.refresh() | current.parts.has_changed();
        if is_changed || current.is_reported {
            match Parts::read(&current.file) {
                Ok(parts) => {
                    current.parts = Arc::new(parts);
                    current.accepted.clear();
                    current.is_reported = false;
                }
                Err(error) if !current.is_reported => {
                    info(format_args!("--metrics-config: the change cannot be used: {}", sentence(&error)));
                    current.is_reported = true;
                }
                Err(_) => {}
            }
        }
        Arc::clone(&current.parts)
    }

    /// Acceptor of TLS for the next connection; `None` for one in clear text.
    #[cfg(feature = "tls")]
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.refreshed().tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)))
    }

    /// Checks the credentials of a request for the metrics. Waits while a password is hashed, in another thread.
    pub(super) async fn check(
        &self,
        authorization: Option<&HeaderValue>,
        has_certificate: bool,
    ) -> Result<(), Refusal> {
        let parts = self.refreshed();
        #[cfg(feature = "tls")]
        if parts.needs_certificate() && !has_certificate {
            return Err(Refusal::NoCertificate);
        }
        #[cfg(not(feature = "tls"))]
        let _ignored = has_certificate;
        let (basic, bearer) = (!parts.config.users.is_empty(), parts.token.is_some());
        if !basic && !bearer {
            return Ok(());
        }
        let text = authorization.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, credentials) = text.split_once(' ').unwrap_or_default();
        let is_known = if scheme.eq_ignore_ascii_case("bearer") {
            self.is_token(&parts, credentials.trim())
        } else if scheme.eq_ignore_ascii_case("basic") && basic {
            self.is_user(&parts, credentials.trim()).await
        } else {
            false
        };
        if is_known { Ok(()) } else { Err(Refusal::Unauthorized { basic, bearer }) }
    }

    fn is_token(&self, parts: &Parts, given: &str) -> bool {
        let Some(token) = &parts.token else { return false };
        let mut file = token.lock().unwrap_or_else(PoisonError::into_inner);
        file.refresh();
        let token = file.text().reveal().trim();
        !token.is_empty() && self.keys.hash_one(token) == self.keys.hash_one(given)
    }

    async fn is_user(&self, parts: &Parts, credentials: &str) -> bool {
        let Some((user, password)) = decoded(credentials) else { return false };
        let hash = parts.config.users.get(&user);
        let known = hash.map(|hash| self.keys.hash_one((&user, password.reveal(), hash.reveal())));
        let is_accepted = || known.is_some() && self.current().accepted.get(&user).copied() == known;
        if is_accepted() {
            return true;
        }
        let _guard = self.hashing.lock().await;
        // An earlier request of the same client may have been accepted meanwhile.
        if is_accepted() {
            return true;
        }
        let compared = hash.map_or_else(|| NO_USER.to_owned(), |hash| hash.reveal().to_owned());
        let is_right = spawn_blocking(move || bcrypt::verify(password.reveal(), &compared)).await;
        let is_right = is_right.ok().and_then(Result::ok).unwrap_or(false) && hash.is_some();
        if let Some(known) = known.filter(|_| is_right) {
            self.current().accepted.insert(user, known);
        }
        is_right
    }
}

/// User and password of basic authentication (RFC 7617).
fn decoded(credentials: &str) -> Option<(String, Secret)> {
    let text = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), Secret::from(password.to_owned())))
}

impl Parts {
    fn read(file: &RotatedFile) -> Result<Self> {
        let named = || format!("{} cannot be used", file.path().display());
        let directory = file.path().parent().unwrap_or(Path::new(""));
        let config = WebConfig::parse(file.text().reveal(), directory).with_context(named)?;
        let token = config.bearer_token_file.as_deref().map(RotatedFile::read).transpose().with_context(named)?;
        if token.as_ref().is_some_and(|file| file.text().reveal().trim().is_empty()) {
            anyhow::bail!("{}: the bearer_token_file is empty", named());
        }
        #[cfg(feature = "tls")]
        let tls = config.tls.as_ref().map(ServerTls::read).transpose().with_context(named)?;
        #[cfg(not(feature = "tls"))]
        if config.tls.is_some() {
            anyhow::bail!("{}: this rsttrace was built without TLS (the feature tls)", named());
        }
        Ok(Self {
            config,
            token: token.map(Mutex::new),
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Whether a file of TLS has changed.
    fn has_changed(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let mut files = tls.files.lock().unwrap_or_else(PoisonError::into_inner);
            // Every file is looked at, whatever the first one says.
            return files.iter_mut().filter_map(|file| file.refresh().then_some(())).count() > 0;
        }
        false
    }

    #[cfg(feature = "tls")]
    fn needs_certificate(&self) -> bool {
        self.config.tls.as_ref().is_some_and(|tls| tls.client_auth == ClientAuth::Required)
    }
}

#[cfg(feature = "tls")]
impl ServerTls {
    fn read(settings: &TlsServerConfig) -> Result<Self> {
        use rustls::{
            ServerConfig,
            crypto::ring,
            server::WebPkiClientVerifier,
            version::{TLS12, TLS13},
        };

        let (certificate, key) = (RotatedFile::read(&settings.cert_file)?, RotatedFile::read(&settings.key_file)?);
        let provider = Arc::new(ring::default_provider());
        let versions = if settings.is_tls13_only { vec![&TLS13] } else { vec![&TLS13, &TLS12] };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions)?;
        let authorities = settings.client_ca_file.as_deref().map(RotatedFile::read).transpose()?;
        let builder = match authorities.as_ref().filter(|_| settings.client_auth != ClientAuth::None) {
            // A client without a certificate may ask for the health; the metrics are refused by the request.
            Some(file) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(trusted_roots(file)?), provider)
                    .allow_unauthenticated()
                    .build()?,
            ),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(certificate_chain(&certificate)?, private_key(&key)?)
            .context("certificate and key cannot be used")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let files = [certificate, key].into_iter().chain(authorities).collect();
        Ok(Self { files: Mutex::new(files), config: Arc::new(config) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::runtime::Builder;

    use super::*;

    fn basic(text: &str) -> HeaderValue {
        format!("Basic {}", BASE64_STANDARD.encode(text)).parse().unwrap()
    }

    #[test]
    fn credentials_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let (path, token) = (directory.path().join("web.yml"), directory.path().join("token"));
        let hash = bcrypt::hash("hunter2", 4).unwrap();
        fs::write(&path, format!("basic_auth_users:\n  alice: {hash}\nbearer_token_file: token\n")).unwrap();
        fs::write(&token, "abc\n").unwrap();
        let access = WebAccess::read(&path).unwrap();
        assert!(access.needs_authentication());
        let refusal = Err(Refusal::Unauthorized { basic: true, bearer: true });
        Builder::new_current_thread().build().unwrap().block_on(async {
            for (authorization, expected) in [
                (None, refusal),
                (Some(basic("alice:hunter2")), Ok(())),
                (Some(basic("alice:hunter2")), Ok(())),
                (Some(basic("alice:hunter3")), refusal),
                (Some(basic("bob:hunter2")), refusal),
                (Some("Basic !".parse().unwrap()), refusal),
                (Some("Bearer abc".parse().unwrap()), Ok(())),
                (Some("bearer abd".parse().unwrap()), refusal),
                (Some("Digest abc".parse().unwrap()), refusal),
            ] {
                assert_eq!(access.check(authorization.as_ref(), false).await, expected, "{authorization:?}");
            }
        });
        assert_eq!(access.current().accepted.len(), 1);
    }

    #[test]
    fn an_unusable_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        for (text, said) in
            [("bearer_token_file: token", "cannot read"), ("basic_auth_users:\n  alice: hunter2", "no bcrypt hash")]
        {
            fs::write(&path, text).unwrap();
            let Err(error) = WebAccess::read(&path) else { panic!("{text} is good") };
            let error = format!("{error:#}");
            assert!(error.contains(said) && !error.contains("hunter2"), "{error}");
        }
    }
}
