//! What the SDK's errors mean to the caller: one classification for all services.

use std::error::Error;
use std::fmt::Display;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use http_body_util::LengthLimitError;

use crate::model::{Cause, FetchError};
use crate::source::aws::identity::{Unobtainable, Who};

/// What was called, on what and by whom, for messages.
#[derive(Clone, Copy)]
pub(in crate::source) struct Operation<'a> {
    /// The IAM action that it needs: `sqs:GetQueueAttributes`.
    pub action: &'static str,
    /// On what, in words: `SQS queue "jobs" in eu-west-1`.
    pub object: &'a dyn Display,
    /// Who calls.
    pub identity: &'a Who,
    /// What a person can do when the action is denied; [`POLICY`] if nothing better is known.
    pub hint: &'a str,
}

/// What to do about a denied action.
pub(in crate::source) const POLICY: &str = "allow it in its policy";

/// Characters of an error's full text that the log shows.
const MAX_DETAIL_CHARS: usize = 1000;

/// What AWS' quotations of a request begin with, in small letters.
const QUOTES: [&str; 4] =
    ["the canonical string", "x-amz-security-token", "authorization=", "authorization header"];

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
        let object = self.object;
        let detail = detail(error);
        let cause = |text: &str| Cause::new(format!("{object}: {text}")).with_detail(&detail);
        if let Some(Unobtainable(error)) = find(error) {
            return error.clone();
        }
        if find::<LengthLimitError>(error).is_some() {
            return FetchError::Malformed(cause("the answer is too large"));
        }
        match error {
            SdkError::TimeoutError(_) => FetchError::Timeout(cause("no answer in time")),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                FetchError::Timeout(cause("no answer in time"))
            }
            SdkError::DispatchFailure(_) => FetchError::Unavailable(cause(&format!(
                "the endpoint cannot be reached: {}",
                root_cause(error)
            ))),
            SdkError::ResponseError(response) => {
                unreadable(response.raw().status().as_u16(), &root_cause(error), cause)
            }
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                match service.err().code() {
                    Some(code) => self.refused(code, service.err().message(), status, cause),
                    None => unreadable(status, &root_cause(error), cause),
                }
            }
            _ => FetchError::Unavailable(cause(&format!(
                "the call could not be made: {}",
                root_cause(error)
            ))),
        }
    }

    fn refused(
        &self,
        code: &str,
        message: Option<&str>,
        status: u16,
        cause: impl Fn(&str) -> Cause,
    ) -> FetchError {
        // Query-mode codes have a namespace in front: AWS.SimpleQueueService.NonExistentQueue.
        let bare = code.rsplit(['.', '#']).next().unwrap_or(code);
        let bare = bare.strip_suffix("Exception").unwrap_or(bare);
        let said = message.unwrap_or("no message");
        if DENIED.contains(&bare) {
            // The service's message names our session; that is for the operator's log.
            let Self { identity, action, hint, .. } = self;
            FetchError::Denied(cause(&format!(
                "access denied: {identity} needs {action}; {hint} ({code})"
            )))
        } else if CREDENTIALS.contains(&bare) {
            FetchError::Denied(cause(&format!(
                "AWS did not accept the credentials of {}{} ({code})",
                self.identity,
                credentials_hint(bare)
            )))
        } else if THROTTLED.contains(&bare) || status == 429 {
            FetchError::Throttled(cause(&format!("AWS asks for fewer calls ({code})")))
        } else if status == 401 || status == 403 {
            FetchError::Denied(cause(&format!("HTTP {status}, {code}")))
        } else if status >= 500 {
            FetchError::Unavailable(cause(&format!("HTTP {status}, {code}: {said}")))
        } else {
            FetchError::Invalid(cause(&format!("HTTP {status}, {code}: {said}")))
        }
    }
}

/// What is wrong with credentials, as far as the code tells.
fn credentials_hint(bare: &str) -> &'static str {
    match bare {
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
    if let Some(error) = find::<SdkError<AssumeRoleWithWebIdentityError, HttpResponse>>(error) {
        let object = &"the role of the web identity (AWS_ROLE_ARN) cannot be assumed";
        let hint = "allow the pod's service account in the role's trust policy";
        let action = "sts:AssumeRoleWithWebIdentity";
        return Operation { action, object, identity: &Who::Own, hint }.failed(error);
    }
    let cause = |text: &str| Cause::new(text).with_detail(chain_text(error));
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
fn detail<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let mut text = chain_text(error);
    let service = error.as_service_error();
    if let Some(message) = service.and_then(ProvideErrorMetadata::message) {
        text.push_str("; the service said: ");
        text.push_str(message);
    }
    unquoted(&text)
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
    unquoted(&text)
}

/// The start of a text, up to where AWS quotes the request: about a wrong signature it does, and
/// the session token is in there.
fn unquoted(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let quote = QUOTES.iter().filter_map(|word| lower.find(word)).min();
    text[..quote.unwrap_or(text.len())].chars().take(MAX_DETAIL_CHARS).collect()
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

/// The text of the last cause.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
