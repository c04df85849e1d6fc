//! Secrets and certificates of connections that rsttrace makes or accepts.
//!
//! They come from files or from the environment, never from the command line, which every user of the host can read. Files
//! are read before the sandbox is entered, as the user who starts rsttrace, and read again where they have changed since:
//! tokens and certificates are rotated during a run. No error, message or `Debug` output contains a secret.

mod rotated_file;
mod secret;
#[cfg(feature = "tls")]
mod tls_client;
#[cfg(any(feature = "otlp", feature = "tls"))]
mod tls_files;
#[cfg(feature = "tls")]
mod tls_pem;

#[cfg(any(feature = "otlp", feature = "tls"))]
pub(crate) use self::tls_files::ClientTlsFiles;
pub(crate) use self::{rotated_file::RotatedFile, secret::Secret};
#[cfg(feature = "tls")]
pub(crate) use self::{
    tls_client::ClientTls,
    tls_pem::{certificate_chain, private_key, trusted_roots},
};
