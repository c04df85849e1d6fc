-- DuckDB: closed segments of recordings on object storage, or in a directory, as host=HOST/date=DATE/*.jsonl.zst
-- (deploy/fleet/upload). `archive` is the place of the directories host=…:
--
--     SET VARIABLE archive = 's3://bucket/rsttrace';       -- with the extension httpfs, and CREATE SECRET (TYPE s3, …)
--     SET VARIABLE archive = '/srv/rsttrace';
--
-- Only the files that `host` and `date` of a WHERE leave are read. Columns that this file does not name are in none of the views; a
-- field that is new, or of another type, breaks no query.

-- name: views
CREATE OR REPLACE VIEW records AS
SELECT *
FROM read_json(getvariable('archive') || '/host=*/date=*/*.jsonl.zst', format = 'newline_delimited', hive_partitioning = true,
    hive_types = {'host': VARCHAR, 'date': DATE}, ignore_errors = true, maximum_object_size = 1048576, columns = {
    type: 'VARCHAR', time: 'TIMESTAMP_NS', seq: 'UBIGINT', count: 'UBIGINT', direction: 'VARCHAR',
    local: 'STRUCT(address VARCHAR, port INTEGER)', peer: 'STRUCT(address VARCHAR, port INTEGER, name VARCHAR)',
    process: 'STRUCT(pid BIGINT, comm VARCHAR)', unit: 'VARCHAR', container: 'STRUCT(name VARCHAR, image VARCHAR, service VARCHAR)',
    pod: 'STRUCT(namespace VARCHAR, name VARCHAR, container VARCHAR)',
    socket: 'STRUCT(state VARCHAR, role VARCHAR, age_ms DOUBLE, idle_before_send_ms DOUBLE, since_receive_ms DOUBLE)',
    reset: 'STRUCT(seq BIGINT, ack BIGINT)', packet: 'STRUCT(ttl INTEGER, handshake_ttl INTEGER)',
    cause: 'STRUCT(code VARCHAR, fault VARCHAR, confidence VARCHAR, benign BOOLEAN, lost_bytes BIGINT)', other_end: 'STRUCT(cause VARCHAR)',
    resets: 'UBIGINT', lost: 'UBIGINT', undelivered: 'UBIGINT', last: 'BOOLEAN'});

CREATE OR REPLACE VIEW resets AS
SELECT host, date, time, seq, count, direction, cause.code AS cause, cause.fault AS fault, cause.benign AS benign, cause.lost_bytes AS lost_bytes,
    local.address AS local, local.port AS local_port, peer.address AS peer, peer.port AS peer_port, process.comm AS process,
    coalesce(container.service, pod.namespace || '/' || pod.container, unit, process.comm) AS service, container.image AS image,
    socket.role AS role, coalesce(socket.idle_before_send_ms, socket.since_receive_ms) AS silence_ms,
    CASE WHEN reset.seq IS NULL AND reset.ack IS NOT NULL THEN 0 ELSE reset.seq END AS reset_seq, reset.ack AS reset_ack,
    direction = 'sent' OR packet IS NOT NULL OR reset.ack IS NOT NULL AS is_whole, other_end IS NOT NULL AS is_within_host
FROM records
WHERE type = 'reset';

-- name: causes
-- Causes and faults by host and service, those first that have to be fixed on the host.
SELECT host, service, cause, fault, sum(count)::BIGINT AS resets, count(DISTINCT peer) AS peers, count(*) FILTER (lost_bytes > 0) AS with_lost_bytes, max(time) AS last
FROM resets
WHERE NOT benign
GROUP BY host, service, cause, fault
ORDER BY fault = 'local' DESC, resets DESC
LIMIT 50;

-- name: backends
-- One backend or many: resets that clients received, by service; share of the backend that has most.
SELECT service, sum(resets)::BIGINT AS received, count(*) AS backends, max(resets) / sum(resets) AS share, arg_max(backend, resets) AS most
FROM (
    SELECT service, peer || ':' || peer_port AS backend, sum(count) AS resets
    FROM resets
    WHERE direction = 'received' AND role = 'client' AND NOT benign
    GROUP BY ALL
)
GROUP BY service
ORDER BY received DESC
LIMIT 50;

-- name: silences
-- Hosts with one silence: an idle timeout of something that they share. Steps of 2 %.
SELECT exp(round(ln(silence_ms) / ln(1.02)) * ln(1.02)) AS about_ms, count(DISTINCT host) AS hosts, sum(count)::BIGINT AS resets, count(DISTINCT peer) AS peers
FROM resets
WHERE direction = 'received' AND silence_ms >= 1000 AND NOT benign
GROUP BY 1
HAVING sum(count) >= 3
ORDER BY hosts DESC, resets DESC
LIMIT 50;

-- name: new
-- New since the last deployment: causes of a service that it had not before. SET VARIABLE deployed = TIMESTAMP '…';
SELECT service, cause, fault, sum(count)::BIGINT AS resets, count(DISTINCT host) AS hosts, min(time) AS first
FROM resets
WHERE time >= getvariable('deployed') AND NOT benign
    AND (service, cause) NOT IN (SELECT (coalesce(service, ''), cause) FROM resets WHERE time < getvariable('deployed'))
GROUP BY ALL
ORDER BY resets DESC
LIMIT 50;

-- name: pairs
-- Resets of which both ends have a record: the numbers of the segment are equal and both ports, or both numbers where the receiver saw
-- the header. Time is a bound alone. What no host sent takes marks, and the steps of clickhouse/join.sql: here `rsttrace join` tells it.
SELECT s.host AS sent_host, r.host AS received_host, s.cause AS cause, r.cause AS received_cause, count(*) AS pairs
FROM resets AS s JOIN resets AS r
    ON s.reset_seq = r.reset_seq AND (r.reset_seq > 0 OR r.reset_ack = s.reset_ack)
WHERE s.direction = 'sent' AND r.direction = 'received' AND s.host <> r.host AND (s.reset_seq > 0 OR s.reset_ack > 0)
    AND (NOT r.is_whole OR s.reset_ack IS NOT DISTINCT FROM r.reset_ack)
    AND (r.is_whole AND r.reset_seq > 0 AND r.reset_ack > 0 OR s.local_port = r.peer_port AND s.peer_port = r.local_port)
    AND NOT s.is_within_host AND NOT r.is_within_host AND s.time BETWEEN r.time - INTERVAL 10 MINUTE AND r.time + INTERVAL 10 MINUTE
GROUP BY ALL
ORDER BY pairs DESC;

-- name: coverage
-- Hosts that were not watched all the time: gaps between signs, and what a recorder lost.
SELECT host, count(*) FILTER (seconds > 30) AS gaps, coalesce(sum(seconds) FILTER (seconds > 30), 0)::BIGINT AS gap_seconds, max(missing) AS lost, max(time) AS last_sign
FROM (
    SELECT host, time, lost + undelivered AS missing, date_diff('second', lag(time) OVER (PARTITION BY host ORDER BY time), time) AS seconds
    FROM records
    WHERE type IN ('recording', 'mark')
)
GROUP BY host
ORDER BY gap_seconds DESC, lost DESC
LIMIT 50;
