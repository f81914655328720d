//! `OpenAPI` documents.
//!
//! Version 2 is valid and empty: the aggregator merges definitions of that document into the
//! cluster's own and renames what clashes. Version 3 describes each group-version, so that
//! `kubectl explain` has something to say. Everything is made once.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, EXPIRES};
use http::request::Parts;
use http::{HeaderValue, Response};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::api::body::Document;
use crate::api::group::GroupVersion;
use crate::api::params::pairs;

/// How long a client may keep a document that it asked for by its hash.
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// The documents.
#[derive(Debug)]
pub(super) struct OpenApi {
    /// `/openapi/v2`.
    pub(super) v2: Document,
    /// `/openapi/v3`.
    pub(super) v3: Document,
    /// `/openapi/v3/apis/<group>/<version>`.
    documents: Vec<(&'static str, Document)>,
}

fn info() -> Value {
    json!({"title": "Tidepole", "version": concat!("v", env!("CARGO_PKG_VERSION"))})
}

impl OpenApi {
    /// Makes the documents of the group-versions.
    pub(super) fn new(served: &[&'static GroupVersion]) -> Self {
        let fixed = |value| Document::new("application/json", "no-cache, private", &value);
        let documents: Vec<(&'static str, Document)> = served
            .iter()
            .map(|gv| {
                let parts = (gv.openapi)(gv);
                let document = fixed(json!({
                    "openapi": "3.0.0",
                    "info": info(),
                    "paths": parts.paths,
                    "components": {"schemas": parts.schemas},
                }));
                (gv.name, document)
            })
            .collect();
        let paths: Map<String, Value> = documents
            .iter()
            .map(|(name, document)| {
                let url = format!("/openapi/v3/apis/{name}?hash={}", document.hash());
                (format!("apis/{name}"), json!({"serverRelativeURL": url}))
            })
            .collect();
        Self {
            v2: fixed(json!({"swagger": "2.0", "info": info(), "paths": {}})),
            v3: fixed(json!({"paths": paths})),
            documents,
        }
    }

    /// The document of a group-version. Asked for by its current hash it may be kept for a year; by
    /// an old hash the current document is answered, because a redirect (as Go's servers answer)
    /// would become a 502 in the aggregator.
    pub(super) fn document(
        &self,
        gv: &GroupVersion,
        parts: &Parts,
        pretty: bool,
        now: Timestamp,
    ) -> Response<Full<Bytes>> {
        let document = self
            .documents
            .iter()
            .find_map(|(name, document)| (*name == gv.name).then_some(document))
            .expect("a route only names a group-version that is served");
        let mut response = document.respond(parts, pretty);
        let by_hash = parts.uri.query().is_some_and(|query| {
            pairs(query).find(|(key, _)| key == "hash").is_some_and(|(_, v)| v == document.hash())
        });
        if by_hash {
            let headers = response.headers_mut();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
            if let Some(expires) = http_date(now, YEAR) {
                headers.insert(EXPIRES, expires);
            }
        }
        response
    }
}

/// A date for a header; `None` outside the years that the format can hold.
fn http_date(now: Timestamp, later: SignedDuration) -> Option<HeaderValue> {
    let at = now.checked_add(later).ok()?;
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    HeaderValue::from_str(&printer.timestamp_to_rfc9110_string(&at).ok()?).ok()
}
