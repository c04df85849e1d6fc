//! Host names that only a module of the C library's name service resolves.

use std::{fs, net::UdpSocket, path::Path, process::Command, time::Duration};

use crate::{
    host::{self, Lack},
    mounts,
    stage::{Pair, Stage, V4},
};

/// Module for the service `rsttest`, which knows one host: `loghost.rsttest`, this one.
const MODULE: &str = r#"
#include <errno.h>
#include <netdb.h>
#include <nss.h>
#include <string.h>
#include <arpa/inet.h>
enum nss_status _nss_rsttest_gethostbyname4_r(const char *name, struct gaih_addrtuple **result, char *buffer,
                                              size_t length, int *error, int *host_error, int *ttl)
{
    if (strcmp(name, "loghost.rsttest")) {
        *error = ENOENT;
        *host_error = HOST_NOT_FOUND;
        return NSS_STATUS_NOTFOUND;
    }
    if (length < sizeof **result + sizeof "loghost.rsttest") {
        *error = ERANGE;
        *host_error = NETDB_INTERNAL;
        return NSS_STATUS_TRYAGAIN;
    }
    struct gaih_addrtuple *host = *result ? *result : (void *)buffer;
    memset(host, 0, sizeof *host);
    host->name = memcpy(buffer + sizeof *host, "loghost.rsttest", sizeof "loghost.rsttest");
    host->family = AF_INET;
    host->addr[0] = htonl(INADDR_LOOPBACK);
    *result = host;
    return NSS_STATUS_SUCCESS;
}
"#;

/// What this host lacks to build the module.
pub(crate) fn lack() -> Option<Lack> {
    host::lacks_runtime("gcc")
}

/// The sandbox allows no mapping of code, so the module is loaded before the sandbox applies.
pub(crate) fn module_is_loaded_before_the_sandbox(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    build(directory.path());
    let configuration = directory.path().join("nsswitch.conf");
    fs::write(&configuration, "hosts: files [NOTFOUND=continue] no-such-service rsttest\n").unwrap();
    mounts::leave().unwrap();
    mounts::bind(&configuration, Path::new("/etc/nsswitch.conf")).unwrap();

    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let sink = format!("syslog:udp://loghost.rsttest:{}", receiver.local_addr().unwrap().port());
    let tracer = stage.trace_here_with(&["--sink", &sink], &[("LD_LIBRARY_PATH", directory.path())]);
    let mut pair = Pair::open(V4);
    pair.client_aborts();
    let mut message = [0; 4096];
    let length = receiver.recv(&mut message).expect("a message for the host");
    assert!(String::from_utf8_lossy(&message[..length]).contains("rsttrace"));

    let run = stage.finish(tracer, 1, 1);
    assert!(!run.stderr.contains("loghost.rsttest"), "{}", run.stderr);
}

fn build(directory: &Path) {
    let source = directory.join("module.c");
    fs::write(&source, MODULE).unwrap();
    let module = directory.join("libnss_rsttest.so.2");
    let status = Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(module).arg(source).status().unwrap();
    assert!(status.success());
}
