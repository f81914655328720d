//! An API server, asked by a command as whoever runs it: by kubeconfig, with that user's token,
//! certificate or credential program.
//!
//! Responsible for: which cluster is meant, as kubectl decides it, one GET at a time, and sentences for
//! what can go wrong on the way. Not responsible for: what an answer means. No type of a Kubernetes
//! client leaves this module.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use http::header::ACCEPT;
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::model::root_cause;
use crate::runtime::kubernetes::{CONNECT_TIMEOUT, unreadable};

/// How long an answer may take: longer than the first read of a metric waits for its source, and
/// shorter than people do.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer that is read: a list of some ten thousand values.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Which API server is meant.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// A kubeconfig instead of `$KUBECONFIG`, `~/.kube/config` or the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it instead of the current one.
    pub context: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// There is no kubeconfig, or it cannot be used: name another.
    #[error("{0}")]
    Kubeconfig(String),
    /// The kubeconfig has no such context: name one of those that it has.
    #[error("the kubeconfig has no context {name:?}; it has {known}")]
    Context {
        /// The one asked for.
        name: String,
        /// All there are, in words.
        known: String,
    },
    /// The credentials cannot be had: log in.
    #[error("no credentials for {server}: {cause}")]
    Credentials {
        /// The API server's address.
        server: String,
        /// Why.
        cause: String,
    },
    /// The API server cannot be reached: start it, or mend the way there.
    #[error("the API server {server} cannot be reached: {cause}")]
    Unreachable {
        /// Its address.
        server: String,
        /// Why.
        cause: String,
    },
    /// It takes too long: ask again later.
    #[error("the API server {server} gave no answer within {ANSWER_TIMEOUT:?}")]
    Silent {
        /// Its address.
        server: String,
    },
    /// The answer cannot be read.
    #[error("the answer of {server} cannot be read: {cause}")]
    Broken {
        /// The API server's address.
        server: String,
        /// Why.
        cause: String,
    },
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// A connection to an API server.
pub struct ApiServer {
    client: Client,
    /// The program that gives credentials, if one does.
    program: Option<String>,
    /// Its address.
    pub url: String,
    /// The context by which it was found; none for a pod's service account.
    pub context: Option<String>,
    /// The namespace that the context names, `default` otherwise.
    pub namespace: String,
}

impl ApiServer {
    /// Finds the API server. Nothing is sent yet; a credential program may be run.
    ///
    /// # Errors
    /// [`NoAnswer`], for everything that is wrong with the kubeconfig.
    pub async fn find(way: &Way) -> Result<Self, NoAnswer> {
        let (mut config, context) = configured(way).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // An answer that says "not now" is the answer.
        config.default_retry = false;
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = config.default_namespace.clone();
        let program = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
        let client = Client::try_from(config);
        let client = client.map_err(|error| no_answer(&url, program.as_deref(), error))?;
        Ok(Self { client, program, url, context, namespace })
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// [`NoAnswer`]; an answer with an error status is none.
    pub async fn get(&self, path: &str) -> Result<Reply, NoAnswer> {
        let broken = |cause: String| NoAnswer::Broken { server: self.url.clone(), cause };
        let request = http::Request::get(path).header(ACCEPT, "application/json");
        let request = request.body(Body::empty()).map_err(|error| broken(error.to_string()))?;
        let asked = async {
            let response = self.client.send(request).await;
            let program = self.program.as_deref();
            let response = response.map_err(|error| no_answer(&self.url, program, error))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| broken(root_cause(&*error)))?;
            Ok(Reply { status, body: body.to_bytes().into() })
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asked)
            .await
            .unwrap_or_else(|_| Err(NoAnswer::Silent { server: self.url.clone() }))
    }
}

/// The way, as kubectl finds it, and the name of the context.
async fn configured(way: &Way) -> Result<(Config, Option<String>), NoAnswer> {
    let of_file = match &way.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let file = match of_file {
        Ok(file) => file,
        Err(error) => {
            // A pod has no kubeconfig.
            if way.kubeconfig.is_none()
                && way.context.is_none()
                && let Ok(config) = Config::incluster()
            {
                return Ok((config, None));
            }
            let which = match &way.kubeconfig {
                Some(path) => format!("the kubeconfig {}", path.display()),
                None => "a kubeconfig ($KUBECONFIG or ~/.kube/config)".to_owned(),
            };
            return Err(NoAnswer::Kubeconfig(format!(
                "cannot read {which}: {:#}",
                unreadable(error)
            )));
        }
    };
    let context = way.context.clone().or_else(|| file.current_context.clone());
    let known: Vec<&str> = file.contexts.iter().map(|context| &*context.name).collect();
    let Some(name) = context.filter(|name| !name.is_empty()) else {
        return Err(NoAnswer::Kubeconfig(format!(
            "the kubeconfig has no current context; it has {}",
            listed(&known)
        )));
    };
    if !known.contains(&&*name) {
        let known = listed(&known);
        return Err(NoAnswer::Context { name, known });
    }
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await.map_err(|error| {
        NoAnswer::Kubeconfig(format!(
            "the context {name:?} cannot be used: {:#}",
            unreadable(error)
        ))
    })?;
    Ok((config, Some(name)))
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn no_answer(url: &str, program: Option<&str>, error: kube::Error) -> NoAnswer {
    let server = url.to_owned();
    match error {
        kube::Error::Auth(error) => {
            let by = program.map(|program| format!("{program}: ")).unwrap_or_default();
            NoAnswer::Credentials { server, cause: format!("{by}{}", chain(&error)) }
        }
        other => NoAnswer::Unreachable { server, cause: root_cause(&other) },
    }
}

fn chain(error: &dyn Error) -> String {
    let (outer, inner) = (error.to_string(), root_cause(error));
    if outer.contains(&inner) { outer } else { format!("{outer}: {inner}") }
}
