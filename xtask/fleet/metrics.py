"""Metrics: VictoriaMetrics scrapes the hosts; the alerts and the queries of the dashboard in deploy/."""
import collections, json, os, shutil, urllib.parse

import yaml

import collector, lab

DEPLOY = os.path.join(lab.HERE, "../../deploy")
RULES = f"{DEPLOY}/prometheus/rsttrace-alerts.yml"
PORT, RSTTRACE_PORT = 8428, 9477


def lacks():
    """What VictoriaMetrics lacks here; None without a lack."""
    for program in ("victoria-metrics", "vmalert"):
        if not shutil.which(program):
            return f"{program} (cargo xtask setup --fleet)"
    return None


def target(name):
    return f"{lab.address(name)}:{RSTTRACE_PORT}"


class Metrics:
    """VictoriaMetrics on the collecting host."""

    def __init__(self, hosts, directory):
        self.hosts, self.directory = hosts, f"{directory}/metrics"
        os.makedirs(self.directory)
        self.log = open(f"{self.directory}/log", "w")
        self.address = f"{lab.address('col')}:{PORT}"
        self.children = []
        with open(f"{DEPLOY}/prometheus/scrape.yml") as file:
            text = file.read()
        # Shorter than in deploy/, where an interval is longer than all that is played here.
        text = text.replace("15s", "1s").replace('"127.0.0.1:9477"', ", ".join(f'"{target(name)}"' for name in lab.RECORDED))
        with open(f"{self.directory}/scrape.yml", "w") as file:
            file.write(text)
        self.start("victoria-metrics", f"-httpListenAddr={self.address}", f"-storageDataPath={self.directory}/data",
                   f"-promscrape.config={self.directory}/scrape.yml", "-promscrape.config.strictParse=false", "-search.latencyOffset=1ms", "-search.disableCache", "-memory.allowedPercent=10")
        collector.wait("VictoriaMetrics", lambda: collector.is_listening(PORT))

    def start(self, *command):
        self.children.append(self.hosts.start("col", command, stdout=self.log, stderr=self.log))

    def query(self, expression):
        """Labels and value of each series that an expression gives now."""
        query = urllib.parse.urlencode({"query": expression})
        answer = json.loads(lab.Lab.inside("col", "curl", "-sS", f"http://{self.address}/api/v1/query?{query}"))
        if answer["status"] != "success":
            raise RuntimeError(f"{expression}: {answer['error']}")
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def counts(self, expression, *labels):
        """Values by labels, the instance as the host's name."""
        names = {target(name): name for name in lab.RECORDED}
        return collections.Counter({tuple(names.get(of.get(label), of.get(label, "")) for label in labels): round(value) for of, value in self.query(expression)})

    def evaluate(self):
        """Starts vmalert with the rules of deploy/, which writes its alerts to VictoriaMetrics."""
        url = f"http://{self.address}"
        self.start("vmalert", f"-rule={RULES}", f"-datasource.url={url}", f"-remoteWrite.url={url}", "-notifier.url=http://127.0.0.1:9",
                   "-evaluationInterval=1s", "-remoteWrite.flushInterval=1s", f"-httpListenAddr={lab.address('col')}:8880")

    def end(self):
        for child in reversed(self.children):
            self.hosts.end(child)


def check_rules():
    """Fails where vmalert does not take the rules."""
    lab.run("vmalert", f"-rule={RULES}", "-dryRun")


def rules():
    """Expressions of the rules by name."""
    with open(RULES) as file:
        return {rule["alert"]: rule["expr"] for group in yaml.safe_load(file)["groups"] for rule in group["rules"]}


def dashboard():
    """Queries of the dashboard, with its variables replaced."""
    with open(f"{DEPLOY}/grafana/rsttrace.json") as file:
        panels = json.load(file)["panels"]
    replaced = lambda query: query.replace("$instance", ".*").replace("$__rate_interval", "1m").replace("$__range", "1h")
    return [replaced(target["expr"]) for panel in panels for target in panel.get("targets", [])]


RACES = ("keepalive-race", "reused-closed-connection")


def alerts_of(records):
    """Incidents of recorded resets as the rules count them: by alert, host, cause and process."""
    counts = collections.Counter()
    for host, record in records:
        if record["type"] != "reset" or record["incident"] != record["seq"]:
            continue
        cause, process = record["cause"], (record["process"] or {}).get("comm", "")
        if cause["benign"] or cause["confidence"] == "guess":
            continue
        code, fault = cause["code"], cause["fault"]
        names = {"local": ("FaultOfThisHost", process), "peer": ("FaultOfPeer", process), "path": ("FaultOnPath", "")}
        if fault in names and (code not in RACES or fault == "path"):
            alert, of = names[fault]
            counts[alert, host, code, of] += record["count"]
        if code in RACES:
            counts["KeepaliveRace", host, "", process] += record["count"]
    return counts
