"""The fleet part of rsttrace with real engines; `cargo xtask fleet` starts it.

    fleet.py RSTTRACE SCRATCH [--rows N] [--join RSTTRACE] [--keep]

Hosts in namespaces → sinks → collectors → engines → queries, each compared with what rsttrace itself tells of the files; then
simulated hosts. Prints what was measured and what could not be run, and writes both to SCRATCH/results.json.
"""
import argparse, collections, csv, glob, io, json, os, shutil, signal, subprocess, sys, time

import collector, journal, kafka, lab, metrics, scale, storage
import zstandard

from clickhouse import Engine, queries

SPAN = {"from": "2000-01-01 00:00:00", "to": "2100-01-01 00:00:00", "deployed": "2000-01-01 00:00:00"}


class Results:
    """What was found; a comparison that fails is kept until the end."""

    def __init__(self):
        self.figures, self.failures, self.not_run = {}, [], {}

    def figure(self, name, value):
        self.figures[name] = value
        print(f"  {name}: {value}", flush=True)

    def equal(self, what, one, other):
        is_equal = one == other
        print(f"  {'equal' if is_equal else 'NOT EQUAL'}: {what}: {one}{'' if is_equal else f' and {other}'}", flush=True)
        self.figures[what] = one
        if not is_equal:
            self.failures.append(f"{what}: {one} and {other}")

    def lacks(self, what, why):
        self.not_run[what] = why
        print(f"  not run: {what}: {why}", flush=True)


def step(title):
    print(f"== {title}", flush=True)


def rsttrace(program, *arguments, stdin=None):
    done = subprocess.run([program, *arguments], input=stdin, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout


def lines_of(directory):
    """The lines of all recordings below a directory, as they are, with the host."""
    for path in sorted(glob.glob(f"{directory}/host=*/*.jsonl*")):
        host = path.split("host=")[1].split("/")[0]
        opened = zstandard.open(path, "rt") if path.endswith(".zst") else open(path)
        with opened as file:
            for line in file:
                yield host, line.removesuffix("\n")


def records(directory):
    """The records of all recordings below a directory, with the host."""
    for host, line in lines_of(directory):
        yield host, json.loads(line)


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


def count_resets(directory):
    return sum(record["type"] == "reset" for _, record in records(directory))


def in_postgresql(results, debian, directory):
    try:
        collector.wait("PostgreSQL", lambda: int(debian.psql("SELECT count(*) FROM rsttrace.resets")) >= count_resets(directory))
    except RuntimeError as error:
        print(f"  {error}")
    rows = debian.psql("SELECT host, cause, sum(count) FROM rsttrace.resets GROUP BY 1, 2 ORDER BY 1, 2").splitlines()
    compare_causes(results, "rsyslog over TLS to PostgreSQL", directory, [row.split("|") for row in rows])
    debian.psql("SELECT * FROM rsttrace.causes; SELECT * FROM rsttrace.silences")


def differences(one, other):
    """How many of both, as multisets, the other one has not."""
    one, other = collections.Counter(one), collections.Counter(other)
    return sum(((one - other) + (other - one)).values())


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
        return sum(found.values()) >= sum(made.values())

    try:
        collector.wait("VictoriaMetrics", is_scraped)
    except RuntimeError as error:
        print(f"  {error}")
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
    try:
        collector.wait("vmalert", lambda: len(alerts()) >= len(firing))
    except RuntimeError as error:
        print(f"  {error}")
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


def count_causes(directory):
    """Resets of the recordings by host and cause."""
    counted = collections.Counter()
    for host, record in records(directory):
        if record["type"] == "reset":
            counted[host, record["cause"]["code"]] += record["count"]
    return counted


def compare_causes(results, what, directory, rows):
    """Compares rows of host, cause and count with the lines themselves."""
    counted = count_causes(directory)
    found = {(host, cause): int(count) for host, cause, count in rows}
    results.equal(f"{what}: resets", sum(found.values()), sum(counted.values()))
    results.equal(f"{what}: hosts and causes that agree", len(found.items() & counted.items()), len(counted))


def in_clickhouse(results, program, joiner, directory, scratch):
    """Loads the recordings and compares each answer with that of rsttrace."""
    step("ClickHouse's engine (chdb)")
    engine = Engine(f"{scratch}/clickhouse")
    engine.script("schema.sql")
    engine.load(f"{directory}/host=*/*.jsonl*")
    results.figure("ClickHouse version", engine.value("SELECT version()"))
    compare_causes(results, "ClickHouse", directory, engine.rows("SELECT host, cause, sum(count) FROM rsttrace.resets GROUP BY 1, 2"))
    exported = list(csv.DictReader(io.StringIO(rsttrace(program, "export", "--format", "csv", directory_of(directory)).decode())))
    compare_columns(results, engine, exported)
    for name, sql in queries().items():
        if name != "lines" and "rsttrace.pairs" not in sql:
            engine.rows(sql, **SPAN)
    for host in lab.RECORDED:
        lines = engine.run(queries()["lines"], host=host, **SPAN).bytes()
        piped = rsttrace(program, "report", "--format", "markdown", "-", stdin=lines).decode()
        read = rsttrace(program, "report", "--format", "markdown", f"{directory}/host={host}").decode()
        same = [line for line in read.splitlines() if not line.startswith("rsttrace report")]
        results.equal(f"LineAsString into rsttrace report, {host}: lines that differ", sum(line not in piped for line in same), 0)
    broken = '{"schema":1,"type":"reset","time":"2026-11-30T00:00:00Z","host":"later","local":7,"cause":{"code":"new","further":[1]},"new":{"a":1}}'
    engine.run(f"INSERT INTO rsttrace.lines (raw) VALUES ('{broken}'), ('no JSON'), ('')")
    results.equal("a line of a later version, with a field of another type: rows", engine.value("SELECT count() FROM rsttrace.resets WHERE host = 'later' AND cause = 'new'"), 1)
    engine.run("ALTER TABLE rsttrace.resets DELETE WHERE host = 'later' SETTINGS mutations_sync = 2")
    mark = next(record for _, record in records(directory) if record["type"] == "mark")
    of_earlier = json.dumps({name: value for name, value in mark.items() if name != "host"}, separators=(",", ":"))
    engine.run(f"INSERT INTO rsttrace.lines (raw, host) VALUES ('{of_earlier}', 'earlier')")
    results.equal("a mark of an earlier version, which does not name its host: rows", engine.value("SELECT count() FROM rsttrace.marks WHERE host = 'earlier'"), 1)
    engine.run("ALTER TABLE rsttrace.marks DELETE WHERE host = 'earlier' SETTINGS mutations_sync = 2")
    engine.script("join.sql", **SPAN)
    for name in ("not_sent", "verdicts"):
        engine.rows(queries()[name], **SPAN)
    verdicts = dict(engine.rows("SELECT verdict, count() FROM rsttrace.pairs GROUP BY 1"))
    results.figure("fleet join by SQL", {name: int(count) for name, count in sorted(verdicts.items())})
    compare_join(results, engine, joiner, directory)
    engine.close()
    if os.path.exists(f"{scratch}/kafka.jsonl"):
        kafka_in_clickhouse(results, directory, scratch, verdicts)
        compare_stream(results, joiner, directory, f"{scratch}/kafka.jsonl")


def kafka_in_clickhouse(results, directory, scratch, verdicts):
    """The lines that came by Kafka, in one stream, as the recordings: the host of each is in the line."""
    engine = Engine(f"{scratch}/clickhouse-kafka")
    engine.script("schema.sql")
    engine.load(f"{scratch}/kafka.jsonl")
    compare_causes(results, "rsyslog → Kafka → kcat → ClickHouse", directory, engine.rows("SELECT host, cause, sum(count) FROM rsttrace.resets GROUP BY 1, 2"))
    made = collections.Counter(host for host, record in records(directory) if record["type"] == "mark")
    found = {host: int(count) for host, count in engine.rows("SELECT host, count() FROM rsttrace.marks WHERE type = 'mark' GROUP BY 1")}
    results.equal("rsyslog → Kafka → kcat → ClickHouse: marks by host", sorted(found.items()), sorted(made.items()))
    engine.script("join.sql", **SPAN)
    joined = dict(engine.rows("SELECT verdict, count() FROM rsttrace.pairs GROUP BY 1"))
    results.equal("fleet join of the lines from Kafka as of the recordings", sorted(joined.items()), sorted(verdicts.items()))
    engine.close()


def directory_of(directory):
    """One input of all recordings: a file of their lines."""
    path = f"{directory}/../all.jsonl"
    with open(path, "wb") as out:
        for part in sorted(glob.glob(f"{directory}/host=*/*.jsonl*")):
            with zstandard.open(part, "rb") if part.endswith(".zst") else open(part, "rb") as file:
                shutil.copyfileobj(file, out)
    return path


def compare_columns(results, engine, exported):
    """Compares the columns with those of `rsttrace export --format csv`."""
    columns = ["host", "seq", "count", "direction", "cause", "fault", "confidence", "local_port", "peer_port", "process", "state", "role", "reset_seq"]
    rows = engine.rows(f"SELECT {', '.join(columns)}, replaceOne(toString(local), '::ffff:', ''), replaceOne(toString(peer), '::ffff:', '') FROM rsttrace.resets")
    ours = {tuple("" if value is None else str(value) for value in row) for row in rows}
    theirs = {tuple([row[name] for name in columns] + [row["local"], row["peer"]]) for row in exported}
    # A refused connection's number is 0 here, where the record has the acknowledgement alone.
    blank = lambda row: row[:12] + ("" if row[12] == "0" else row[12],) + row[13:]
    results.equal("columns of ClickHouse as those of export --format csv: rows that agree", len({blank(row) for row in ours} & {blank(row) for row in theirs}), len(exported))


def joined(joiner, *inputs, **options):
    """The pairs that `rsttrace join` tells."""
    lines = rsttrace(joiner, "join", "--output", "json", *inputs, **options).decode().splitlines()
    return [pair for pair in map(json.loads, lines) if pair["type"] == "pair"]


def compare_stream(results, joiner, directory, path):
    """Compares the join of the recordings, an input each, with that of one stream of all hosts."""
    if not joiner:
        results.lacks("join of one stream", "this rsttrace has no join")
        return
    summary = lambda pairs: [(pair["verdict"], pair["confidence"], pair["sender_host"], pair["receiver_host"], pair["reset"]["seq"], pair["reset"]["ack"]) for pair in pairs]
    apart = summary(joined(joiner, *sorted(glob.glob(f"{directory}/host=*"))))
    with open(path, "rb") as file:
        together = summary(joined(joiner, "-", stdin=file.read()))
    results.equal("kcat into rsttrace join as the join of the recordings: pairs", len(together), len(apart))
    results.equal("kcat into rsttrace join as the join of the recordings: pairs that differ", differences(together, apart), 0)


def compare_join(results, engine, joiner, directory):
    if not joiner:
        results.lacks("comparison with rsttrace join", "this rsttrace has no join")
        return
    pairs = joined(joiner, *sorted(glob.glob(f"{directory}/host=*")))
    told = collections.Counter(pair["verdict"] for pair in pairs)
    rows = engine.rows("SELECT verdict, sent_host, sent_record, received_host, received_record, receiver_port FROM rsttrace.pairs")
    results.equal("fleet join as rsttrace join: pairs by verdict", collections.Counter(row[0] for row in rows), told)
    matched = {(row[1], int(row[2]), row[3], int(row[4])) for row in rows if row[0] == "sent"}
    theirs = {(pair["sender"]["host"], pair["sender"]["seq"], pair["receiver"]["host"], pair["receiver"]["seq"]) for pair in pairs if pair["verdict"] == "sent"}
    results.equal("fleet join as rsttrace join: matched records that agree", len(matched & theirs), len(theirs))


def in_otel(results, directory, scratch):
    """The view over what rotel has exported."""
    step("OTLP → rotel → ClickHouse's engine")
    engine = Engine(f"{scratch}/clickhouse-otel")
    compare_causes(results, "OTLP through rotel", directory, engine.rows("SELECT host, cause, sum(count) FROM rsttrace.otel_resets GROUP BY 1, 2"))
    for name in ("causes", "backends", "silences"):
        engine.rows(queries()[name].replace("rsttrace.resets", "rsttrace.otel_resets"), **SPAN)
    engine.close()


def on_storage(results, directory, scratch):
    """Uploads the closed segments, and reads them by DuckDB and ClickHouse's engine."""
    step("object storage (weed) with DuckDB")
    if not shutil.which("rclone"):
        results.lacks("object storage", "rclone (cargo xtask setup --fleet)")
        return
    store = storage.Store(scratch)
    try:
        for name in lab.RECORDED:
            # The second time there is nothing to do.
            store.upload(name, f"{directory}/host={name}")
            store.upload(name, f"{directory}/host={name}")
        results.equal("objects", len(store.files()), len(lab.RECORDED))
        database = storage.connect(f"s3://{storage.BUCKET}/rsttrace", store.secret())
        results.figure("DuckDB version", database.execute("SELECT version()").fetchone()[0])
        rows = database.execute("SELECT host, cause, sum(count)::BIGINT FROM resets GROUP BY ALL").fetchall()
        compare_causes(results, "DuckDB over S3", directory, rows)
        for name, sql in storage.queries().items():
            found = database.execute(sql).fetchall()
            if name == "pairs":
                results.figure("DuckDB: pairs of which both ends have a record", sum(row[-1] for row in found))
        engine = Engine(f"{scratch}/clickhouse-s3")
        engine.script("schema.sql")
        engine.run(f"INSERT INTO rsttrace.lines (raw) SELECT line FROM {store.clickhouse()}")
        compare_causes(results, "ClickHouse over S3", directory, engine.rows("SELECT host, cause, sum(count) FROM rsttrace.resets GROUP BY 1, 2"))
        engine.close()
    finally:
        store.end()


def compare_cluster(results, scratch, engine, joiner, span):
    """Compares the join of one cluster of simulated hosts with that of rsttrace over the lines that the engine gives back."""
    if not joiner:
        results.lacks("comparison of simulated hosts with rsttrace join", "this rsttrace has no join")
        return
    inputs = []
    for number in range(scale.simulate.CLUSTER):
        host = scale.simulate.host_name(number)
        inputs.append(f"{scratch}/{host}.jsonl")
        with open(inputs[-1], "wb") as file:
            file.write(engine.run(queries()["lines"], host=host, **span).bytes())
    lines = rsttrace(joiner, "join", "--output", "json", *inputs).decode().splitlines()
    told = collections.Counter(pair["verdict"] for pair in map(json.loads, lines) if pair["type"] == "pair")
    mine = engine.rows("SELECT verdict, count() FROM rsttrace.pairs WHERE sent_host LIKE '___-000-__' OR received_host LIKE '___-000-__' GROUP BY 1")
    results.equal("20 simulated hosts, fleet join as rsttrace join: pairs by verdict", {name: int(count) for name, count in sorted(mine)}, dict(sorted(told.items())))


def example(scratch):
    """The lines of the report's example: real causes that the laboratory does not make."""
    path = f"{scratch}/example.jsonl"
    with zstandard.open(f"{lab.HERE}/../../docs/report-example.jsonl.zst", "rb") as file, open(path, "wb") as out:
        shutil.copyfileobj(file, out)
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rsttrace")
    parser.add_argument("scratch")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--join")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--step", choices=["hosts", "scale"])
    parser.add_argument("--templates", help="recorded lines for --step scale")
    options = parser.parse_args()
    scratch, results = os.path.abspath(options.scratch), Results()
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    has_join = subprocess.run([options.rsttrace, "join", "--help"], capture_output=True).returncode == 0
    joiner = options.join or (options.rsttrace if has_join else None)
    if options.step != "scale":
        directory = play(results, options.rsttrace, scratch)
        in_otel(results, directory, scratch)
        in_clickhouse(results, options.rsttrace, joiner, directory, scratch)
        on_storage(results, directory, scratch)
    if options.step != "hosts":
        step(f"{options.rows} rows of {scale.simulate.HOSTS} simulated hosts")
        recorded = options.templates or directory_of(directory)
        scale.run(results, [recorded, example(scratch)], scratch, options.rows, joiner, lambda *of: compare_cluster(results, scratch, *of))
    with open(f"{scratch}/results.json", "w") as file:
        json.dump({"figures": results.figures, "failures": results.failures, "not_run": results.not_run}, file, indent=1, default=str)
    for failure in results.failures:
        print(f"FAILED {failure}")
    sys.exit(bool(results.failures))


if __name__ == "__main__":
    main()
