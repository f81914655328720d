//! The server config: one file, read at start.
//!
//! Responsible for: reading `ServerConfig` strictly into the settings of the components, saying
//! everything that is wrong with it at once and where, and resolving its paths. What a component's
//! setting may be, and its default, is the component's own rule; here are the rules between them. Not responsible for: whether the files
//! and secrets it names can be read (the components that read them say so when the server starts;
//! `tidepole check` runs where no secret is), metric definitions (`definition`).
//!
//! Invariants: a [`Config`] is complete and consistent, command-line flags included; no secret is
//! in it that was not in the file, and none is in its `Debug` form or in a [`Problem`].

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::definition::field::Field;
use crate::definition::tenancy::Tenancy;
use crate::definition::yaml::{self, MAX_FILE_BYTES};
use crate::definition::{Defaults, read_bounded, report};
use crate::model::{Problem, SourceDirectory};
use crate::rules::RuleFileSettings;
use crate::server;
use crate::telemetry;

mod certificates;
mod document;
mod source;
mod traces;
mod validate;

pub use source::SourceConfig;

/// The config's `kind`.
pub const KIND: &str = "ServerConfig";

/// The whole server config.
#[derive(Clone, Debug)]
pub struct Config {
    /// The API listener. Default address `[::]:6443`: an unprivileged port, free in a pod. Default
    /// authentication: by the cluster, safe unless said otherwise.
    pub server: server::Settings,
    /// Certificates of our own, instead of the files in `server`. Default none.
    pub certificates: Option<crate::certificates::Settings>,
    /// How long the API listener stays open once readiness is red. Default 5 s: kubelet probes
    /// every few seconds, and kube-proxy or the aggregator need a moment to hear of it. Without a
    /// cluster nobody routes to us, and the default is 0.
    pub shutdown_grace: Duration,
    /// The admin listener's address. Default `[::]:8080`, the port of most such pages.
    pub admin_listen: SocketAddr,
    /// Where the admin listener goes when somebody else has its address. None: the start fails.
    pub admin_alternative: Option<SocketAddr>,
    /// The file with the token that clients of the admin listener must show for everything but
    /// health. Default none: it is read-only and meant for the inside of a cluster.
    pub admin_token: Option<PathBuf>,
    /// The cluster.
    pub kubernetes: KubernetesSection,
    /// Where values come from, names unique.
    pub sources: Vec<SourceConfig>,
    /// Which groups are served. Default: external metrics, and with a cluster those of its objects.
    pub apis: ServedApis,
    /// Files and folders of metric definitions, resolved. Default none.
    pub definition_paths: Vec<PathBuf>,
    /// prometheus-adapter's rule files, resolved. Default none.
    pub rules: Vec<RuleFileSettings>,
    /// Metric resources of the cluster.
    pub resources: ResourcesSection,
    /// What definitions say nothing about; their own defaults are told there.
    pub defaults: Defaults,
    /// Where traces go. Default: none are made.
    pub traces: Option<telemetry::traces::Settings>,
}

/// Metric resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcesSection {
    /// Whether they are looked at. Default: where there is a cluster.
    pub enabled: bool,
    /// What tenants may have; the defaults are told there.
    pub tenancy: Tenancy,
    /// Whether HPAs get Events about their metrics, too. Default false: the HPA controller says most
    /// of it itself.
    pub hpa_events: bool,
}

/// The cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSection {
    /// Whether there is one. Default true; false contacts no API server.
    pub enabled: bool,
    /// Where to find its credentials; none means in-cluster, then `$KUBECONFIG`, then
    /// `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
}

/// The API groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedApis {
    /// `external.metrics.k8s.io`
    pub external: bool,
    /// `custom.metrics.k8s.io`
    pub custom: bool,
}

/// Command-line flags, which win over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--admin-listen`
    pub admin_listen: Option<SocketAddr>,
    /// `--tls-cert-file`
    pub tls_cert_file: Option<PathBuf>,
    /// `--tls-private-key-file`
    pub tls_private_key_file: Option<PathBuf>,
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
}

const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 6443);
const DEFAULT_ADMIN_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8080);
const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

impl Config {
    /// Reads the config file.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, Vec<Problem>> {
        let whole_file = |message: String| vec![Problem::new(path, message)];
        let bytes = read_bounded(path, MAX_FILE_BYTES)
            .map_err(|error| whole_file(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| whole_file("not UTF-8 text".to_owned()))?;
        Self::parse(path, &text, overrides)
    }

    /// Reads the config from a text; `path` is where relative paths start and what problems name.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn parse(path: &Path, text: &str, overrides: &Overrides) -> Result<Self, Vec<Problem>> {
        let problem = |place: yaml::Place, message: String| {
            Problem::new(path, message).at(place.line, place.column)
        };
        let documents =
            yaml::parse(text).map_err(|mistake| vec![problem(mistake.place, mistake.message)])?;
        match &documents[..] {
            [] => Err(vec![problem(yaml::Place::default(), "the file is empty".to_owned())]),
            [document] => {
                let mut report = report::Report::new(path, document);
                match validate::config(&mut report, overrides) {
                    Some(config) if report.is_clean() => Ok(config),
                    config => {
                        if config.is_none() && report.is_clean() {
                            report.add(&Field::root(), "this config cannot be used, for a reason that was not found; please report it");
                        }
                        Err(report.into_problems())
                    }
                }
            }
            [_, second, ..] => {
                let message = "a server config is one document; definitions belong in other files, named in definitions.paths";
                Err(vec![problem(second.root.place, message.to_owned())])
            }
        }
    }

    /// What definitions may know about the sources.
    #[must_use]
    pub fn source_directory(&self) -> SourceDirectory {
        SourceDirectory::new(self.sources.iter().map(SourceConfig::profile))
    }
}

#[cfg(test)]
mod tests;
