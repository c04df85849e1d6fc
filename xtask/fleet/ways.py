"""The hosts of the laboratory: their sinks, collectors and brokers, and what these have brought, compared with the recordings."""
import collections, glob, signal, time

import collector, journal, kafka, lab, metrics
from compare import compare_causes, count_causes, count_resets, differences, lines_of, records, rsttrace, step


class Ways:
    """What takes records beside the recordings, as far as it is installed here."""

    def __init__(self, results, hosts, scratch):
        self.results, self.hosts, self.scratch = results, hosts, scratch
        self.front, self.agent, self.otlp = collector.start_rotel(hosts, scratch)
        self.debian = self.start("rsyslog over TLS to PostgreSQL", collector.lacks_debian(), collector.Debian)
        self.broker = self.start("Kafka", kafka.lacks(), kafka.Kafka)
        self.journal = self.start("the journal", journal.lacks(), journal.Journal)
        self.sinks = [self.otlp] + ([self.debian.sink] if self.debian else []) + ([self.broker.start_rotel()] if self.broker else [])
        self.metrics = None

    def start(self, what, lack, of):
        if lack:
            self.results.lacks(what, lack)
        return None if lack else of(self.hosts, self.scratch)

    def record(self, name):
        """Starts the recorder of a host with what it needs on that host."""
        sinks = self.sinks + ([self.journal.begin(name)] if self.journal else [])
        if self.broker:
            self.broker.ship(name, self.hosts.recording(name))
        return self.hosts.record(name, sinks, ["--metrics", metrics.target(name)])

    def scrape(self):
        """Starts what scrapes the recorders, which listen now."""
        self.metrics = self.start("VictoriaMetrics", metrics.lacks(), metrics.Metrics)


def play(results, program, scratch):
    """Records the hosts of the laboratory, and compares what the sinks have brought; returns the directory of the recordings."""
    step("hosts in namespaces")
    with lab.Lab(program, scratch) as hosts:
        ways = Ways(results, hosts, scratch)
        running = [ways.record(name) for name in lab.RECORDED]
        ways.scrape()
        directory = f"{scratch}/recordings"
        wait_for_marks(directory, 2)
        hosts.play()
        settled = time.time()
        # Each recorder has two marks after the last reset that it has, so that its time is covered.
        wait_for_marks(directory, 2, after=lambda: last_reset(directory, settled))
        if ways.metrics:
            in_metrics(results, ways.metrics, directory)
        for child in running:
            # Closes the segment, which is compressed then, and begins another, which has the last mark.
            child.send_signal(signal.SIGHUP)
        collector.wait("compressed segments", lambda: len(glob.glob(f"{directory}/host=*/*.zst")) == len(running))
        for child in running:
            hosts.end(child)
        if ways.debian:
            in_postgresql(results, ways.debian, directory)
        if ways.broker:
            from_kafka(results, ways.broker, directory, scratch)
        if ways.journal:
            in_journal(results, program, ways.journal, directory)
        hosts.end(ways.agent)
        hosts.end(ways.front)
    return directory


def in_postgresql(results, debian, directory):
    collector.wait_a_while("PostgreSQL", lambda: int(debian.psql("SELECT count(*) FROM rsttrace.resets")) >= count_resets(directory))
    rows = debian.psql("SELECT host, cause, sum(count) FROM rsttrace.resets GROUP BY 1, 2 ORDER BY 1, 2").splitlines()
    compare_causes(results, "rsyslog over TLS to PostgreSQL", directory, [row.split("|") for row in rows])
    debian.psql("SELECT * FROM rsttrace.causes; SELECT * FROM rsttrace.silences")


def from_kafka(results, broker, directory, scratch):
    """Compares what the consumer gives with the recordings, line by line, and leaves it in a file for ClickHouse's engine."""
    made = [line for _, line in lines_of(directory)]
    lines = broker.read_all(kafka.TOPIC, len(made))
    results.equal("rsyslog → Kafka → kcat: lines", len(lines), len(made))
    results.equal("rsyslog → Kafka → kcat: lines that differ from the recordings", differences(lines, made), 0)
    with open(f"{scratch}/kafka.jsonl", "w") as file:
        file.writelines(f"{line}\n" for line in lines)
    count = count_resets(directory)
    messages = broker.read_all(kafka.OTLP_TOPIC, count, lambda messages: sum(kafka.count_otlp(messages).values()))
    compare_causes(results, "OTLP → rotel → Kafka → kcat", directory, [(*key, count) for key, count in kafka.count_otlp(messages).items()])
    broker.end()


def in_journal(results, program, journals, directory):
    """Compares the journal of the collecting host with the recordings, field by field."""
    journals.wait_for(count_resets(directory))
    arrived = journals.records()
    results.equal("journald → upload → remote: resets", len(arrived), count_resets(directory))
    made = [(host, fields) for host in lab.RECORDED
            for fields in journal.flat(rsttrace(program, "replay", "--no-summary", "--output", "json-flat", f"{directory}/host={host}").splitlines())]
    comparable = lambda all: [(host, *sorted(fields.items())) for host, fields in all]
    results.equal("journald → upload → remote: records with a field that differs", differences(comparable(arrived), comparable(made)), 0)
    results.figure("journald → upload → remote: fields compared", sum(len(fields) for _, fields in made))
    journals.end()


def in_metrics(results, scraped, directory):
    """Compares what VictoriaMetrics answers with the recordings, while the recorders run: later their series have ended."""
    made, found = None, None

    def is_scraped():
        # A connection that was given up sends its FIN again meanwhile, and is reset again.
        nonlocal made, found
        made = count_causes(directory)
        found = scraped.counts("sum by (instance, cause) (rsttrace_resets_total)", "instance", "cause")
        return sum(found.values()) == sum(made.values())

    collector.wait_a_while("VictoriaMetrics", is_scraped)
    incidents = metrics.alerts_of(records(directory))
    results.equal("VictoriaMetrics: resets", sum(found.values()), sum(made.values()))
    results.equal("VictoriaMetrics: hosts and causes that agree", len(found.items() & made.items()), len(made))
    firing = {key: count for key, count in incidents.items() if count > 3}
    asked = collections.Counter()
    for name, expression in metrics.rules().items():
        for (host, cause, process), value in scraped.counts(expression, "instance", "cause", "process").items():
            asked[name, host, cause, process] += value
    results.equal("VictoriaMetrics: incidents by the expressions of the alerts", sorted(asked.items()), sorted(firing.items()))
    metrics.check_rules()
    scraped.evaluate()
    alerts = lambda: set(scraped.counts("ALERTS", "alertname", "instance", "cause", "process"))
    collector.wait_a_while("vmalert", lambda: len(alerts()) >= len(firing))
    results.equal("vmalert: alerts that begin", sorted(alerts()), sorted(firing))
    answers = [len(scraped.query(expression)) for expression in metrics.dashboard()]
    results.figure("VictoriaMetrics: queries of the dashboard; with series", [len(answers), sum(answer > 0 for answer in answers)])
    scraped.end()


def last_reset(directory, at_least):
    times = [record["time"] for _, record in records(directory) if record["type"] == "reset"]
    return max([*times, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_least))])


def wait_for_marks(directory, count, after=lambda: ""):
    def is_marked():
        marks = collections.Counter(host for host, record in records(directory) if record["type"] in ("recording", "mark") and record["time"] > after())
        return all(marks[name] >= count for name in lab.RECORDED)

    collector.wait("marks of the recorders", is_marked, seconds=90)
