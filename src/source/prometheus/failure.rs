//! Failures of the HTTP exchange, and what they mean to the caller.
//!
//! A client error prints the URL that it was for, and so the whole query; only the causes below it
//! are shown here, with host and port.

use std::error::Error;
use std::io;

use crate::model::{Cause, FetchError};
use crate::source::prometheus::credentials::Headers;
use crate::source::prometheus::decode::Head;
use crate::source::settings::address;

/// What decompression says about bytes that are not compressed ones. A connection gives others.
const UNDECODABLE: [io::ErrorKind; 2] = [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput];

/// A request that got no answer.
pub(super) fn not_sent(error: &prometheus_http_query::Error) -> FetchError {
    let Some(error) = error.source().and_then(|e| e.downcast_ref::<reqwest::Error>()) else {
        return FetchError::Unavailable(Cause::new("the request could not be sent"));
    };
    no_answer(error)
}

/// The same for a request that we sent ourselves.
pub(super) fn no_answer(error: &reqwest::Error) -> FetchError {
    let causes = causes(error);
    let at = error.url().map_or_else(|| "the server".to_owned(), address);
    if error.is_timeout() {
        return FetchError::Timeout(Cause::new(format!("no connection to {at} in time")));
    }
    let what = if error.is_connect() { "cannot connect to" } else { "no answer from" };
    FetchError::Unavailable(Cause::new(format!("{what} {at}: {causes}")))
}

/// An answer whose body broke off.
pub(super) fn not_read(head: &Head, error: &reqwest::Error) -> FetchError {
    let (status, causes) = (head.status, causes(error));
    if error.is_timeout() {
        return FetchError::Timeout(Cause::new(format!(
            "the answer (HTTP {status}) did not arrive in time"
        )));
    }
    if find_io(error).is_some_and(|kind| UNDECODABLE.contains(&kind)) {
        return FetchError::Malformed(Cause::new(format!(
            "the answer (HTTP {status}) cannot be decompressed: {causes}"
        )));
    }
    FetchError::Unavailable(Cause::new(format!(
        "the answer (HTTP {status}) broke off in the middle: {causes}"
    )))
}

/// The error with every secret of the request blotted out of its texts.
pub(super) fn redact(error: &FetchError, headers: &Headers) -> FetchError {
    let clean = |cause: &Cause| {
        let clean = Cause::new(headers.redact(cause.message()));
        match cause.detail() {
            Some(detail) => clean.with_detail(headers.redact(detail)),
            None => clean,
        }
    };
    match error {
        FetchError::NoData(c) => FetchError::NoData(clean(c)),
        FetchError::Partial(c) => FetchError::Partial(clean(c)),
        FetchError::Denied(c) => FetchError::Denied(clean(c)),
        FetchError::Throttled(c) => FetchError::Throttled(clean(c)),
        FetchError::Timeout(c) => FetchError::Timeout(clean(c)),
        FetchError::Unavailable(c) => FetchError::Unavailable(clean(c)),
        FetchError::Malformed(c) => FetchError::Malformed(clean(c)),
        FetchError::Invalid(c) => FetchError::Invalid(clean(c)),
    }
}

/// The kind of the input or output error below an error.
fn find_io(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = cause.source();
    }
    None
}

/// The causes below an error, the last and most telling ones, without repetition.
fn causes(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        // A client error inside a client error would print the URL.
        if !cause.is::<reqwest::Error>() {
            let text = cause.to_string();
            // Wrappers repeat what they wrap.
            if texts.last().is_none_or(|last| !last.contains(&text)) {
                texts.push(text);
            }
        }
        next = cause.source();
    }
    if texts.is_empty() {
        return "unknown cause".to_owned();
    }
    let from = texts.len().saturating_sub(2);
    texts[from..].join(": ")
}
