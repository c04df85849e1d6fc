"""A million and more records of simulated hosts in ClickHouse's engine: bytes a row, ingestion, and the time of each query."""
import collections, functools, glob, multiprocessing, os, resource, shutil, time

import simulate
from clickhouse import Engine, queries

HERE = os.path.dirname(os.path.abspath(__file__))


def when(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(simulate.BEGIN + seconds))


def write(simulation, directory, number):
    return simulation.batch(number, f"{directory}/part-{number:03d}.jsonl.zst")


def base(results, templates, directory, rows):
    """Writes the files of the first part; returns the number of rows, and of pairs by kind."""
    began = time.monotonic()
    simulation = simulate.Simulation(templates)
    simulate.BATCH = min(simulate.BATCH, rows)
    # Forked before the engine has threads.
    with multiprocessing.get_context("fork").Pool(2) as pool:
        done = pool.map(functools.partial(write, simulation, directory), range(-(-rows // simulate.BATCH)), chunksize=1)
    results.figure("simulated: rows of the files", sum(rows for rows, _ in done))
    results.figure("simulated: seconds to write them", round(time.monotonic() - began, 1))
    truth = sum((kinds for _, kinds in done), collections.Counter())
    return sum(rows for rows, _ in done), truth


def marks(engine):
    """Headers and marks of all hosts, as lines, with totals that fit their records."""
    hosts = ", ".join(f"('{simulate.host_name(number)}', {simulate.CLOCKS[number]})" for number in range(simulate.HOSTS))
    engine.run("CREATE TABLE rsttrace.simulated_hosts (host String, clock Int64) ENGINE = Memory")
    engine.run(f"INSERT INTO rsttrace.simulated_hosts VALUES {hosts}")
    begin, count = simulate.BEGIN - 60, simulate.SPAN // 10 + 12
    moment = "toDateTime64({0}, 9, 'UTC') + toIntervalNanosecond(clock)"
    stamp = "concat(replaceOne(toString({0}), ' ', 'T'), 'Z')"
    header = ('{"schema":1,"type":"recording","time":"\', ' + stamp.format(moment.format(begin)) + ', \'","format":1,"segment":1,"run":"\', ' + stamp.format(moment.format(begin)) +
              ', \'","host":"\', host, \'","version":"0.1.0","machine_id":"\', lower(hex(cityHash64(host))), \'","boot_id":null,"kernel":"6.18.44","architecture":"x86_64","filtered":false,'
              '"filters":{"direction":null,"family":null,"netns":null,"peers":[],"not_peers":[],"peer_ports":[],"local_ports":[],"ports":[],"not_ports":[],"others":[]},'
              '"ignored":true,"netns":4026531840,"degraded":[],"clock":{"monotonic_ns":1000000000000,"synchronized":true,"estimated_error_us":1000}}')
    engine.run(f"INSERT INTO rsttrace.lines (raw) SELECT concat('{header}') AS raw FROM rsttrace.simulated_hosts")
    mark = ('{"schema":1,"type":"mark","time":"\', ' + stamp.format("g.time") + ', \'","host":"\', g.host, \'","monotonic_ns":\', toString(1000000000000 + g.step * 10000000000), \',"resets":\', toString(r.total),'
            ' \',"lost":0,"undelivered":0,"counters":[{"name":"TcpOutRsts","delta":0,"observed":null,"explanation":null},{"name":"TcpEstabResets","delta":0,"observed":null,"explanation":null},'
            '{"name":"TcpAttemptFails","delta":0,"observed":null,"explanation":null}],"last":false}')
    engine.run(f"""INSERT INTO rsttrace.lines (raw)
        SELECT concat('{mark}') AS raw
        FROM (SELECT host, number AS step, {moment.format(f'{begin} + number * 10')} AS time FROM rsttrace.simulated_hosts CROSS JOIN numbers(1, {count}) AS steps) AS g
        ASOF LEFT JOIN (SELECT host, time, row_number() OVER (PARTITION BY host ORDER BY time) AS total FROM rsttrace.resets) AS r ON r.host = g.host AND r.time <= g.time""")


def copy(engine, number):
    """Adds a copy of the first part: later, with the records of other clusters, and other numbers."""
    clusters = simulate.HOSTS // simulate.CLUSTER
    shift = number * 10
    other = f"leftPad(toString((toUInt32(substring(host, 5, 3)) + {shift}) % {clusters}), 3, '0')"
    moved = (f"concat('10.', toString(100 + intDiv((toUInt32(substring(host, 5, 3)) + {shift}) % {clusters}, 50)), '.', toString((toUInt32(substring(host, 5, 3)) + {shift}) % {clusters} % 50 + 1), '.', "
             "splitByChar('.', text)[4])")
    address = lambda column: f"(replaceOne(toString({column}), '::ffff:', '') AS {column}_text)"
    own, peer = (moved.replace("text", f"{column}_text") for column in ("local", "peer"))
    begin = when(0)
    # The time is that of the line, to the second; what is behind it stays.
    old, new = (f"concat('\"time\":\"', replaceOne(substring(toString({moment}), 1, 19), ' ', 'T'))" for moment in ("time", f"time + INTERVAL {number * simulate.SPAN} SECOND"))
    numbers = "concat('\"reset\":{{\"seq\":', toString({0}), ',\"ack\":', toString({1}))"
    engine.run(f"""INSERT INTO rsttrace.lines (raw)
        SELECT replaceOne(replaceOne(replaceOne(replaceOne(replaceOne(raw, {old}, {new}), host, concat(substring(host, 1, 4), {other}, substring(host, 8))),
            concat('"', {address('local')}, '"'), concat('"', {own}, '"')),
            concat('"', {address('peer')}, '"'), if(startsWith(peer_text, '10.'), concat('"', {peer}, '"'), concat('"', peer_text, '"'))),
            {numbers.format('reset_seq', 'reset_ack')}, {numbers.format(f'bitXor(assumeNotNull(reset_seq), {number * 97_003_337})', f'bitXor(assumeNotNull(reset_ack), {number * 61_000_339})')})
        FROM (SELECT * FROM rsttrace.resets WHERE time >= '{begin}' - INTERVAL 3 SECOND AND time < toDateTime64('{begin}', 9, 'UTC') + INTERVAL {simulate.SPAN - 4} SECOND
            AND reset_seq > 0 AND reset_ack > 0)
        UNION ALL
        SELECT replaceOne(replaceOne(raw, {old}, {new}), host, concat(substring(host, 1, 4), {other}, substring(host, 8)))
        FROM (SELECT * FROM rsttrace.resets WHERE time >= '{begin}' - INTERVAL 3 SECOND AND time < toDateTime64('{begin}', 9, 'UTC') + INTERVAL {simulate.SPAN - 4} SECOND
            AND NOT ifNull(reset_seq > 0 AND reset_ack > 0, 0))
        SETTINGS max_insert_threads = 1, max_block_size = 8192, min_insert_block_size_rows = 100000, min_insert_block_size_bytes = 300000000""")


def time_queries(engine, **span):
    """Seconds of each query of queries.sql, the best of three."""
    took = {}
    for name, sql in queries().items():
        if name == "lines":
            continue
        times = []
        for _ in range(3):
            began = time.monotonic()
            engine.rows(sql, **span)
            times.append(time.monotonic() - began)
        took[name] = round(min(times), 3)
    return took


def run(results, templates, scratch, rows, joiner, compare, most=1_000_000):
    """The whole measurement; `compare` compares the join of a cluster with that of rsttrace."""
    directory = f"{scratch}/simulated"
    os.makedirs(directory)
    first, truth = base(results, templates, directory, min(rows, most))
    engine = Engine(f"{scratch}/clickhouse-scale")
    engine.script("schema.sql")
    # Half of this machine's memory: what needs more fails instead of taking it from other programs.
    engine.run(f"SET max_memory_usage = {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2}")
    plain = sum(os.path.getsize(path) for path in glob.glob(f"{directory}/*.zst"))
    began = time.monotonic()
    engine.run(f"INSERT INTO rsttrace.lines (raw) SELECT line FROM file('{directory}/*.jsonl.zst', 'LineAsString', 'line String')")
    seconds = time.monotonic() - began
    results.equal("simulated: rows in the engine", int(engine.value("SELECT count() FROM rsttrace.resets")), first)
    results.figure("ingestion from files, rows a second", round(first / seconds))
    results.figure("bytes a row: JSON line", round(int(engine.value("SELECT sum(length(raw)) FROM rsttrace.resets")) / first))
    results.figure("bytes a row: file compressed with zstd -1", round(plain / first))
    marks(engine)
    engine.run("OPTIMIZE TABLE rsttrace.resets FINAL")
    sizes(results, engine, first)
    span = {"from": when(-3600), "to": when(86400 + 3600), "deployed": when(simulate.SPAN // 2)}
    took = engine.script("join.sql", **span)
    results.figure(f"fleet join of {first} rows, seconds", round(sum(seconds for _, seconds in took), 1))
    verdicts = dict(engine.rows("SELECT verdict, toUInt32(count()) FROM rsttrace.pairs WHERE reason NOT LIKE 'no host%' AND reason NOT LIKE '%are not known' GROUP BY 1"))
    results.figure("fleet join: pairs within the fleet by verdict", verdicts)
    results.figure("fleet join: pairs by construction", dict(truth))
    for kind in ("sent", "not-sent", "never-arrived"):
        results.equal(f"fleet join, {kind}: pairs as made", int(verdicts.get(kind, 0)), truth[kind])
    compare(engine, joiner, span)
    small = time_queries(engine, **span)
    results.figure(f"queries at {first} rows, seconds", small)
    for number in range(1, round(rows / first)):
        copy(engine, number)
        print(f"  {engine.value('SELECT count() FROM rsttrace.resets')} rows", flush=True)
    total = int(engine.value("SELECT count() FROM rsttrace.resets"))
    if total > first:
        engine.run("OPTIMIZE TABLE rsttrace.resets")
        sizes(results, engine, total)
        large = time_queries(engine, **span)
        for name, seconds in large.items():
            results.figure(f"query {name}, seconds at {first} and {total} rows", (small[name], seconds))
        hour = {**span, "from": when(3600), "to": when(7200)}
        results.figure("queries of one hour, seconds", time_queries(engine, **hour))
        took = engine.script("join.sql", **hour)
        results.figure(f"fleet join of one hour of {total} rows, seconds", round(sum(seconds for _, seconds in took), 1))
        try:
            took = engine.script("join.sql", **span)
            results.figure(f"fleet join of {total} rows, seconds", round(sum(seconds for _, seconds in took), 1))
        except Exception as error:
            results.lacks(f"fleet join of {total} rows at once", str(error).splitlines()[0][:300])
    results.figure("most memory of the process, MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    engine.close()
    shutil.rmtree(f"{scratch}/clickhouse-scale")


def sizes(results, engine, rows):
    stored, _ = engine.bytes_of("resets")
    raw, _ = engine.bytes_of("resets", "raw")
    results.figure(f"bytes a row in the engine at {rows} rows: all, raw alone", (round(int(stored) / rows, 1), round(int(raw) / rows, 1)))
    kept, _ = engine.bytes_of("marks")
    count = int(engine.value("SELECT count() FROM rsttrace.marks"))
    results.figure("bytes a mark in the engine, where only time and totals differ", round(int(kept) / max(count, 1), 1))
