//! Managed certificates in this process: in which namespace, for which `APIServices`, and how their
//! pairs get to the server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::certificates::{self, Parts as Upkeep};
use crate::config::Config;
use crate::runtime::{Parts, api_settings};
use crate::server::{ServingPairs, Settings};
use crate::task::TaskSet;

/// A start waits so long for the first pair, so that nobody is shown one that the server made up. What
/// takes longer is for readiness to tell.
const FIRST_PAIR: Duration = Duration::from_secs(5);

/// Where a pod finds the namespace of its service account.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The variable that a Deployment sets to the pod's namespace.
const NAMESPACE_VARIABLE: &str = "POD_NAMESPACE";

/// The server's settings: as they are, or with managed certificates, whose upkeep is started.
///
/// # Errors
/// When nothing tells in which namespace they are kept.
pub(super) async fn settings(
    config: &Config,
    parts: &Parts<'_>,
    tasks: &TaskSet,
) -> anyhow::Result<Settings> {
    let mut settings = config.server.clone();
    let (Some(managed), Some(client)) = (&config.certificates, parts.client) else {
        return Ok(settings);
    };
    let variable = std::env::var(NAMESPACE_VARIABLE).ok();
    let given = managed.namespace.clone().or(variable);
    let namespace = namespace(given, Path::new(NAMESPACE_FILE)).with_context(|| {
        format!(
            "the namespace of the serving certificates is not known: not in a pod \
             ({NAMESPACE_FILE}), and ${NAMESPACE_VARIABLE} is not set; set \
             server.tls.managed.namespace"
        )
    })?;
    let group_versions = api_settings(config).group_versions();
    let names = group_versions.iter().map(|(group, version)| format!("{version}.{group}"));
    let upkeep = Upkeep { clock: Arc::clone(&parts.clock), tasks, telemetry: parts.telemetry };
    let mut pairs =
        certificates::start(managed, &namespace, names.collect(), client.clone(), upkeep);
    let standing = Arc::clone(&pairs.standing);
    parts.health.certifying(move || standing.pending());
    // A failure of either kind is told by readiness.
    let _ = tokio::time::timeout(FIRST_PAIR, pairs.current.wait_for(Option::is_some)).await;
    settings.pairs = Some(ServingPairs { current: pairs.current, names: pairs.names });
    Ok(settings)
}

/// The namespace that is given, or that of the pod's service account.
fn namespace(given: Option<String>, file: &Path) -> std::io::Result<String> {
    match given.filter(|given| !given.is_empty()) {
        Some(given) => Ok(given),
        None => Ok(std::fs::read_to_string(file)?.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_given_or_that_of_the_service_account() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("namespace");
        assert!(namespace(None, &file).is_err());
        std::fs::write(&file, "metrics\n").unwrap();
        assert_eq!(namespace(None, &file).unwrap(), "metrics");
        assert_eq!(namespace(Some(String::new()), &file).unwrap(), "metrics");
        assert_eq!(namespace(Some("own".to_owned()), &file).unwrap(), "own");
    }
}
