//! The log-in without a server: the response to each message, in any order.

use proptest::prelude::*;

use crate::failure::Failure;
use crate::source::postgres::error;

use super::*;

const PASSWORD: &str = "correct-horse-battery";
const SALT: [u8; 4] = *b"salt";

fn settings(query: &str) -> Settings {
    Settings::from_url(&format!("postgres://forebay:{PASSWORD}@db.example/lab?{query}")).unwrap()
}

fn request(code: u32, rest: &[u8]) -> Message {
    message(b'R', &[&code.to_be_bytes()[..], rest].concat())
}

fn message(tag: u8, body: &[u8]) -> Message {
    let length = u32::try_from(body.len() + 4).unwrap();
    error::parse(&[&[tag][..], &length.to_be_bytes(), body].concat(), "db").unwrap()
}

fn channel(tls: bool, verified: bool) -> Channel {
    Channel { tls, verified, end_point: tls.then(|| vec![7; 32]) }
}

fn holds(out: &[u8], secret: &[u8]) -> bool {
    out.windows(secret.len()).any(|window| window == secret)
}

/// Whether the output contains the password in clear text, or a hash that is as good.
fn is_given_away(out: &[u8]) -> bool {
    let hash = md5_hash(b"forebay", PASSWORD.as_bytes(), SALT);
    holds(out, PASSWORD.as_bytes()) || holds(out, hash.as_bytes())
}

/// Any server may request the password. It gets it only if its identity is certain, or if the URL allows it.
/// Encryption alone is not enough, because anybody can create a certificate.
#[test]
fn password_goes_to_a_verified_server_only() {
    for (code, name) in [(3, "password"), (5, "md5")] {
        let rest: &[u8] = if code == 5 { &SALT } else { b"" };
        for (tls, verified, query, given) in [
            (false, false, "", false),
            (true, false, "", false),
            (true, false, "sslmode=require", false),
            (true, true, "", true),
            (false, true, "", true),
            (false, false, &format!("require_auth={name}"), true),
            (true, true, "require_auth=scram-sha-256", false),
            (true, true, &format!("require_auth=!{name}"), false),
            (false, false, "require_auth=!none", false),
            (true, true, "channel_binding=require", false),
        ] {
            let settings = settings(query);
            let mut log_in = LogIn::new(&settings, channel(tls, verified)).unwrap();
            let mut out = BytesMut::new();
            let outcome = log_in.take(&request(code, rest), &mut out);
            assert_eq!(outcome.is_ok(), given, "{name} {tls} {verified} {query}: {outcome:?}");
            assert_eq!(is_given_away(&out), given, "{name} {tls} {verified} {query}");
            if let Err(error) = outcome {
                assert!(matches!(Failure::from(error), Failure::Stop(_)));
            }
        }
    }
}

/// `AuthenticationOk` as the first message means `trust`, `peer`, a client certificate, or a server that is
/// not PostgreSQL.
#[test]
fn admission_without_proof_follows_require_auth() {
    for (query, admitted) in [
        ("", true),
        ("require_auth=none", true),
        ("require_auth=scram-sha-256", false),
        ("require_auth=!none", false),
        ("channel_binding=require", false),
    ] {
        let settings = settings(query);
        let mut log_in = LogIn::new(&settings, channel(true, false)).unwrap();
        let outcome = log_in.take(&request(0, b""), &mut BytesMut::new());
        assert_eq!(outcome.is_ok(), admitted, "{query}: {outcome:?}");
        assert!(!log_in.is_verified());
    }
}

/// Tag and body of a message.
type Raw = (u8, Vec<u8>);

fn raw_request(code: u32, rest: &[u8]) -> Raw {
    (b'R', [&code.to_be_bytes()[..], rest].concat())
}

/// The messages that a server may send, in every relevant form.
fn any_message() -> impl Strategy<Value = Raw> {
    prop_oneof![
        Just(raw_request(0, b"")),
        Just(raw_request(3, b"")),
        Just(raw_request(5, &SALT)),
        prop_oneof![Just(2), Just(6), Just(7), Just(9)].prop_map(|code| raw_request(code, b"")),
        Just(raw_request(10, b"SCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0\0")),
        Just(raw_request(10, b"SCRAM-SHA-256\0\0")),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|body| raw_request(10, &body)),
        "r=[a-z]{0,30},s=[A-Za-z]{0,8},i=[0-9]{1,3}".prop_map(|text| raw_request(11, text.as_bytes())),
        "(v|e)=[A-Za-z]{0,40}".prop_map(|text| raw_request(12, text.as_bytes())),
        Just((b'S', b"a\0b\0".to_vec())),
        Just((b'K', vec![1; 8])),
        Just((b'Z', b"I".to_vec())),
        Just((b'N', b"SNOTICE\0Mx\0\0".to_vec())),
        Just((b'E', b"SFATAL\0C28000\0Mx\0\0".to_vec())),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(|body| (b'd', body)),
        Just((b'C', b"SELECT 1\0".to_vec())),
    ]
}

proptest! {
    /// For any messages in any order: no panic, no password for an unverified server, no log-in without the
    /// required proof, and no message is accepted after an error.
    #[test]
    fn arbitrary_messages_never_get_the_password(
        messages in proptest::collection::vec(any_message(), 1..8),
        tls in any::<bool>(),
        query in prop_oneof![
            Just(""), Just("require_auth=scram-sha-256"), Just("require_auth=!none"), Just("channel_binding=require"),
        ],
    ) {
        let settings = settings(query);
        let Ok(mut log_in) = LogIn::new(&settings, channel(tls, false)) else {
            prop_assert!(!tls);
            return Ok(());
        };
        let mut out = BytesMut::new();
        let mut failed = false;
        for (tag, body) in &messages {
            match log_in.take(&message(*tag, body), &mut out) {
                Ok(progress) => {
                    prop_assert!(!failed, "taken after an error");
                    // The test server cannot prove that it knows the password.
                    prop_assert!(progress == Progress::Pending || query.is_empty());
                }
                Err(_) => failed = true,
            }
        }
        prop_assert!(!is_given_away(&out));
        prop_assert!(!log_in.is_verified());
    }
}
