//! TLS towards clients: a certificate from files, or one made at start.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::{Stream, TlsError, provider};

/// What a self-signed certificate is good for: a sidecar is reached on loopback.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How TLS is spoken with clients. Clones share it.
#[derive(Clone)]
pub struct ServerTls(TlsAcceptor);

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// With a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// A file cannot be read, or the two do not fit.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = super::client::certificates("a certificate", certificate)?;
        let key = super::client::private_key(key)?;
        Self::new(chain, key)
    }

    /// With a certificate made now, so that `sslmode=require` works out of the box.
    ///
    /// # Errors
    /// It could not be made.
    pub fn self_signed() -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned))?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Self::new(vec![made.cert.der().clone()], key.into())
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Makes an accepted connection an encrypted one. The caller has answered the request and sets the limit.
    ///
    /// # Errors
    /// The client broke off, or speaks no TLS that we do.
    pub async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        Ok(Stream::TlsServer(Box::new(self.0.accept(stream).await?)))
    }
}
