//! TLS on both sides, and the stream that hides whether there is any.
//!
//! The provider is named wherever a configuration is built, never taken from the process: two parts of a process, or two
//! tests, cannot disturb each other.

mod certificate;
mod client;
mod server;
mod stream;
mod verify;

pub use client::{ClientTls, Encryption, TlsFiles};
pub use server::{Encrypted, MinVersion, ServerFiles, ServerTls};
pub use stream::Stream;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind that is needed.
    #[error("{what} could not be read from {path}", path = path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// There is nothing to verify a server against.
    #[error(
        "no trusted certificates: name a file with sslrootcert, or install the system's certificates"
    )]
    NoRoots,
    /// verify-ca has to be told whom to trust: of the system's authorities anybody can have a certificate.
    #[error(
        "sslmode verify-ca needs trusted certificates of its own: name a file with sslrootcert, or use verify-full"
    )]
    RootNeeded,
    /// A certificate is given without its key, or a key without its certificate.
    #[error("a certificate and its key go together: {0} is missing")]
    Half(&'static str),
    /// The certificates make no configuration.
    #[error("the certificates cannot be used")]
    Rustls(#[from] rustls::Error),
    /// The certificates make no verifier.
    #[error("the trusted certificates cannot be used")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// No certificate of the file that clients' certificates are checked with can be read.
    #[error("no usable certificate in {}", .0.display())]
    NoClientRoots(PathBuf),
    /// Clients are to prove themselves by certificates of nobody in particular.
    #[error("auth.method cert needs listen.tls_client_ca")]
    ClientCaNeeded,
    /// The self-signed certificate could not be made.
    #[error("a self-signed certificate could not be made")]
    SelfSigned(#[from] rcgen::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
