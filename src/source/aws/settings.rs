//! What an AWS source needs to connect, and what is wrong with it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::model::arn::check_role;
use crate::model::region::check_region;
use crate::model::{CostSettings, Decimal};
use crate::source::SettingsProblem;
use crate::source::aws::identity::IdentitySettings;
use crate::source::settings::{
    BreakerSettings, DEFAULT_CONCURRENT, DEFAULT_TIMEOUT, check_calls, check_protection,
    url_problem,
};

/// Where credentials belong, for URLs with a password in them.
pub(in crate::source) const CHAIN: &str = "credentials come from the AWS SDK's default chain";

/// What an AWS source needs to connect. Holds no secret: credentials come from the SDK's default
/// chain.
#[derive(Clone, PartialEq)]
pub struct AwsSettings {
    /// Its own region, in which roles are assumed; queries name the region that they ask.
    pub region: String,
    /// Where all services are, instead of AWS' own endpoints: emulators and VPC endpoints.
    pub endpoint_url: Option<Url>,
    /// Where SQS is; wins over `endpoint_url`.
    pub sqs_endpoint_url: Option<Url>,
    /// Where `CloudWatch` is; wins over `endpoint_url`.
    pub cloudwatch_endpoint_url: Option<Url>,
    /// Where STS is; wins over `endpoint_url`.
    pub sts_endpoint_url: Option<Url>,
    /// The role that the source assumes; its calls are made in it, and further roles are assumed
    /// from it.
    pub role_arn: Option<String>,
    /// The file with the external id that is sent when a role is assumed.
    pub external_id_file: Option<PathBuf>,
    /// What reading costs and may cost.
    pub cost: CostSettings,
    /// The longest that a fetch takes, the wait for credentials and for a free slot included.
    pub timeout: Duration,
    /// Calls to one upstream (service, region and role) at one time.
    pub max_concurrent: usize,
    /// Requests to one upstream per second; none: the service's own default.
    pub max_requests_per_second: Option<usize>,
    /// When an upstream that fails is left alone.
    pub breaker: BreakerSettings,
    /// Use FIPS endpoints, where no endpoint is named.
    pub fips: bool,
    /// Use dual-stack endpoints, where no endpoint is named.
    pub dual_stack: bool,
}

impl AwsSettings {
    /// Settings with every default.
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            endpoint_url: None,
            sqs_endpoint_url: None,
            cloudwatch_endpoint_url: None,
            sts_endpoint_url: None,
            role_arn: None,
            external_id_file: None,
            cost: CostSettings::default(),
            timeout: DEFAULT_TIMEOUT,
            max_concurrent: DEFAULT_CONCURRENT,
            max_requests_per_second: None,
            breaker: BreakerSettings::default(),
            fips: false,
            dual_stack: false,
        }
    }

    /// What is wrong, found without any input or output.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingsProblem> {
        let mut found = Vec::new();
        if let Err(error) = check_region(&self.region) {
            found.push(SettingsProblem::value(&["region"], error.to_string()));
        }
        let services = self.service_endpoints();
        for (field, url) in [("endpointUrl", &self.endpoint_url)].into_iter().chain(services) {
            let wrong = url.as_ref().and_then(|url| url_problem(url, CHAIN));
            found.extend(wrong.map(|message| SettingsProblem::value(&[field], message)));
        }
        // With endpoints for some services only, the others are still looked for.
        let all_named =
            self.endpoint_url.is_some() || services.iter().all(|(_, url)| url.is_some());
        for (field, set) in [("fips", self.fips), ("dualStack", self.dual_stack)] {
            if set && all_named {
                let message =
                    "every service has an endpoint of its own; this would have no effect on any";
                found.push(SettingsProblem::value(&[field], message));
            }
        }
        if let Some(role) = &self.role_arn
            && let Err(error) = check_role(role)
        {
            found.push(SettingsProblem::value(&["roleArn"], error.to_string()));
        }
        self.check_cost(&mut found);
        check_calls(&mut found, self.timeout, self.max_concurrent);
        check_protection(&mut found, self.max_requests_per_second, &self.breaker);
        found
    }

    /// What the source's identities need.
    pub(super) fn identities(&self) -> IdentitySettings {
        let sts_endpoint_url = self.sts_endpoint_url.clone().or(self.endpoint_url.clone());
        IdentitySettings {
            region: self.region.clone(),
            role_arn: self.role_arn.clone(),
            external_id: self.external_id_file.clone().map(|path| ("externalIdFile", path)),
            sts_endpoint_url,
            timeout: self.timeout,
            fips: self.fips,
            dual_stack: self.dual_stack,
        }
    }

    fn check_cost(&self, found: &mut Vec<SettingsProblem>) {
        for (field, price) in [
            ("pricePerThousandMetrics", &self.cost.price_per_thousand_metrics),
            ("pricePerMillionRequests", &self.cost.price_per_million_requests),
        ] {
            if *price < Decimal::ZERO {
                found.push(SettingsProblem::value(&["cost", field], "a price is not below zero"));
            }
        }
        if self.cost.max_metrics_per_minute == Some(0) {
            let message =
                "expected a whole number of at least 1; without a ceiling leave the field out";
            found.push(SettingsProblem::value(&["cost", "maxMetricsPerMinute"], message));
        }
    }

    fn service_endpoints(&self) -> [(&'static str, &Option<Url>); 3] {
        [
            ("sqsEndpointUrl", &self.sqs_endpoint_url),
            ("cloudwatchEndpointUrl", &self.cloudwatch_endpoint_url),
            ("stsEndpointUrl", &self.sts_endpoint_url),
        ]
    }
}

impl fmt::Debug for AwsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<Url>| url.as_ref().map(|u| u.origin().ascii_serialization());
        f.debug_struct("AwsSettings")
            .field("region", &self.region)
            .field("endpoint_url", &shown(&self.endpoint_url))
            .field("sqs_endpoint_url", &shown(&self.sqs_endpoint_url))
            .field("cloudwatch_endpoint_url", &shown(&self.cloudwatch_endpoint_url))
            .field("sts_endpoint_url", &shown(&self.sts_endpoint_url))
            .field("role_arn", &self.role_arn)
            .field("external_id_file", &self.external_id_file)
            .field("cost", &self.cost)
            .field("timeout", &self.timeout)
            .field("max_concurrent", &self.max_concurrent)
            .field("max_requests_per_second", &self.max_requests_per_second)
            .field("breaker", &self.breaker)
            .field("fips", &self.fips)
            .field("dual_stack", &self.dual_stack)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change<'a> = &'a dyn Fn(&mut AwsSettings);

    #[test]
    fn wrong_settings_are_refused_with_the_field() {
        let url = |text: &str| Some(text.parse().unwrap());
        let problems = |change: Change<'_>| {
            let mut settings = AwsSettings::new("eu-west-1");
            change(&mut settings);
            let found = settings.problems();
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let role = "arn:aws:iam::111122223333:role/metrics";
        let services = |s: &mut AwsSettings| {
            s.sqs_endpoint_url = url("https://sqs");
            s.cloudwatch_endpoint_url = url("https://monitoring");
            s.sts_endpoint_url = url("https://sts");
        };
        let cases: [(Change<'_>, &str); 17] = [
            (&|_| {}, ""),
            (&|s| s.role_arn = Some(role.to_owned()), ""),
            (&|s| s.external_id_file = Some("id".into()), ""),
            (
                &|s| s.region = "eu-west-1.evil.example/".to_owned(),
                "region: \"eu-west-1.evil.example/\" is not an AWS region; one looks like eu-west-1",
            ),
            (
                &|s| s.endpoint_url = url("http://u:p@x/"),
                "endpointUrl: a URL must not hold a user or password; credentials come from the AWS SDK's default chain",
            ),
            (
                &|s| s.sqs_endpoint_url = url("file:///etc"),
                "sqsEndpointUrl: the scheme \"file\" is not http or https",
            ),
            (
                &|s| s.cloudwatch_endpoint_url = url("https://x/?a=b"),
                "cloudwatchEndpointUrl: a URL must not hold a query or fragment",
            ),
            (
                &|s| s.sts_endpoint_url = url("ftp://x"),
                "stsEndpointUrl: the scheme \"ftp\" is not http or https",
            ),
            (
                &|s| s.role_arn = Some("metrics".to_owned()),
                "roleArn: \"metrics\" is not a role's ARN; one looks like arn:aws:iam::111122223333:role/metrics",
            ),
            (
                &|s| {
                    s.fips = true;
                    s.endpoint_url = url("http://localhost/");
                },
                "fips: every service has an endpoint of its own; this would have no effect on any",
            ),
            // CloudWatch and STS are looked for still.
            (
                &|s| {
                    (s.fips, s.dual_stack) = (true, true);
                    s.sqs_endpoint_url = url("http://localhost/");
                },
                "",
            ),
            (
                &|s| {
                    s.dual_stack = true;
                    services(s);
                },
                "dualStack: every service has an endpoint of its own; this would have no effect on any",
            ),
            (
                &|s| s.cost.price_per_thousand_metrics = "-0.01".parse().unwrap(),
                "cost.pricePerThousandMetrics: a price is not below zero",
            ),
            (
                &|s| s.cost.price_per_million_requests = "-1".parse().unwrap(),
                "cost.pricePerMillionRequests: a price is not below zero",
            ),
            (&|s| s.cost.price_per_million_requests = Decimal::ZERO, ""),
            (
                &|s| s.cost.max_metrics_per_minute = Some(0),
                "cost.maxMetricsPerMinute: expected a whole number of at least 1; without a ceiling leave the field out",
            ),
            (
                &|s| (s.timeout, s.max_concurrent) = (Duration::ZERO, 0),
                "timeout: a timeout is above zero and at most 1m; maxConcurrent: expected a whole number from 1 to 1024",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(problems(change), expected);
        }
    }

    #[test]
    fn an_endpoint_is_of_one_service_or_of_all() {
        let mut settings = AwsSettings::new("eu-west-1");
        settings.fips = true;
        settings.endpoint_url = Some("http://all/".parse().unwrap());
        settings.sqs_endpoint_url = Some("http://sqs/".parse().unwrap());
        let identities = settings.identities();
        assert_eq!(identities.sts_endpoint_url, settings.endpoint_url);
        let at = identities.endpoint(settings.sqs_endpoint_url.as_ref());
        assert_eq!((at.url.as_deref(), at.fips), (Some("http://sqs/"), false));
        let at = identities.endpoint(None);
        assert_eq!((at.url, at.fips), (None, true));
    }
}
