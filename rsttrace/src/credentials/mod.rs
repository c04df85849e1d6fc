//! Secrets and certificates of connections that rsttrace makes or accepts.
//!
//! They come from files or from the environment, never from the command line, which every user of the host can read. Files
//! are read before the sandbox is entered, as the user who starts rsttrace, and read again where they have changed since:
//! tokens and certificates are rotated during a run. No error, message or `Debug` output contains a secret.

mod rotated_file;
mod secret;
#[cfg(feature = "tls")]
mod tls_client;
#[cfg(feature = "tls")]
mod tls_pem;

pub(crate) use self::{rotated_file::RotatedFile, secret::Secret};
#[cfg(feature = "tls")]
pub(crate) use self::{
    tls_client::{ClientTls, ClientTlsFiles},
    tls_pem::{certificate_chain, private_key, trusted_roots},
};
