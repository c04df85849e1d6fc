"""The fleet part of rsttrace with real engines; `cargo xtask fleet` starts it.

    fleet.py RSTTRACE SCRATCH [--rows N] [--join RSTTRACE] [--keep]

Hosts in namespaces → sinks → collectors → engines → queries, each compared with what rsttrace itself tells of the files; then
simulated hosts. Prints what was measured and what could not be run, and writes both to SCRATCH/results.json.
"""
import argparse, collections, csv, glob, io, json, os, shutil, subprocess, sys, time

import collector, lab
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


def records(directory):
    """The lines of all recordings below a directory, with the host."""
    for path in sorted(glob.glob(f"{directory}/host=*/**/*.jsonl", recursive=True)):
        host = path.split("host=")[1].split("/")[0]
        with open(path) as file:
            for line in file:
                yield host, json.loads(line)


def play(results, program, scratch):
    """Records the hosts of the laboratory; returns the directory of the recordings, and the counts of the other sinks."""
    step("hosts in namespaces")
    with lab.Lab(program, scratch) as hosts:
        front, agent, otlp = collector.start_rotel(hosts, scratch)
        lack = collector.lacks_debian()
        debian = None if lack else collector.Debian(hosts, scratch)
        if lack:
            results.lacks("rsyslog over TLS to PostgreSQL", lack)
        sinks = [otlp] + ([debian.sink] if debian else [])
        running = [hosts.record(name, sinks) for name in lab.RECORDED]
        directory = f"{scratch}/recordings"
        wait_for_marks(directory, 2)
        hosts.play()
        settled = time.time()
        # Each recorder has two marks after the last reset that it has, so that its time is covered.
        wait_for_marks(directory, 2, after=lambda: last_reset(directory, settled))
        for child in running:
            hosts.end(child)
        counts = collections.Counter(host for host, record in records(directory) if record["type"] == "reset")
        if debian:
            try:
                collector.wait("PostgreSQL", lambda: int(debian.psql("SELECT count(*) FROM rsttrace.resets")) >= sum(counts.values()))
            except RuntimeError as error:
                print(f"  {error}")
            rows = debian.psql("SELECT host, cause, sum(count) FROM rsttrace.resets GROUP BY 1, 2 ORDER BY 1, 2").splitlines()
            compare_causes(results, "rsyslog over TLS to PostgreSQL", directory, [row.split("|") for row in rows])
            debian.psql("SELECT * FROM rsttrace.causes; SELECT * FROM rsttrace.silences")
        hosts.end(agent)
        hosts.end(front)
    return directory


def last_reset(directory, at_least):
    times = [record["time"] for _, record in records(directory) if record["type"] == "reset"]
    return max([*times, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_least))])


def wait_for_marks(directory, count, after=lambda: ""):
    def is_marked():
        marks = collections.Counter(host for host, record in records(directory) if record["type"] in ("recording", "mark") and record["time"] > after())
        return all(marks[name] >= count for name in lab.RECORDED)

    collector.wait("marks of the recorders", is_marked, seconds=90)


def compare_causes(results, what, directory, rows):
    """Compares rows of host, cause and count with the lines themselves."""
    counted = collections.Counter()
    for host, record in records(directory):
        if record["type"] == "reset":
            counted[host, record["cause"]["code"]] += record["count"]
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
    engine.script("join.sql", **SPAN)
    for name in ("not_sent", "verdicts"):
        engine.rows(queries()[name], **SPAN)
    verdicts = dict(engine.rows("SELECT verdict, count() FROM rsttrace.pairs GROUP BY 1"))
    results.figure("fleet join by SQL", {name: int(count) for name, count in sorted(verdicts.items())})
    compare_join(results, engine, joiner, directory)
    engine.close()


def directory_of(directory):
    """One input of all recordings: a file of their lines."""
    path = f"{directory}/../all.jsonl"
    with open(path, "wb") as out:
        for part in sorted(glob.glob(f"{directory}/host=*/*.jsonl")):
            with open(part, "rb") as file:
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


def compare_join(results, engine, joiner, directory):
    if not joiner:
        results.lacks("comparison with rsttrace join", "this rsttrace has no join")
        return
    lines = rsttrace(joiner, "join", "--output", "json", *sorted(glob.glob(f"{directory}/host=*"))).decode().splitlines()
    pairs = [json.loads(line) for line in lines]
    told = collections.Counter(pair["verdict"] for pair in pairs if pair["type"] == "pair")
    rows = engine.rows("SELECT verdict, sent_host, sent_record, received_host, received_record, receiver_port FROM rsttrace.pairs")
    results.equal("fleet join as rsttrace join: pairs by verdict", collections.Counter(row[0] for row in rows), told)
    matched = {(row[1], int(row[2]), row[3], int(row[4])) for row in rows if row[0] == "sent"}
    theirs = {(pair["sender"]["host"], pair["sender"]["seq"], pair["receiver"]["host"], pair["receiver"]["seq"]) for pair in pairs if pair.get("verdict") == "sent"}
    results.equal("fleet join as rsttrace join: matched records that agree", len(matched & theirs), len(theirs))


def in_otel(results, directory, scratch):
    """The view over what rotel has exported."""
    step("OTLP → rotel → ClickHouse's engine")
    engine = Engine(f"{scratch}/clickhouse-otel")
    compare_causes(results, "OTLP through rotel", directory, engine.rows("SELECT host, cause, sum(count) FROM rsttrace.otel_resets GROUP BY 1, 2"))
    for name in ("causes", "backends", "silences"):
        engine.rows(queries()[name].replace("rsttrace.resets", "rsttrace.otel_resets"), **SPAN)
    engine.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rsttrace")
    parser.add_argument("scratch")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--join")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--step", choices=["hosts", "scale"])
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
    with open(f"{scratch}/results.json", "w") as file:
        json.dump({"figures": results.figures, "failures": results.failures, "not_run": results.not_run}, file, indent=1, default=str)
    for failure in results.failures:
        print(f"FAILED {failure}")
    sys.exit(bool(results.failures))


if __name__ == "__main__":
    main()
