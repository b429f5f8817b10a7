//! Credentials of the AWS environment through the built binary: what cannot be sent is trimmed or named, and a source that fails
//! delays nothing while the credentials at hand are good.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kinesis_stub::{Fault, Rule};

use crate::support::flow::Flow;
use crate::support::postgres::Stop;

/// A container's credentials endpoint.
struct Source {
    port: u16,
    answer: Arc<Mutex<Answer>>,
}

#[derive(Clone)]
enum Answer {
    /// This key, good for so many seconds.
    Key(&'static str, u64),
    /// Nothing at all, while the connection stays open.
    Silence,
}

impl Source {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(Mutex::new(answer));
        let shared = Arc::clone(&answer);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                drop(connection.read(&mut [0; 4096]));
                match shared.lock().unwrap().clone() {
                    Answer::Key(key, life) => {
                        let end =
                            SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(life);
                        let body = format!(
                            "{{\"AccessKeyId\":\"{key}\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"{}\"}}",
                            rfc3339(end.as_secs())
                        );
                        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                        drop(write!(connection, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
                    }
                    Answer::Silence => silent.push(connection),
                }
            }
        });
        Self { port, answer }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// What makes the daemon ask it.
    fn environment(&self) -> Vec<(String, String)> {
        let uri = format!("http://127.0.0.1:{}/", self.port);
        variables(&[
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri),
        ])
    }
}

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn rfc3339(seconds: u64) -> String {
    let mut text = Vec::new();
    forebay::time::write_rfc3339(&mut text, i64::try_from(seconds * 1_000_000).unwrap());
    String::from_utf8(text).unwrap()
}

#[test]
fn blanks_around_credentials_are_trimmed() {
    let mut flow = Flow::prepare(1, |settings| {
        settings.environment = variables(&[
            ("AWS_ACCESS_KEY_ID", "AKID\r\n"),
            ("AWS_SECRET_ACCESS_KEY", "secret\n"),
            ("AWS_SESSION_TOKEN", " token\r"),
        ]);
    });
    flow.start();
    flow.wait_until_it_moves("with trimmed credentials");
    assert!(flow.daemon.terminate().success());
}

#[test]
fn values_that_cannot_be_sent_are_refused_at_start() {
    for (name, value, about) in [
        ("AWS_ACCESS_KEY_ID", "AKID\u{c4}", "AWS_ACCESS_KEY_ID has"),
        ("AWS_SESSION_TOKEN", "to\nken", "AWS_SESSION_TOKEN has"),
        ("AWS_EXECUTION_ENV", "lab\n", "AWS_EXECUTION_ENV has"),
        ("AWS_SDK_UA_APP_ID", "app\n", "AWS_SDK_UA_APP_ID has"),
        ("AWS_ENDPOINT_URL_STS", "localhost", "AWS_ENDPOINT_URL_STS"),
        ("AWS_USE_FIPS_ENDPOINT", "true", "kinesis.endpoint"),
        ("AWS_CA_BUNDLE", "/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("AWS_CA_BUNDLE", "/dev/null", "no certificate"),
        ("HTTPS_PROXY", "socks5://u:sekret@h", "HTTPS_PROXY"),
    ] {
        let mut flow = Flow::prepare(1, |settings| settings.environment = variables(&[(name, value)]));
        flow.daemon.start_again();
        let status = flow.daemon.wait();
        let said = flow.daemon.log().join("\n");
        assert_eq!(status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(about) && !said.contains("sekret"), "{name}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// The database is away: nothing of it was asked before the environment was found wanting.
#[test]
fn sso_profile_is_refused_before_the_database_is_asked() {
    let mut flow = Flow::prepare(1, |_| {});
    let config = flow.daemon.home().join("aws");
    std::fs::write(&config, "[default]\nsso_session = corp\nsso_account_id = 1\n").unwrap();
    flow.daemon.settings().environment = variables(&[
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
    ]);
    flow.postgres.stop(Stop::Fast);
    flow.daemon.start_again();
    assert_eq!(flow.daemon.wait().code(), Some(1));
    let said = flow.daemon.log().join("\n");
    for text in ["(SSO, sso_session)", "credential_process"] {
        assert!(said.contains(text), "not said: {text}\n{said}");
    }
    flow.postgres.start_again();
    assert_eq!(flow.postgres.value("select count(*) from pg_replication_slots"), "0");
}

#[test]
fn bad_key_from_endpoint_is_named_while_running() {
    let source = Source::start(Answer::Key("K1", 3600));
    let mut flow = Flow::prepare(1, |settings| settings.environment = source.environment());
    flow.start();
    flow.wait_until_it_moves("with the first key");
    source.set(Answer::Key("K\\u00c42", 3600));
    flow.stub.set(Rule::new(Fault::ExpiredCredentials).access_key("K1")).unwrap();
    flow.mark();
    flow.daemon.wait_for_event_with(0, "credentials_not_renewed", "has a character that cannot be sent");
    assert!(flow.daemon.is_running());
    source.set(Answer::Key("K2\\n", 3600));
    flow.wait_until_it_moves("with a key that is trimmed");
    assert!(flow.daemon.terminate().success());
}

#[test]
fn silent_source_delays_nothing_while_keys_are_good() {
    // Less than ten minutes: renewed when half of them are over, which is while the source is silent.
    let source = Source::start(Answer::Key("K1", 60));
    let mut flow = Flow::prepare(1, |settings| settings.environment = source.environment());
    flow.start();
    flow.wait_until_it_moves("with the first key");
    source.set(Answer::Silence);
    // The first failure is reported when a look-up was given up: until then and behind it events leave.
    flow.wait_until_it_moves("before the look-up");
    flow.daemon.wait_for_event("credentials_not_renewed");
    flow.wait_until_it_moves("after a look-up that failed");
    source.set(Answer::Key("K2", 3600));
    flow.daemon.wait_for_event("credentials_renewed");
    flow.wait_until_it_moves("with the second key");
    assert!(flow.daemon.terminate().success());
}
