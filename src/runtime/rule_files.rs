//! The rule files: read at the start, followed from then on.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::control::{RuleWatch, rule_watch};
use crate::model::{Clock, SeriesLister, SourceName};
use crate::objects::Resources;
use crate::rules::{RuleFileSettings, Rules};
use crate::runtime::readiness::Health;
use crate::task::TaskSet;

/// What rules are about.
pub(super) struct Cluster<'a> {
    pub(super) listers: BTreeMap<SourceName, Arc<dyn SeriesLister>>,
    pub(super) resources: Arc<Resources>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) rules: Arc<Rules>,
    pub(super) clock: &'a Arc<dyn Clock>,
}

/// Reads the rule files once and follows them, and the series that their rules find, from then on;
/// nothing without rule files.
///
/// # Errors
/// With everything that is wrong with the files: the original does not start with such a file.
pub(super) async fn watch(
    standing: Option<Arc<rule_watch::Standing>>,
    config: &Config,
    cluster: Cluster<'_>,
    health: &Health,
    tasks: &TaskSet,
) -> anyhow::Result<()> {
    let Some(standing) = standing else { return Ok(()) };
    let seen = Arc::clone(&standing);
    health.listing(move || seen.pending());
    let Cluster { listers, resources, catalog, rules, clock } = cluster;
    let parts = rule_watch::Parts {
        listers,
        resources: Arc::clone(&resources) as _,
        catalog,
        rules,
        standing,
        clock: Arc::clone(clock),
    };
    follow(config.rules.clone(), parts, resources, tasks).await
}

async fn follow(
    settings: Vec<RuleFileSettings>,
    parts: rule_watch::Parts,
    resources: Arc<Resources>,
    tasks: &TaskSet,
) -> anyhow::Result<()> {
    let mut watch = RuleWatch::new(settings, parts);
    let (watch, loaded) = tokio::task::spawn_blocking(move || {
        let loaded = watch.load();
        (watch, loaded)
    })
    .await
    .context("reading the rule files failed")?;
    if let Err(problems) = loaded {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::bail!("{}", lines.join("\n"));
    }
    let shutdown = tasks.shutdown_token().clone();
    tasks.service("rules", async move {
        // Without the cluster's resources, rules would seem to give no metrics of objects.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = resources.settled() => {}
        }
        watch.run(shutdown).await;
    });
    Ok(())
}
