//! What can be wrong with TLS, at start and in a handshake.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;

/// Why TLS could not be set up or a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file could not be read as PEM.
    #[error("could not read {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A file was read, but holds no certificate.
    #[error("no certificate in {path}", path = path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// verify-ca needs to be told whom to trust: with the system's roots anybody can have a certificate.
    #[error(
        "sslmode verify-ca needs a root certificate file (sslrootcert); with the system's roots use verify-full"
    )]
    RootNeeded,
    /// The operating system's trusted roots could not be loaded.
    #[error("no trusted root certificates found on this system ({failed} could not be read)")]
    NoSystemRoots {
        /// How many could not be read.
        failed: usize,
    },
    /// The host's name cannot stand in a certificate.
    #[error("{0:?} is no name that a certificate can hold")]
    BadName(String),
    /// rustls refused a key, a certificate or a combination.
    #[error("TLS set-up refused")]
    Setup(#[source] rustls::Error),
    /// The self-signed certificate could not be made.
    #[error("could not make a self-signed certificate")]
    SelfSigned(#[source] rcgen::Error),
    /// The handshake failed; the cause says whether by the certificate, the network or the peer.
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
}
