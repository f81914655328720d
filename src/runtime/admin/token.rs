//! A token that clients of the status page must show, if the operator wants one.
//!
//! Responsible for: whether a request shows it. Not responsible for: which paths ask for it.
//!
//! Invariants: the file is read for every such request, so a token that was replaced is not taken any
//! more; while it cannot be read nobody is let in; how long a comparison takes says nothing about the
//! token, and no text, log or `Debug` form contains it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::definition::read_bounded;

/// Largest token; a service account's has about 1 KiB.
const MAX_BYTES: usize = 8 << 10;

/// Shortest token: 16 random characters cannot be guessed over a network.
const MIN_BYTES: usize = 16;

/// What an answer to a request without the token asks for. Browsers ask their user for the second: any
/// name, and the token as the password.
pub(super) const CHALLENGE: HeaderValue = HeaderValue::from_static(
    "Bearer realm=\"tidepole\", Basic realm=\"tidepole\", charset=\"UTF-8\"",
);

/// The file with the token.
#[derive(Clone)]
pub struct TokenFile(Arc<PathBuf>);

/// Why there is no token to compare with. The operator mends the file.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// What is in it is no token.
    #[error("{} has no token of {MIN_BYTES} to {MAX_BYTES} printable ASCII characters", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
}

impl TokenFile {
    /// The file at a path, with a token in it.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(path: PathBuf) -> Result<Self, TokenError> {
        let file = Self(Arc::new(path));
        file.read().map(|_| file)
    }

    fn read(&self) -> Result<[u8; 32], TokenError> {
        let path = || self.0.as_ref().clone();
        let bytes = read_bounded(&self.0, MAX_BYTES)
            .map_err(|cause| TokenError::Unreadable { path: path(), cause })?;
        // Editors and `kubectl create secret --from-file` leave a line's end.
        let token = bytes.trim_ascii();
        if token.len() < MIN_BYTES || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::NoToken { path: path() });
        }
        Ok(Sha256::digest(token).into())
    }

    /// Whether a request with these headers shows the token.
    ///
    /// # Errors
    /// When there is no token to compare with: nobody is let in.
    pub(super) async fn is_shown(&self, headers: &HeaderMap) -> Result<bool, TokenError> {
        let Some(shown) = shown(headers) else { return Ok(false) };
        let file = self.clone();
        let read = tokio::task::spawn_blocking(move || file.read());
        let token = read
            .await
            .unwrap_or_else(|_| Err(TokenError::NoToken { path: self.0.as_ref().clone() }))?;
        Ok(are_equal(&token, &Sha256::digest(shown).into()))
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenFile").field(&self.0).finish()
    }
}

/// Digests are compared whole: where they differ says nothing about the token, and neither does the time.
fn are_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

/// The token of a request: a bearer token, or the password of basic authentication. None where there
/// is none, or several.
fn shown(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return None };
    let (scheme, rest) = only.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a-token-of-some-length";

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[tokio::test]
    async fn the_token_alone_is_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        let file = TokenFile::open(path.clone()).unwrap();
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let (good, right) = (format!("Bearer {TOKEN}"), basic(&format!("me:{TOKEN}")));
        let wrong = [
            format!("Bearer {TOKEN}x"),
            format!("Bearer {}", &TOKEN[1..]),
            "Bearer ".to_owned(),
            TOKEN.to_owned(),
            basic(TOKEN),
            basic(&format!("{TOKEN}:x")),
            "Basic ???".to_owned(),
            format!("Digest {TOKEN}"),
        ];
        for (values, expected) in
            [(vec![&good[..]], true), (vec![&right[..]], true), (vec![], false)]
        {
            assert_eq!(file.is_shown(&headers(&values)).await.unwrap(), expected, "{values:?}");
        }
        // Twice is not at all: a proxy may have looked at the other one.
        assert!(!file.is_shown(&headers(&[&good, &good])).await.unwrap());
        for value in wrong {
            assert!(!file.is_shown(&headers(&[&value])).await.unwrap(), "{value}");
        }
        std::fs::write(&path, "another-token-of-some-length").unwrap();
        assert!(!file.is_shown(&headers(&[&good])).await.unwrap(), "it was replaced");
        std::fs::remove_file(&path).unwrap();
        let gone = file.is_shown(&headers(&[&good])).await;
        assert!(matches!(gone, Err(TokenError::Unreadable { .. })), "{gone:?}");
        assert!(!format!("{file:?} {gone:?}").contains(TOKEN));
    }

    #[test]
    fn what_is_no_token_is_refused_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for text in [
            "",
            "short",
            "sixteen characters with spaces",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            std::fs::write(&path, text).unwrap();
            let refused = TokenFile::open(path.clone()).unwrap_err();
            assert!(matches!(refused, TokenError::NoToken { .. }), "{text}: {refused}");
        }
    }
}
