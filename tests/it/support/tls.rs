//! A certificate authority and a server certificate, made for one test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of a test's own certificate authority.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate of the authority: what a client trusts (`sslrootcert`).
    pub ca: PathBuf,
    /// Certificate of the server, for `localhost` and 127.0.0.1.
    pub certificate: PathBuf,
    /// Its private key, mode 0600.
    pub key: PathBuf,
}

impl Tls {
    /// Makes them in a directory with the `openssl` program.
    pub fn generate(directory: &Path) -> Self {
        let file = |name: &str| directory.join(name);
        let (ca, ca_key) = (file("ca.crt"), file("ca.key"));
        let (certificate, key) = (file("server.crt"), file("server.key"));
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let authority = ["-days", "30", "-subj", "/CN=Forebay test authority"];
        openssl(
            Command::new("openssl")
                .args(new)
                .args(authority)
                .arg("-out")
                .arg(&ca)
                .arg("-keyout")
                .arg(&ca_key),
        );
        let server = ["-days", "30", "-subj", "/CN=localhost"];
        let extensions = ["subjectAltName=DNS:localhost,IP:127.0.0.1", "basicConstraints=critical,CA:FALSE"];
        openssl(
            Command::new("openssl")
                .args(new)
                .args(server)
                .args(extensions.iter().flat_map(|extension| ["-addext", extension]))
                .arg("-CA")
                .arg(&ca)
                .arg("-CAkey")
                .arg(&ca_key)
                .arg("-out")
                .arg(&certificate)
                .arg("-keyout")
                .arg(&key),
        );
        Self { ca, certificate, key }
    }
}

fn openssl(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run openssl: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
