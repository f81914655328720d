//! Errors, as a vocabulary of what the caller should do about them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::ResourceAttributes;

/// Longest text that a client sees of one cause, in bytes. An HPA condition is cut by the API
/// server at 32 KiB and printed on one line by `kubectl describe`, so a cause is a sentence.
pub const MAX_CAUSE_BYTES: usize = 400;

/// The text of the innermost cause: what the layers above say of it is often only that there is one.
#[must_use]
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Why an upstream read gave no sample: a bounded sentence for clients and, apart from it, the
/// full text for the log. Neither may contain a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    message: Arc<str>,
    detail: Option<Arc<str>>,
    unasked: bool,
}

impl Cause {
    /// A cause from the sentence that clients see. Line breaks and control characters become
    /// spaces, and the text is cut at [`MAX_CAUSE_BYTES`].
    #[must_use]
    pub fn new(message: impl AsRef<str>) -> Self {
        Self { message: bounded(message.as_ref()).into(), detail: None, unasked: false }
    }

    /// Adds the full text that only the log shows.
    #[must_use]
    pub fn with_detail(mut self, detail: impl AsRef<str>) -> Self {
        self.detail = Some(detail.as_ref().into());
        self
    }

    /// The sentence for clients.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The full text for the log, where there is more than the sentence.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl From<&str> for Cause {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn bounded(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_CAUSE_BYTES + 4));
    for c in text.trim().chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len() + c.len_utf8() > MAX_CAUSE_BYTES {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

/// Why a fetch from an upstream gave no sample. The variant says what to do next; the states that
/// follow from it are one exhaustive match (`cache::entry`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The upstream answered properly and had no datapoint. `onNoData` decides.
    #[error("{0}")]
    NoData(Cause),
    /// The upstream answered, and says that a part is missing. Trying again later may help.
    #[error("{0}")]
    Partial(Cause),
    /// Credentials are missing, expired or not allowed to do this. A person must act.
    #[error("{0}")]
    Denied(Cause),
    /// The upstream asks us to slow down.
    #[error("{0}")]
    Throttled(Cause),
    /// No answer in time.
    #[error("{0}")]
    Timeout(Cause),
    /// The upstream could not be reached or failed; trying again later may help.
    #[error("{0}")]
    Unavailable(Cause),
    /// The answer could not be understood.
    #[error("{0}")]
    Malformed(Cause),
    /// The question itself is wrong (unknown queue, bad `PromQL`). The definition must change.
    #[error("{0}")]
    Invalid(Cause),
}

impl FetchError {
    /// The [`FetchError::kind`] of an answer without a datapoint, which is no failure.
    pub const NO_DATA: &str = "no_data";

    /// All that [`FetchError::kind`] can be.
    pub const KINDS: [&str; 8] = [
        Self::NO_DATA,
        "partial",
        "denied",
        "throttled",
        "timeout",
        "unavailable",
        "malformed",
        "invalid",
    ];

    /// The cause.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match self {
            Self::NoData(c)
            | Self::Partial(c)
            | Self::Denied(c)
            | Self::Throttled(c)
            | Self::Timeout(c)
            | Self::Unavailable(c)
            | Self::Malformed(c)
            | Self::Invalid(c) => c,
        }
    }

    /// The same error, of a question that ended before it reached the upstream: it says nothing
    /// about whether that answers. What the variant says stays.
    #[must_use]
    pub fn unasked(mut self) -> Self {
        match &mut self {
            Self::NoData(c)
            | Self::Partial(c)
            | Self::Denied(c)
            | Self::Throttled(c)
            | Self::Timeout(c)
            | Self::Unavailable(c)
            | Self::Malformed(c)
            | Self::Invalid(c) => c.unasked = true,
        }
        self
    }

    /// Whether the upstream was not asked ([`FetchError::unasked`]).
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        self.cause().unasked
    }

    /// A fixed word for metrics labels and the status page.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoData(_) => Self::NO_DATA,
            Self::Partial(_) => "partial",
            Self::Denied(_) => "denied",
            Self::Throttled(_) => "throttled",
            Self::Timeout(_) => "timeout",
            Self::Unavailable(_) => "unavailable",
            Self::Malformed(_) => "malformed",
            Self::Invalid(_) => "invalid",
        }
    }
}

/// Why a request got no answer. `status` chooses the HTTP status and the `metav1.Status` reason;
/// the text here is what a person reads in `kubectl describe hpa`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No metric of this name is served in the namespace, or of these objects. Names that are near
    /// it may be added ([`crate::model::MetricsProvider::near_external`]).
    #[error("{0}")]
    MetricUnknown(String),
    /// The metric is known, and none of its series or objects is meant.
    #[error("{0}")]
    MetricNotFound(String),
    /// The metric is known and has no value that may be served: no data, stale, failed.
    #[error("{0}")]
    NoValue(String),
    /// The first read of a metric got no value in time.
    #[error("{0}")]
    FirstReadTimeout(String),
    /// The request's own deadline passed (`timeout` parameter or the server's limit).
    #[error("Timeout: request did not complete within the allotted timeout ({0:?})")]
    DeadlineExceeded(Duration),
    /// The path is not one of ours.
    #[error("the server could not find the requested resource")]
    PathNotFound,
    /// The request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// Another method than GET.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// `watch=true` on a metric.
    #[error("watch is not supported on resources of kind \"*.{group}\"")]
    WatchNotSupported {
        /// API group of the request.
        group: &'static str,
    },
    /// None of the media types that the client accepts is offered.
    #[error("only the following media types are accepted: {offered}")]
    NotAcceptable {
        /// The types on offer, separated by `, `.
        offered: &'static str,
    },
    /// No credentials that we could verify.
    #[error("Unauthorized")]
    Unauthorized,
    /// The identity may not do this to the resource.
    #[error("{message}")]
    ForbiddenResource {
        /// The sentence, in Kubernetes' form.
        message: String,
        /// What was asked.
        attributes: Box<ResourceAttributes>,
    },
    /// The identity may not do this to the path, or sent a header we refuse.
    #[error("{0}")]
    ForbiddenPath(String),
    /// The request is larger than we accept.
    #[error("{0}")]
    RequestTooLarge(String),
    /// The server has as many requests waiting as it may, and this one would wait, too.
    #[error("{0}")]
    Overloaded(String),
    /// Authorization could not be decided; the text says why.
    #[error("{0}")]
    AuthorizationUnavailable(String),
    /// A metric of a rule has no value: Prometheus failed, a template did, objects cannot be listed.
    /// Told with the original adapter's status.
    #[error("{0}")]
    RuleFailed(String),
    /// What the original adapter answers without a reason: a selector on the metric's labels that
    /// cannot be read, an answer of a wrong type.
    #[error("{0}")]
    Unclassified(String),
    /// A defect of ours. The text is constant; the log has the rest.
    #[error("{0}")]
    Internal(String),
}
