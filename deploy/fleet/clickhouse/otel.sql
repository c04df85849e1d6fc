-- ClickHouse: a view over the table that the OTLP collectors' ClickHouse exporters fill (`--sink otlp:…` → collector → otel_logs), with
-- the columns of rsttrace.resets that queries.sql uses. Where the exporter has made the table already, only the view is needed; its
-- database may be another. The lines themselves are not in it: `rsttrace report -` and the fleet join need rsttrace.lines.

CREATE DATABASE IF NOT EXISTS rsttrace;

CREATE TABLE IF NOT EXISTS rsttrace.otel_logs
(
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    TraceFlags UInt8,
    SeverityText LowCardinality(String) CODEC(ZSTD(1)),
    SeverityNumber UInt8,
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    Body String CODEC(ZSTD(1)),
    ResourceSchemaUrl LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeSchemaUrl LowCardinality(String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion LowCardinality(String) CODEC(ZSTD(1)),
    ScopeAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    LogAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, Timestamp)
TTL toDateTime(Timestamp) + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE VIEW IF NOT EXISTS rsttrace.otel_resets AS
SELECT
    Timestamp AS time,
    ResourceAttributes['host.name'] AS host,
    toUInt64OrZero(LogAttributes['rsttrace.seq']) AS seq,
    toUInt32OrZero(LogAttributes['rsttrace.count']) AS count,
    LogAttributes['rsttrace.direction'] AS direction,
    LogAttributes['rsttrace.cause'] AS cause,
    LogAttributes['rsttrace.fault'] AS fault,
    LogAttributes['rsttrace.benign'] = 'true' AS benign,
    toIPv6OrDefault(LogAttributes['network.local.address']) AS local,
    toUInt16OrZero(LogAttributes['network.local.port']) AS local_port,
    toIPv6OrDefault(LogAttributes['network.peer.address']) AS peer,
    toUInt16OrZero(LogAttributes['network.peer.port']) AS peer_port,
    LogAttributes['process.executable.name'] AS process,
    LogAttributes['systemd.unit'] AS unit,
    multiIf(LogAttributes['rsttrace.container_service'] != '', LogAttributes['rsttrace.container_service'],
            LogAttributes['k8s.pod.name'] != '', concat(LogAttributes['k8s.namespace.name'], '/', LogAttributes['k8s.container.name']),
            unit != '', unit, process) AS service,
    LogAttributes['container.image.name'] AS image,
    LogAttributes['rsttrace.role'] AS role,
    ifNull(toFloat64OrNull(LogAttributes['rsttrace.idle_before_send_ms']), toFloat64OrNull(LogAttributes['rsttrace.since_receive_ms'])) AS silence_ms,
    toUInt64OrNull(LogAttributes['rsttrace.lost_bytes']) AS lost_bytes
FROM rsttrace.otel_logs
WHERE ServiceName = 'rsttrace' AND LogAttributes['rsttrace.type'] = 'reset';
