//! From the config to the settings of the components that it configures.

use crate::config::{Auth, Config, HeaderValues, HttpMethod, SourceSettings};
use crate::server::{self, AuthMode, ServerError};
use crate::source::{self, prometheus};

impl Config {
    /// The API listener's settings.
    ///
    /// # Errors
    /// When they contradict each other in a way that reading the file does not find.
    pub fn server_settings(&self) -> Result<server::Settings, ServerError> {
        let auth = match self.server.auth {
            Auth::Delegated => AuthMode::Delegated,
            Auth::None => AuthMode::None,
        };
        let tls = self.server.tls.as_ref().map(|files| server::TlsFiles {
            certificate: files.cert_file.clone(),
            key: files.key_file.clone(),
        });
        server::Settings::new(self.server.listen, auth, tls)
    }
}

impl SourceSettings {
    /// What the source's client needs.
    #[must_use]
    pub fn connection(&self) -> source::Settings {
        match self {
            Self::Simulated => source::Settings::Simulated,
            Self::Aws(aws) => {
                let mut settings = source::AwsSettings::new(&aws.region);
                settings.sqs_endpoint_url.clone_from(&aws.sqs_endpoint);
                settings.timeout = aws.timeout;
                settings.max_concurrent = aws.max_concurrent;
                settings.fips = aws.fips;
                settings.dual_stack = aws.dual_stack;
                source::Settings::Aws(Box::new(settings))
            }
            Self::Prometheus(given) => {
                let mut settings = source::PrometheusSettings::new(given.url.clone());
                settings.headers = given
                    .headers
                    .iter()
                    .map(|(name, values)| {
                        let values = match values {
                            HeaderValues::Values(list) => {
                                prometheus::HeaderValues::Fixed(list.clone())
                            }
                            HeaderValues::File(path) => {
                                prometheus::HeaderValues::File(path.clone())
                            }
                        };
                        (name.clone(), values)
                    })
                    .collect();
                settings.authentication = match (&given.basic_auth, &given.bearer_token_file) {
                    (Some(basic), _) => prometheus::Authentication::Basic {
                        username: basic.username.clone(),
                        password_file: basic.password_file.clone(),
                    },
                    (None, Some(token)) => {
                        prometheus::Authentication::Bearer { token_file: token.clone() }
                    }
                    (None, None) => prometheus::Authentication::None,
                };
                settings.method = match given.method {
                    HttpMethod::Get => prometheus::Method::Get,
                    HttpMethod::Post => prometheus::Method::Post,
                };
                let (cert_file, key_file) = given.tls.identity.clone().unzip();
                settings.tls = prometheus::TlsSettings {
                    ca_file: given.tls.ca_file.clone(),
                    cert_file,
                    key_file,
                    server_name: given.tls.server_name.clone(),
                    insecure_skip_verify: given.tls.insecure_skip_verify,
                };
                settings.timeout = given.timeout;
                settings.max_concurrent = given.max_concurrent;
                settings.max_response_bytes = given.max_response_bytes;
                settings.max_series = given.max_series;
                source::Settings::Prometheus(Box::new(settings))
            }
        }
    }
}
