"""The fleet part of rsttrace with real engines; `cargo xtask fleet` starts it.

    fleet.py RSTTRACE SCRATCH [--rows N] [--join RSTTRACE] [--keep]

Hosts in namespaces → sinks → collectors → engines → queries, each compared with what rsttrace itself tells of the files; then
simulated hosts. Prints what was measured and what could not be run, and writes both to SCRATCH/results.json.
"""
import argparse, collections, csv, glob, io, json, os, shutil, subprocess, sys

import zstandard

import lab, scale, storage
from clickhouse import Engine, queries
from compare import Results, compare_causes, differences, records, rsttrace, step
from ways import play

SPAN = {"from": "2000-01-01 00:00:00", "to": "2100-01-01 00:00:00", "deployed": "2000-01-01 00:00:00"}


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
