//! Metric resources of the cluster: how their watch, the catalog and readiness are connected.

use std::fmt;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::control::ceiling::Ceiling;
use crate::control::declared::Board;
use crate::control::resource_watch::{self, ResourceWatch, Standing};
use crate::model::{Entry, Problem, Scope};
use crate::objects::Namespaces;
use crate::runtime::Definitions;
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

/// Metric resources that are being watched.
#[derive(Clone)]
pub struct MetricResources {
    /// What became of each.
    pub board: Arc<Board>,
    /// How the watches stand.
    pub standing: Arc<Standing>,
}

/// Starts the watch of metric resources; none without a cluster, or when the config says so.
pub(super) fn watch(
    client: Option<&kube::Client>,
    config: &Config,
    definitions: &Definitions,
    ceiling: Arc<Ceiling>,
    tasks: &TaskSet,
    telemetry: &Telemetry,
) -> Option<MetricResources> {
    let client = client.filter(|_| config.resources.enabled)?;
    let Definitions { catalog, namespaces, health, .. } = definitions;
    let settings = resource_watch::Settings {
        sources: config.source_directory(),
        defaults: config.defaults.clone(),
        tenancy: config.resources.tenancy.clone(),
        ceiling,
    };
    let apply =
        Arc::new(Apply { catalog: Arc::clone(catalog), namespaces: Arc::clone(namespaces) });
    let (board, standing) = (Arc::new(Board::new()), Standing::new(telemetry));
    let seen = Arc::clone(&standing);
    health.resourcing(move || seen.pending());
    ResourceWatch::new(settings, apply, Arc::clone(&board), Arc::clone(&standing))
        .start(client, tasks);
    Some(MetricResources { board, standing })
}

impl fmt::Debug for MetricResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.board.fmt(f)
    }
}

/// Takes definitions from the resources into the catalog.
struct Apply {
    catalog: Arc<Catalog>,
    namespaces: Arc<Namespaces>,
}

impl resource_watch::Apply for Apply {
    fn apply(&self, entries: Vec<Arc<Entry>>, problems: Vec<Problem>) {
        if entries.iter().any(|entry| matches!(entry.scope, Scope::Selected(_))) {
            self.namespaces.require();
        }
        // Conflicts are not logged: tenants make as many as they like, and each is told in the
        // status of the resource that has it.
        self.catalog.apply_resources(entries, problems);
    }
}
