//! Certificates and keys in PEM.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::RotatedFile;

/// Certificates of authorities. Fails where the file has none, or one that cannot be parsed.
pub(crate) fn trusted_roots(file: &RotatedFile) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificate_chain(file)? {
        roots.add(certificate).with_context(|| unusable(file.path(), "certificate"))?;
    }
    Ok(roots)
}

/// Certificates in the order of the file, that of this end first. Fails where the file has none.
pub(crate) fn certificate_chain(file: &RotatedFile) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(file.text().reveal().as_bytes()).collect();
    let chain = found.with_context(|| unusable(file.path(), "certificate"))?;
    if chain.is_empty() {
        bail!("{} has no certificate in PEM", file.path().display());
    }
    Ok(chain)
}

/// The first private key of a file (PKCS #8, PKCS #1 or SEC 1). Fails where the file has none, or one with a passphrase.
pub(crate) fn private_key(file: &RotatedFile) -> Result<PrivateKeyDer<'static>> {
    let text = file.text().reveal();
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        bail!("the key in {} has a passphrase: write it without one ('openssl pkey')", file.path().display());
    }
    // The parser's error could quote the file.
    let Ok(key) = PrivateKeyDer::from_pem_slice(text.as_bytes()) else {
        bail!("{} has no private key in PEM", file.path().display());
    };
    Ok(key)
}

fn unusable(path: &Path, what: &str) -> String {
    format!("a {what} in {} cannot be used", path.display())
}
