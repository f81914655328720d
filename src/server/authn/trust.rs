//! Whom the cluster trusts: the data of `kube-system/extension-apiserver-authentication`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use http::HeaderName;
use tokio::sync::watch;

use super::x509::CaBundle;
use crate::server::metrics::{AuthnMetrics, TrustState};

/// One version of the trust.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    /// Counts the versions taken over; 0 before the first.
    pub(super) generation: u64,
    /// The front proxy, when the cluster has one.
    pub(super) front_proxy: Option<FrontProxy>,
    /// The CA whose certificates are users.
    pub(super) client_ca: Option<CaBundle>,
}

/// Who may assert identities by header, and by which headers.
#[derive(Clone, Debug)]
pub(super) struct FrontProxy {
    pub(super) ca: CaBundle,
    /// Allowed common names; empty means any.
    pub(super) allowed_names: Vec<String>,
    pub(super) user_headers: Vec<HeaderName>,
    pub(super) uid_headers: Vec<HeaderName>,
    pub(super) group_headers: Vec<HeaderName>,
    /// Lower case, as header names are here.
    pub(super) extra_prefixes: Vec<String>,
}

/// Why a version of the data cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {key} {problem}")]
pub(super) struct BadTrust {
    key: &'static str,
    problem: String,
}

impl Trust {
    /// Reads the `ConfigMap`'s data. Absent and empty keys mean "nothing of the kind".
    pub(super) fn from_data(data: &BTreeMap<String, String>) -> Result<Self, BadTrust> {
        let bundle = |key: &'static str| {
            data.get(key)
                .filter(|pem| !pem.trim().is_empty())
                .map(|pem| CaBundle::from_pem(pem).map_err(|problem| BadTrust { key, problem }))
                .transpose()
        };
        let list = |key: &'static str| -> Result<Vec<String>, BadTrust> {
            let Some(text) = data.get(key).filter(|t| !t.trim().is_empty()) else {
                return Ok(Vec::new());
            };
            serde_json::from_str::<Option<Vec<String>>>(text)
                .map(Option::unwrap_or_default)
                .map_err(|e| BadTrust {
                    key,
                    problem: format!("is not a JSON list of strings: {e}"),
                })
        };
        let headers = |key: &'static str| -> Result<Vec<HeaderName>, BadTrust> {
            let parse = |name: String| {
                HeaderName::try_from(&name)
                    .map_err(|_| BadTrust { key, problem: format!("names no header: {name:?}") })
            };
            list(key)?.into_iter().filter(|n| !n.is_empty()).map(parse).collect()
        };
        let front_proxy = match bundle("requestheader-client-ca-file")? {
            None => None,
            Some(ca) => Some(FrontProxy {
                ca,
                allowed_names: list("requestheader-allowed-names")?,
                user_headers: headers("requestheader-username-headers")?,
                uid_headers: headers("requestheader-uid-headers")?,
                group_headers: headers("requestheader-group-headers")?,
                // An empty prefix would turn every header into an attribute.
                extra_prefixes: list("requestheader-extra-headers-prefix")?
                    .into_iter()
                    .filter(|p| !p.is_empty())
                    .map(|p| p.to_ascii_lowercase())
                    .collect(),
            }),
        };
        Ok(Self { generation: 0, front_proxy, client_ca: bundle("client-ca-file")? })
    }

    /// Whether any user's certificate could pose as the front proxy: one CA for both, and no
    /// allowed names to tell them apart.
    fn lets_users_impersonate(&self) -> bool {
        match (&self.front_proxy, &self.client_ca) {
            (Some(proxy), Some(users)) => {
                proxy.allowed_names.is_empty() && proxy.ca.overlaps(users)
            }
            _ => false,
        }
    }
}

/// The trust in use. Readers never lock; writers are the one watch.
#[derive(Debug)]
pub(in crate::server) struct TrustStore {
    current: ArcSwap<Trust>,
    changed: watch::Sender<u64>,
    metrics: Arc<AuthnMetrics>,
}

impl TrustStore {
    pub(super) fn new(metrics: Arc<AuthnMetrics>) -> Self {
        Self { current: ArcSwap::default(), changed: watch::Sender::new(0), metrics }
    }

    pub(super) fn current(&self) -> Guard<Arc<Trust>> {
        self.current.load()
    }

    /// Tells when another version is in use.
    pub(in crate::server) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes over new data, and tells whether it was usable. Data that is not changes nothing.
    pub(in crate::server) fn apply(&self, data: &BTreeMap<String, String>) -> bool {
        let mut trust = match Trust::from_data(data) {
            Ok(trust) => trust,
            Err(error) => {
                self.metrics.trust_state(TrustState::Malformed);
                tracing::error!(%error, "the cluster's trust configuration is unusable, the last good one stays in use");
                return false;
            }
        };
        trust.generation = self.current.load().generation + 1;
        let shared_ca = trust.lets_users_impersonate();
        if shared_ca {
            tracing::error!(
                "the request-header CA and the client CA share a key and no allowed names are set: \
                 anybody with a user certificate can pose as any user; set \
                 --requestheader-allowed-names on kube-apiserver"
            );
        }
        if trust.front_proxy.is_none() {
            tracing::warn!(
                "the cluster has no request-header CA: requests through the aggregator stay anonymous"
            );
        }
        let generation = trust.generation;
        self.metrics.trust_state(TrustState::Loaded);
        self.metrics.trust_loaded(generation, shared_ca);
        self.current.store(Arc::new(trust));
        self.changed.send_replace(generation);
        tracing::info!(generation, "trust configuration taken over");
        true
    }
}

#[cfg(test)]
mod tests;
