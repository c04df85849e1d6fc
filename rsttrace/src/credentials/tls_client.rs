//! TLS settings of connections to sinks.

use std::{env, ffi::OsString, sync::Arc};

use anyhow::{Context as _, Result, bail};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring};

use super::{
    ClientTlsFiles, RotatedFile,
    tls_pem::{certificate_chain, private_key, trusted_roots},
};
use crate::util::{
    messages::{info, sentence},
    sanitize::Sanitized,
};

/// TLS configuration of a client, made anew where one of its files has changed.
pub(crate) struct ClientTls {
    ca: Option<RotatedFile>,
    /// Certificates that this host trusts, where no file is named.
    host_roots: Arc<RootCertStore>,
    /// Certificate and key.
    identity: Option<(RotatedFile, RotatedFile)>,
    /// Protocols for ALPN, the preferred one first.
    protocols: &'static [&'static [u8]],
    config: Arc<ClientConfig>,
    /// Whether it has been reported that changed files cannot be used.
    is_reported: bool,
}

impl ClientTls {
    /// Reads the files, or the certificates that the host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others). Blocks on
    /// the file system. Fails where a file cannot be read or used, where certificate and key do not belong together, and
    /// where there is nothing to trust.
    pub(crate) fn read(files: &ClientTlsFiles, protocols: &'static [&'static [u8]]) -> Result<Self> {
        let ca = files.ca.as_deref().map(RotatedFile::read).transpose()?;
        let host_roots = Arc::new(if ca.is_some() { RootCertStore::empty() } else { host_roots()? });
        let identity = match (&files.certificate, &files.key) {
            (Some(certificate), key) => {
                let key = key.as_ref().unwrap_or(certificate);
                Some((RotatedFile::read(certificate)?, RotatedFile::read(key)?))
            }
            (None, Some(key)) => bail!("{} is a key without a certificate: name that too", key.display()),
            (None, None) => None,
        };
        let config = config(ca.as_ref(), &host_roots, identity.as_ref(), protocols)?;
        Ok(Self { ca, host_roots, identity, protocols, config, is_reported: false })
    }

    /// Whether the client has a certificate.
    #[cfg(feature = "otlp")]
    pub(crate) const fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// The configuration, from the files as they are now. Where changed files cannot be used (a certificate may be replaced
    /// before its key), this is reported once and the earlier configuration stays.
    pub(crate) fn config(&mut self) -> Arc<ClientConfig> {
        let identity = self.identity.as_mut().map(|(certificate, key)| [certificate, key]).into_iter().flatten();
        // Every file is looked at, whatever the first one says.
        let is_changed = self.ca.iter_mut().chain(identity).filter_map(|file| file.refresh().then_some(())).count() > 0;
        // After a failure it is tried at each connection, since the other file may have come since.
        if is_changed || self.is_reported {
            match config(self.ca.as_ref(), &self.host_roots, self.identity.as_ref(), self.protocols) {
                Ok(config) => {
                    self.config = config;
                    self.is_reported = false;
                }
                Err(error) if !self.is_reported => {
                    info(format_args!("changed certificates cannot be used yet: {}", sentence(&error)));
                    self.is_reported = true;
                }
                Err(_) => {}
            }
        }
        Arc::clone(&self.config)
    }
}

/// Variables that name certificates in place of the host's, a file and a directory.
const ROOTS_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Says that there are no certificates to trust, where those of these variables are looked for.
fn lack_of_roots(named: &[(&str, OsString)]) -> String {
    if named.is_empty() {
        return "this host has no certificates to trust: install ca-certificates, or name a file (ca=FILE, or SSL_CERT_FILE)"
            .to_owned();
    }
    let named = named.iter().map(|(name, path)| format!("{name}={}", Sanitized(&path.to_string_lossy())));
    let named = named.collect::<Vec<_>>().join(" and ");
    format!(
        "{named} has no certificates to trust, and replaces those of the host: correct or unset it, or name a file (ca=FILE)"
    )
}

/// Certificates that this host trusts.
fn host_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let named = ROOTS_VARIABLES.iter().filter_map(|name| Some((*name, env::var_os(name)?))).collect::<Vec<_>>();
        bail!("{}", lack_of_roots(&named));
    }
    Ok(roots)
}

fn config(
    ca: Option<&RotatedFile>,
    host_roots: &Arc<RootCertStore>,
    identity: Option<&(RotatedFile, RotatedFile)>,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>> {
    let roots = ca.map_or_else(|| Ok(Arc::clone(host_roots)), |file| trusted_roots(file).map(Arc::new))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((certificate, key)) => {
            let unfit = || {
                format!("certificate {} and key {} cannot be used", certificate.path().display(), key.path().display())
            };
            let chain = certificate_chain(certificate)?;
            let mut config = builder.with_client_auth_cert(chain, private_key(key)?).with_context(unfit)?;
            // Servers on OpenSSL that ask for certificates without naming their sessions (rsyslog) refuse resumed ones.
            config.resumption = Resumption::disabled();
            config
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::lack_of_roots;

    #[test]
    fn a_lack_of_certificates_names_where_they_were_looked_for() {
        let of_host = lack_of_roots(&[]);
        assert!(of_host.starts_with("this host has no certificates to trust: install ca-certificates"), "{of_host}");

        let file = ("SSL_CERT_FILE", "/nowhere\u{1b}[2J".into());
        let of_variable = lack_of_roots(&[file, ("SSL_CERT_DIR", "/etc/none".into())]);
        assert!(
            of_variable.contains("SSL_CERT_DIR=/etc/none has no certificates to trust, and replaces those of the host"),
            "{of_variable}"
        );
        assert!(of_variable.starts_with("SSL_CERT_FILE=/nowhere") && !of_variable.contains('\u{1b}'), "{of_variable}");
    }
}
