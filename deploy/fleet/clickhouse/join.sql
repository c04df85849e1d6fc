-- The fleet join: who really sent each reset, by the records of both ends, as `rsttrace join` tells it for a few hosts. Afterwards
-- rsttrace.pairs has each reset once, with its verdict:
--
--     sent             the peer's host sent it: its own record has the cause
--     not-sent         the peer's host did not send it, although its recorder was watching: something between did, or the packet
--                      filter of either host (a rule with reject, on the receiver's output too), where its recorder does not see
--                      those; the text of rsttrace join says which
--     never-arrived    a host sent it, and it did not arrive at the other, which was watching, or was ignored there
--     not-joinable     the other host has a reset of this connection with other numbers: they are rewritten on the way
--     cannot-be-told   reason says why
--
-- Parameters: from and to, of the times of the records. An hour is a good span; begin a minute early, so that both records of a
-- reset are within. Scripts, not views: the steps are tables of their own, which the next run replaces.
--
--     clickhouse-client --param_from='2026-11-30 07:00:00' --param_to='2026-11-30 08:00:00' --multiquery < join.sql

-- How well the ends of a sender's record fit those of a receiver's: 4 all, 3 both ports, 2 one end, 1 one port, 0 none.
CREATE OR REPLACE FUNCTION rsttraceEndsFit AS (local, local_port, peer, peer_port, other_local, other_local_port, other_peer, other_peer_port) ->
    multiIf(local_port = other_peer_port AND peer_port = other_local_port, if(local = other_peer AND peer = other_local, 4, 3),
            local_port = other_peer_port AND local = other_peer OR peer_port = other_local_port AND peer = other_local, 2,
            local_port = other_peer_port OR peer_port = other_local_port, 1, 0);

-- 1. The records of the span, without those of which both ends are on one host.
CREATE OR REPLACE TABLE rsttrace.join_records ENGINE = MergeTree ORDER BY (join_number, id) AS
SELECT
    cityHash64(host, time, seq, direction, local_port, peer_port) AS id,
    host, time, seq AS record, count, direction = 'sent' AS is_sent, '' AS ignored,
    local, local_port, peer, peer_port, translated_local, translated_local_port, translated_peer, translated_peer_port,
    reset_seq, reset_ack, has_header AS is_whole, join_number, cause
FROM rsttrace.resets
WHERE time >= {from:DateTime64(9, 'UTC')} AND time < {to:DateTime64(9, 'UTC')} AND NOT is_within_host
    AND NOT isIPAddressInRange(toString(peer), '::ffff:127.0.0.0/104') AND peer NOT IN (toIPv6('::'), toIPv6('::1'), toIPv6('::ffff:0.0.0.0'))
    AND (peer, host) NOT IN (SELECT address, host FROM rsttrace.addresses)
UNION ALL
SELECT
    cityHash64(host, time, raw) AS id,
    host, time, 0, 1, false, if(ignored_because = '', 'unknown', ignored_because),
    local, local_port, peer, peer_port, toIPv6('::'), 0, toIPv6('::'), 0,
    reset_seq, reset_ack, reset_seq IS NOT NULL,
    assumeNotNull(multiIf(reset_seq > 0, toUInt64(reset_seq), reset_seq = 0 AND reset_ack > 0, bitOr(toUInt64(reset_ack), 4294967296), 0)), ''
FROM rsttrace.others
WHERE type = 'ignored' AND time >= {from:DateTime64(9, 'UTC')} AND time < {to:DateTime64(9, 'UTC')};

-- 2. Combinations of a sender's and a receiver's record with equal numbers: both of them, whatever the ends; or one, with ends that
-- fit. Time is a bound alone (ten minutes, for clocks that are wrong), and numbers that too many records have are left out.
CREATE OR REPLACE TABLE rsttrace.join_edges ENGINE = MergeTree ORDER BY (received, sent) AS
WITH
    frequent AS (SELECT join_number FROM rsttrace.join_records WHERE join_number != 0 GROUP BY join_number HAVING count() > 64)
SELECT
    s.id AS sent, r.id AS received, s.host AS sent_host, r.host AS received_host, s.join_number AS number,
    s.time AS sent_time, r.time AS received_time,
    r.is_whole AND s.reset_seq > 0 AND s.reset_ack > 0 AS is_both,
    greatest(
        rsttraceEndsFit(s.local, s.local_port, s.peer, s.peer_port, r.local, r.local_port, r.peer, r.peer_port),
        if(s.translated_local_port > 0, rsttraceEndsFit(s.translated_local, s.translated_local_port, s.translated_peer, s.translated_peer_port, r.local, r.local_port, r.peer, r.peer_port), 0),
        if(r.translated_local_port > 0, rsttraceEndsFit(s.local, s.local_port, s.peer, s.peer_port, r.translated_local, r.translated_local_port, r.translated_peer, r.translated_peer_port), 0)) AS fit
FROM (SELECT * FROM rsttrace.join_records WHERE NOT is_sent AND join_number != 0 AND join_number NOT IN frequent) AS r
INNER JOIN (SELECT * FROM rsttrace.join_records WHERE is_sent AND join_number != 0 AND join_number NOT IN frequent) AS s ON s.join_number = r.join_number
WHERE s.host != r.host AND (NOT r.is_whole OR ifNull(s.reset_ack, 0) = ifNull(r.reset_ack, 0))
    AND abs(dateDiff('second', s.time, r.time)) <= 600 AND (is_both OR fit >= 2);

-- 3. Differences of the clocks, from combinations that are the only one of two hosts with their number: median, and how far they are
-- from it. Both orders of each two hosts.
CREATE OR REPLACE TABLE rsttrace.join_clocks ENGINE = MergeTree ORDER BY (host, other) AS
WITH
    anchors AS
    (
        SELECT any(sent_host) AS one, any(received_host) AS two, any(is_both) AS both,
            toInt64(any(toUnixTimestamp64Nano(received_time))) - toInt64(any(toUnixTimestamp64Nano(sent_time))) AS apart
        FROM rsttrace.join_edges WHERE is_both OR fit >= 3
        GROUP BY number, least(sent_host, received_host), greatest(sent_host, received_host) HAVING count() = 1
    ),
    both_orders AS (SELECT one AS host, two AS other, both, apart FROM anchors UNION ALL SELECT two, one, both, -apart FROM anchors)
SELECT
    host, other,
    if(countIf(both) > 0, quantileExactIf(0.5)(apart, both), quantileExact(0.5)(apart)) AS skew_ns,
    if(countIf(both) > 0, greatest(maxIf(apart, both) - skew_ns, skew_ns - minIf(apart, both)), greatest(max(apart) - skew_ns, skew_ns - min(apart))) + 1000000000 AS uncertainty_ns,
    count() AS matches
FROM both_orders GROUP BY host, other;

-- 4. Matches: combinations of which each record is the best of the other, by ends and then by time. One number and one end alone are
-- enough only where the times agree.
CREATE OR REPLACE TABLE rsttrace.join_matches ENGINE = MergeTree ORDER BY received AS
WITH
    near AS
    (
        SELECT e.sent AS sent, e.received AS received, e.sent_host AS sent_host, e.received_host AS received_host, e.number AS number, e.fit AS fit,
            abs(toInt64(toUnixTimestamp64Nano(e.received_time)) - toInt64(toUnixTimestamp64Nano(e.sent_time)) - c.skew_ns) AS distance,
            rank() OVER (PARTITION BY e.received ORDER BY e.fit DESC, distance, e.sent) AS of_received,
            rank() OVER (PARTITION BY e.sent ORDER BY e.fit DESC, distance, e.received) AS of_sent
        FROM rsttrace.join_edges AS e LEFT JOIN rsttrace.join_clocks AS c ON c.host = e.sent_host AND c.other = e.received_host
        WHERE e.is_both OR e.fit >= 3 OR c.matches > 0 AND abs(toInt64(toUnixTimestamp64Nano(e.received_time)) - toInt64(toUnixTimestamp64Nano(e.sent_time)) - c.skew_ns) <= c.uncertainty_ns
    )
SELECT sent, received, sent_host, received_host, number, 'numbers' AS basis FROM near WHERE of_received = 1 AND of_sent = 1;

-- Received resets whose numbers are not known: by all ends, and the time, where there is one alone.
INSERT INTO rsttrace.join_matches
SELECT any(sent), received, any(sent_host), any(received_host), 0, 'ends and time'
FROM
(
    SELECT s.id AS sent, r.id AS received, s.host AS sent_host, r.host AS received_host, count() OVER (PARTITION BY s.id) AS of_sent
    FROM (SELECT * FROM rsttrace.join_records WHERE NOT is_sent AND reset_seq IS NULL) AS r
    INNER JOIN (SELECT * FROM rsttrace.join_records WHERE is_sent AND id NOT IN (SELECT sent FROM rsttrace.join_matches)) AS s
        ON s.local = r.peer AND s.local_port = r.peer_port AND s.peer = r.local AND s.peer_port = r.local_port
    INNER JOIN rsttrace.join_clocks AS c ON c.host = s.host AND c.other = r.host
    WHERE s.host != r.host AND abs(toInt64(toUnixTimestamp64Nano(r.time)) - toInt64(toUnixTimestamp64Nano(s.time)) - c.skew_ns) <= c.uncertainty_ns
)
GROUP BY received HAVING count() = 1 AND any(of_sent) = 1;

-- 5. What the recorders cover: spans between signs without a gap, a loss, a clock that was set, or records that are missing here.
CREATE OR REPLACE TABLE rsttrace.join_cover ENGINE = MergeTree ORDER BY (host, begins) AS
WITH
    events AS
    (
        SELECT host, time, 1 AS is_sign, type = 'recording' AND segment = 1 AS begins_run,
            resets, lost + undelivered AS missing, monotonic_ns, toUInt64(0) AS seen
        FROM rsttrace.marks
        WHERE time >= {from:DateTime64(9, 'UTC')} - INTERVAL 2 MINUTE AND time < {to:DateTime64(9, 'UTC')} + INTERVAL 2 MINUTE
            AND (type = 'mark' OR segment = 1)
        UNION ALL
        SELECT host, time, 0, 0, 0, 0, 0, toUInt64(count)
        FROM rsttrace.resets
        WHERE time >= {from:DateTime64(9, 'UTC')} - INTERVAL 2 MINUTE AND time < {to:DateTime64(9, 'UTC')} + INTERVAL 2 MINUTE
    ),
    signs AS
    (
        SELECT *, sum(begins_run) OVER (PARTITION BY host ORDER BY time, is_sign ROWS UNBOUNDED PRECEDING) AS run,
            sum(seen) OVER (PARTITION BY host ORDER BY time, is_sign ROWS UNBOUNDED PRECEDING) AS read
        FROM events
    ),
    steps AS
    (
        SELECT host, time, run,
            toInt64(resets) - toInt64(read) AS unread,
            min(unread) OVER (PARTITION BY host, run ORDER BY time ROWS BETWEEN CURRENT ROW AND 2 FOLLOWING) AS unread_after,
            min(unread) OVER (PARTITION BY host, run ORDER BY time ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING) AS unread_before,
            missing - lagInFrame(missing, 1, missing) OVER (PARTITION BY host, run ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS lost,
            row_number() OVER (PARTITION BY host, run ORDER BY time) AS number,
            toInt64(monotonic_ns) - toInt64(lagInFrame(monotonic_ns, 1, monotonic_ns) OVER (PARTITION BY host, run ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)) AS apart,
            toInt64(toUnixTimestamp64Nano(time)) - toInt64(toUnixTimestamp64Nano(lagInFrame(time, 1, time) OVER (PARTITION BY host, run ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW))) AS wall
        FROM signs WHERE is_sign = 1
    ),
    islands AS
    (
        SELECT *, number = 1 OR lost != 0 OR apart > 30000000000 OR abs(wall - apart) >= 1000000000 OR unread_after > unread_before AS is_hole,
            sum(is_hole) OVER (PARTITION BY host ORDER BY time ROWS UNBOUNDED PRECEDING) AS island
        FROM steps
    ),
    -- What a recorder leaves out, by all headers of the host: the run may have begun before the span.
    contexts AS
    (
        SELECT host, max(hides) AS hides, min(records_ignored) AS records_ignored,
            -- What limits no conclusion from a missing record, by beginnings, as `rsttrace join` has it.
            max(arrayExists(text -> NOT match(text, '^(a program that rsttrace is made to run|all of them are kept|an attacker who takes rsttrace over|containers and peers that are named|of connections of the others, translations|owners |the process that accepted|forged resets are recognised|the headers of received resets|events of different CPUs|a reset that interrupts another is counted as lost|those of processes|forwarded resets are not seen|the other side of translated connections|resets sent by firewall rules)'), degraded)) AS is_limited
        FROM rsttrace.marks WHERE type = 'recording' AND time < {to:DateTime64(9, 'UTC')} + INTERVAL 2 MINUTE
        GROUP BY host
    )
SELECT i.host AS host, min(i.time) AS begins, max(i.time) AS ends, any(c.hides) AS hides, any(c.records_ignored) AS records_ignored, any(c.is_limited) AS is_limited
FROM islands AS i INNER JOIN contexts AS c ON c.host = i.host
GROUP BY i.host, i.island;

-- 6. What no record of another host matches: which host is at the other end, and what of its time has to be covered. An address by
-- which matched resets of one host alone have come is that host's as well.
CREATE OR REPLACE TABLE rsttrace.join_singles ENGINE = MergeTree ORDER BY (other, moment) AS
WITH
    owners AS (SELECT address, groupUniqArray(2)(host) AS hosts FROM rsttrace.addresses GROUP BY address),
    behind AS
    (
        SELECT address, groupUniqArray(2)(host) AS hosts FROM
        (
            SELECT r.peer AS address, m.sent_host AS host FROM rsttrace.join_matches AS m INNER JOIN rsttrace.join_records AS r ON r.id = m.received
            UNION ALL
            SELECT s.peer, m.received_host FROM rsttrace.join_matches AS m INNER JOIN rsttrace.join_records AS s ON s.id = m.sent
        )
        GROUP BY address
    ),
    -- Hosts whose clock follows a time server by its own account: those are five seconds apart at most.
    synchronized AS (SELECT host FROM rsttrace.marks WHERE type = 'recording' AND time < {to:DateTime64(9, 'UTC')} GROUP BY host HAVING min(ifNull(synchronized, false))),
    -- Connections on which the receiving host's own packet filter has answered in the peer's name, as the receiver has their ends.
    own_filters AS
    (
        SELECT host, peer, peer_port, local, local_port FROM rsttrace.resets
        WHERE time >= {from:DateTime64(9, 'UTC')} AND time < {to:DateTime64(9, 'UTC')}
            AND direction = 'sent' AND JSONExtractString(raw, 'hook') IN ('nf_send_reset', 'nf_send_reset6')
    ),
    singles AS
    (
        SELECT *, if(translated_peer_port > 0, translated_peer, peer) AS peer_address
        FROM rsttrace.join_records
        WHERE id NOT IN (SELECT sent FROM rsttrace.join_matches) AND id NOT IN (SELECT received FROM rsttrace.join_matches)
    )
SELECT
    n.id AS id, n.host AS host, n.time AS time, n.is_sent AS is_sent, n.ignored AS ignored, n.cause AS cause, n.record AS record,
    n.local AS local, n.local_port AS local_port, n.peer AS peer, n.peer_port AS peer_port,
    arrayFilter(name -> name != n.host, if(empty(o.hosts), b.hosts, o.hosts)) AS hosts,
    if(length(hosts) = 1, hosts[1], '') AS other,
    c.matches AS matches,
    n.time + toIntervalNanosecond(c.skew_ns) AS moment,
    if(c.matches = 0, 5000000000, c.uncertainty_ns) AS uncertainty_ns,
    multiIf(n.is_sent AND n.count > 1, 'its record stands for several resets',
            NOT n.is_sent AND (n.host, n.local, n.local_port, n.peer, n.peer_port) IN own_filters, 'the packet filter of the receiving host itself answered on this connection, in the name of the peer',
            n.join_number = 0, 'its numbers are not known',
            n.join_number IN (SELECT number FROM rsttrace.join_matches), 'a reset with equal numbers is matched: this is a further one',
            empty(hosts), 'no host of the fleet has the address of its peer',
            length(hosts) > 1, 'several hosts have the address of its peer',
            matches = 0 AND (n.host NOT IN synchronized OR other NOT IN synchronized), 'no reset of both hosts is matched, so the difference of their clocks is not known', '') AS reason
FROM singles AS n
LEFT JOIN owners AS o ON o.address = n.peer_address
LEFT JOIN behind AS b ON b.address = n.peer_address
LEFT JOIN rsttrace.join_clocks AS c ON c.host = n.host AND c.other = if(length(arrayFilter(name -> name != n.host, if(empty(o.hosts), b.hosts, o.hosts))) = 1, arrayFilter(name -> name != n.host, if(empty(o.hosts), b.hosts, o.hosts))[1], '');

-- 7. The result.
CREATE OR REPLACE TABLE rsttrace.pairs ENGINE = MergeTree ORDER BY (verdict, time) AS
SELECT
    if(r.ignored = '', 'sent', 'never-arrived') AS verdict,
    if(r.ignored = '', '', concat('it came, and was ignored: ', r.ignored)) AS reason,
    r.time AS time, s.host AS sent_host, s.record AS sent_record, r.host AS received_host, r.record AS received_record,
    r.peer AS sender, r.peer_port AS sender_port, r.local AS receiver, r.local_port AS receiver_port,
    s.cause AS cause, r.cause AS received_cause, m.basis AS basis
FROM rsttrace.join_matches AS m
INNER JOIN rsttrace.join_records AS r ON r.id = m.received
INNER JOIN rsttrace.join_records AS s ON s.id = m.sent;

INSERT INTO rsttrace.pairs
WITH
    -- Records of the other host of one connection, in the other direction, that no record matches: this reset under other numbers.
    rivals AS
    (
        SELECT DISTINCT n.id AS id
        FROM rsttrace.join_singles AS n
        INNER JOIN rsttrace.join_singles AS o
            ON o.local = n.peer AND o.local_port = n.peer_port AND o.peer = n.local AND o.peer_port = n.local_port AND o.host = n.other
        WHERE n.reason = '' AND o.is_sent != n.is_sent
            AND abs(toInt64(toUnixTimestamp64Nano(o.time)) - toInt64(toUnixTimestamp64Nano(n.moment))) <= n.uncertainty_ns
    ),
    covered AS
    (
        SELECT n.*, c.begins AS begins, c.ends AS ends, c.hides AS hides, c.records_ignored AS records_ignored, c.is_limited AS is_limited,
            n.moment + toIntervalNanosecond(n.uncertainty_ns) AS until, n.id IN rivals AS has_rival
        FROM (SELECT *, moment - toIntervalNanosecond(uncertainty_ns) AS since FROM rsttrace.join_singles) AS n
        ASOF LEFT JOIN rsttrace.join_cover AS c ON c.host = n.other AND c.begins <= n.since
    )
SELECT
    multiIf(reason != '', 'cannot-be-told', why != '', 'cannot-be-told', has_rival, 'not-joinable', is_sent, 'never-arrived', 'not-sent') AS verdict,
    multiIf(reason != '', reason, why != '', why, has_rival, 'the other host has a reset of this connection with other numbers', '') AS text,
    time, if(is_sent, host, if(verdict = 'not-sent', '', other)), if(is_sent, record, 0), if(is_sent, other, host), if(is_sent, 0, record),
    if(is_sent, local, peer), if(is_sent, local_port, peer_port), if(is_sent, peer, local), if(is_sent, peer_port, local_port),
    if(is_sent, cause, ''), if(is_sent, '', cause), ''
FROM
(
    SELECT *, multiIf(reason != '', '', begins = toDateTime64(0, 9, 'UTC') OR ends < until, 'the recorder of the other host does not cover that time',
        hides, 'the recorder of the other host has filters', is_limited, 'the recorder of the other host is limited',
        is_sent AND NOT records_ignored, 'the recorder of the other host is without --ignored', '') AS why
    FROM covered
);
