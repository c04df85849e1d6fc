-- PostgreSQL 15: what rsyslog.conf writes, and questions to it. createdb rsttrace; psql -d rsttrace -f postgresql.sql
-- For tens of hosts, or thousands of records an hour; rows take the space of their text. Old ones go by
--     DELETE FROM rsttrace.lines WHERE time < now() - interval '30 days'

CREATE SCHEMA IF NOT EXISTS rsttrace;

CREATE TABLE IF NOT EXISTS rsttrace.lines
(
    time timestamptz NOT NULL,
    host text NOT NULL,
    type text NOT NULL,
    line text NOT NULL,
    record jsonb NOT NULL,
    cause text GENERATED ALWAYS AS (record ->> 'cause') STORED,
    fault text GENERATED ALWAYS AS (record ->> 'fault') STORED,
    process text GENERATED ALWAYS AS (record ->> 'process') STORED,
    peer text GENERATED ALWAYS AS (record ->> 'peer') STORED
);
CREATE INDEX IF NOT EXISTS lines_time ON rsttrace.lines USING brin (time);
CREATE INDEX IF NOT EXISTS lines_cause ON rsttrace.lines (cause, host, time);

CREATE OR REPLACE VIEW rsttrace.resets AS
SELECT time, host, cause, fault, process, peer, (record ->> 'count')::bigint AS count, record ->> 'direction' AS direction,
    (record ->> 'local_port')::int AS local_port, (record ->> 'peer_port')::int AS peer_port, record ->> 'local' AS local,
    record ->> 'benign' = 'true' AS benign, coalesce(record ->> 'container_service', record ->> 'unit', process) AS service,
    coalesce((record ->> 'idle_before_send_ms')::float, (record ->> 'since_receive_ms')::float) AS silence_ms, line, record
FROM rsttrace.lines
WHERE type = 'reset';

-- Causes and faults by host and service.
CREATE OR REPLACE VIEW rsttrace.causes AS
SELECT host, service, cause, fault, sum(count) AS resets, count(DISTINCT peer) AS peers, max(time) AS last
FROM rsttrace.resets WHERE NOT benign GROUP BY host, service, cause, fault ORDER BY fault = 'local' DESC, resets DESC;

-- Hosts with one silence, in steps of 2 %.
CREATE OR REPLACE VIEW rsttrace.silences AS
SELECT exp(round(ln(silence_ms) / ln(1.02)) * ln(1.02)) AS about_ms, count(DISTINCT host) AS hosts, sum(count) AS resets
FROM rsttrace.resets WHERE direction = 'received' AND silence_ms >= 1000 AND NOT benign GROUP BY 1 HAVING sum(count) >= 3 ORDER BY hosts DESC, resets DESC;
