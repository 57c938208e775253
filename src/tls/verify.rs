//! libpq's idea of a trustworthy server, as a rustls verifier.
//!
//! rustls' own verifier differs from libpq in four points that working installations rely on: libpq can encrypt without
//! verifying (`require`), can verify the chain but not the name (`verify-ca`), accepts a self-signed server certificate
//! that is itself the configured root, and falls back to the common name where there are no alternative names.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::PeerCertificate;

/// Whom to trust: authorities, and the same certificates once more for the exact comparison.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) store: RootCertStore,
    pub(super) pinned: Vec<CertificateDer<'static>>,
}

/// Verifies a server as libpq would in one of its modes.
#[derive(Debug)]
pub(super) struct LibpqVerifier {
    /// `None`: any certificate will do.
    pub(super) roots: Option<Arc<Roots>>,
    /// Whether the certificate must be for the host's name.
    pub(super) check_name: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl LibpqVerifier {
    fn verify_chain(
        &self,
        roots: &Roots,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // webpki refuses a server certificate that is an authority (what `openssl req -x509` makes); as the configured root
        // itself it is as trusted as can be, only its dates are left to check.
        if roots.pinned.iter().any(|root| root == end_entity) {
            return match PeerCertificate::parse(end_entity) {
                Some(certificate) if certificate.is_current(now) => Ok(()),
                Some(_) => Err(CertificateError::Expired.into()),
                None => Err(CertificateError::BadEncoding.into()),
            };
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots.store,
            intermediates,
            now,
            self.algorithms.all,
        )
    }
}

impl ServerCertVerifier for LibpqVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            self.verify_chain(roots, end_entity, intermediates, now)?;
        }
        if self.check_name {
            verify_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // The signature is checked in every mode: channel binding is worth nothing if the peer need not hold the key.
        match PeerCertificate::parse(cert).and_then(|parsed| parsed.version_1_key()) {
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms),
            None => verify_tls13_signature(message, cert, dss, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn verify_name(end_entity: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end_entity);
    let by_alternative_name = parsed.and_then(|parsed| verify_server_name(&parsed, host));
    let Err(refused) = by_alternative_name else {
        return Ok(());
    };
    match PeerCertificate::parse(end_entity) {
        Some(certificate)
            if certificate.falls_back_to_common_name(host)
                && certificate.common_name_matches(host) =>
        {
            Ok(())
        }
        _ => Err(refused),
    }
}
