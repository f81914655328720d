//! Errors as `metav1.Status`, and the only place that chooses an HTTP status.
//!
//! Responsible for: the status code, reason, details and headers of every refused or failed
//! request, of the API and of the server in front of it; the status of health answers.
//! Not responsible for: the sentence, which is the error's own text and what a person reads in
//! `kubectl describe hpa`.
//!
//! Invariants: every [`ApiError`] variant has an arm of its own (a new variant does not compile
//! until somebody has chosen). No answer carries `Retry-After`: client-go would sleep inside one of
//! the HPA controller's five workers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body;
use serde::Serialize;

use crate::model::{ApiError, Attributes};

/// The media type of every JSON answer, as Go's API server writes it: without a charset.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The media type of texts for people.
pub const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// `Cache-Control` of everything that nobody may keep.
pub const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");
/// Keeps browsers from guessing another media type.
pub const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Status of a complete answer.
pub const OK: StatusCode = StatusCode::OK;
/// Status of "you have it already".
pub const NOT_MODIFIED: StatusCode = StatusCode::NOT_MODIFIED;
/// Who asks has not said who they are.
pub const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
/// A page that does not exist, on the admin listener.
pub const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
/// No turn or no answer in time, on the admin listener.
pub const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// The status of a health answer: 200, or 500 as Go's API servers say it.
#[must_use]
pub fn of_health(passed: bool) -> StatusCode {
    if passed { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

/// The answer to a path outside everything we serve: 404 as plain text, like Go's mux.
#[must_use]
pub fn page_not_found() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"404 page not found\n")));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PLAIN);
    headers.insert(CACHE_CONTROL, NO_CACHE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// The same answer for a `HEAD` request: its headers, `Content-Length` included, without the body.
/// hyper drops the body by itself on HTTP/1.1 only.
#[must_use]
pub fn without_body(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Full::new(Bytes::new()))
}

/// A failure in Kubernetes' wire form (`metav1.Status`). Only this form gets our sentence into the
/// condition of an HPA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Empty,
    #[serde(rename = "status")]
    outcome: &'static str,
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    code: u16,
    #[serde(skip)]
    http: StatusCode,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Empty {}

/// What every answer made from a [`Status`] carries in its extensions, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The status's reason; empty where Go's API server gives none.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<DetailCause>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DetailCause {
    message: String,
}

impl From<&ApiError> for Status {
    fn from(error: &ApiError) -> Self {
        // What most errors say: their own text. Forbidden texts repeat what the client sent, and
        // Go escapes them; internal ones get Go's prefix.
        let text = error.to_string();
        let empty = Some(Details::default());
        let (http, reason, message, details) = match error {
            ApiError::MetricUnknown(_) | ApiError::MetricNotFound(_) => {
                (StatusCode::NOT_FOUND, "NotFound", text, None)
            }
            ApiError::NoValue(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", text, None)
            }
            ApiError::FirstReadTimeout(_) | ApiError::DeadlineExceeded(_) => {
                (StatusCode::GATEWAY_TIMEOUT, "Timeout", text, empty)
            }
            ApiError::PathNotFound => (StatusCode::NOT_FOUND, "NotFound", text, empty),
            ApiError::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest", text, None),
            ApiError::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text, empty)
            }
            ApiError::WatchNotSupported { group } => {
                let details = Details {
                    group: (*group).to_owned(),
                    kind: "*".to_owned(),
                    ..Details::default()
                };
                (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text, Some(details))
            }
            ApiError::NotAcceptable { .. } => {
                (StatusCode::NOT_ACCEPTABLE, "NotAcceptable", text, None)
            }
            ApiError::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized", text, None),
            ApiError::ForbiddenResource { attributes, .. } => {
                let details = Details {
                    name: attributes.name.clone(),
                    group: attributes.group.clone(),
                    kind: attributes.resource.clone(),
                    causes: Vec::new(),
                };
                (StatusCode::FORBIDDEN, "Forbidden", escape_html(&text), Some(details))
            }
            ApiError::ForbiddenPath(_) => {
                (StatusCode::FORBIDDEN, "Forbidden", escape_html(&text), empty)
            }
            ApiError::RequestTooLarge(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", text, None)
            }
            // 429 alone, as all: with `Retry-After` client-go would wait and ask again, ten times.
            ApiError::Overloaded(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", text, None)
            }
            ApiError::Unclassified(_) => (StatusCode::INTERNAL_SERVER_ERROR, "", text, None),
            ApiError::AuthorizationUnavailable(_)
            | ApiError::RuleFailed(_)
            | ApiError::Internal(_) => {
                let message = format!("Internal error occurred: {text}");
                let causes = vec![DetailCause { message: text }];
                let details = Details { causes, ..Details::default() };
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message, Some(details))
            }
        };
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            outcome: "Failure",
            message,
            reason,
            details,
            code: http.as_u16(),
            http,
        }
    }
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Status {
    /// The HTTP status code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The answer: JSON with a line break at its end, like Go's encoder.
    ///
    /// # Panics
    /// Never: a `Status` has no map with keys that JSON cannot hold.
    #[must_use]
    pub fn response(&self) -> Response<Full<Bytes>> {
        let mut body = serde_json::to_vec(self).expect("a Status is strings and numbers");
        body.push(b'\n');
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.http;
        let failed = Failed { reason: self.reason, message: self.message.clone() };
        response.extensions_mut().insert(failed);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(CACHE_CONTROL, NO_CACHE);
        if self.http == StatusCode::FORBIDDEN {
            headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        }
        if self.http == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

/// A name that may be told to whoever may do this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The name.
    pub name: Arc<str>,
    /// What its reader would have to be allowed.
    pub attributes: Attributes,
}

/// A refusal to which names may be added: what somebody may have meant. It travels with the answer,
/// whose sentence has none of them, until somebody has found out which of them the reader may know.
#[derive(Clone, Debug)]
pub struct Hinted {
    status: Status,
    hints: Arc<[Hint]>,
}

impl Hinted {
    /// The answer to an error, with hints that are not told yet.
    #[must_use]
    pub fn response(error: &ApiError, hints: Vec<Hint>) -> Response<Full<Bytes>> {
        let status = Status::from(error);
        let mut response = status.response();
        if !hints.is_empty() {
            response.extensions_mut().insert(Self { status, hints: hints.into() });
        }
        response
    }

    /// Takes the hints off an answer. Costs nothing for one that has none.
    #[must_use]
    pub fn of(response: &mut Response<Full<Bytes>>) -> Option<Self> {
        if response.status() != StatusCode::NOT_FOUND {
            return None;
        }
        response.extensions_mut().remove()
    }

    /// The hints, nearest first.
    #[must_use]
    pub fn hints(&self) -> &[Hint] {
        &self.hints
    }

    /// The answer that tells those hints that are `allowed`, by their places.
    #[must_use]
    pub fn telling(mut self, allowed: impl Fn(usize) -> bool) -> Response<Full<Bytes>> {
        let told = self.hints.iter().enumerate().filter(|(at, _)| allowed(*at));
        let names: Vec<String> = told.map(|(_, hint)| format!("\"{}\"", hint.name)).collect();
        let meant = match &names[..] {
            [] => return self.status.response(),
            [one] => one.clone(),
            [first @ .., last] => format!("{} or {last}", first.join(", ")),
        };
        self.status.message = format!("{}; did you mean {meant}?", self.status.message);
        self.status.response()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::RETRY_AFTER;
    use http_body_util::BodyExt;

    use super::*;
    use crate::model::ResourceAttributes;

    fn every_error() -> Vec<(ApiError, &'static str)> {
        let attributes = ResourceAttributes {
            verb: "list".into(),
            group: "external.metrics.k8s.io".into(),
            resource: "jobs".into(),
            ..ResourceAttributes::default()
        };
        vec![
            (
                ApiError::MetricUnknown("no such metric".into()),
                r#"{"message":"no such metric","reason":"NotFound","code":404}"#,
            ),
            (
                ApiError::MetricNotFound("no metric".into()),
                r#"{"message":"no metric","reason":"NotFound","code":404}"#,
            ),
            (
                ApiError::NoValue("stale".into()),
                r#"{"message":"stale","reason":"ServiceUnavailable","code":503}"#,
            ),
            (
                ApiError::FirstReadTimeout("slow".into()),
                r#"{"message":"slow","reason":"Timeout","details":{},"code":504}"#,
            ),
            (
                ApiError::DeadlineExceeded(Duration::from_millis(1)),
                r#"{"message":"Timeout: request did not complete within the allotted timeout (1ms)","reason":"Timeout","details":{},"code":504}"#,
            ),
            (
                ApiError::PathNotFound,
                r#"{"message":"the server could not find the requested resource","reason":"NotFound","details":{},"code":404}"#,
            ),
            (
                ApiError::BadRequest("bad".into()),
                r#"{"message":"bad","reason":"BadRequest","code":400}"#,
            ),
            (
                ApiError::MethodNotAllowed,
                r#"{"message":"the server does not allow this method on the requested resource","reason":"MethodNotAllowed","details":{},"code":405}"#,
            ),
            (
                ApiError::WatchNotSupported { group: "external.metrics.k8s.io" },
                r#"{"message":"watch is not supported on resources of kind \"*.external.metrics.k8s.io\"","reason":"MethodNotAllowed","details":{"group":"external.metrics.k8s.io","kind":"*"},"code":405}"#,
            ),
            (
                ApiError::NotAcceptable { offered: "application/json" },
                r#"{"message":"only the following media types are accepted: application/json","reason":"NotAcceptable","code":406}"#,
            ),
            (
                ApiError::Unauthorized,
                r#"{"message":"Unauthorized","reason":"Unauthorized","code":401}"#,
            ),
            (
                ApiError::ForbiddenResource {
                    message: "jobs is forbidden: User \"<u>\" cannot".into(),
                    attributes: Box::new(attributes),
                },
                r#"{"message":"jobs is forbidden: User \"&lt;u&gt;\" cannot","reason":"Forbidden","details":{"group":"external.metrics.k8s.io","kind":"jobs"},"code":403}"#,
            ),
            (
                ApiError::ForbiddenPath("forbidden: User \"a&b\"".into()),
                r#"{"message":"forbidden: User \"a&amp;b\"","reason":"Forbidden","details":{},"code":403}"#,
            ),
            (
                ApiError::RequestTooLarge("too long".into()),
                r#"{"message":"too long","reason":"RequestEntityTooLarge","code":413}"#,
            ),
            (
                ApiError::Overloaded("too many".into()),
                r#"{"message":"too many","reason":"TooManyRequests","code":429}"#,
            ),
            (
                ApiError::AuthorizationUnavailable("no answer".into()),
                r#"{"message":"Internal error occurred: no answer","reason":"InternalError","details":{"causes":[{"message":"no answer"}]},"code":500}"#,
            ),
            (
                ApiError::RuleFailed("unable to fetch metrics".into()),
                r#"{"message":"Internal error occurred: unable to fetch metrics","reason":"InternalError","details":{"causes":[{"message":"unable to fetch metrics"}]},"code":500}"#,
            ),
            (ApiError::Unclassified("found 'T'".into()), r#"{"message":"found 'T'","code":500}"#),
            (
                ApiError::Internal("a defect".into()),
                r#"{"message":"Internal error occurred: a defect","reason":"InternalError","details":{"causes":[{"message":"a defect"}]},"code":500}"#,
            ),
        ]
    }

    #[tokio::test]
    async fn every_error_has_its_status_body_and_headers() {
        let common =
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#.to_owned();
        for (error, rest) in every_error() {
            let status = Status::from(&error);
            let response = status.response();
            assert_eq!(response.status().as_u16(), status.code());
            let headers = response.headers().clone();
            assert_eq!(headers[CONTENT_TYPE], "application/json", "{error:?}");
            assert_eq!(headers[CACHE_CONTROL], "no-cache, private");
            assert!(!headers.contains_key(RETRY_AFTER), "{error:?}");
            assert_eq!(headers.contains_key(X_CONTENT_TYPE_OPTIONS), status.code() == 403);
            assert_eq!(headers.contains_key(ALLOW), status.code() == 405);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert_eq!(body, format!("{common}{}\n", &rest[1..]), "{error:?}");
        }
    }

    #[tokio::test]
    async fn hints_are_told_to_whom_they_may_be_told() {
        let hint = |name: &str| Hint {
            name: name.into(),
            attributes: Attributes::NonResource { path: name.into(), verb: "get".into() },
        };
        let error = ApiError::MetricUnknown("no a<b>".into());
        for (allowed, message) in [
            (0..0, "no a<b>"),
            (0..1, "no a<b>; did you mean \"x\"?"),
            (1..3, "no a<b>; did you mean \"y\" or \"z\"?"),
            (0..3, "no a<b>; did you mean \"x\", \"y\" or \"z\"?"),
        ] {
            let hints = vec![hint("x"), hint("y"), hint("z")];
            let mut response = Hinted::response(&error, hints);
            let hinted = Hinted::of(&mut response).unwrap();
            assert!(Hinted::of(&mut response).is_none(), "they are taken");
            let silent = response.into_body().collect().await.unwrap().to_bytes();
            assert!(String::from_utf8_lossy(&silent).contains("\"message\":\"no a<b>\""));
            let body = hinted.telling(|at| allowed.contains(&at)).into_body();
            let body: serde_json::Value =
                serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
            assert_eq!(body["message"], message);
        }
        assert!(Hinted::of(&mut Hinted::response(&error, Vec::new())).is_none());
    }

    #[tokio::test]
    async fn an_answer_to_head_has_headers_alone() {
        let response = without_body(page_not_found());
        assert_eq!(response.headers()[CONTENT_LENGTH], "19");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }

    #[test]
    fn health_is_two_hundred_or_five_hundred() {
        assert_eq!(of_health(true).as_u16(), 200);
        assert_eq!(of_health(false).as_u16(), 500);
    }
}
