//! Metrics for Prometheus, in the `OpenMetrics` format. The number of series is bounded, whatever comes in.

mod access;
mod connections;
mod pipeline_probe;
mod places;
mod server;
mod web_config;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use tokio::sync::mpsc;

pub(crate) use pipeline_probe::Scrape;

use self::{access::WebAccess, places::PlaceIncidents};
use crate::{
    model::{Direction, Forwarded, Ignored, Lost, LostWhere, Reset, Summary},
    util::{messages::info, sanitize::Sanitized, serde_variant_name},
};

/// Most process names with series of their own. A process name is chosen by its user, so the number has to be bounded.
const MAX_PROCESSES: usize = 100;

/// Label of all processes or peers that have no series of their own.
const OTHER: &str = "other";

/// Bucket bounds of the connection's age, seconds.
const AGE_BUCKETS: [f64; 12] = [0.001, 0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

/// Bucket bounds of the idle time, seconds: half a second above the common timeouts, so that an idle time that ended at
/// a timeout is in the bucket that it closes.
const IDLE_BUCKETS: [f64; 16] =
    [0.1, 1.0, 2.5, 5.5, 10.5, 15.5, 20.5, 30.5, 60.5, 75.5, 90.5, 120.5, 180.5, 300.5, 350.5, 3_600.5];

type Labels = Vec<(&'static str, String)>;
type CounterFamily = Family<Labels, Counter>;
type GaugeFamily = Family<Labels, Gauge>;
type FloatGauge = Gauge<f64, AtomicU64>;

/// Counts of the run, as Prometheus metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    resets: CounterFamily,
    incidents: CounterFamily,
    places: PlaceIncidents,
    own: Counter,
    peer_resets: CounterFamily,
    ages: Family<Labels, Histogram, fn() -> Histogram>,
    idle_times: Family<Labels, Histogram, fn() -> Histogram>,
    lost: CounterFamily,
    ignored: CounterFamily,
    forwarded: CounterFamily,
    host_counter_delta: CounterFamily,
    host_counter_observed: CounterFamily,
    sink_delivered: CounterFamily,
    sink_undelivered: CounterFamily,
    sink_waiting: GaugeFamily,
    degraded: GaugeFamily,
    cpu_seconds: Counter<f64, AtomicU64>,
    memory_bytes: Gauge,
    processes: HashSet<Arc<str>>,
    peers: HashSet<IpAddr>,
    peer_limit: usize,
    is_ready: Arc<AtomicBool>,
}

/// What the metrics server takes from files, read before the sandbox.
pub(crate) struct MetricsAccess(Option<WebAccess>);

impl MetricsAccess {
    /// Reads the file of `--metrics-config` and what it names. Blocks on the file system. Fails where one of them cannot be read
    /// or used; no error has a secret.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        path.map(WebAccess::read).transpose().map(Self)
    }

    /// Says once that what listens on this address is for everyone who reaches it.
    fn warn_if_open(&self, address: SocketAddr) {
        if !address.ip().is_loopback() && !self.0.as_ref().is_some_and(WebAccess::needs_authentication) {
            info(format_args!(
                "metrics at {address} are for everyone who reaches it, with names of peers and processes: --metrics-config asks \
                 for a password, a token or a certificate"
            ));
        }
    }
}

impl Metrics {
    /// Starts to count and to listen; the receiver yields the scrapes. Blocks until the server listens. Fails where the address
    /// cannot be bound.
    pub(crate) fn start(
        address: SocketAddr,
        peer_limit: usize,
        access: MetricsAccess,
    ) -> Result<(Self, mpsc::Receiver<Scrape>)> {
        access.warn_if_open(address);
        let metrics = Self::new(peer_limit);
        let scrapes = server::start(address, access.0, Arc::clone(&metrics.is_ready))?;
        Ok((metrics, scrapes))
    }

    /// Sets what `/readyz` answers: whether the run traces.
    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }

    /// Starts to count. The first `peer_limit` peers have series of their own; 0 turns these off.
    #[must_use]
    pub fn new(peer_limit: usize) -> Self {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("rsttrace");
        let counters = |registry: &mut Registry, name: &str, help: &str| {
            let family = CounterFamily::default();
            registry.register(name, help, family.clone());
            family
        };
        let histograms = |registry: &mut Registry, name: &str, help: &str, make: fn() -> Histogram| {
            let family = Family::new_with_constructor(make);
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let resets = counters(ours, "resets", "TCP resets by direction, cause, fault and process");
        let incidents = counters(
            ours,
            "incidents",
            "Incidents by cause, fault, confidence and process of their first record: a reset that was seen at both ends is one, and so is one with its aftermath",
        );
        let places = PlaceIncidents::register(ours);
        let own = Counter::default();
        ours.register("own_resets", "Resets of rsttrace's own connections, which no other series counts", own.clone());
        let peer_resets =
            counters(ours, "peer_resets", "TCP resets by peer; the first --metrics-peers peers have their own series");
        let ages =
            histograms(ours, "reset_age", "Age of the connections that were reset", || Histogram::new(AGE_BUCKETS));
        let idle_times =
            histograms(ours, "reset_idle", "Idle time before this host's last send, which idle timeouts match", || {
                Histogram::new(IDLE_BUCKETS)
            });
        let lost = counters(ours, "lost", "Resets reported by the kernel but lost before output");
        for direction in ["sent", "received"] {
            let labels = vec![("direction", direction.to_owned())];
            drop(ages.get_or_create(&labels));
            drop(idle_times.get_or_create(&labels));
        }
        for place in [LostWhere::Kernel, LostWhere::Userspace] {
            // A series that exists from the start shows its first increase, too.
            drop(lost.get_or_create(&vec![("where", serde_variant_name(&place))]));
        }
        let ignored = counters(ours, "ignored_resets", "Resets that arrived and were ignored (--ignored)");
        let forwarded = counters(ours, "forwarded_resets", "Resets that were forwarded (--forwarded)");
        let host_counter_delta =
            counters(ours, "host_counter_delta", "Increase of the host's own counter since the start");
        let host_counter_observed =
            counters(ours, "host_counter_observed", "Resets observed of those that the host's counter includes");
        let sink_delivered = counters(ours, "sink_delivered_records", "Records delivered to the sink");
        let sink_undelivered = counters(
            ours,
            "sink_undelivered_records",
            "Records rejected by the sink or dropped because its queue was full",
        );
        let (sink_waiting, degraded) = (GaugeFamily::default(), GaugeFamily::default());
        ours.register("sink_waiting_records", "Records in the queue of a sink", sink_waiting.clone());
        ours.register("degraded", "Capabilities that are degraded, by name (see rsttrace doctor)", degraded.clone());
        ours.register("build", "The program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        let (cpu_seconds, memory_bytes, started) =
            (Counter::<f64, AtomicU64>::default(), Gauge::default(), FloatGauge::default());
        started.set(jiff::Timestamp::now().as_duration().as_secs_f64());
        registry.register("process_cpu_seconds", "CPU time of this process", cpu_seconds.clone());
        registry.register("process_resident_memory_bytes", "Resident memory of this process", memory_bytes.clone());
        registry.register("process_start_time_seconds", "Start time, Unix epoch seconds", started);
        Self {
            registry: Arc::new(registry),
            resets,
            incidents,
            places,
            own,
            peer_resets,
            ages,
            idle_times,
            lost,
            ignored,
            forwarded,
            host_counter_delta,
            host_counter_observed,
            sink_delivered,
            sink_undelivered,
            sink_waiting,
            degraded,
            cpu_seconds,
            memory_bytes,
            processes: HashSet::new(),
            peers: HashSet::new(),
            peer_limit,
            is_ready: Arc::default(),
        }
    }

    /// Counts a reset that passed the filters.
    pub fn count(&mut self, reset: &Reset) {
        let direction = match reset.direction {
            Direction::Sent => "sent",
            Direction::Received => "received",
        };
        let process = reset.process.as_ref().map_or_else(String::new, |process| {
            bounded_label(&mut self.processes, MAX_PROCESSES, &process.comm, |comm| Sanitized(comm).to_string())
        });
        let labels = vec![
            ("direction", direction.to_owned()),
            ("cause", reset.cause.code.to_owned()),
            ("fault", serde_variant_name(&reset.cause.fault)),
            ("process", process.clone()),
        ];
        self.resets.get_or_create(&labels).inc_by(reset.count);
        if reset.begins_incident() {
            let labels = vec![
                ("cause", reset.cause.code.to_owned()),
                ("fault", serde_variant_name(&reset.cause.fault)),
                ("confidence", serde_variant_name(&reset.cause.confidence)),
                ("benign", reset.cause.benign.to_string()),
                ("process", process),
            ];
            self.incidents.get_or_create(&labels).inc_by(reset.count);
            self.places.count(reset);
        }
        if self.peer_limit > 0 {
            let peer = bounded_label(&mut self.peers, self.peer_limit, &reset.peer.address, ToString::to_string);
            let labels = vec![("direction", direction.to_owned()), ("peer", peer)];
            self.peer_resets.get_or_create(&labels).inc_by(reset.count);
        }
        let Some(socket) = &reset.socket else { return };
        let labels = vec![("direction", direction.to_owned())];
        if let Some(age) = socket.age_ms {
            self.ages.get_or_create(&labels).observe(age / 1000.0);
        }
        if let Some(idle) = socket.idle_before_send_ms {
            self.idle_times.get_or_create(&labels).observe(idle / 1000.0);
        }
    }

    /// Counts a reset of one of rsttrace's own connections.
    pub(crate) fn count_own(&self, reset: &Reset) {
        self.own.inc_by(reset.count);
    }

    /// Counts a reset that this host ignored.
    pub(crate) fn count_ignored(&self, ignored: &Ignored) {
        self.ignored.get_or_create(&vec![("ignored_because", ignored.ignored_because.code.to_owned())]).inc();
    }

    /// Counts a reset that this host forwarded.
    pub(crate) fn count_forwarded(&self, forwarded: &Forwarded) {
        self.forwarded.get_or_create(&vec![("origin", serde_variant_name(&forwarded.origin))]).inc();
    }

    /// Counts resets that were lost.
    pub(crate) fn count_lost(&self, lost: &Lost) {
        self.lost.get_or_create(&vec![("where", serde_variant_name(&lost.r#where))]).inc_by(lost.count);
    }

    /// The text of `/metrics`. Takes from the summary what is counted elsewhere: those series are set to the totals.
    #[must_use]
    pub fn render(&self, summary: &Summary) -> String {
        let set = |family: &CounterFamily, label: &'static str, of: &str, value: u64| {
            family.get_or_create(&vec![(label, of.to_owned())]).inner().store(value, Ordering::Relaxed);
        };
        for counter in &summary.coverage.counters {
            set(&self.host_counter_delta, "counter", &counter.name, counter.delta);
            if let Some(observed) = counter.observed {
                set(&self.host_counter_observed, "counter", &counter.name, observed);
            }
        }
        for sink in &summary.sinks {
            set(&self.sink_delivered, "sink", &sink.sink, sink.delivered);
            set(&self.sink_undelivered, "sink", &sink.sink, sink.undelivered);
            self.sink_waiting.get_or_create(&vec![("sink", sink.sink.to_string())]).set(signed(sink.waiting));
        }
        self.degraded.clear();
        for part in &summary.degraded_parts {
            self.degraded.get_or_create(&vec![("what", part.clone())]).set(1);
        }
        if let Some((cpu_seconds, memory_bytes)) = process_cost() {
            self.cpu_seconds.inner().store(cpu_seconds.to_bits(), Ordering::Relaxed);
            self.memory_bytes.set(signed(memory_bytes));
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ignored = encode(&mut text, &self.registry);
        text
    }
}

/// Label for one of many values: its own for the first `limit` values, [`OTHER`] for the rest.
fn bounded_label<T: Clone + Eq + std::hash::Hash>(
    known: &mut HashSet<T>,
    limit: usize,
    one: &T,
    text: impl Fn(&T) -> String,
) -> String {
    if known.contains(one) {
        return text(one);
    }
    if known.len() >= limit {
        return OTHER.to_owned();
    }
    known.insert(one.clone());
    text(one)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// CPU time in seconds and resident memory in bytes of this process; `None` where the kernel does not show them.
fn process_cost() -> Option<(f64, u64)> {
    let cpu = std::time::Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?).as_secs_f64();
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    let page = u64::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??).ok()?;
    Some((cpu, pages * page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let mut known = HashSet::new();
        let mut named = |number: u32| bounded_label(&mut known, 3, &number, ToString::to_string);
        assert_eq!([1, 2, 1, 3, 4, 2, 5].map(&mut named), ["1", "2", "1", "3", OTHER, "2", OTHER]);
    }

    #[test]
    fn initial_series_are_zero() {
        let metrics = Metrics::new(1);
        metrics.count_lost(&Lost {
            time: jiff::Timestamp::UNIX_EPOCH,
            host: None,
            count: 7,
            r#where: LostWhere::Kernel,
        });
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        assert!(text.contains("rsttrace_lost_total{where=\"kernel\"} 7\n"), "{text}");
        assert!(text.contains("rsttrace_lost_total{where=\"userspace\"} 0\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn process_cost_is_known() {
        let (cpu, memory) = process_cost().unwrap();
        assert!(cpu > 0.0 && memory > 1 << 20, "{cpu} s, {memory} bytes");
    }
}
