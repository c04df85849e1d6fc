//! Incidents by the places that they concern: port of the backend, systemd unit, container.

use std::{collections::HashSet, sync::Arc};

use prometheus_client::registry::Registry;

use super::{CounterFamily, bounded_label};
use crate::{
    model::{Reset, Role},
    util::{sanitize::Sanitized, serde_variant_name},
};

/// Most ports of backends, units, and containers, of each, with series of their own. Pods of a node come and go.
const MAX_PLACES: usize = 100;

/// Series by place, a bounded number of each kind.
#[derive(Debug, Default)]
pub(super) struct PlaceIncidents {
    backends: CounterFamily,
    units: CounterFamily,
    containers: CounterFamily,
    backend_ports: HashSet<u16>,
    unit_names: HashSet<Arc<str>>,
    container_names: HashSet<Arc<str>>,
}

impl PlaceIncidents {
    /// Registers the series, which are empty.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let places = Self::default();
        for (name, what, family) in [
            ("backend", "port of the backend (connections that this host had opened)", &places.backends),
            ("unit", "systemd unit", &places.units),
            ("container", "container or pod", &places.containers),
        ] {
            let help = format!("Incidents by {what} and fault of their first record");
            registry.register(format!("{name}_incidents"), help, family.clone());
        }
        places
    }

    /// Counts an incident by its first record.
    pub(super) fn count(&mut self, reset: &Reset) {
        let count = |family: &CounterFamily, name: &'static str, value: String| {
            let cause = &reset.cause;
            let labels = vec![
                (name, value),
                ("fault", serde_variant_name(&cause.fault)),
                ("confidence", serde_variant_name(&cause.confidence)),
                ("benign", cause.benign.to_string()),
            ];
            family.get_or_create(&labels).inc_by(reset.count);
        };
        let sanitized = |text: &Arc<str>| Sanitized(text).to_string();
        if reset.socket.as_ref().is_some_and(|socket| socket.role == Some(Role::Client)) {
            let port = bounded_label(&mut self.backend_ports, MAX_PLACES, &reset.peer.port, ToString::to_string);
            count(&self.backends, "port", port);
        }
        if let Some(unit) = &reset.unit {
            count(&self.units, "unit", bounded_label(&mut self.unit_names, MAX_PLACES, unit, sanitized));
        }
        if let Some(name) = container_name(reset) {
            let name = bounded_label(&mut self.container_names, MAX_PLACES, &name, sanitized);
            count(&self.containers, "container", name);
        }
    }
}

/// Name of a container for people: pod and container (`NAMESPACE/POD/CONTAINER`), the service of Compose or Swarm, the name, or the
/// beginning of the id, as engines show it.
fn container_name(reset: &Reset) -> Option<Arc<str>> {
    if let Some(pod) = &reset.pod {
        let container = pod.container.as_deref().map_or_else(String::new, |name| format!("/{name}"));
        return Some(format!("{}/{}{container}", pod.namespace, pod.name).into());
    }
    let container = reset.container.as_ref()?;
    let id = || container.id.get(..12).unwrap_or(&container.id).into();
    Some(container.service.clone().or_else(|| container.name.clone()).unwrap_or_else(id))
}
