//! TLS towards clients.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::client::{ALPN, certificates, private_key};
use super::error::TlsError;
use super::stream::Stream;

/// Names of the self-signed certificate: a sidecar is reached on the loopback.
const SELF_SIGNED_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate shown to clients. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    certificate: CertificateDer<'static>,
}

impl ServerTls {
    /// With the operator's certificate chain and key, both PEM.
    pub fn new(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::from_der(certificates(certificate)?, private_key(key)?)
    }

    /// With a certificate made now, for `localhost` and the loopback addresses, so that `sslmode=require` works at once.
    /// It is another one after each start, so nobody can pin it.
    pub fn self_signed() -> Result<Self, TlsError> {
        let names = SELF_SIGNED_NAMES.map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).map_err(TlsError::SelfSigned)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Self::from_der(vec![made.cert.der().clone()], key.into())
    }

    fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        // `certificates` and `self_signed` give at least one.
        let certificate = chain
            .first()
            .cloned()
            .ok_or_else(|| TlsError::Setup(rustls::Error::General("no certificate".to_owned())))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Setup)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate,
        })
    }

    /// The handshake with a client that was told `S`. The caller sets the time limit.
    pub async fn accept(&self, socket: TcpStream) -> Result<Stream, TlsError> {
        let stream = self.acceptor.accept(socket).await;
        let stream = stream.map_err(TlsError::Handshake)?;
        Ok(Stream::TlsServer(Box::new(stream)))
    }

    /// For a caller that holds another kind of stream.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// The certificate itself, in DER, as clients see it.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}
