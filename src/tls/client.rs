//! TLS towards PostgreSQL: libpq's six modes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::TlsError;
use super::stream::Stream;
use super::verify::{LibpqVerifier, Roots};
use crate::dsn::SslMode;

/// PostgreSQL's protocol name, which servers from 17 on look at (RFC 7301, IANA "postgresql").
pub(super) const ALPN: &[u8] = b"postgresql";

/// How one attempt at a connection treats encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Do not ask for it.
    None,
    /// Ask, and go on without if the server cannot.
    IfOffered,
    /// Ask, and fail if the server cannot.
    Always,
}

/// The TLS settings of one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientTls {
    mode: SslMode,
    config: Option<Arc<ClientConfig>>,
}

impl ClientTls {
    /// Reads the files and prepares the mode.
    ///
    /// `root_cert`: whom to trust; without it `verify-full` trusts the operating system's roots, `verify-ca` is refused,
    /// and the weaker modes verify nothing. With it, every mode that encrypts verifies the chain, as libpq does.
    /// `identity`: certificate chain and key to show when the server asks for them.
    pub fn new(
        mode: SslMode,
        root_cert: Option<PathBuf>,
        identity: Option<(PathBuf, PathBuf)>,
    ) -> Result<Self, TlsError> {
        if mode == SslMode::Disable {
            return Ok(Self::disabled());
        }
        let roots = match (&root_cert, mode) {
            (Some(path), _) => Some(Arc::new(roots_from(path)?)),
            (None, SslMode::VerifyFull) => Some(Arc::new(system_roots()?)),
            (None, SslMode::VerifyCa) => return Err(TlsError::RootNeeded),
            (None, _) => None,
        };
        let provider = Arc::new(ring::default_provider());
        let verifier = LibpqVerifier {
            roots,
            check_name: mode == SslMode::VerifyFull,
            algorithms: provider.signature_verification_algorithms,
        };
        let config = client_config(provider, verifier, identity)?;
        Ok(Self {
            mode,
            config: Some(Arc::new(config)),
        })
    }

    /// No encryption at all.
    pub fn disabled() -> Self {
        Self {
            mode: SslMode::Disable,
            config: None,
        }
    }

    /// The mode these settings were made for.
    pub fn mode(&self) -> SslMode {
        self.mode
    }

    /// The attempts a connection over TCP makes, in order; the second only if the first failed in a way that the other
    /// treatment of encryption may cure.
    pub fn attempts(&self) -> &'static [Encryption] {
        match self.mode {
            SslMode::Disable => &[Encryption::None],
            SslMode::Allow => &[Encryption::None, Encryption::Always],
            SslMode::Prefer => &[Encryption::IfOffered, Encryption::None],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Encryption::Always],
        }
    }

    /// The handshake, after the server has agreed to it. Without settings (`disable`) this is an error, never plain text.
    pub async fn handshake(&self, host: &str, socket: TcpStream) -> Result<Stream, TlsError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError::BadName(host.to_owned()))?;
        let config = self
            .config
            .clone()
            .ok_or_else(|| TlsError::Setup(rustls::Error::General("TLS is disabled".to_owned())))?;
        let stream = TlsConnector::from(config).connect(name, socket).await;
        let stream = stream.map_err(TlsError::Handshake)?;
        Ok(Stream::TlsClient(Box::new(stream)))
    }
}

fn client_config(
    provider: Arc<CryptoProvider>,
    verifier: LibpqVerifier,
    identity: Option<(PathBuf, PathBuf)>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(&certificate)?, private_key(&key)?)
            .map_err(TlsError::Setup)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// The certificates of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })?;
    if read.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(read)
}

/// The private key of a PEM file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

fn roots_from(path: &Path) -> Result<Roots, TlsError> {
    let pinned = certificates(path)?;
    let mut store = rustls::RootCertStore::empty();
    for certificate in &pinned {
        store.add(certificate.clone()).map_err(TlsError::Setup)?;
    }
    Ok(Roots { store, pinned })
}

fn system_roots() -> Result<Roots, TlsError> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut store = rustls::RootCertStore::empty();
    // Old roots that rustls cannot read are passed over: one of them must not take the others away.
    let (added, ignored) = store.add_parsable_certificates(loaded.certs);
    if added == 0 {
        return Err(TlsError::NoSystemRoots {
            failed: ignored + loaded.errors.len(),
        });
    }
    Ok(Roots {
        store,
        pinned: Vec::new(),
    })
}
