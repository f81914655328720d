//! Response bodies: JSON and text answers, compression, and documents that are made once.

use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::Full;
use sha2::{Digest, Sha512};

use crate::api::accept::{accepts_gzip, is_for_people};
use crate::api::json::indented;
use crate::api::params::{is_true, pairs};
use crate::model::ApiError;
use crate::status;

/// The media type of YAML answers (RFC 9512).
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");

/// Lists are compressed above this size, as in Go's generic API server.
pub(super) const GZIP_LIST_BYTES: usize = 128 * 1024;
/// Documents are compressed above this size: what fits one packet gains nothing.
const GZIP_DOCUMENT_BYTES: usize = 1400;

/// An answer with a body of our own choosing and the headers that every answer has.
pub(super) fn answer(content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status::OK;
    let headers = response.headers_mut();
    headers.reserve(4);
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, status::NO_CACHE);
    response
}

/// A text answer.
pub(super) fn text(passed: bool, body: String) -> Response<Full<Bytes>> {
    let mut response = answer(status::PLAIN, body);
    *response.status_mut() = status::of_health(passed);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, status::NOSNIFF);
    response
}

/// Whether JSON is indented: the `pretty` parameter decides, then the program that asks.
pub(super) fn is_pretty(asked: Option<bool>, headers: &HeaderMap) -> bool {
    asked.unwrap_or_else(|| is_for_people(headers))
}

/// The same, with the parameter still in the query.
pub(super) fn wants_pretty(parts: &Parts) -> bool {
    let asked = parts.uri.query().and_then(|query| {
        let value = pairs(query).find(|(key, _)| key == "pretty")?.1;
        (!value.is_empty()).then(|| is_true(&value))
    });
    is_pretty(asked, &parts.headers)
}

/// Compresses. Level 1, as Go's server does: these bodies are made per request.
pub(super) fn gzip(body: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), level);
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to a Vec cannot fail")
}

/// A JSON answer made for this request.
pub(super) fn json(compact: Bytes, pretty: bool, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let body = if pretty { Bytes::from(indented(&compact)) } else { compact };
    list(status::JSON, &body, headers, |plain| gzip(plain, Compression::fast()).into())
}

/// The same list as YAML: for people, and not fast. Keys are sorted, as Go's server sorts them.
pub(super) fn yaml(compact: &[u8], headers: &HeaderMap) -> Result<Response<Full<Bytes>>, ApiError> {
    let text = serde_json::from_slice::<serde_json::Value>(compact)
        .map_err(|e| e.to_string())
        .and_then(|value| serde_saphyr::to_string(&value).map_err(|e| e.to_string()))
        .map_err(|e| {
            tracing::error!(error = e, "a list cannot be written as YAML");
            ApiError::Internal("the list cannot be written as YAML; the log says why".to_owned())
        })?;
    let body = Bytes::from(text);
    Ok(list(YAML, &body, headers, |plain| gzip(plain, Compression::fast()).into()))
}

/// A list, compressed if it is large and the client can read that.
pub(super) fn list(
    content_type: HeaderValue,
    plain: &Bytes,
    headers: &HeaderMap,
    zip: impl FnOnce(&[u8]) -> Bytes,
) -> Response<Full<Bytes>> {
    if plain.len() <= GZIP_LIST_BYTES {
        return answer(content_type, plain.clone());
    }
    let mut response = if accepts_gzip(headers) {
        let mut response = answer(content_type, zip(plain));
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        answer(content_type, plain.clone())
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// A JSON document that does not change while the process runs.
#[derive(Debug)]
pub(super) struct Document {
    content_type: HeaderValue,
    cache_control: HeaderValue,
    plain: Bytes,
    zipped: Option<Bytes>,
    hash: String,
    etag: HeaderValue,
}

impl Document {
    /// Makes a document.
    pub(super) fn new(
        content_type: &'static str,
        cache_control: &'static str,
        value: &serde_json::Value,
    ) -> Self {
        let mut body = serde_json::to_vec(value).expect("a JSON value can be written");
        body.push(b'\n');
        let digest = Sha512::digest(&body);
        let mut hash = String::new();
        // Half the digest tells versions of one document apart.
        for byte in &digest[..32] {
            let _ = write!(hash, "{byte:02X}");
        }
        let zipped = (body.len() > GZIP_DOCUMENT_BYTES)
            .then(|| Bytes::from(gzip(&body, Compression::best())));
        let etag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("hex digits in quotes");
        Self {
            content_type: HeaderValue::from_static(content_type),
            cache_control: HeaderValue::from_static(cache_control),
            plain: Bytes::from(body),
            zipped,
            hash,
            etag,
        }
    }

    /// The hash in its `ETag`, without quotes.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// The document without indentation, for answers that need no validators.
    pub(super) fn bytes(&self) -> Bytes {
        self.plain.clone()
    }

    /// Answers it: 304 when the client has it already, compressed when that helps.
    pub(super) fn respond(&self, parts: &Parts, pretty: bool) -> Response<Full<Bytes>> {
        let known = parts
            .headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || self.etag == tag);
        let zipped = self.zipped.as_ref().filter(|_| !pretty && accepts_gzip(&parts.headers));
        let mut response = match zipped {
            _ if known => answer(self.content_type.clone(), Bytes::new()),
            Some(zipped) => answer(self.content_type.clone(), zipped.clone()),
            None if pretty => answer(self.content_type.clone(), indented(&self.plain)),
            None => answer(self.content_type.clone(), self.plain.clone()),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, self.cache_control.clone());
        headers.insert(ETAG, self.etag.clone());
        let vary = if self.zipped.is_some() { "Accept, Accept-Encoding" } else { "Accept" };
        headers.insert(VARY, HeaderValue::from_static(vary));
        if known {
            headers.remove(CONTENT_TYPE);
            *response.status_mut() = status::NOT_MODIFIED;
        } else if zipped.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}
