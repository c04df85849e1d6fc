//! A certificate authority for one test, with certificates of every kind that a test needs.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::host::{self, Lack};

/// Names and addresses of every server certificate but `stranger`.
const NAMES: &str = "IP:127.0.0.1,IP:192.0.2.1,DNS:backend.test";

/// Writes, by the program openssl, `ca.pem` with its key, and certificates with keys: `server` for [`NAMES`], `client`,
/// `expired` (a server's, of 2020), `late` (a client's, of 2020), `stranger` (a server's, for another name).
const SCRIPT: &str = "set -e
new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $new -keyout ca.key -out ca.pem -subj /CN=authority -days 2
printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\ncertificate=ca.pem\\nprivate_key=ca.key
default_md=sha256\\npolicy=p\\nunique_subject=no\\n[p]\\ncommonName=supplied\\n' > ca.cnf
: > index; echo 1000 > serial
sign() {
    openssl req $new -keyout $1.key -out $1.csr -subj /CN=$1
    printf \"$2\\n\" > $1.ext
    openssl ca -batch -notext -config ca.cnf -in $1.csr -out $1.pem -extfile $1.ext -startdate $3 -enddate $4
}
from=$(date -u -d yesterday +%Y%m%d%H%M%SZ); to=$(date -u -d tomorrow +%Y%m%d%H%M%SZ)
sign server \"subjectAltName=$NAMES\\nextendedKeyUsage=serverAuth\" $from $to
sign client extendedKeyUsage=clientAuth $from $to
sign expired \"subjectAltName=$NAMES\\nextendedKeyUsage=serverAuth\" 20200101000000Z 20200102000000Z
sign late extendedKeyUsage=clientAuth 20200101000000Z 20200102000000Z
sign stranger \"subjectAltName=DNS:stranger.test\\nextendedKeyUsage=serverAuth\" $from $to";

/// What this host lacks for an authority, or TLS for it.
pub(crate) fn lack() -> Option<Lack> {
    if !cfg!(feature = "tls") {
        return Some(Lack::Guest("built without the feature tls".to_owned()));
    }
    host::lacks_runtime("openssl")
}

/// The files of an authority.
pub(crate) struct Authority {
    directory: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output =
            Command::new("sh").args(["-c", SCRIPT]).env("NAMES", NAMES).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { directory }
    }

    /// Path of a file: `ca.pem`, or `NAME.pem` and `NAME.key` of a certificate.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Path of a new file with this text.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        // As programs that rotate do: no reader sees a half-written file.
        let (path, new) = (self.directory.path().join(name), self.directory.path().join(format!("{name}.new")));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
        path
    }
}
