//! A cluster, looked at by a command that ends: its resources and objects, without a server.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;

use crate::model::{Clock, ObjectDirectory, ResourceDirectory};
use crate::objects::{Resources, WatchLimits, Watches};
use crate::runtime::kubernetes;
use crate::task::TaskSet;
use crate::telemetry::Telemetry;

/// How long the first call may take. A person waits for it.
const FIRST_CALL: Duration = Duration::from_secs(10);

/// What a cluster has, from live discovery and watches, as the server sees it.
pub struct ClusterView {
    resources: Arc<Resources>,
    objects: Arc<dyn ObjectDirectory>,
    tasks: TaskSet,
}

impl ClusterView {
    /// Connects and waits for discovery. `kubeconfig` as [`kubernetes::client`] takes it.
    ///
    /// # Errors
    /// When there is no cluster, or it does not answer.
    pub async fn connect(kubeconfig: Option<&Path>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let client = kubernetes::client(kubeconfig).await?;
        // For the reason, which discovery only logs. A server without this form is an old one.
        let first = tokio::time::timeout(FIRST_CALL, client.list_core_api_versions_aggregated());
        match first
            .await
            .with_context(|| format!("the API server did not answer within {FIRST_CALL:?}"))?
        {
            Err(
                error @ (kube::Error::Service(_)
                | kube::Error::HyperError(_)
                | kube::Error::Auth(_)),
            ) => {
                return Err(error).context("the API server cannot be reached");
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                anyhow::bail!("the API server refuses: {}", status.message);
            }
            Ok(_) | Err(_) => {}
        }
        // A task that dies leaves what it knew; the command ends soon.
        let (tasks, _died) = TaskSet::new(Handle::current());
        let telemetry = Telemetry::new();
        let resources = Arc::new(Resources::start(Some(client.clone()), &tasks, &telemetry));
        resources.settled().await;
        anyhow::ensure!(
            resources.generation() > 0,
            "API discovery failed: the cluster tells none of its resources"
        );
        let limits = WatchLimits::default();
        let objects = Arc::new(Watches::new(Some(client), &tasks, clock, limits, &telemetry));
        Ok(Self { resources, objects, tasks })
    }

    /// Its resources.
    #[must_use]
    pub fn resources(&self) -> Arc<dyn ResourceDirectory> {
        Arc::clone(&self.resources) as _
    }

    /// Its objects.
    #[must_use]
    pub fn objects(&self) -> Arc<dyn ObjectDirectory> {
        Arc::clone(&self.objects)
    }

    /// Ends all watches.
    pub async fn close(self) {
        self.tasks.stop().await;
    }
}

impl fmt::Debug for ClusterView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterView")
    }
}
