//! TLS towards clients: a certificate from files, or one made at start; and which clients' certificates are accepted.
//!
//! Files can be read again while running: handshakes that begin afterwards use them, connections that are open keep what
//! they have.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::certificate::end_point;
use super::{Stream, TlsError, provider};

/// What a self-signed certificate is good for: a sidecar is reached on loopback.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// PostgreSQL's name in ALPN (`PG_ALPN_PROTOCOL`).
const ALPN: &[u8] = b"postgresql";

/// The oldest version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            MinVersion::Tls12 => rustls::ALL_VERSIONS,
            MinVersion::Tls13 => ONLY_13,
        }
    }
}

/// Files, and what is asked of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate chain with its key, both PEM; a certificate made now where there are none.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Who signs clients' certificates; none is asked for without.
    pub client_ca: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
}

/// How TLS is spoken with clients. Clones share it.
#[derive(Clone)]
pub struct ServerTls(Arc<Mutex<Arc<Ready>>>);

/// One reading of the files.
struct Ready {
    identity: Identity,
    acceptor: TlsAcceptor,
    end_point: Option<Arc<[u8]>>,
}

/// A certificate chain and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    self_signed: bool,
}

/// A connection that became an encrypted one.
#[derive(Debug)]
pub struct Encrypted {
    /// The stream inside.
    pub stream: Stream,
    /// The `tls-server-end-point` of the certificate that this connection was shown.
    pub end_point: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or they do not fit together.
    pub fn new(files: &ServerFiles) -> Result<Self, TlsError> {
        let ready = Ready::new(Identity::read(files)?, files)?;
        Ok(Self(Arc::new(Mutex::new(Arc::new(ready)))))
    }

    /// With a certificate made now, so that `sslmode=require` works out of the box.
    ///
    /// # Errors
    /// It could not be made.
    pub fn self_signed() -> Result<Self, TlsError> {
        Self::new(&ServerFiles::default())
    }

    /// Reads the files again. A certificate made at start is kept: clients may have pinned it. True if another certificate
    /// is shown from now on.
    ///
    /// # Errors
    /// As [`ServerTls::new`]; what was is kept then.
    pub fn reload(&self, files: &ServerFiles) -> Result<bool, TlsError> {
        let before = self.ready();
        let identity = match files.identity {
            None if before.identity.self_signed => before.identity.again(),
            _ => Identity::read(files)?,
        };
        let changed = identity.chain != before.identity.chain;
        *self.0.lock() = Arc::new(Ready::new(identity, files)?);
        Ok(changed)
    }

    fn ready(&self) -> Arc<Ready> {
        self.0.lock().clone()
    }

    /// Makes an accepted connection an encrypted one. The caller has answered the request and sets the limit.
    ///
    /// # Errors
    /// The client broke off, speaks no TLS that we do, or shows a certificate that is not accepted.
    pub async fn accept(&self, stream: Stream) -> io::Result<Encrypted> {
        let ready = self.ready();
        let stream = Stream::TlsServer(Box::new(ready.acceptor.accept(stream).await?));
        Ok(Encrypted {
            stream,
            end_point: ready.end_point.clone(),
        })
    }

    /// As [`ServerTls::accept`], where the client began with TLS without asking first: it must say by ALPN that PostgreSQL is
    /// what it wants (PostgreSQL 17, `backend_startup.c`).
    ///
    /// # Errors
    /// As there, and where the client did not say it.
    pub async fn accept_direct(&self, stream: Stream) -> io::Result<Encrypted> {
        let encrypted = self.accept(stream).await?;
        match &encrypted.stream {
            Stream::TlsServer(stream) if stream.get_ref().1.alpn_protocol() == Some(ALPN) => {
                Ok(encrypted)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "received direct TLS connection request without ALPN protocol negotiation extension",
            )),
        }
    }
}

impl Ready {
    fn new(identity: Identity, files: &ServerFiles) -> Result<Self, TlsError> {
        let builder = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(files.min_version.versions())?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                let found = super::client::certificates("trusted certificates", path)?;
                roots.add_parsable_certificates(found);
                if roots.is_empty() {
                    return Err(TlsError::NoClientRoots(path.clone()));
                }
                // Whether one must be shown is for the authentication method to say, as in PostgreSQL.
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .allow_unauthenticated()
                        .build()?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let Identity { chain, key, .. } = identity.again();
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        let end_point = identity.chain.first().and_then(|der| end_point(der));
        Ok(Self {
            identity,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            end_point: end_point.map(Into::into),
        })
    }
}

impl Identity {
    fn read(files: &ServerFiles) -> Result<Self, TlsError> {
        let Some((certificate, key)) = &files.identity else {
            return Self::made_now();
        };
        Ok(Self {
            chain: super::client::certificates("a certificate", certificate)?,
            key: super::client::private_key(key)?,
            self_signed: false,
        })
    }

    fn made_now() -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned))?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self {
            chain: vec![made.cert.der().clone()],
            key: key.into(),
            self_signed: true,
        })
    }

    /// Keys have no `Clone`, so that each copy is meant.
    fn again(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            self_signed: self.self_signed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("poolwatch-server-tls-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn path(&self) -> &Path {
            &self.0
        }

        /// A certificate of its own with its key.
        fn identity(&self, algorithm: &'static SignatureAlgorithm) -> Option<(PathBuf, PathBuf)> {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let (at, key_at) = (self.path().join("crt"), self.path().join("key"));
            std::fs::write(&at, certificate.pem()).unwrap();
            std::fs::write(&key_at, key.serialize_pem()).unwrap();
            Some((at, key_at))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_certificate_made_at_start_stays_the_same() {
        let tls = ServerTls::self_signed().unwrap();
        let before = tls.ready().end_point.clone();
        assert!(before.is_some());
        let files = ServerFiles {
            min_version: MinVersion::Tls13,
            ..ServerFiles::default()
        };
        assert!(!tls.reload(&files).unwrap());
        assert_eq!(tls.ready().end_point, before);
    }

    #[test]
    fn files_are_read_again_and_bad_ones_leave_what_was() {
        let directory = Directory::new();
        let identity = directory.identity(&rcgen::PKCS_ECDSA_P256_SHA256);
        let mut files = ServerFiles {
            identity: identity.clone(),
            ..ServerFiles::default()
        };
        let tls = ServerTls::new(&files).unwrap();
        let first = tls.ready().end_point.clone();
        assert!(!tls.reload(&files).unwrap(), "the same files");
        directory.identity(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert!(tls.reload(&files).unwrap());
        let second = tls.ready().end_point.clone();
        assert_ne!(first, second);
        assert_eq!(second.as_ref().map(|hash| hash.len()), Some(48), "SHA-384");
        std::fs::write(&identity.unwrap().1, "no key").unwrap();
        assert!(tls.reload(&files).is_err());
        files.identity = None;
        files.client_ca = Some(directory.path().join("none"));
        assert!(tls.reload(&files).is_err());
        assert_eq!(tls.ready().end_point, second);
    }

    /// RFC 5929 leaves the hash undefined for Ed25519: nothing is offered that could not be kept.
    #[test]
    fn a_signature_without_a_hash_binds_nothing() {
        let directory = Directory::new();
        let files = ServerFiles {
            identity: directory.identity(&rcgen::PKCS_ED25519),
            ..ServerFiles::default()
        };
        assert_eq!(ServerTls::new(&files).unwrap().ready().end_point, None);
    }
}
