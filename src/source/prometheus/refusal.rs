//! Answers that are not samples, and what they mean to the caller.

use crate::model::{Cause, FetchError};
use crate::source::prometheus::decode::Head;

/// Characters of an answer that the log shows.
const MAX_EXCERPT_CHARS: usize = 300;

/// What the status alone decides, whatever the body says: gateways in front of the API answer
/// these in forms of their own.
pub(super) fn by_status(head: &Head, body: &[u8]) -> Option<FetchError> {
    let status = head.status;
    let cause =
        |text: &str| Cause::new(format!("HTTP {status}: {text}")).with_detail(excerpt(body));
    Some(match status {
        401 => FetchError::Denied(cause("the server did not accept the source's credentials")),
        403 => FetchError::Denied(cause("the source's credentials may not query this server")),
        407 => FetchError::Denied(cause("the proxy on the way wants credentials")),
        429 => FetchError::Throttled(cause("too many requests")),
        300..=399 => FetchError::Unavailable(match &head.redirect {
            Some(to) => cause(&format!(
                "the server redirects to {to}; redirects are not followed, set the source's url to what answers"
            )),
            None => cause("a redirect to nowhere"),
        }),
        _ => return None,
    })
}

/// An error in the API's own form: `errorType` and `error`.
pub(super) fn api_error(head: &Head, kind: &str, message: &str, body: &[u8]) -> FetchError {
    let cause =
        Cause::new(format!("{kind}: {message} (HTTP {})", head.status)).with_detail(excerpt(body));
    match (kind, head.status) {
        ("bad_data" | "execution" | "not_acceptable", _) => FetchError::Invalid(cause),
        ("timeout", _) => FetchError::Timeout(cause),
        ("too_many_requests", _) => FetchError::Throttled(cause),
        ("internal" | "unavailable" | "canceled" | "not_found", _) | (_, 500..) => {
            FetchError::Unavailable(cause)
        }
        // A type we do not know: the status says whose fault it is.
        (_, 408) => FetchError::Timeout(cause),
        (_, 400..=499) => FetchError::Invalid(cause),
        _ => FetchError::Malformed(cause),
    }
}

/// An answer that is not the API's JSON: something else on the way answered.
pub(super) fn not_json(head: &Head, body: &[u8]) -> FetchError {
    let status = head.status;
    let form = match head.content_type.as_str() {
        _ if body.is_empty() => "an empty answer".to_owned(),
        "" => "an answer without a content type".to_owned(),
        "application/json" => "broken JSON".to_owned(),
        other => format!("an answer of type {other}"),
    };
    let cause = |hint: &str| {
        Cause::new(format!("HTTP {status}: {form} instead of the query API's JSON{hint}"))
            .with_detail(excerpt(body))
    };
    match status {
        200..=299 => FetchError::Malformed(cause(match head.content_type.as_str() {
            "text/html" => " (a login page?)",
            _ => "",
        })),
        408 | 504 => FetchError::Timeout(cause("")),
        404 => FetchError::Unavailable(cause("; is the source's url right?")),
        405 => FetchError::Unavailable(cause("; does the server take the source's method?")),
        413 | 414 | 431 => {
            FetchError::Invalid(cause("; the query may be too long for GET, use method: POST"))
        }
        _ => FetchError::Unavailable(cause("")),
    }
}

/// An answer that claims success and is not what the format says.
pub(super) fn malformed(head: &Head, cause: &str, body: &[u8]) -> FetchError {
    FetchError::Malformed(
        Cause::new(format!("HTTP {}: the answer cannot be understood: {cause}", head.status))
            .with_detail(excerpt(body)),
    )
}

/// The query cannot give a sample, ever.
pub(super) fn invalid(text: &str) -> FetchError {
    FetchError::Invalid(Cause::new(text))
}

/// The query gave nothing this time.
pub(super) fn no_data(text: &str) -> FetchError {
    FetchError::NoData(Cause::new(text))
}

/// The start of an answer, for the log and for explanations.
pub(super) fn excerpt(body: &[u8]) -> String {
    // Four bytes at most make a character.
    let start = &body[..body.len().min(4 * MAX_EXCERPT_CHARS)];
    let text: String = String::from_utf8_lossy(start)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_EXCERPT_CHARS)
        .collect();
    format!("the answer starts with: {text}")
}
