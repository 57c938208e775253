//! TLS towards PostgreSQL, with libpq's meaning of `sslmode`.
//!
//! `require` encrypts and verifies nothing, unless a root certificate is named: then it verifies as `verify-ca` does
//! (libpq, "SSL Support"). `prefer` takes what the server offers.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;

use super::verify::{Names, Verifier};
use super::{Stream, TlsError, provider};
use crate::dsn::{Dsn, SslMode};

/// Files of a connection URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// `sslrootcert`: trusted certificates, or the word `system`.
    pub root: Option<PathBuf>,
    /// `sslcert`: our own certificate.
    pub certificate: Option<PathBuf>,
    /// `sslkey`: its key.
    pub key: Option<PathBuf>,
}

impl From<&Dsn> for TlsFiles {
    fn from(dsn: &Dsn) -> Self {
        Self {
            root: dsn.ssl_root_cert.clone(),
            certificate: dsn.ssl_cert.clone(),
            key: dsn.ssl_key.clone(),
        }
    }
}

/// How one attempt at a connection treats encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Does not ask for it.
    None,
    /// Asks, and goes on without where the server has none.
    IfOffered,
    /// Asks, and fails where the server has none.
    Always,
}

/// How TLS is spoken with PostgreSQL. Clones share it.
#[derive(Clone)]
pub struct ClientTls {
    mode: SslMode,
    config: Arc<rustls::ClientConfig>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads the files that the mode needs.
    ///
    /// # Errors
    /// A file cannot be read, or there is nothing to verify against.
    pub fn new(mode: SslMode, files: &TlsFiles) -> Result<Self, TlsError> {
        let names = if mode == SslMode::VerifyFull {
            Names::Checked
        } else {
            Names::Ignored
        };
        let verifies = match mode {
            SslMode::VerifyCa | SslMode::VerifyFull => true,
            SslMode::Require => files.root.is_some(),
            SslMode::Disable | SslMode::Allow | SslMode::Prefer => false,
        };
        let verifier = if verifies {
            Verifier::of(roots(mode, files)?, names)?
        } else {
            Verifier::of_anything()
        };
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (&files.certificate, &files.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => builder.with_client_auth_cert(
                certificates("a client certificate", certificate)?,
                private_key(key)?,
            )?,
            (Some(_), None) => return Err(TlsError::Half("sslkey")),
            (None, Some(_)) => return Err(TlsError::Half("sslcert")),
        };
        Ok(Self {
            mode,
            config: Arc::new(config),
        })
    }

    /// What is asked for.
    pub fn mode(&self) -> SslMode {
        self.mode
    }

    /// The attempts that a connection makes, in order: the second only where the first failed in a way that the other
    /// treatment may cure.
    pub fn attempts(&self) -> &'static [Encryption] {
        match self.mode {
            SslMode::Disable => &[Encryption::None],
            SslMode::Allow => &[Encryption::None, Encryption::Always],
            SslMode::Prefer => &[Encryption::IfOffered, Encryption::None],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Encryption::Always],
        }
    }

    /// The configuration, for a client library that does its own negotiation.
    pub fn config(&self) -> rustls::ClientConfig {
        (*self.config).clone()
    }

    /// Makes a connection an encrypted one. The caller has asked the server and sets the limit.
    ///
    /// # Errors
    /// The server's certificate is not accepted, or it speaks no TLS that we do.
    pub async fn connect(&self, host: &str, stream: Stream) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let encrypted = TlsConnector::from(self.config.clone())
            .connect(name, stream)
            .await?;
        Ok(Stream::TlsClient(Box::new(encrypted)))
    }
}

/// The certificates that are trusted, as they stand in the file or the system.
fn roots(
    mode: SslMode,
    files: &TlsFiles,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let found = match &files.root {
        Some(path) if path.as_os_str() != "system" => certificates("trusted certificates", path)?,
        _ if mode != SslMode::VerifyFull => return Err(TlsError::RootNeeded),
        _ => rustls_native_certs::load_native_certs().certs,
    };
    let mut store = RootCertStore::empty();
    // A store may hold certificates that webpki cannot read; those that it can are enough.
    store.add_parsable_certificates(found.iter().cloned());
    if store.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok((store, found))
}

/// All certificates of a PEM file.
pub(super) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |source| TlsError::File {
        what,
        path: path.to_owned(),
        source,
    };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(error)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(error)?;
    if found.is_empty() {
        return Err(error(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

/// The private key of a PEM file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::File {
        what: "a private key",
        path: path.to_owned(),
        source,
    })
}
