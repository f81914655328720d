//! The server config as it is written, field by field.
//!
//! Every field is optional here, so that one that is missing or wrong hides no mistake in others;
//! what they default to is told at the validated types of [`config`](crate::config).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

use crate::definition::scalar::{GoDuration, NoData, Number};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Document {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) server: Server,
    pub(super) apis: Apis,
    pub(super) admin: Admin,
    pub(super) kubernetes: Kubernetes,
    pub(super) sources: Vec<Source>,
    pub(super) definitions: Definitions,
    pub(super) rules: Vec<Rules>,
    pub(super) resources: Resources,
    pub(super) defaults: DefaultsSpec,
    pub(super) telemetry: Telemetry,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Server {
    pub(super) listen: Option<String>,
    pub(super) tls: Option<KeyPair>,
    pub(super) auth: Option<AuthName>,
    pub(super) shutdown_grace: Option<GoDuration>,
    pub(super) limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Limits {
    pub(super) connections: Option<Number>,
    pub(super) requests: Option<Number>,
    pub(super) recycle_after: Option<GoDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct KeyPair {
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) managed: Option<Managed>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Managed {
    pub(super) secret: Option<String>,
    pub(super) service: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) ca_lifetime: Option<GoDuration>,
    pub(super) cert_lifetime: Option<GoDuration>,
    pub(super) renew_before: Option<GoDuration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum AuthName {
    Delegated,
    None,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Apis {
    pub(super) external: Option<bool>,
    pub(super) custom: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Rules {
    pub(super) path: Option<String>,
    pub(super) source: Option<String>,
    pub(super) relist_interval: Option<GoDuration>,
    pub(super) series_max_age: Option<GoDuration>,
    pub(super) refresh: Option<GoDuration>,
    pub(super) sample_max_age: Option<GoDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Admin {
    pub(super) listen: Option<String>,
    pub(super) bearer_token_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Kubernetes {
    pub(super) enabled: Option<bool>,
    pub(super) kubeconfig: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Source {
    pub(super) name: Option<String>,
    pub(super) prometheus: Option<Prometheus>,
    pub(super) aws: Option<Aws>,
    pub(super) simulated: Option<Simulated>,
    pub(super) allowed_namespaces: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Prometheus {
    pub(super) url: Option<String>,
    pub(super) headers: BTreeMap<String, Header>,
    pub(super) basic_auth: Option<BasicAuth>,
    pub(super) bearer_token_file: Option<String>,
    pub(super) sig_v4: Option<SigV4>,
    pub(super) method: Option<MethodName>,
    pub(super) tls: Option<ClientTls>,
    pub(super) timeout: Option<GoDuration>,
    pub(super) max_concurrent: Option<Number>,
    pub(super) max_requests_per_second: Option<Number>,
    pub(super) breaker: Breaker,
    pub(super) max_response_bytes: Option<Number>,
    pub(super) max_series: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct BasicAuth {
    pub(super) username: Option<String>,
    pub(super) password_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct SigV4 {
    pub(super) region: Option<String>,
    pub(super) service: Option<SigV4ServiceName>,
    pub(super) role_arn: Option<String>,
    pub(super) external_id_file: Option<String>,
    pub(super) sts_endpoint_url: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum SigV4ServiceName {
    Aps,
    Monitoring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum MethodName {
    Get,
    Post,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct ClientTls {
    pub(super) ca_file: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) server_name: Option<String>,
    pub(super) insecure_skip_verify: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Aws {
    pub(super) region: Option<String>,
    pub(super) endpoint_url: Option<String>,
    pub(super) sqs_endpoint_url: Option<String>,
    pub(super) cloudwatch_endpoint_url: Option<String>,
    pub(super) sts_endpoint_url: Option<String>,
    pub(super) role_arn: Option<String>,
    pub(super) external_id_file: Option<String>,
    pub(super) allowed_roles: Vec<String>,
    pub(super) allowed_regions: Option<Vec<String>>,
    pub(super) timeout: Option<GoDuration>,
    pub(super) max_concurrent: Option<Number>,
    pub(super) max_requests_per_second: Option<Number>,
    pub(super) breaker: Breaker,
    pub(super) fips: bool,
    pub(super) dual_stack: bool,
    pub(super) cost: Cost,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Cost {
    pub(super) price_per_thousand_metrics: Option<Number>,
    pub(super) price_per_million_requests: Option<Number>,
    pub(super) max_metrics_per_minute: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Breaker {
    pub(super) failures: Option<Number>,
    pub(super) first_pause: Option<GoDuration>,
    pub(super) max_pause: Option<GoDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Simulated {}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Definitions {
    pub(super) paths: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Resources {
    pub(super) enabled: Option<bool>,
    pub(super) max_per_namespace: Option<Number>,
    pub(super) max_total: Option<Number>,
    pub(super) min_refresh: Option<GoDuration>,
    pub(super) max_series: Option<Number>,
    pub(super) events: Events,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Events {
    pub(super) hpas: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct DefaultsSpec {
    pub(super) refresh: Option<GoDuration>,
    pub(super) max_age: Option<GoDuration>,
    pub(super) on_no_data: Option<NoData>,
    pub(super) first_read_timeout: Option<GoDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Telemetry {
    pub(super) traces: Option<Traces>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a mapping")]
pub(super) struct Traces {
    pub(super) endpoint: Option<String>,
    pub(super) sample_ratio: Option<Number>,
    pub(super) headers: BTreeMap<String, Header>,
}

/// A header: a value, a list of values, or `{ file: PATH }`. Values may be secret, so they are in
/// no message.
pub(super) enum Header {
    Values(Vec<String>),
    File(String),
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values(values) => write!(f, "{} value(s)", values.len()),
            Self::File(file) => write!(f, "file {file:?}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderFile {
    file: String,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        fn unquoted<E: Error>() -> E {
            E::custom("a header's value must be text; write it in quotes")
        }

        impl<'de> Visitor<'de> for Reader {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, a list of values or { file: PATH }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Header, E> {
                Ok(Header::Values(vec![text.to_owned()]))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Header, E> {
                Err(unquoted())
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Header, E> {
                Err(unquoted())
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Header, E> {
                Err(unquoted())
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Header, E> {
                Err(unquoted())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Header, A::Error> {
                let mut values = Vec::new();
                while let Some(item) = items.next_element::<Header>()? {
                    match item {
                        Header::Values(more) => values.extend(more),
                        Header::File(_) => {
                            return Err(A::Error::custom("a file cannot stand in a list"));
                        }
                    }
                }
                Ok(Header::Values(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, pairs: A) -> Result<Header, A::Error> {
                HeaderFile::deserialize(MapAccessDeserializer::new(pairs))
                    .map(|header| Header::File(header.file))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
