//! The file of `--metrics-config`, in the form of the web configuration of Prometheus' exporters
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>), with `bearer_token_file` beside it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail};
use bcrypt::HashParts;
use yaml_rust2::{Yaml, YamlLoader};

use crate::{credentials::Secret, util::spelling};

/// What the file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WebConfig {
    pub(super) tls: Option<TlsServerConfig>,
    /// Users with the bcrypt hashes of their passwords.
    pub(super) users: BTreeMap<String, Secret>,
    pub(super) bearer_token_file: Option<PathBuf>,
}

/// `tls_server_config`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TlsServerConfig {
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
    pub(super) client_auth: ClientAuth,
    pub(super) client_ca_file: Option<PathBuf>,
    /// Whether TLS 1.2 is refused.
    pub(super) is_tls13_only: bool,
}

/// `client_auth_type`, as far as it is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// No certificate is asked for.
    None,
    /// A certificate is verified where the client has one.
    IfGiven,
    /// The metrics are for clients with a certificate.
    Required,
}

impl WebConfig {
    /// Parses the text of the file; `directory` is that of the file, for relative paths. Fails for what is malformed, unknown or
    /// not supported; no error quotes a hash.
    pub(super) fn parse(text: &str, directory: &Path) -> Result<Self> {
        let documents = YamlLoader::load_from_str(text).map_err(|error| anyhow!("{error}"))?;
        let mut config = Self::default();
        let Some(document) = documents.first().filter(|document| !document.is_null()) else { return Ok(config) };
        for (name, value) in entries(document, "the file")? {
            match name {
                "tls_server_config" => config.tls = Some(tls_server(value, directory)?),
                "http_server_config" => check_http_server(value)?,
                "basic_auth_users" => config.users = users(value)?,
                "bearer_token_file" => config.bearer_token_file = Some(path(value, name, directory)?),
                _ => bail!("{}", unknown(name, &TOP)),
            }
        }
        Ok(config)
    }

    /// Whether the metrics are for clients that show who they are.
    pub(super) fn needs_authentication(&self) -> bool {
        let needs_certificate = self.tls.as_ref().is_some_and(|tls| tls.client_auth == ClientAuth::Required);
        needs_certificate || !self.users.is_empty() || self.bearer_token_file.is_some()
    }
}

/// Settings of the file.
const TOP: [&str; 4] = ["basic_auth_users", "bearer_token_file", "http_server_config", "tls_server_config"];

/// Settings of `tls_server_config` that are supported.
const TLS: [&str; 5] = ["cert_file", "client_auth_type", "client_ca_file", "key_file", "min_version"];

/// Settings of exporters that this server does not have.
const UNSUPPORTED: [&str; 7] = [
    "cert",
    "cipher_suites",
    "client_allowed_sans",
    "curve_preferences",
    "headers",
    "max_version",
    "prefer_server_cipher_suites",
];

fn unknown(name: &str, known: &[&str]) -> String {
    if UNSUPPORTED.contains(&name) {
        return format!("'{name}' is not supported here");
    }
    match spelling::similar(name, known.iter().copied()) {
        Some(similar) => format!("unknown setting '{name}': did you mean '{similar}'?"),
        None => format!("unknown setting '{name}'"),
    }
}

fn tls_server(value: &Yaml, directory: &Path) -> Result<TlsServerConfig> {
    let (mut cert_file, mut key_file, mut client_ca_file) = (None, None, None);
    let (mut client_auth, mut is_tls13_only) = (ClientAuth::None, false);
    for (name, value) in entries(value, "tls_server_config")? {
        match name {
            "cert_file" => cert_file = Some(path(value, name, directory)?),
            "key_file" => key_file = Some(path(value, name, directory)?),
            "client_ca_file" => client_ca_file = Some(path(value, name, directory)?),
            "client_auth_type" => client_auth = client_auth_type(text(value, name)?)?,
            "min_version" => {
                is_tls13_only = match text(value, name)? {
                    "TLS12" => false,
                    "TLS13" => true,
                    _ => bail!("min_version is TLS12 or TLS13"),
                }
            }
            _ => bail!("{}", unknown(name, &TLS)),
        }
    }
    let (Some(cert_file), Some(key_file)) = (cert_file, key_file) else {
        bail!("tls_server_config needs cert_file and key_file");
    };
    if client_auth != ClientAuth::None && client_ca_file.is_none() {
        bail!("client_auth_type needs client_ca_file");
    }
    Ok(TlsServerConfig { cert_file, key_file, client_auth, client_ca_file, is_tls13_only })
}

fn client_auth_type(text: &str) -> Result<ClientAuth> {
    match text {
        "" | "NoClientCert" => Ok(ClientAuth::None),
        "VerifyClientCertIfGiven" => Ok(ClientAuth::IfGiven),
        "RequireAndVerifyClientCert" => Ok(ClientAuth::Required),
        "RequestClientCert" | "RequireAnyClientCert" => {
            bail!("client_auth_type: a certificate that is not verified proves nothing; use RequireAndVerifyClientCert")
        }
        _ => bail!("client_auth_type is NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert"),
    }
}

/// The server speaks HTTP/1.1 alone, so `http2` has no effect.
fn check_http_server(value: &Yaml) -> Result<()> {
    for (name, value) in entries(value, "http_server_config")? {
        if name != "http2" {
            bail!("{}", unknown(name, &["http2"]));
        }
        if value.as_bool().is_none() {
            bail!("http2 is true or false");
        }
    }
    Ok(())
}

fn users(value: &Yaml) -> Result<BTreeMap<String, Secret>> {
    let mut users = BTreeMap::new();
    for (user, hash) in entries(value, "basic_auth_users")? {
        let hash = text(hash, user)?;
        if hash.parse::<HashParts>().is_err() {
            bail!("the password of '{user}' is no bcrypt hash: 'htpasswd -nB {user}' makes one");
        }
        users.insert(user.to_owned(), Secret::from(hash.to_owned()));
    }
    Ok(users)
}

/// Names and values of a map.
fn entries<'a>(value: &'a Yaml, of: &str) -> Result<Vec<(&'a str, &'a Yaml)>> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let map = value.as_hash().ok_or_else(|| anyhow!("{of} has settings, 'name: value'"))?;
    let entry = |(name, value): (&'a Yaml, &'a Yaml)| Ok((text(name, of)?, value));
    map.iter().map(entry).collect()
}

fn text(value: &Yaml, of: impl Display) -> Result<&str> {
    value.as_str().ok_or_else(|| anyhow!("{of}: expected a text, in quotes where it looks like a number"))
}

/// A path, relative to the directory of the file.
fn path(value: &Yaml, name: &str, directory: &Path) -> Result<PathBuf> {
    Ok(directory.join(text(value, name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash in the form of bcrypt.
    const HASH: &str = "$2b$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie";

    fn parse(text: &str) -> Result<WebConfig> {
        WebConfig::parse(text, Path::new("/etc/rsttrace"))
    }

    #[test]
    fn reads_the_form_of_the_exporters() {
        let text = format!(
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: /keys/key.pem\n  client_ca_file: ca.pem\n  \
             client_auth_type: RequireAndVerifyClientCert\n  min_version: TLS13\nhttp_server_config:\n  http2: false\n\
             basic_auth_users:\n  alice: {HASH}\nbearer_token_file: token\n"
        );
        let config = parse(&text).unwrap();
        let tls = config.tls.as_ref().unwrap();
        assert_eq!(
            (&*tls.cert_file, &*tls.key_file),
            (Path::new("/etc/rsttrace/cert.pem"), Path::new("/keys/key.pem"))
        );
        assert!(tls.is_tls13_only && tls.client_auth == ClientAuth::Required && config.needs_authentication());
        assert_eq!(config.users["alice"].reveal(), HASH);
        assert_eq!(config.bearer_token_file, Some("/etc/rsttrace/token".into()));
        assert!(!format!("{config:?}").contains(HASH));
        for empty in ["", "# nothing\n", "tls_server_config:\n  cert_file: a\n  key_file: b\n"] {
            assert!(!parse(empty).unwrap().needs_authentication(), "{empty}");
        }
    }

    #[test]
    fn faults_are_named_and_hashes_are_not() {
        for (text, said) in [
            ("basic_auth_user:\n  a: b", "did you mean 'basic_auth_users'?"),
            ("basic_auth_users:\n  alice: hunter2", "the password of 'alice' is no bcrypt hash"),
            ("tls_server_config:\n  cert_file: a", "needs cert_file and key_file"),
            (
                "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: RequireAndVerifyClientCert",
                "needs client_ca_file",
            ),
            ("tls_server_config:\n  client_auth_type: RequestClientCert", "proves nothing"),
            ("tls_server_config:\n  cipher_suites: [a]", "'cipher_suites' is not supported here"),
            ("tls_server_config:\n  min_version: TLS10", "TLS12 or TLS13"),
            ("http_server_config:\n  http2: soon", "true or false"),
            ("a: [", ""),
            ("- a", "the file has settings"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
