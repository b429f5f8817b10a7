//! `tls-server-end-point` (RFC 5929): the hash of the server's certificate, for SCRAM channel binding.

use sha2::{Digest as _, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// 1.2.840.113549.1.1: RSA signatures, PKCS #1.
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4: ECDSA signatures.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

/// The hash of a DER certificate, by the hash function of its signature, with SHA-256 in place of MD5 and
/// SHA-1. `None` if the signature has no such function (Ed25519) or has it in parameters (RSA-PSS). Channel
/// binding is then impossible.
pub fn hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let (signed, _) = element(certificate, SEQUENCE)?;
    let (_, after_body) = element(signed, SEQUENCE)?;
    let (algorithm, _) = element(after_body, SEQUENCE)?;
    let (name, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    let bits = match (name.strip_prefix(PKCS1), name.strip_prefix(ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => 256,
        (Some([12]), _) | (_, Some([3, 3])) => 384,
        (Some([13]), _) | (_, Some([3, 4])) => 512,
        _ => return None,
    };
    Some(match bits {
        256 => Sha256::digest(certificate).to_vec(),
        384 => Sha384::digest(certificate).to_vec(),
        _ => Sha512::digest(certificate).to_vec(),
    })
}

/// The content of the DER element at the beginning, and the bytes after it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        // A certificate never needs more than four length bytes.
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f).min(4))?;
        (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
    };
    if first != tag {
        return None;
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal certificate: body, signature algorithm, signature.
    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, contents: &[u8]| {
            let mut element = vec![tag, 0x82];
            element.extend(u16::try_from(contents.len()).unwrap().to_be_bytes());
            element.extend(contents);
            element
        };
        let body = wrap(SEQUENCE, &[7; 300]);
        let algorithm = wrap(
            SEQUENCE,
            &[&[OBJECT_IDENTIFIER, u8::try_from(algorithm.len()).unwrap()], algorithm].concat(),
        );
        wrap(SEQUENCE, &[body, algorithm, vec![3, 1, 0]].concat())
    }

    #[test]
    fn channel_binding_hash_follows_signature_algorithm() {
        let cases: [(&[u8], &[u8], Option<usize>); 10] = [
            (PKCS1, &[5], Some(32)),
            (PKCS1, &[11], Some(32)),
            (PKCS1, &[12], Some(48)),
            (PKCS1, &[13], Some(64)),
            (PKCS1, &[10], None),
            (ECDSA, &[1], Some(32)),
            (ECDSA, &[3, 2], Some(32)),
            (ECDSA, &[3, 3], Some(48)),
            (ECDSA, &[3, 4], Some(64)),
            (&[0x2b, 0x65, 0x70], &[], None),
        ];
        for (family, kind, length) in cases {
            let certificate = certificate(&[family, kind].concat());
            assert_eq!(hash(&certificate).map(|hash| hash.len()), length, "{family:?} {kind:?}");
        }
    }

    #[test]
    fn truncated_certificate_has_no_hash() {
        let whole = certificate(&[PKCS1, &[11]].concat());
        for end in 0..whole.len() {
            assert_eq!(hash(&whole[..end]), None, "{end}");
        }
    }
}
