//! Which server certificates are accepted.
//!
//! Three rules of libpq that webpki does not have: `verify-ca` checks the chain and not the name; a certificate that
//! stands itself among the trusted ones is accepted as long as its dates allow (a pinned self-signed server certificate);
//! and a certificate without alternative names is good for its common name.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::PeerCertificate;
use super::{TlsError, provider};

/// Whether the certificate must be for the host we connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// It must (`verify-full`).
    Checked,
    /// It need not (`verify-ca`).
    Ignored,
}

/// Accepts what a mode accepts. Signatures of the handshake are verified in every mode.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None` accepts any certificate.
    trust: Option<Trust>,
}

#[derive(Debug)]
struct Trust {
    chain: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    names: Names,
}

impl Verifier {
    /// Accepts any certificate: encryption without authentication.
    pub(super) fn of_anything() -> Self {
        Self {
            provider: provider(),
            trust: None,
        }
    }

    /// Accepts what the trusted certificates vouch for.
    pub(super) fn of(
        (store, pinned): (RootCertStore, Vec<CertificateDer<'static>>),
        names: Names,
    ) -> Result<Self, TlsError> {
        let chain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build()?;
        Ok(Self {
            provider: provider(),
            trust: Some(Trust {
                chain,
                pinned,
                names,
            }),
        })
    }
}

impl Trust {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.pinned.iter().any(|known| known == end_entity) {
            verify_dates(end_entity, now)?;
            return match self.names {
                Names::Ignored => Ok(()),
                Names::Checked => verify_name(end_entity, name),
            };
        }
        match self
            .chain
            .verify_server_cert(end_entity, intermediates, name, &[], now)
        {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => match self.names {
                Names::Ignored => Ok(()),
                Names::Checked => verify_name(end_entity, name),
            },
            other => other.map(drop),
        }
    }
}

fn verify_dates(end_entity: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    match PeerCertificate::parse(end_entity) {
        Some(certificate) if certificate.is_current(now) => Ok(()),
        Some(_) => Err(CertificateError::Expired.into()),
        None => Err(CertificateError::BadEncoding.into()),
    }
}

fn verify_name(end_entity: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    let Err(refused) = rustls::client::verify_server_name(&parsed, name) else {
        return Ok(());
    };
    match PeerCertificate::parse(end_entity) {
        Some(certificate)
            if certificate.falls_back_to_common_name(name)
                && certificate.common_name_matches(name) =>
        {
            Ok(())
        }
        _ => Err(refused),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trust) = &self.trust {
            trust.verify(end_entity, intermediates, server_name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
