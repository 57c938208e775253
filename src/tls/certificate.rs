//! What we read from a certificate ourselves: names and dates for libpq's rules, the hash for channel binding.

use std::net::IpAddr;

use rustls::pki_types::{ServerName, UnixTime};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512, SHA_1_WITH_RSA_ENCRYPTION,
    SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// A parsed certificate of a peer.
pub(super) struct PeerCertificate(Certificate);

impl PeerCertificate {
    /// Reads DER; `None` if it is none.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        Certificate::from_der(der).ok().map(Self)
    }

    /// Whether `now` lies within the certificate's dates.
    pub(super) fn is_current(&self, now: UnixTime) -> bool {
        let validity = &self.0.tbs_certificate.validity;
        let from = validity.not_before.to_unix_duration().as_secs();
        let until = validity.not_after.to_unix_duration().as_secs();
        (from..=until).contains(&now.as_secs())
    }

    /// Whether libpq would compare the host with the common name: only where the certificate has no alternative name of
    /// the host's kind (PostgreSQL, `fe-secure-openssl.c`, `pgtls_verify_peer_name_matches_certificate_guts`).
    pub(super) fn falls_back_to_common_name(&self, host: &ServerName<'_>) -> bool {
        let same_kind = |name: &GeneralName| match host {
            ServerName::IpAddress(_) => matches!(name, GeneralName::IpAddress(_)),
            _ => matches!(name, GeneralName::DnsName(_)),
        };
        let extensions = self.0.tbs_certificate.extensions.iter().flatten();
        !extensions
            .filter(|extension| extension.extn_id == SUBJECT_ALT_NAME)
            // An extension we cannot read counts as one that has the kind: the strict side.
            .any(
                |extension| match SubjectAltName::from_der(extension.extn_value.as_bytes()) {
                    Ok(names) => names.0.iter().any(same_kind),
                    Err(_) => true,
                },
            )
    }

    /// Whether the subject's last common name matches the host: exact, or `*.` for exactly one label.
    pub(super) fn common_name_matches(&self, host: &ServerName<'_>) -> bool {
        let attributes = self.0.tbs_certificate.subject.0.iter();
        let name = attributes
            .flat_map(|rdn| rdn.0.iter())
            .rfind(|attribute| attribute.oid == COMMON_NAME)
            .and_then(|attribute| std::str::from_utf8(attribute.value.value()).ok());
        match (name, host) {
            (Some(name), ServerName::DnsName(host)) => name_matches(name, host.as_ref()),
            (Some(name), ServerName::IpAddress(ip)) => {
                name.parse::<IpAddr>().ok() == Some(IpAddr::from(*ip))
            }
            _ => false,
        }
    }

    /// The subject's first common name, as PostgreSQL takes it for its `cert` method (`be-secure-openssl.c`); none where it
    /// holds a zero byte.
    pub(super) fn first_common_name(&self) -> Option<String> {
        let attributes = self.0.tbs_certificate.subject.0.iter();
        let name = attributes
            .flat_map(|rdn| rdn.0.iter())
            .find(|attribute| attribute.oid == COMMON_NAME)?;
        let text = std::str::from_utf8(name.value.value()).ok()?;
        (!text.contains('\0')).then(|| text.to_owned())
    }
}

/// The `tls-server-end-point` of RFC 5929 §4.1: the certificate under the hash of its signature, SHA-256 in place of weaker
/// ones. `None` where the RFC leaves it undefined (Ed25519, RSA-PSS), as PostgreSQL cannot do it then either.
pub(super) fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(der).ok()?;
    match certificate.signature_algorithm.oid {
        SHA_1_WITH_RSA_ENCRYPTION | SHA_256_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_256 => {
            Some(Sha256::digest(der).to_vec())
        }
        SHA_384_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_384 => Some(Sha384::digest(der).to_vec()),
        SHA_512_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_512 => Some(Sha512::digest(der).to_vec()),
        _ => None,
    }
}

fn name_matches(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if pattern.contains('\0') {
        return false;
    }
    match pattern.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| {
            !label.is_empty() && !parent.contains('*') && rest.eq_ignore_ascii_case(parent)
        }),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(name_matches("*.example.com", "db.example.com"));
        assert!(!name_matches("*.example.com", "a.b.example.com"));
        assert!(!name_matches("*.example.com", "example.com"));
        assert!(!name_matches("*.example.com", ".example.com"));
        assert!(!name_matches("*", "localhost"));
    }

    #[test]
    fn names_are_compared_without_case() {
        assert!(name_matches("DB.example.com", "db.EXAMPLE.com"));
        assert!(!name_matches("db.example.com\0.evil.org", "db.example.com"));
        assert!(!name_matches("db.example.com", "other.example.com"));
    }

    #[test]
    fn junk_is_no_certificate() {
        assert!(PeerCertificate::parse(b"\x30\x82\xff\xff junk").is_none());
        assert_eq!(end_point(b""), None);
    }
}
