//! Files that the options of a sink name.

use std::path::PathBuf;

/// Files of a TLS client, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientTlsFiles {
    /// Authorities that the server's certificate is verified against; `None` for those that this host trusts.
    pub(crate) ca: Option<PathBuf>,
    /// The client's certificate, with intermediate ones behind it.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key; `None` where the file of the certificate has it.
    pub(crate) key: Option<PathBuf>,
}
