//! What browsers accept of a certificate that no authority vouches for: its hash, an ECDSA P-256 key, at most 14 days.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;

/// The longest life of a certificate that browsers accept by its hash.
const LIFE_MAX: Duration = Duration::from_secs(14 * 86_400);
/// Elliptic curve keys, and the curve P-256.
const EC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// Whether a certificate was issued by its own subject.
pub(super) fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    Certificate::from_der(certificate)
        .is_ok_and(|parsed| parsed.tbs_certificate.issuer == parsed.tbs_certificate.subject)
}

/// Why browsers will not accept a certificate at `now`, as far as can be told; `None` where nothing is wrong.
pub(super) fn complaint(certificate: &CertificateDer<'_>, now: SystemTime) -> Option<&'static str> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let inner = &parsed.tbs_certificate;
    let (from, to) = (inner.validity.not_before.to_system_time(), inner.validity.not_after.to_system_time());
    if to < now {
        return Some("it has expired");
    }
    if from > now {
        return Some("it is not valid yet");
    }
    if !is_self_signed(certificate) {
        return None;
    }
    if to.duration_since(from).unwrap_or_default() > LIFE_MAX {
        return Some("it is self-signed and valid for more than 14 days");
    }
    let key = &inner.subject_public_key_info.algorithm;
    let curve = key.parameters.as_ref().and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
    if key.oid != EC_KEY || curve != Some(P_256) {
        return Some("it is self-signed and its key is not ECDSA P-256");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384};

    const DAY: Duration = Duration::from_secs(86_400);

    fn certificate(days: u32, key: &KeyPair) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = SystemTime::now().into();
        params.not_after = (SystemTime::now() + DAY * days).into();
        params.self_signed(key).unwrap().der().clone()
    }

    #[test]
    fn er_h2_only_what_browsers_take_by_its_hash_goes_without_a_complaint() {
        let now = SystemTime::now();
        let key = KeyPair::generate().unwrap();
        let fresh = certificate(13, &key);
        assert!(is_self_signed(&fresh));
        assert_eq!(complaint(&fresh, now), None);
        assert_eq!(complaint(&fresh, now + DAY * 14), Some("it has expired"));
        assert_eq!(complaint(&fresh, now - DAY), Some("it is not valid yet"));
        let long = complaint(&certificate(15, &key), now);
        assert_eq!(long, Some("it is self-signed and valid for more than 14 days"));
        let curve = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let other = complaint(&certificate(13, &curve), now);
        assert_eq!(other, Some("it is self-signed and its key is not ECDSA P-256"));
    }

    #[test]
    fn an_authoritys_certificate_is_the_authoritys_matter() {
        let authority = hubgate_fixtures::certificates::CertificateAuthority::new().unwrap();
        let issued = authority.issue(&["localhost"]).unwrap();
        let issued = rustls::pki_types::pem::PemObject::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        assert!(!is_self_signed(&issued));
        assert_eq!(complaint(&issued, SystemTime::now()), None);
    }
}
