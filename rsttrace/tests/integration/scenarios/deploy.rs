//! Files in `deploy/`, each checked by the program that reads it, or for consistency with the others.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    child::Guard,
    host::{self, Lack},
    lines::TIMEOUT,
    puppet::Puppet,
    stage::{Stage, V4},
    tracer::Run,
};

/// What this host lacks of the programs that check the files.
pub(crate) fn lack() -> Option<Lack> {
    ["promtool", "logrotate", "systemd-analyze"].into_iter().find_map(host::lacks_runtime).or_else(|| {
        let yaml = Command::new(host::program("python3")?).args(["-c", "import yaml"]).stderr(Stdio::null()).status();
        let is_there = yaml.is_ok_and(|status| status.success());
        (!is_there).then(|| Lack::Missing("python3-yaml is not installed".to_owned()))
    })
}

/// What this host lacks to run rsttrace as the unit does; `setpriv` is in every Debian.
pub(crate) fn lacks_setpriv() -> Option<Lack> {
    host::lacks_program("setpriv")
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// Documents of a YAML file.
fn yaml(name: &str) -> Vec<Value> {
    const SCRIPT: &str = "import json, sys, yaml\nprint(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let python = host::program("python3").expect("it is installed");
    let output = Command::new(python).args(["-c", SCRIPT]).arg(file(name)).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Values of a setting of the unit.
fn unit(setting: &str) -> Vec<String> {
    // Compiled in: a virtual machine has the tests, but not the sources.
    let lines = include_str!("../../../../deploy/systemd/rsttrace.service")
        .lines()
        .filter_map(|line| line.strip_prefix(setting)?.strip_prefix('=').map(str::to_owned));
    lines.flat_map(|value| value.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Started as by its unit, with no more capabilities than the unit leaves: rsttrace notifies the service manager of
/// being ready, alive and stopping, and names the owner, which is another process.
pub(crate) fn service_needs_only_its_capabilities(stage: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let (path, records) = (directory.path().join("notify"), directory.path().join("records"));
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let hear = || {
        let mut text = [0; 256];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let kept = unit("CapabilityBoundingSet").join(",+").replace("CAP_", "").to_lowercase();
    let rsttrace = Command::new(host::program("setpriv").expect("it is installed"))
        .args([&format!("--bounding-set=-all,+{kept}"), "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"])
        .arg(host::rsttrace())
        .args(&stage.arguments()[2..])
        .args([
            "--output",
            "none",
            "--netns",
            &stage.netns.to_string(),
            "--sink",
            &format!("json:{}", records.display()),
        ])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", Duration::from_millis(200).as_micros().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut rsttrace = Guard(rsttrace);
    assert!(hear().starts_with("READY=1"));
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    let (mut server, mut client) = (Puppet::start("the-server"), Puppet::start("the-client"));
    let server_end = server.listen("l", V4, 16);
    client.connect("c", server_end);
    server.tell("accept s l");
    client.abort("c");
    server.wait_error("s", "ECONNRESET");
    rsttrace.signal(Signal::SIGTERM).unwrap();
    while hear() != "STOPPING=1" {}
    assert!(rsttrace.wait().unwrap().success());
    let text = fs::read_to_string(&records).unwrap();
    let resets: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sent = resets.iter().find(|reset| reset["direction"] == "sent").expect("a reset that was sent");
    assert_eq!(sent["process"]["pid"], client.pid());
    assert!(sent["process"]["executable"].is_string(), "{sent:#}");
}

/// The units, the rules, the rotation, and the flags, each checked by the program that reads it.
pub(crate) fn programs_accept_their_files(_: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    for name in ["rsttrace.service", "rsttrace-record.service"] {
        let as_installed = directory.path().join(name);
        let text = fs::read_to_string(file("systemd").join(name)).unwrap();
        assert!(text.contains("\nExecStart=/usr/local/bin/rsttrace "), "{text}");
        fs::write(&as_installed, text.replace("/usr/local/bin/rsttrace", "/bin/true")).unwrap();
        let output = Command::new(host::program("systemd-analyze").unwrap())
            .args(["verify", "--man=no"])
            .arg(&as_installed)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains(&format!("{name}:")), "{said}");
    }
    let run = |program: &str, arguments: &[&str], name: &str| {
        let place = file(name);
        let output = Command::new(host::program(program).unwrap())
            .args(arguments)
            .arg(place.file_name().unwrap())
            .current_dir(place.parent().unwrap())
            .output()
            .unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !said.contains("error:"), "{program}: {said}");
    };
    run("promtool", &["check", "rules", "--lint-fatal"], "prometheus/rsttrace-alerts.yml");
    run("promtool", &["test", "rules"], "prometheus/rsttrace-alerts.test.yml");
    run("promtool", &["check", "config"], "prometheus/scrape.yml");
    run("logrotate", &["--debug"], "logrotate/rsttrace");
    rotates_without_the_service(directory.path());
    let check = |path: &Path| {
        let output = Command::new(host::rsttrace()).arg("check-config").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    check(&file("rsttrace.toml"));
    let flags = yaml("kubernetes/daemonset.yaml")[1]["data"]["rsttrace.toml"].as_str().unwrap().to_owned();
    let as_mounted = directory.path().join("rsttrace.toml");
    fs::write(&as_mounted, flags).unwrap();
    check(&as_mounted);
}

/// logrotate succeeds where no service `rsttrace` runs, and keeps no more old files than the configuration says.
fn rotates_without_the_service(directory: &Path) {
    let logs = directory.join("log");
    fs::create_dir(&logs).unwrap();
    let text = fs::read_to_string(file("logrotate/rsttrace")).unwrap();
    let kept: usize = text.lines().find_map(|line| line.trim().strip_prefix("rotate ")).unwrap().parse().unwrap();
    let configuration = directory.join("logrotate.conf");
    fs::write(&configuration, text.replace("/var/log/rsttrace", logs.to_str().unwrap())).unwrap();
    for _ in 0..kept + 3 {
        fs::write(logs.join("resets.json"), "{}\n").unwrap();
        let output = Command::new(host::program("logrotate").unwrap())
            .args(["--force", "--state"])
            .arg(directory.join("state"))
            .arg(&configuration)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(fs::read_dir(&logs).unwrap().count(), kept);
}

/// Configurations of programs that are not installed here: they can be parsed, and what one part refers to exists.
pub(crate) fn references_between_files_exist(_: &Stage) {
    let names = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let collector = &yaml("otel-collector/config.yaml")[0];
    let pipelines = collector["service"]["pipelines"].as_object().unwrap();
    assert_eq!(pipelines.len(), 3);
    for (pipeline, kind) in
        pipelines.values().flat_map(|it| ["receivers", "processors", "exporters"].map(|kind| (it, kind)))
    {
        for name in names(&pipeline[kind]) {
            assert!(!collector[kind][&name].is_null(), "{kind} {name}");
        }
    }
    let vector = &yaml("vector/rsttrace.yaml")[0];
    for part in ["transforms", "sinks"] {
        for input in vector[part].as_object().unwrap().values().flat_map(|of| names(&of["inputs"])) {
            assert!(["sources", "transforms"].iter().any(|part| !vector[*part][&input].is_null()), "{input}");
        }
    }
    let fluent = &yaml("fluent-bit/rsttrace.yaml")[0];
    let input = &fluent["pipeline"]["inputs"][0];
    assert_eq!(input["parser"], fluent["parsers"][0]["name"]);
    for part in ["filters", "outputs"] {
        assert_eq!(fluent["pipeline"][part][0]["match"], input["tag"]);
    }
    let documents = yaml("kubernetes/daemonset.yaml");
    let set = documents.last().unwrap();
    assert_eq!(set["kind"], "DaemonSet");
    assert_eq!(set["spec"]["selector"]["matchLabels"], set["spec"]["template"]["metadata"]["labels"]);
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let volumes: Vec<&Value> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    for mount in container["volumeMounts"].as_array().unwrap() {
        assert!(volumes.contains(&&mount["name"]), "{mount}");
    }
    let added = names(&container["securityContext"]["capabilities"]["add"]);
    let of_unit = unit("CapabilityBoundingSet");
    let of_pod: Vec<String> =
        of_unit.iter().map(|name| name[4..].to_owned()).filter(|name| name != "NET_ADMIN").collect();
    assert_eq!(added, of_pod, "the pod has the capabilities of the service, but for those of `translated`");
}

/// Checks which alerts fire where the incidents of a run come every minute, by Prometheus's own program.
#[track_caller]
pub(crate) fn fires(run: &Run, expected: &[&str]) {
    // A virtual machine has no Prometheus.
    let Some(promtool) = host::program("promtool").filter(|_| !host::is_guest()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let rules = include_str!("../../../../deploy/prometheus/rsttrace-alerts.yml");
    fs::write(directory.path().join("rules.yml"), rules).unwrap();
    let mut incidents: BTreeMap<String, u64> = BTreeMap::new();
    for reset in run.resets.iter().filter(|reset| reset["incident_role"] == "first") {
        let cause = &reset["cause"];
        let labels = json!({
            "cause": cause["code"],
            "fault": cause["fault"],
            "confidence": cause["confidence"],
            "process": reset["process"]["comm"].as_str().unwrap_or_default(),
            "benign": cause["benign"].to_string(),
            "instance": "gw-1",
        });
        let labels = labels.as_object().unwrap().iter().map(|(name, value)| format!("{name}={value}"));
        *incidents.entry(labels.collect::<Vec<_>>().join(",")).or_default() += reset["count"].as_u64().unwrap();
    }
    let series = incidents.iter().map(|(labels, count)| {
        json!({"series": format!("rsttrace_incidents_total{{{labels}}}"), "values": format!("0+{count}x60")})
    });
    let samples = expected.iter().map(|name| json!({"labels": format!("{{alertname=\"{name}\"}}"), "value": 1}));
    let tests = json!({
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": series.collect::<Vec<_>>(),
            "promql_expr_test": [{
                "expr": "max by (alertname) (ALERTS{alertstate=\"firing\"})",
                "eval_time": "50m",
                "exp_samples": samples.collect::<Vec<_>>(),
            }],
        }],
    });
    // JSON is YAML.
    fs::write(directory.path().join("tests.yml"), tests.to_string()).unwrap();
    let output = Command::new(promtool).args(["test", "rules", "tests.yml"]).current_dir(&directory).output().unwrap();
    let said = [output.stdout, output.stderr].map(|stream| String::from_utf8_lossy(&stream).into_owned());
    assert!(output.status.success(), "{}\n{tests:#}", said.concat());
}

/// Queries of the dashboard, with its variables replaced.
pub(crate) fn queries_of_the_dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file("grafana/rsttrace.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    let chosen = [("$instance", ".*"), ("$__rate_interval", "1m"), ("$__range", "1h")];
    queries.map(|query| chosen.iter().fold(query.to_owned(), |query, (from, to)| query.replace(from, to))).collect()
}

/// Expressions of the alerts.
pub(crate) fn expressions_of_the_alerts() -> Vec<String> {
    let groups = yaml("prometheus/rsttrace-alerts.yml");
    let rules = groups[0]["groups"][0]["rules"].as_array().unwrap();
    rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect()
}
