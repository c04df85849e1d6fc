-- ClickHouse: questions to the records of all hosts (schema.sql). Each is named by the comment before it, and takes the times from
-- and to, UTC:
--
--     clickhouse-client --param_from='2026-11-30 07:00:00' --param_to='2026-11-30 08:00:00' -q "SELECT …"
--
-- rsttrace.otel_resets (otel.sql) answers the first four as well, in place of rsttrace.resets.

-- name: causes
-- Causes and faults by host and service, those first that have to be fixed on the host.
SELECT host, service, cause, fault, sum(count) AS resets, uniqExact(peer) AS peers, countIf(lost_bytes > 0) AS with_lost_bytes, max(time) AS last
FROM rsttrace.resets
WHERE time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')} AND NOT benign
GROUP BY host, service, cause, fault
ORDER BY fault = 'local' DESC, resets DESC
LIMIT 50;

-- name: backends
-- One backend or many: resets that clients received, by service; share of the backend that has most. Near 1 with many hosts: that
-- backend. Near 1 / backends: something that all have in common.
SELECT service, sum(resets) AS received, count() AS backends, max(resets) / received AS share,
    argMax(backend, resets) AS most, max(hosts) AS hosts_of_most
FROM
(
    SELECT service, concat(replaceOne(toString(peer), '::ffff:', ''), ':', toString(peer_port)) AS backend, sum(count) AS resets, uniq(host) AS hosts
    FROM rsttrace.resets
    WHERE time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')} AND direction = 'received' AND role = 'client' AND NOT benign
    GROUP BY service, backend
)
GROUP BY service
ORDER BY received DESC
LIMIT 50;

-- name: silences
-- Hosts with one silence: an idle timeout of something that they share. Steps of 2 %, as in the report.
SELECT exp(round(log(silence_ms) / log(1.02)) * log(1.02)) AS about_ms, uniq(host) AS hosts, uniq(service) AS services, sum(count) AS resets,
    uniq(peer) AS peers, topK(3)(cause) AS causes, min(silence_ms) AS least_ms, max(silence_ms) AS most_ms
FROM rsttrace.resets
WHERE time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')} AND direction = 'received' AND silence_ms >= 1000 AND NOT benign
GROUP BY about_ms
HAVING resets >= 3
ORDER BY hosts DESC, resets DESC
LIMIT 50;

-- name: new
-- New since the last deployment (deployed): causes of a service that the time from `from` to it had not.
SELECT service, cause, fault, sum(count) AS resets, uniq(host) AS hosts, min(time) AS first, any(image) AS image
FROM rsttrace.resets
WHERE time >= {deployed:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')} AND NOT benign
    AND (service, cause) NOT IN
    (
        SELECT service, cause FROM rsttrace.resets
        WHERE time >= {from:DateTime64(3, 'UTC')} AND time < {deployed:DateTime64(3, 'UTC')}
    )
GROUP BY service, cause, fault
ORDER BY resets DESC
LIMIT 50;

-- name: not_sent
-- What no host sent although the peer's host was watching (join.sql): something between the hosts, or a packet filter at either that its recorder does not see,
-- by host and claimed sender.
SELECT received_host, replaceOne(toString(sender), '::ffff:', '') AS claimed_sender, sender_port, count() AS resets, min(time) AS first, max(time) AS last,
    topK(2)(received_cause) AS causes
FROM rsttrace.pairs
WHERE verdict = 'not-sent'
GROUP BY received_host, claimed_sender, sender_port
ORDER BY resets DESC
LIMIT 50;

-- name: verdicts
-- The fleet join by verdict, and why it cannot be told.
SELECT verdict, reason, count() AS pairs, uniq(received_host) AS receivers FROM rsttrace.pairs GROUP BY verdict, reason ORDER BY pairs DESC;

-- name: coverage
-- Hosts that were not watched all the time: spans, seconds without a sign or with losses, and what a recorder lost.
WITH steps AS
(
    SELECT host, time, lost + undelivered AS missing,
        dateDiff('second', lagInFrame(time, 1, time) OVER (PARTITION BY host ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), time) AS seconds
    FROM rsttrace.marks
    WHERE time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
)
SELECT host, countIf(seconds > 30) AS gaps, sumIf(seconds, seconds > 30) AS gap_seconds, max(missing) AS lost, max(time) AS last_sign
FROM steps
GROUP BY host
HAVING gaps > 0 OR lost > 0 OR last_sign < {to:DateTime64(3, 'UTC')} - INTERVAL 1 MINUTE
ORDER BY gap_seconds DESC, lost DESC
LIMIT 50;

-- name: lines
-- The lines themselves, of one host or of a cause, for the tools: … FORMAT LineAsString" | rsttrace report -
-- With the headers, marks and losses of the host the report knows what it lacks.
SELECT raw FROM
(
    SELECT time, raw FROM rsttrace.resets WHERE host = {host:String} AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
    UNION ALL
    SELECT time, raw FROM rsttrace.marks WHERE host = {host:String} AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
    UNION ALL
    SELECT time, raw FROM rsttrace.others WHERE type IN ('ignored', 'forwarded', 'lost') AND host = {host:String} AND time >= {from:DateTime64(3, 'UTC')} AND time < {to:DateTime64(3, 'UTC')}
)
ORDER BY time
FORMAT LineAsString;
