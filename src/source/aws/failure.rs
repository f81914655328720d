//! What the SDK's errors mean to the caller: one classification for all services.
//!
//! # Invariants
//!
//! * Whatever a service says passes [`said`] before any use: services quote requests, and what we
//!   sent in secret is in there.

use std::error::Error;
use std::fmt::Display;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use http_body_util::LengthLimitError;

use crate::model::{Cause, FetchError, root_cause};
use crate::source::aws::identity::{Identity, Unobtainable, Who};
use crate::source::secrets::Secrets;

/// What was called, on what and by whom, for messages.
#[derive(Clone, Copy)]
pub(in crate::source) struct Operation<'a> {
    /// The IAM action that it needs: `sqs:GetQueueAttributes`.
    pub action: &'static str,
    /// On what, in words: `SQS queue "jobs" in eu-west-1`.
    pub object: &'a dyn Display,
    /// Who calls; none without credentials: a token says then who the source is.
    pub identity: Option<&'a Arc<Identity>>,
    /// What was sent in secret besides the credentials.
    pub secret: Option<&'a str>,
    /// Host and port of the endpoint, where the operator names one.
    pub endpoint: Option<&'a str>,
    /// What a person can do when the action is denied; [`POLICY`] if nothing better is known.
    pub hint: &'a str,
}

/// What to do about a denied action.
pub(in crate::source) const POLICY: &str = "allow it in its policy";

/// Characters of an error's full text that the log shows.
const MAX_DETAIL_CHARS: usize = 1000;

/// What AWS' quotations of a request begin with, in small letters. They are made of punctuation
/// where a metric, a queue or an id could have such a name.
const QUOTES: [&str; 14] = [
    "authorization header",
    "authorization=",
    "authorization: ",
    "\"authorization\":",
    "aws4-hmac",
    "aws4_request",
    "canonical request",
    "credential=",
    "security-token:",
    "signature=",
    "signedheaders",
    "string-to-sign",
    "the canonical string",
    "x-amz-",
];

/// The shortest secret that is looked for.
const MIN_SECRET: usize = 6;

/// Stands for the rest of a text that quotes the request.
const QUOTATION: &str = "[the rest quotes the request]";

/// What the tokens of service accounts begin with: a JSON object, in base64.
const JWT: &str = "eyJ";

/// Services spell these in several ways; the suffix `Exception` is cut before.
const DENIED: [&str; 4] =
    ["AccessDenied", "AuthorizationError", "NotAuthorized", "UnauthorizedOperation"];

/// The credentials themselves are wrong or too old.
const CREDENTIALS: [&str; 13] = [
    "ExpiredToken",
    "IDPRejectedClaim",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidIdentityToken",
    "InvalidSecurity",
    "InvalidSignature",
    "MissingAuthenticationToken",
    "OptInRequired",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClient",
];

/// Of those, what newer credentials mend.
const RENEWED: [&str; 4] =
    ["ExpiredToken", "InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClient"];

/// What services say about a signature that was made at another time of theirs.
const OTHER_TIME: [&str; 2] = ["Signature expired", "Signature not yet current"];

/// Too many calls.
const THROTTLED: [&str; 8] = [
    "LimitExceeded",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttled",
    "Throttling",
    "TooManyRequests",
];

impl Operation<'_> {
    /// Classifies an error. Errors that only one service has are looked at by its module before.
    pub(in crate::source) fn failed<E>(&self, error: &SdkError<E, HttpResponse>) -> FetchError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        if let Some(Unobtainable(error)) = find(error) {
            return error.clone();
        }
        let object = self.object;
        let secrets = self.secrets();
        let detail = detail(error, &secrets);
        let cause = |text: &str| Cause::new(format!("{object}: {text}")).with_detail(&detail);
        let root_cause = || said(&root_cause(error), &secrets);
        let at = self.endpoint.map(|endpoint| format!(" ({endpoint})")).unwrap_or_default();
        if find::<LengthLimitError>(error).is_some() {
            return FetchError::Malformed(cause("the answer is too large"));
        }
        match error {
            SdkError::TimeoutError(_) => {
                FetchError::Timeout(cause(&format!("no answer in time{at}")))
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                FetchError::Timeout(cause(&format!("no answer in time{at}")))
            }
            SdkError::DispatchFailure(_) => FetchError::Unavailable(cause(&format!(
                "the endpoint cannot be reached{at}: {}",
                root_cause()
            ))),
            SdkError::ResponseError(response) => {
                unreadable(response.raw().status().as_u16(), &root_cause(), cause)
            }
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                match self.words(service.err()) {
                    (Some(code), message) => self.refused(&code, &message, status, cause),
                    (None, _) => unreadable(status, &root_cause(), cause),
                }
            }
            _ => FetchError::Unavailable(cause(&format!(
                "the call could not be made: {}",
                root_cause()
            ))),
        }
    }

    /// The code and the sentence of a service, fit for anybody's eyes and complete.
    pub(in crate::source) fn words(
        &self,
        service: &impl ProvideErrorMetadata,
    ) -> (Option<String>, String) {
        let secrets = self.secrets();
        let message = service.message().unwrap_or("no message");
        (service.code().map(|code| said(code, &secrets)), said(message, &secrets))
    }

    fn who(&self) -> &Who {
        self.identity.map_or(&Who::Own, |identity| identity.who())
    }

    /// All that is sent in secret.
    fn secrets(&self) -> Secrets {
        let mut secrets = self.identity.map(|identity| identity.secrets()).unwrap_or_default();
        if let Some(secret) = self.secret {
            add(&mut secrets, secret);
        }
        secrets
    }

    fn refused(
        &self,
        code: &str,
        message: &str,
        status: u16,
        cause: impl Fn(&str) -> Cause,
    ) -> FetchError {
        // Query-mode codes have a namespace in front: AWS.SimpleQueueService.NonExistentQueue.
        let bare = code.rsplit(['.', '#']).next().unwrap_or(code);
        let bare = bare.strip_suffix("Exception").unwrap_or(bare);
        if DENIED.contains(&bare) {
            // The service's message names our session; that is for the operator's log.
            let (identity, Self { action, hint, .. }) = (self.who(), self);
            FetchError::Denied(cause(&format!(
                "access denied: {identity} needs {action}; {hint} ({code})"
            )))
        } else if CREDENTIALS.contains(&bare) {
            let renewing = RENEWED.contains(&bare) && self.identity.is_some_and(Identity::refused);
            FetchError::Denied(cause(&format!(
                "AWS did not accept the credentials of {}{} ({code})",
                self.who(),
                credentials_hint(bare, message, renewing)
            )))
        } else if THROTTLED.contains(&bare) || status == 429 {
            FetchError::Throttled(cause(&format!("AWS asks for fewer calls ({code})")))
        } else if status == 401 || status == 403 {
            FetchError::Denied(cause(&format!("HTTP {status}, {code}")))
        } else if status >= 500 {
            FetchError::Unavailable(cause(&format!("HTTP {status}, {code}: {message}")))
        } else {
            FetchError::Invalid(cause(&format!("HTTP {status}, {code}: {message}")))
        }
    }
}

/// Whether a request, or the answer to it, was larger than the other side takes.
pub(in crate::source) fn is_too_large<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    status == Some(413) || find::<LengthLimitError>(error).is_some()
}

/// What is wrong with credentials, as far as the code tells.
fn credentials_hint(bare: &str, message: &str, renewing: bool) -> &'static str {
    // Signature Version 4 says so under the same codes as about a wrong key.
    if OTHER_TIME.iter().any(|said| message.starts_with(said)) {
        return ": its clock and this machine's differ by more than five minutes";
    }
    match bare {
        "ExpiredToken" if renewing => ": they have expired; new ones are being fetched",
        "ExpiredToken" | "RequestExpired" => ": they have expired; is this machine's clock right?",
        "InvalidAccessKeyId" | "InvalidClientTokenId" | "UnrecognizedClient" => {
            ": the access key is unknown there, or the region is not enabled for its account"
        }
        "IncompleteSignature" | "InvalidSignature" | "SignatureDoesNotMatch" => {
            ": the secret key is wrong, or a proxy on the way changed the request"
        }
        _ => "",
    }
}

/// The default chain gave no credentials.
pub(in crate::source::aws) fn no_credentials(error: &CredentialsError) -> FetchError {
    if let Some(Unobtainable(error)) = find(error) {
        return error.clone();
    }
    if let Some(error) = find::<SdkError<AssumeRoleWithWebIdentityError, HttpResponse>>(error) {
        return web_identity_refused(error, None, None);
    }
    let shown = || start(&said(&chain_text(error), &Secrets::default()));
    let cause = |text: &str| Cause::new(text).with_detail(shown());
    match error {
        CredentialsError::CredentialsNotLoaded(_) => FetchError::Denied(cause(
            "the source has no AWS credentials (environment, profile, web identity, container and instance metadata were tried)",
        )),
        CredentialsError::ProviderTimedOut(_) => FetchError::Timeout(cause(
            "the AWS SDK's default chain gave the source no credentials in time",
        )),
        CredentialsError::InvalidConfiguration(_) => FetchError::Denied(cause(
            "the set-up of the source's AWS credentials is wrong; the log has the cause",
        )),
        _ => FetchError::Denied(cause(
            "the source's AWS credentials could not be obtained; the log has the cause",
        )),
    }
}

/// STS did not take the token of a web identity.
pub(in crate::source::aws) fn web_identity_refused(
    error: &SdkError<AssumeRoleWithWebIdentityError, HttpResponse>,
    token: Option<&str>,
    endpoint: Option<&str>,
) -> FetchError {
    let object = &"the role of the web identity (AWS_ROLE_ARN) cannot be assumed";
    let hint = "allow the pod's service account in the role's trust policy";
    let action = "sts:AssumeRoleWithWebIdentity";
    Operation { action, object, identity: None, secret: token, endpoint, hint }.failed(error)
}

/// An answer without an error code that we could read: something else than AWS answered, or
/// the body is broken.
fn unreadable(status: u16, why: &str, cause: impl Fn(&str) -> Cause) -> FetchError {
    match status {
        401 | 403 | 407 => FetchError::Denied(cause(&format!("HTTP {status}"))),
        408 | 504 => FetchError::Timeout(cause(&format!("HTTP {status}"))),
        429 => FetchError::Throttled(cause("HTTP 429")),
        500.. => FetchError::Unavailable(cause(&format!("HTTP {status}"))),
        _ => FetchError::Malformed(cause(&format!(
            "HTTP {status} with an answer that is not AWS's: {why}"
        ))),
    }
}

/// The full text for the log: all causes, and what the service said. Not the SDK's own dump, which
/// has the answer's head and body in it.
fn detail<E>(error: &SdkError<E, HttpResponse>, secrets: &Secrets) -> String
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let mut text = said(&chain_text(error), secrets);
    let service = error.as_service_error();
    if let Some(message) = service.and_then(ProvideErrorMetadata::message) {
        text.push_str("; the service said: ");
        text.push_str(&said(message, secrets));
    }
    start(&text)
}

fn start(text: &str) -> String {
    text.chars().take(MAX_DETAIL_CHARS).collect()
}

/// An error and all its causes.
fn chain_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// A text of AWS' making, fit for anybody's eyes: without what was sent in secret, and without
/// quotations of the request, which about a wrong signature are complete.
pub(in crate::source) fn said(text: &str, secrets: &Secrets) -> String {
    let text = secrets.blot(text);
    let lower = text.to_ascii_lowercase();
    let quote = QUOTES.iter().filter_map(|word| lower.find(word)).min();
    let (text, rest) = match quote {
        Some(at) => (&text[..at], QUOTATION),
        None => (&*text, ""),
    };
    format!("{}{rest}", without_tokens(text))
}

/// A text without tokens of service accounts, whosever they are.
fn without_tokens(mut text: &str) -> String {
    let mut out = String::new();
    while let Some(at) = text.find(JWT) {
        let in_token = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
        let token = &text[at..];
        let token = &token[..token.find(|c| !in_token(c)).unwrap_or(token.len())];
        // Head, content and signature.
        let shown = if token.matches('.').count() < 2 { token } else { "[secret]" };
        out.extend([&text[..at], shown]);
        text = &text[at + token.len()..];
    }
    out.push_str(text);
    out
}

/// Adds a secret that is long enough to be told from the words of a sentence. Keys, tokens and
/// signatures are; an external id may have two characters, which keep no secret.
pub(in crate::source::aws) fn add(secrets: &mut Secrets, text: &str) {
    if text.len() >= MIN_SECRET {
        secrets.add(text);
    }
}

/// A cause of some type anywhere below an error.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
