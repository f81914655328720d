//! What AWS says when it refuses a signed query.
//!
//! The body is JSON with a `message` (or `Message`), without a code that all services have in
//! common; what kind of refusal it is, is in the words. They have been the same for all services
//! for many years, and what is not recognized keeps both explanations.

use serde::Deserialize;

use crate::model::{Cause, FetchError};
use crate::source::aws::failure::POLICY;
use crate::source::aws::identity::Who;
use crate::source::prometheus::decode::Head;
use crate::source::prometheus::refusal::excerpt;
use crate::source::prometheus::sigv4::SigV4Service;

#[derive(Deserialize)]
struct Body {
    #[serde(alias = "Message")]
    message: Option<String>,
    #[serde(rename = "__type")]
    kind: Option<String>,
}

/// What a refusal means; none when the answer is none. `renew` is called when newer credentials may
/// mend it, and gives whether there will be some.
pub(super) fn refused(
    head: &Head,
    body: &[u8],
    identity: &Who,
    service: SigV4Service,
    renew: impl FnOnce() -> bool,
) -> Option<FetchError> {
    let status = head.status;
    if !matches!(status, 400 | 401 | 403 | 429) {
        return None;
    }
    let said: Option<Body> = serde_json::from_slice(body).ok();
    let said = said.map(|body| (body.kind.unwrap_or_default(), body.message.unwrap_or_default()));
    let (kind, message) = said.unwrap_or_default();
    let text = format!("{kind} {message}").to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let cause =
        |text: String| Cause::new(format!("{text} (HTTP {status})")).with_detail(excerpt(body));
    if status == 429 || has(&["throttl", "rate exceeded", "too many requests"]) {
        return Some(FetchError::Throttled(cause("AWS asks for fewer queries".to_owned())));
    }
    let actions = service.actions();
    let rejected = |why: &str| format!("AWS did not accept the credentials of {identity}: {why}");
    let denied = if has(&["not authorized", "accessdenied"]) {
        format!("access denied: {identity} needs {actions}; {POLICY}")
    } else if has(&["signature expired", "not yet current", "requestexpired"]) {
        rejected("the signature's time is wrong; is this machine's clock right?")
    } else if has(&["token included in the request is expired", "expiredtoken"]) {
        rejected(if renew() {
            "they have expired; new ones are being fetched"
        } else {
            "they have expired; is this machine's clock right?"
        })
    } else if has(&["scoped to"]) {
        rejected("sigV4.region and sigV4.service are not those of the url")
    } else if has(&["signature we calculated does not match", "signaturedoesnotmatch"]) {
        rejected("the secret key is wrong, or a proxy on the way changed the request")
    } else if has(&["token included in the request is invalid", "unrecognizedclient"]) {
        renew();
        rejected("the access key is unknown there, or the region is not enabled for its account")
    } else if status == 400 {
        // An error in Prometheus' own form, most likely.
        return None;
    } else {
        format!(
            "AWS refused the query: {identity} needs {actions}, or its credentials are not accepted there"
        )
    };
    Some(FetchError::Denied(cause(denied)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::prometheus::kept::Times;

    fn said(status: u16, body: &str) -> String {
        let head = Head {
            status,
            content_type: "application/json".to_owned(),
            redirect: None,
            times: Times::default(),
        };
        let role = Who::Role("arn:aws:iam::111122223333:role/r".into());
        match refused(&head, body.as_bytes(), &role, SigV4Service::Aps, || false) {
            None => "none".to_owned(),
            Some(error) => format!("{}: {error}", error.kind()),
        }
    }

    #[test]
    fn refusals_say_who_lacks_what() {
        let who = "role arn:aws:iam::111122223333:role/r";
        let rejected = format!("denied: AWS did not accept the credentials of {who}: ");
        for (status, body, expected) in [
            (
                403,
                r#"{"message":"User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: aps:QueryMetrics on resource: x"}"#,
                format!(
                    "denied: access denied: {who} needs aps:QueryMetrics; allow it in its policy (HTTP 403)"
                ),
            ),
            (
                400,
                r#"{"__type":"AccessDeniedException","Message":"no"}"#,
                format!(
                    "denied: access denied: {who} needs aps:QueryMetrics; allow it in its policy (HTTP 400)"
                ),
            ),
            (
                403,
                r#"{"message":"The security token included in the request is expired"}"#,
                format!("{rejected}they have expired; is this machine's clock right? (HTTP 403)"),
            ),
            (
                403,
                r#"{"message":"Signature expired: 20261121T120000Z is now earlier than 20261121T130000Z"}"#,
                format!(
                    "{rejected}the signature's time is wrong; is this machine's clock right? (HTTP 403)"
                ),
            ),
            (
                403,
                r#"{"message":"Credential should be scoped to a valid region."}"#,
                format!(
                    "{rejected}sigV4.region and sigV4.service are not those of the url (HTTP 403)"
                ),
            ),
            (
                403,
                "<html>",
                format!(
                    "denied: AWS refused the query: {who} needs aps:QueryMetrics, or its credentials are not accepted there (HTTP 403)"
                ),
            ),
            (
                429,
                r#"{"message":"Rate exceeded"}"#,
                "throttled: AWS asks for fewer queries (HTTP 429)".to_owned(),
            ),
            (
                400,
                r#"{"__type":"ThrottlingException"}"#,
                "throttled: AWS asks for fewer queries (HTTP 400)".to_owned(),
            ),
            (400, r#"{"status":"error","errorType":"bad_data","error":"x"}"#, "none".to_owned()),
            (500, r#"{"message":"oops"}"#, "none".to_owned()),
        ] {
            assert_eq!(said(status, body), expected, "{body}");
        }
    }
}
