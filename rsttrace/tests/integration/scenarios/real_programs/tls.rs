//! TLS: what is left of a connection when its client closes first.

use std::{fs, path::Path};

use super::program::{self, Program};
use crate::{host, scenarios::receivers::wait_until, stage::Stage};

/// A port that services with TLS have.
const PORT: u16 = 8443;
/// Connections of the client, one after the other.
const CONNECTIONS: usize = 5;

/// A server that answers each request over TLS: its port, the key and the certificate are arguments.
const SERVE: &str = "
    const [port, key, cert] = process.argv.slice(1), fs = require('fs');
    require('https').createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) },
        (request, response) => response.end('hello')).listen(port, '127.0.0.1', () => console.log('ready'));
";

/// Key and certificate for localhost, for these tests alone.
pub(super) const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQggHEK1jnRoYV7ee28
KLnOE2zPybdK+RTIWPERnAlXdb6hRANCAARiAl0H4uu8VaOlgY0pjlyrB3VyrYI3
KEBrUZCuYf5d9EpKl0csLXtjF68X3xD1XT7GIvuCjRMi7ddB071U/L11
-----END PRIVATE KEY-----
";
pub(super) const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBfjCCASWgAwIBAgIUBFVU/WjE5Kybs6oQ/f7gz6OOog8wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODE5MDQwM1oYDzIxMjYxMTA0
MTkwNDAzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARiAl0H4uu8VaOlgY0pjlyrB3VyrYI3KEBrUZCuYf5d9EpKl0csLXtj
F68X3xD1XT7GIvuCjRMi7ddB071U/L11o1MwUTAdBgNVHQ4EFgQU1fTvGgNNLJtF
1ifp6Je3czzgQmswHwYDVR0jBBgwFoAU1fTvGgNNLJtF1ifp6Je3czzgQmswDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBhyVQRkBRiDbSKNRsYROkV
DxwHLVwbEFDSCj8NU51iywIgW80xTl4u+MyGVJ3T4zJbWq1qWG+OrPw7o4SzqfX1
rxM=
-----END CERTIFICATE-----
";

/// What this host lacks.
pub(crate) fn lack() -> Option<host::Lack> {
    host::lacks_runtime("node").or_else(|| host::lacks_program("curl"))
}

/// Writes the key and the certificate; returns their paths.
pub(super) fn write_key(directory: &Path) -> [String; 2] {
    [("key.pem", KEY), ("certificate.pem", CERTIFICATE)].map(|(name, text)| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    })
}

/// curl closes each connection after its answer; the server's closing alert comes after that, and is reset. Nothing is lost,
/// and neither end has to change anything.
pub(crate) fn closing_alerts_are_harmless(stage: &Stage) {
    let directory = program::directory();
    let [key, certificate] = write_key(directory.path());
    let node = Program::start("node", &["-e", SERVE, &PORT.to_string(), &key, &certificate]);
    node.says("ready");
    let mut tracer = stage.trace();
    for number in 1..=CONNECTIONS {
        let url = format!("https://127.0.0.1:{PORT}/");
        host::run("curl", &["--silent", "--insecure", "--noproxy", "*", "--output", "/dev/null", &url]);
        wait_until("the reset", || crate::netns::resets_sent() >= u64::try_from(number).unwrap());
    }
    tracer.expect(u64::try_from(CONNECTIONS).unwrap());
    let run = tracer.finish();
    assert!(run.sent().count() >= CONNECTIONS, "{}", run.stderr);
    for sent in run.sent() {
        sent.cause("tls-goodbye").is("/cause/benign", true).is("/process/comm", "curl").says("closing alert");
    }
    for received in run.received() {
        received.is_one_of("/cause/code", ["tls-goodbye", "after-close"]).is("/cause/benign", true);
    }
    let verdict = run.summaries.last().expect("a summary")["verdict"].as_str().expect("a text").to_owned();
    assert!(verdict.contains("harmless: nothing has to be changed"), "{verdict}");
}
