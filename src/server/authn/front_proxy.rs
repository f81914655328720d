//! Identities asserted by header.
//!
//! Pure functions over headers and one [`FrontProxy`]; whether the peer may assert anything at all
//! was decided before.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::trust::FrontProxy;
use crate::model::Identity;

/// Prefix of the conventional headers. They are removed even when the cluster uses others.
const CONVENTIONAL: &str = "x-remote-";

/// Prefix of the headers that ask to act as somebody else.
const IMPERSONATE: &str = "impersonate-";

impl FrontProxy {
    /// Whether a header says something about who asks.
    pub(super) fn asserts(&self, name: &HeaderName) -> bool {
        self.group_headers.contains(name)
            || self.user_headers.contains(name)
            || self.uid_headers.contains(name)
            || self.extra_prefixes.iter().any(|p| name.as_str().starts_with(p.as_str()))
    }

    /// The asserted identity; `None` when no user name is asserted.
    ///
    /// # Errors
    /// When a value is not UTF-8: reading it approximately could make two users one.
    pub(super) fn identity(&self, headers: &HeaderMap) -> Result<Option<Identity>, String> {
        let Some(user) = first(&self.user_headers, headers)? else { return Ok(None) };
        let uid = first(&self.uid_headers, headers)?.unwrap_or_default();
        let mut groups = Vec::new();
        for name in &self.group_headers {
            for value in headers.get_all(name).iter().filter(|v| !v.is_empty()) {
                groups.push(text(name, value)?);
            }
        }
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for prefix in &self.extra_prefixes {
            for (name, value) in headers {
                if let Some(key) = name.as_str().strip_prefix(prefix.as_str()) {
                    extra.entry(unescape(key)).or_default().push(text(name, value)?);
                }
            }
        }
        Ok(Some(Identity { user, uid, groups, extra }))
    }
}

/// The first value of the first header that has a non-empty one.
fn first(names: &[HeaderName], headers: &HeaderMap) -> Result<Option<String>, String> {
    names
        .iter()
        .find_map(|name| headers.get(name).filter(|v| !v.is_empty()).map(|v| text(name, v)))
        .transpose()
}

fn text(name: &HeaderName, value: &HeaderValue) -> Result<String, String> {
    std::str::from_utf8(value.as_bytes())
        .map(str::to_owned)
        .map_err(|_| format!("header {name} is not UTF-8"))
}

/// Percent-decodes an extra key (lower case already). One that does not decode stays as it is, as
/// in Go.
fn unescape(key: &str) -> String {
    let bytes = key.as_bytes();
    let sound = bytes.iter().enumerate().filter(|(_, b)| **b == b'%').all(|(at, _)| {
        bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    });
    if !sound {
        return key.to_owned();
    }
    percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), Into::into)
}

/// What [`strip`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Stripped {
    /// Whether the request asks to act as somebody else.
    pub(in crate::server) impersonation: bool,
}

/// Removes credentials and everything that looks like an asserted identity, so that nothing behind
/// authentication can mistake it for one.
pub(super) fn strip(headers: &mut HeaderMap, proxy: Option<&FrontProxy>) -> Stripped {
    let mut impersonation = false;
    let mut remove = Vec::new();
    for name in headers.keys() {
        let text = name.as_str();
        impersonation |= text.starts_with(IMPERSONATE);
        if *name == http::header::AUTHORIZATION
            || text.starts_with(CONVENTIONAL)
            || proxy.is_some_and(|p| p.asserts(name))
        {
            remove.push(name.clone());
        }
    }
    for name in remove {
        headers.remove(name);
    }
    Stripped { impersonation }
}

/// Whether a request looks as if the aggregator had sent it.
pub(super) fn looks_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key("x-remote-user") || headers.contains_key("x-forwarded-uri")
}

#[cfg(test)]
mod tests;
