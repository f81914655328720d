//! AWS' managed Prometheus-compatible APIs: queries with an AWS signature.
//!
//! Amazon Managed Service for Prometheus (`aps`) and `CloudWatch`'s `PromQL` endpoint
//! (`monitoring`). Credentials come from [`crate::source::aws`]; the answer's form is Prometheus'
//! own.

mod refused;
mod signer;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderName;
use url::{Host, Url};

use crate::model::arn::check_role;
use crate::model::region::check_region;
use crate::source::SettingsProblem;
use crate::source::aws::CHAIN;
use crate::source::aws::identity::IdentitySettings;
use crate::source::prometheus::decode::MaxSeries;
use crate::source::settings::url_problem;

pub(super) use signer::Signer;

/// `CloudWatch` gives 500 series at most (`CloudWatch` User Guide, `QueryMetrics`, "Result limit"),
/// so that 500 may stand for more.
const CLOUDWATCH_SERIES: MaxSeries =
    MaxSeries { most: 499, rule: "CloudWatch cuts answers at 500" };

/// Which of AWS' APIs is queried: the service's name in the signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SigV4Service {
    /// Amazon Managed Service for Prometheus:
    /// `https://aps-workspaces.REGION.amazonaws.com/workspaces/ID`.
    #[default]
    Aps,
    /// `CloudWatch`'s `PromQL` endpoint: `https://monitoring.REGION.amazonaws.com`.
    Monitoring,
}

impl SigV4Service {
    /// The name in the signature.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aps => "aps",
            Self::Monitoring => "monitoring",
        }
    }

    /// The IAM actions that a query needs.
    fn actions(self) -> &'static str {
        match self {
            Self::Aps => "aps:QueryMetrics",
            Self::Monitoring => "cloudwatch:GetMetricData and cloudwatch:ListMetrics",
        }
    }

    /// The first word of the service's own host names.
    fn host_word(self) -> &'static str {
        match self {
            Self::Aps => "aps-workspaces",
            Self::Monitoring => "monitoring",
        }
    }

    /// Whether the service knows the parameter `timeout`. `CloudWatch`'s reference has only
    /// `query`, `time` and `limit`.
    pub(super) fn takes_timeout(self) -> bool {
        self == Self::Aps
    }

    /// The most series of an answer that is whole for certain.
    pub(super) fn max_series(self, configured: usize) -> MaxSeries {
        match self {
            Self::Monitoring if configured > CLOUDWATCH_SERIES.most => CLOUDWATCH_SERIES,
            Self::Monitoring | Self::Aps => MaxSeries::configured(configured),
        }
    }
}

/// How queries are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigV4Settings {
    /// The region of the API.
    pub region: String,
    /// The service of the API.
    pub service: SigV4Service,
    /// The role to assume; none means the default chain's identity.
    pub role_arn: Option<String>,
    /// The file with the external id that is sent when the role is assumed.
    pub external_id_file: Option<PathBuf>,
    /// Where STS is, instead of AWS' own endpoint.
    pub sts_endpoint_url: Option<Url>,
}

impl SigV4Settings {
    /// Settings with every default.
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            service: SigV4Service::Aps,
            role_arn: None,
            external_id_file: None,
            sts_endpoint_url: None,
        }
    }

    /// What is wrong with these settings for an API at `url`, queried with headers of these names.
    pub(super) fn check<'a>(
        &self,
        found: &mut Vec<SettingsProblem>,
        url: &Url,
        headers: impl Iterator<Item = &'a str>,
    ) {
        let mut add = |field: &str, message: String| {
            found.push(SettingsProblem::value(&["sigV4", field], message));
        };
        if let Err(error) = check_region(&self.region) {
            add("region", error.to_string());
        } else if let Some(message) = self.elsewhere(url) {
            add("region", message);
        }
        if let Some(message) = self.other_service(url) {
            add("service", message);
        }
        if let Some(Err(error)) = self.role_arn.as_deref().map(check_role) {
            add("roleArn", error.to_string());
        }
        if self.role_arn.is_none() && self.external_id_file.is_some() {
            let message = "an external id is sent when a role is assumed, and there is no roleArn";
            add("externalIdFile", message.to_owned());
        }
        if let Some(url) = &self.sts_endpoint_url {
            if let Some(message) = url_problem(url, CHAIN) {
                add("stsEndpointUrl", message);
            } else if self.role_arn.is_none() {
                let message = "roles are assumed there, and there is no roleArn";
                add("stsEndpointUrl", message.to_owned());
            }
        }
        if url.scheme() == "http" && !is_loopback(url) {
            // The secret key stays here, but a session token and a signature that is good for
            // minutes would be there for everybody on the way to read.
            let message = "signed queries need https, except to a loopback address";
            found.push(SettingsProblem::value(&["url"], message));
        }
        for name in headers {
            let lower = HeaderName::try_from(name).map(|name| name.as_str().to_owned());
            if lower.is_ok_and(|name| name.starts_with("x-amz-")) {
                let message = "this header belongs to the signature";
                found.push(SettingsProblem::key(&["headers", name], message));
            }
        }
    }

    /// AWS' own host names tell the region, and a signature is good in one only.
    fn elsewhere(&self, url: &Url) -> Option<String> {
        let (_, region) = aws_host(url)?;
        (region != self.region)
            .then(|| format!("the url is in {region}; a signature is good in its own region only"))
    }

    fn other_service(&self, url: &Url) -> Option<String> {
        let (word, _) = aws_host(url)?;
        let services = [SigV4Service::Aps, SigV4Service::Monitoring];
        let right = services.into_iter().find(|service| service.host_word() == word)?;
        (right != self.service).then(|| format!("the url's service is {}", right.as_str()))
    }

    /// What the identity needs. `timeout` is the source's.
    pub(super) fn identity(&self, timeout: Duration) -> IdentitySettings {
        IdentitySettings {
            region: self.region.clone(),
            role_arn: self.role_arn.clone(),
            external_id: self.external_id_file.clone().map(|path| ("sigV4.externalIdFile", path)),
            sts_endpoint_url: self.sts_endpoint_url.clone(),
            timeout,
            fips: false,
            dual_stack: false,
        }
    }
}

/// Service and region of one of AWS' own host names: `aps-workspaces.eu-west-1.amazonaws.com`.
fn aws_host(url: &Url) -> Option<(&str, &str)> {
    let (word, rest) = url.host_str()?.split_once('.')?;
    let (region, domain) = rest.split_once('.')?;
    let own = domain.starts_with("amazonaws.") || domain.starts_with("api.aws");
    (own && check_region(region).is_ok()).then_some((word, region))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
