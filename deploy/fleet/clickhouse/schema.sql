-- ClickHouse: the records of all hosts. Lines go into rsttrace.lines by whatever collects them; from there each goes to the
-- table of its type, as it is (raw) and as columns. A field that this file does not know stays in raw: a newer rsttrace breaks
-- no ingestion, and JSONExtract over raw reads the field.
--
--     clickhouse-client --multiquery < schema.sql
--     zstdcat SEGMENT | clickhouse-client -q "INSERT INTO rsttrace.lines (raw) FORMAT LineAsString"
--     INSERT INTO rsttrace.lines (raw)
--         SELECT line FROM s3('https://STORE/BUCKET/rsttrace/host=*/date=2026-11-30/*.jsonl.zst', 'LineAsString', 'line String');

CREATE DATABASE IF NOT EXISTS rsttrace;

-- What comes in. Keeps nothing itself. Lines name their host. Losses and marks of earlier versions do not: for these, host is what a
-- collector adds, or the path of the file tells: (raw, host) SELECT line, extract(_path, 'host=([^/]+)/') FROM ….
CREATE TABLE IF NOT EXISTS rsttrace.lines
(
    raw String,
    host LowCardinality(String) DEFAULT ''
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS rsttrace.resets
(
    raw String CODEC(ZSTD(3)),
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD),
    host LowCardinality(String),
    seq UInt64 CODEC(Delta, ZSTD),
    count UInt32 CODEC(ZSTD),
    direction LowCardinality(String),
    cause LowCardinality(String),
    fault LowCardinality(String),
    confidence LowCardinality(String),
    benign Bool,
    local IPv6 CODEC(ZSTD),
    local_port UInt16 CODEC(ZSTD),
    peer IPv6 CODEC(ZSTD),
    peer_port UInt16 CODEC(ZSTD),
    peer_name LowCardinality(String),
    -- The ends on the other side of a translation that this host knows; '::' and 0 without one.
    translated_local IPv6 CODEC(ZSTD),
    translated_local_port UInt16 CODEC(ZSTD),
    translated_peer IPv6 CODEC(ZSTD),
    translated_peer_port UInt16 CODEC(ZSTD),
    process LowCardinality(String),
    pid UInt32 CODEC(ZSTD),
    unit LowCardinality(String),
    pod LowCardinality(String),
    -- The deployable part: service of Compose, namespace and container of a pod, unit, or else the process.
    service LowCardinality(String),
    image LowCardinality(String),
    state LowCardinality(String),
    role LowCardinality(String),
    age_ms Nullable(Float64) CODEC(ZSTD),
    -- Silence before the reset: before this host's last send or, where it had nothing to send, since the last data.
    silence_ms Nullable(Float64) CODEC(ZSTD),
    lost_bytes Nullable(UInt64) CODEC(ZSTD),
    -- Numbers of the reset's own segment. Without the header of a received reset the acknowledgement number is not known.
    reset_seq Nullable(UInt32) CODEC(ZSTD),
    reset_ack Nullable(UInt32) CODEC(ZSTD),
    has_header Bool,
    ttl Nullable(UInt8) CODEC(ZSTD),
    handshake_ttl Nullable(UInt8) CODEC(ZSTD),
    -- Whether the other end's record is one of this host, so that no other host has it.
    is_within_host Bool,
    -- What both ends of a reset have in common, addresses aside: its sequence number, or, of a refused connection, its
    -- acknowledgement number. 0 where neither is known.
    join_number UInt64 CODEC(ZSTD),
    inserted DateTime DEFAULT now() CODEC(Delta, ZSTD)
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (cause, host, time)
TTL toDateTime(time) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1;

-- Signs of the recorders: headers of segments, and marks every ten seconds. They show what a host would have recorded.
CREATE TABLE IF NOT EXISTS rsttrace.marks
(
    raw String CODEC(ZSTD(3)),
    type LowCardinality(String),
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD),
    host LowCardinality(String),
    -- Of headers.
    segment UInt64 CODEC(ZSTD),
    version LowCardinality(String),
    filtered Bool,
    -- Filters that leave resets of the host out. Those by network namespace alone do not.
    hides Bool,
    records_ignored Bool,
    synchronized Nullable(Bool),
    degraded Array(LowCardinality(String)) CODEC(ZSTD),
    -- Of marks; totals since the run began.
    resets UInt64 CODEC(Delta, ZSTD),
    lost UInt64 CODEC(Delta, ZSTD),
    undelivered UInt64 CODEC(Delta, ZSTD),
    sent_counted Nullable(UInt64) CODEC(ZSTD),
    sent_observed Nullable(UInt64) CODEC(ZSTD),
    is_last Bool,
    monotonic_ns UInt64 CODEC(Delta, ZSTD)
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (host, time)
TTL toDateTime(time) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1;

-- Ignored and forwarded resets, losses, summaries, and what is no record.
CREATE TABLE IF NOT EXISTS rsttrace.others
(
    raw String CODEC(ZSTD(3)),
    type LowCardinality(String),
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD),
    host LowCardinality(String),
    local IPv6 CODEC(ZSTD),
    local_port UInt16 CODEC(ZSTD),
    peer IPv6 CODEC(ZSTD),
    peer_port UInt16 CODEC(ZSTD),
    reset_seq Nullable(UInt32) CODEC(ZSTD),
    reset_ack Nullable(UInt32) CODEC(ZSTD),
    ignored_because LowCardinality(String)
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (type, host, time)
TTL toDateTime(time) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;

-- Addresses of the hosts, from their own records: which host is at the other end.
CREATE TABLE IF NOT EXISTS rsttrace.addresses
(
    address IPv6,
    host LowCardinality(String),
    first SimpleAggregateFunction(min, DateTime64(9, 'UTC')),
    last SimpleAggregateFunction(max, DateTime64(9, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (address, host)
TTL toDateTime(last) + INTERVAL 90 DAY;

-- One parse of the line gives all columns: a JSONExtract for each would parse it thirty times.
CREATE MATERIALIZED VIEW IF NOT EXISTS rsttrace.lines_to_resets TO rsttrace.resets AS
WITH
    JSONExtract(raw, 'Tuple(time String, host String, seq UInt64, count UInt32, direction String, local Tuple(address String, port UInt16), peer Tuple(address String, port UInt16, name String), translated Tuple(local Tuple(address String, port UInt16), peer Tuple(address String, port UInt16)), process Tuple(pid UInt32, comm String), unit String, container Tuple(name String, image String, service String), pod Tuple(namespace String, name String, container String), socket Tuple(state String, role String, age_ms Nullable(Float64), idle_before_send_ms Nullable(Float64), since_receive_ms Nullable(Float64)), reset Tuple(seq Nullable(UInt32), ack Nullable(UInt32)), packet Tuple(flags String, ttl Nullable(UInt8), handshake_ttl Nullable(UInt8)), cause Tuple(code String, fault String, confidence String, benign Bool, lost_bytes Nullable(UInt64)), other_end Tuple(netns Tuple(inode UInt64), cause String))') AS line,
    -- Only a process that connects takes an answer of which the acknowledgement alone is known; it has the number 0.
    if(line.reset.seq IS NULL AND line.reset.ack IS NOT NULL, 0, line.reset.seq) AS known_seq
SELECT
    raw,
    parseDateTime64BestEffortOrZero(line.time, 9, 'UTC') AS time,
    if(line.host != '', line.host, lines.host) AS host,
    line.seq AS seq,
    line.count AS count,
    line.direction AS direction,
    line.cause.code AS cause,
    line.cause.fault AS fault,
    line.cause.confidence AS confidence,
    line.cause.benign AS benign,
    toIPv6OrDefault(line.local.address) AS local,
    line.local.port AS local_port,
    toIPv6OrDefault(line.peer.address) AS peer,
    line.peer.port AS peer_port,
    line.peer.name AS peer_name,
    toIPv6OrDefault(line.translated.local.address) AS translated_local,
    line.translated.local.port AS translated_local_port,
    toIPv6OrDefault(line.translated.peer.address) AS translated_peer,
    line.translated.peer.port AS translated_peer_port,
    line.process.comm AS process,
    line.process.pid AS pid,
    line.unit AS unit,
    if(line.pod.name != '', concat(line.pod.namespace, '/', line.pod.name), '') AS pod,
    multiIf(line.container.service != '', line.container.service,
            line.pod.name != '', concat(line.pod.namespace, '/', line.pod.container),
            line.unit != '', line.unit, line.process.comm) AS service,
    line.container.image AS image,
    line.socket.state AS state,
    line.socket.role AS role,
    line.socket.age_ms AS age_ms,
    ifNull(line.socket.idle_before_send_ms, line.socket.since_receive_ms) AS silence_ms,
    line.cause.lost_bytes AS lost_bytes,
    known_seq AS reset_seq,
    line.reset.ack AS reset_ack,
    -- The header is known of what this host sent, and of what it received where functions of the kernel can be traced.
    line.direction = 'sent' OR JSONType(raw, 'packet') = 'Object' OR line.reset.ack IS NOT NULL AS has_header,
    line.packet.ttl AS ttl,
    line.packet.handshake_ttl AS handshake_ttl,
    JSONType(raw, 'other_end') = 'Object' AS is_within_host,
    -- Bit 32 tells the acknowledgement number of a refused connection from a sequence number.
    multiIf(known_seq > 0, toUInt64(known_seq), known_seq = 0 AND line.reset.ack > 0, bitOr(toUInt64(line.reset.ack), 4294967296), 0) AS join_number
FROM rsttrace.lines
WHERE JSONExtractString(raw, 'type') = 'reset';

CREATE MATERIALIZED VIEW IF NOT EXISTS rsttrace.lines_to_marks TO rsttrace.marks AS
WITH
    JSONExtract(raw, 'Tuple(type String, time String, host String, segment UInt64, version String, filtered Bool, ignored Bool, clock Tuple(monotonic_ns UInt64, synchronized Nullable(Bool)), monotonic_ns UInt64, degraded Array(String), resets UInt64, lost UInt64, undelivered UInt64, counters Array(Tuple(name String, delta UInt64, observed Nullable(UInt64))), last Bool)') AS line,
    arrayFirst(counter -> counter.1 = 'TcpOutRsts', line.counters) AS counter
SELECT
    raw,
    line.type AS type,
    parseDateTime64BestEffortOrZero(line.time, 9, 'UTC') AS time,
    if(line.host != '', line.host, lines.host) AS host,
    line.segment AS segment,
    line.version AS version,
    line.filtered AS filtered,
    -- A header that names no filters is of a run without one, or of a version that did not name them.
    multiIf(NOT line.filtered, false, JSONType(raw, 'filters') != 'Object', true,
            arrayExists(filter -> filter.1 != 'netns' AND filter.2 NOT IN ('null', 'false', '[]', '{}', '""'), JSONExtractKeysAndValuesRaw(raw, 'filters'))) AS hides,
    line.ignored AS records_ignored,
    line.clock.synchronized AS synchronized,
    line.degraded AS degraded,
    line.resets AS resets,
    line.lost AS lost,
    line.undelivered AS undelivered,
    if(counter.3 IS NULL, NULL, counter.2) AS sent_counted,
    counter.3 AS sent_observed,
    line.last AS is_last,
    if(line.type = 'recording', line.clock.monotonic_ns, line.monotonic_ns) AS monotonic_ns
FROM rsttrace.lines
WHERE JSONExtractString(raw, 'type') IN ('recording', 'mark');

CREATE MATERIALIZED VIEW IF NOT EXISTS rsttrace.lines_to_others TO rsttrace.others AS
WITH
    JSONExtract(raw, 'Tuple(type String, time String, host String, local Tuple(address String, port UInt16), peer Tuple(address String, port UInt16), packet Tuple(seq Nullable(UInt32), ack Nullable(UInt32), flags String), ignored_because Tuple(code String))') AS line
SELECT
    raw,
    line.type AS type,
    -- What is no record comes at the time of its arrival, so that it ends with the others.
    ifNull(parseDateTime64BestEffortOrNull(line.time, 9, 'UTC'), now64(9, 'UTC')) AS time,
    if(line.host != '', line.host, lines.host) AS host,
    toIPv6OrDefault(line.local.address) AS local,
    line.local.port AS local_port,
    toIPv6OrDefault(line.peer.address) AS peer,
    line.peer.port AS peer_port,
    line.packet.seq AS reset_seq,
    if(position(line.packet.flags, 'ACK') > 0, line.packet.ack, NULL) AS reset_ack,
    line.ignored_because.code AS ignored_because
FROM rsttrace.lines
WHERE JSONExtractString(raw, 'type') NOT IN ('reset', 'recording', 'mark');

CREATE MATERIALIZED VIEW IF NOT EXISTS rsttrace.resets_to_addresses TO rsttrace.addresses AS
SELECT local AS address, host, min(time) AS first, max(time) AS last
FROM rsttrace.resets
-- Loopback, unspecified and link-local addresses are of every host. A packet filter answers in the name of another one.
WHERE JSONExtractString(raw, 'hook') NOT IN ('nf_send_reset', 'nf_send_reset6') AND NOT isIPAddressInRange(toString(local), '::ffff:127.0.0.0/104') AND NOT isIPAddressInRange(toString(local), 'fe80::/10')
    AND local NOT IN (toIPv6('::'), toIPv6('::1'), toIPv6('::ffff:0.0.0.0'))
GROUP BY address, host;
