//! The headers of every query: fixed ones, those from files, and who we are.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::model::{Clock, SourceName};
use crate::source::BuildError;
use crate::source::prometheus::settings::{Authentication, HeaderValues, PrometheusSettings};
use crate::source::secrets::Secrets;
use crate::source::watched::{WatchedFile, check_secret, secret_text};

/// Values of headers from the config are taken for secrets from this many bytes on.
const MIN_SECRET: usize = 12;

/// Where headers come from. `Debug` shows names and paths.
#[derive(Debug)]
pub(super) struct Credentials {
    fixed: Arc<HeaderMap>,
    files: Vec<(HeaderName, WatchedFile)>,
    authorization: Authorization,
}

#[derive(Debug)]
enum Authorization {
    None,
    Basic { username: String, password: WatchedFile },
    Bearer { token: WatchedFile },
}

impl Credentials {
    /// Reads the files for the first time.
    pub(super) fn open(
        name: &SourceName,
        settings: &PrometheusSettings,
        clock: &dyn Clock,
    ) -> Result<Self, BuildError> {
        let open = |field: &'static str, path: &Path| {
            WatchedFile::open(name, field, path, check_secret, clock.tick()).map_err(|cause| {
                BuildError::File { name: name.clone(), field, path: path.to_owned(), cause }
            })
        };
        let client = |e: &dyn std::fmt::Display| BuildError::Client {
            name: name.clone(),
            cause: format!("headers: {e}"),
        };
        let (mut fixed, mut files) = (HeaderMap::new(), Vec::new());
        for (header, values) in &settings.headers {
            let header = HeaderName::try_from(header).map_err(|e| client(&e))?;
            match values {
                HeaderValues::Fixed(values) => {
                    for value in values {
                        let mut value = HeaderValue::try_from(value).map_err(|e| client(&e))?;
                        value.set_sensitive(true);
                        fixed.append(header.clone(), value);
                    }
                }
                HeaderValues::File(path) => files.push((header, open("headers", path)?)),
            }
        }
        let authorization = match &settings.authentication {
            // A signature is made of the whole request, elsewhere.
            Authentication::None | Authentication::SigV4(_) => Authorization::None,
            Authentication::Basic { username, password_file } => Authorization::Basic {
                username: username.clone(),
                password: open("basicAuth.passwordFile", password_file)?,
            },
            Authentication::Bearer { token_file } => {
                Authorization::Bearer { token: open("bearerTokenFile", token_file)? }
            }
        };
        Ok(Self { fixed: Arc::new(fixed), files, authorization })
    }

    /// Who the source says it is, in words.
    pub(super) fn identity(&self) -> String {
        match &self.authorization {
            Authorization::None => "without credentials of its own".to_owned(),
            Authorization::Basic { username, .. } => format!("as user {username:?}"),
            Authorization::Bearer { token } => {
                format!("with the bearer token of {}", token.path().display())
            }
        }
    }

    /// The headers of a query that is sent now.
    pub(super) fn headers(&self, clock: &dyn Clock) -> Headers {
        let (mut map, mut secrets) = ((*self.fixed).clone(), Secrets::default());
        let mut add = |name: HeaderName, text: String| {
            // `check_secret` let only text without control characters pass.
            if let Ok(mut value) = HeaderValue::try_from(text) {
                value.set_sensitive(true);
                map.append(name, value);
            }
        };
        for (name, file) in &self.files {
            let content = file.content(clock);
            secrets.add(secret_text(&content));
            add(name.clone(), secret_text(&content).to_owned());
        }
        match &self.authorization {
            Authorization::None => {}
            Authorization::Basic { username, password } => {
                let content = password.content(clock);
                let password = secret_text(&content);
                let encoded = STANDARD.encode(format!("{username}:{password}"));
                secrets.add(password);
                secrets.add(encoded.trim_end_matches('='));
                add(AUTHORIZATION, format!("Basic {encoded}"));
            }
            Authorization::Bearer { token } => {
                let content = token.content(clock);
                let token = secret_text(&content);
                secrets.add(token);
                add(AUTHORIZATION, format!("Bearer {token}"));
            }
        }
        for (name, value) in &map {
            let Ok(value) = value.to_str() else { continue };
            if *name == AUTHORIZATION {
                // Without the scheme: messages need that word.
                secrets.add(value.split_once(' ').map_or(value, |(_, rest)| rest));
            } else if value.len() >= MIN_SECRET {
                // Shorter values are tenants and tags, and words that messages need. Longer ones
                // may be tenants, too, which servers put into labels.
                secrets.add_guess(value);
            }
        }
        Headers { map, secrets }
    }
}

/// The headers of one query, and the secrets in them.
pub(super) struct Headers {
    map: HeaderMap,
    secrets: Secrets,
}

impl Headers {
    /// Names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.map.iter()
    }

    /// The same headers, with more secrets to blot out.
    pub(super) fn with_secrets(mut self, secrets: &Secrets) -> Self {
        self.secrets.extend(secrets);
        self
    }

    /// A text with every secret of this query blotted out: an upstream may echo what it got.
    pub(super) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.secrets.blot(text)
    }

    /// The secrets of this query.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}
