//! Signs queries (AWS Signature Version 4, IAM User Guide, "Create a signed AWS API request").

use std::fmt;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::model::{Cause, Clock, FetchError, SourceName};
use crate::source::aws::check_trust_store;
use crate::source::aws::identity::{Identities, Identity, Who};
use crate::source::prometheus::Method;
use crate::source::prometheus::decode::{self, Head};
use crate::source::prometheus::sigv4::{SigV4Service, SigV4Settings, refused};
use crate::source::secrets::Secrets;
use crate::source::{BuildError, Metrics};

/// All but RFC 3986's unreserved characters: what a signature is made of, so that what is sent and
/// what is signed are the same bytes. A space is `%20`, since AWS takes a plus for a plus.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const FORM: &str = "application/x-www-form-urlencoded";

/// Signs the queries of one source.
pub(in crate::source::prometheus) struct Signer {
    identities: Identities,
    region: String,
    service: SigV4Service,
    clock: Arc<dyn Clock>,
}

/// A query, signed, and the secrets in it.
pub(in crate::source::prometheus) struct Signed {
    pub request: reqwest::Request,
    pub secrets: Secrets,
    /// Who signed.
    pub identity: Arc<Identity>,
}

impl Signer {
    /// Reads the external id; looks for no credentials before the first query. `credentials`
    /// replaces the default chain.
    pub(in crate::source::prometheus) fn open(
        name: &SourceName,
        settings: &SigV4Settings,
        timeout: std::time::Duration,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Self, BuildError> {
        check_trust_store(name)?;
        let identity = settings.identity(timeout);
        let identities =
            Identities::open(name, identity, Arc::clone(&clock), metrics, credentials)?;
        Ok(Self { identities, region: settings.region.clone(), service: settings.service, clock })
    }

    /// Who signs.
    pub(in crate::source::prometheus) fn who(&self) -> Who {
        self.identities.who(None)
    }

    /// The service that is called.
    pub(in crate::source::prometheus) fn service(&self) -> SigV4Service {
        self.service
    }

    /// A request for `endpoint` (`query`, `series`) of the API under `base`, signed now.
    ///
    /// # Errors
    /// When there are no credentials, why.
    pub(in crate::source::prometheus) async fn request<'a>(
        &self,
        base: &Url,
        endpoint: &str,
        method: Method,
        parameters: &[(&str, String)],
        headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    ) -> Result<Signed, FetchError> {
        let identity = self.identities.of(None).await?;
        let credentials = identity.credentials().await?;
        let mut url = decode::api(base, endpoint);
        let form = encoded(parameters);
        let (verb, body) = match method {
            Method::Get => {
                url.set_query(Some(&form));
                (reqwest::Method::GET, String::new())
            }
            Method::Post => (reqwest::Method::POST, form),
        };
        let mut request = reqwest::Request::new(verb, url);
        for (name, value) in headers {
            request.headers_mut().append(name, value.clone());
        }
        if method == Method::Post {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
        }
        let added = self.signature(&request, &credentials, &body).map_err(|error| {
            FetchError::Invalid(Cause::new(format!("the query cannot be signed: {error}")))
        })?;
        let mut secrets = identity.secrets();
        for text in added.values().filter_map(|value| value.to_str().ok()) {
            // The date is no secret, and messages need it.
            if text.len() > "20261121T120000Z".len() {
                secrets.add(text);
            }
            // A refusal may quote a part of the header.
            if let Some((_, signature)) = text.split_once("Signature=") {
                secrets.add(signature);
            }
        }
        request.headers_mut().extend(added);
        if method == Method::Post {
            *request.body_mut() = Some(body.into());
        }
        Ok(Signed { request, secrets, identity })
    }

    /// The headers that a signature adds. Signed are the host, the content type and the headers
    /// that the signature adds: others may be changed by proxies on the way.
    fn signature(
        &self,
        request: &reqwest::Request,
        credentials: &Credentials,
        body: &str,
    ) -> Result<HeaderMap, Box<dyn std::error::Error + Send + Sync>> {
        let identity = credentials.clone().into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service.as_str())
            .time(self.clock.now().into())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let content_type = request.headers().get(CONTENT_TYPE).map(|_| ("content-type", FORM));
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.url().as_str(),
            content_type.into_iter(),
            SignableBody::Bytes(body.as_bytes()),
        )?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        let mut added = HeaderMap::new();
        for (name, value) in instructions.headers() {
            let mut value = HeaderValue::try_from(value)?;
            value.set_sensitive(true);
            added.insert(HeaderName::try_from(name)?, value);
        }
        Ok(added)
    }

    /// What a refusal of a query by AWS means; none when the answer is none. Credentials that are
    /// not accepted are renewed.
    pub(in crate::source::prometheus) fn refused(
        &self,
        head: &Head,
        body: &[u8],
        identity: &Arc<Identity>,
    ) -> Option<FetchError> {
        refused::refused(head, body, identity.who(), self.service, || identity.refused())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("region", &self.region)
            .field("service", &self.service)
            .field("identity", &self.identities.who(None))
            .finish_non_exhaustive()
    }
}

fn encoded(parameters: &[(&str, String)]) -> String {
    let pairs: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, RESERVED)))
        .collect();
    pairs.join("&")
}
