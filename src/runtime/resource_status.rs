//! The status of metric resources: how its writer is connected.

use std::sync::Arc;

use kube::Client;

use crate::cache::OnDemand;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::control::events::EventSettings;
use crate::control::hpa_watch::Usage;
use crate::control::lease::Lease;
use crate::control::resource_status::{self, ResourceStatus};
use crate::lookup::Lookup;
use crate::model::{Clock, Foresee};
use crate::runtime::resources::MetricResources;
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

/// The Lease by which one replica writes, in the namespace of the pod.
const LEASE: &str = "tidepole";

/// Where the pod's name and namespace are, as the manifests set them.
const POD_NAME: &str = "POD_NAME";
const POD_NAMESPACE: &str = "POD_NAMESPACE";

/// What statuses are made of.
pub(super) struct Parts {
    catalog: Arc<Catalog>,
    on_demand: Arc<OnDemand>,
    usage: Arc<Usage>,
    foresee: Arc<dyn Foresee>,
    clock: Arc<dyn Clock>,
}

impl Parts {
    pub(super) fn new(
        catalog: &Arc<Catalog>,
        on_demand: Arc<OnDemand>,
        usage: &Arc<Usage>,
        lookup: &Lookup,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        Self {
            catalog: Arc::clone(catalog),
            on_demand,
            usage: Arc::clone(usage),
            foresee: Arc::new(lookup.clone()),
            clock: Arc::clone(clock),
        }
    }
}

/// Starts writing, whenever this replica holds the lease. Without a cluster, or its metric resources,
/// there is nothing to write.
pub(super) fn start(
    cluster: Option<(&Client, &MetricResources)>,
    config: &Config,
    parts: Parts,
    tasks: &TaskSet,
    telemetry: &Telemetry,
) {
    let Some((client, resources)) = cluster else { return };
    let Parts { catalog, on_demand, usage, foresee, clock } = parts;
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    // A container's host name is its pod's.
    let pod = set(POD_NAME).or_else(|| set("HOSTNAME")).unwrap_or_else(|| "tidepole".to_owned());
    let namespace = set(POD_NAMESPACE).unwrap_or_else(|| client.default_namespace().to_owned());
    let lease = Lease::new(client.clone(), &namespace, LEASE, &pod, telemetry);
    let parts = resource_status::Parts {
        board: Arc::clone(&resources.board),
        catalog,
        on_demand,
        usage,
        foresee,
        clock,
        events: EventSettings { hpas: config.resources.hpa_events },
    };
    ResourceStatus::new(client.clone(), parts, lease, &pod, telemetry).start(tasks);
}
