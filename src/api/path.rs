//! Request paths as segments.
//!
//! A path is split on `/` first and each segment is percent-decoded after, so `%2A` is the segment
//! `*` and an encoded slash never makes two segments of one. Leading and trailing slashes are
//! ignored, as Go's servers ignore them; slashes in the middle are not collapsed.

use std::borrow::Cow;

use http::Uri;

use crate::model::ApiError;

/// Longest path, in bytes. The longest that means anything has eight segments of at most 253
/// bytes, each byte at most three when encoded: about 6 KiB.
pub(super) const MAX_PATH_BYTES: usize = 8 * 1024;

/// How many segments are kept: the longest path that authorization looks at is
/// `/apis/<g>/<v>/watch/namespaces/<ns>/<resource>/<name>/<subresource>`.
const KEPT: usize = 9;

/// A path of a request, split and checked.
#[derive(Clone, Debug)]
pub(super) struct Path {
    uri: Uri,
    /// Byte ranges of the first segments; paths are shorter than 64 KiB.
    spans: [(u16, u16); KEPT],
    count: usize,
    escaped: bool,
    slash_inside: bool,
}

impl Path {
    /// Splits the path of a request target. Its query is not looked at.
    ///
    /// # Errors
    /// [`ApiError::RequestTooLarge`] and [`ApiError::BadRequest`], for a path that is too long or
    /// whose percent-encoding is broken or does not decode to UTF-8.
    pub(super) fn read(uri: &Uri) -> Result<Self, ApiError> {
        let text = uri.path();
        if text.len() > MAX_PATH_BYTES {
            return Err(ApiError::RequestTooLarge(format!(
                "the request path has {} bytes, at most {MAX_PATH_BYTES} are accepted",
                text.len()
            )));
        }
        let escaped = text.contains('%');
        if escaped && !is_well_encoded(text) {
            return Err(ApiError::BadRequest("invalid percent-encoding in the path".to_owned()));
        }
        let trimmed = text.trim_matches('/');
        let mut path = Self {
            uri: uri.clone(),
            spans: [(0, 0); KEPT],
            count: 0,
            escaped,
            slash_inside: false,
        };
        if trimmed.is_empty() {
            return Ok(path);
        }
        let mut start = text.len() - text.trim_start_matches('/').len();
        for segment in trimmed.split('/') {
            let end = start + segment.len();
            if path.count < KEPT {
                // Both fit: the path has at most MAX_PATH_BYTES.
                path.spans[path.count] = (narrow(start), narrow(end));
            }
            path.count += 1;
            start = end + 1;
        }
        path.slash_inside = escaped && (trimmed.contains("%2F") || trimmed.contains("%2f"));
        Ok(path)
    }

    /// How many segments there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// A segment, decoded; empty when there is none at this place.
    pub(super) fn segment(&self, index: usize) -> Cow<'_, str> {
        let Some(&(start, end)) = self.spans.get(index) else { return Cow::Borrowed("") };
        self.decoded(&self.uri.path()[usize::from(start)..usize::from(end)])
    }

    /// Everything from a segment on, decoded.
    pub(super) fn tail(&self, index: usize) -> Cow<'_, str> {
        if index >= self.count.min(KEPT) {
            return Cow::Borrowed("");
        }
        let start = usize::from(self.spans[index].0);
        self.decoded(self.uri.path()[start..].trim_end_matches('/'))
    }

    /// The whole path as it arrived, decoded.
    pub(super) fn whole(&self) -> Cow<'_, str> {
        self.decoded(self.uri.path())
    }

    /// Whether a segment holds an encoded slash. No name that we serve does.
    pub(super) fn has_slash_inside(&self) -> bool {
        self.slash_inside
    }

    fn decoded<'a>(&self, raw: &'a str) -> Cow<'a, str> {
        if self.escaped { unescape(raw, false) } else { Cow::Borrowed(raw) }
    }
}

fn narrow(position: usize) -> u16 {
    u16::try_from(position).unwrap_or(u16::MAX)
}

/// Whether every `%` starts an escape and the decoded bytes are UTF-8.
pub(super) fn is_well_encoded(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut ascii = true;
    // From one escape to the next: there are few.
    while let Some(next) = bytes[at..].iter().position(|b| *b == b'%') {
        at += next;
        let Some(byte) = escape(bytes, at) else { return false };
        ascii &= byte.is_ascii();
        at += 3;
    }
    ascii || std::str::from_utf8(&decode(text, false)).is_ok()
}

/// Percent-decodes; `+` is a space in forms. Broken escapes stay as they are, bytes that are no
/// UTF-8 become replacement characters.
pub(super) fn unescape(text: &str, form: bool) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || (form && b == b'+')) {
        return Cow::Borrowed(text);
    }
    let decoded = String::from_utf8(decode(text, form));
    let text = decoded.unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    Cow::Owned(text)
}

fn decode(text: &str, form: bool) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = if byte == b'%' { escape(bytes, at) } else { None };
        at += if escaped.is_some() { 3 } else { 1 };
        out.push(match byte {
            b'+' if form => b' ',
            _ => escaped.unwrap_or(byte),
        });
    }
    out
}

/// The byte that the escape at a `%` stands for; `None` for a broken one.
fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |place: usize| char::from(*bytes.get(place)?).to_digit(16);
    u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(path: &str) -> Vec<String> {
        let path = Path::read(&path.parse().unwrap()).unwrap();
        (0..path.len()).map(|i| path.segment(i).into_owned()).collect()
    }

    #[test]
    fn splits_then_decodes() {
        assert_eq!(segments("/"), [""; 0]);
        assert_eq!(segments("//"), [""; 0]);
        assert_eq!(segments("/apis/"), ["apis"]);
        assert_eq!(segments("//a//b//"), ["a", "", "b"]);
        assert_eq!(segments("/pods/%2A/m%C3%BC+"), ["pods", "*", "mü+"]);
        assert_eq!(segments("/a%2Fb/c"), ["a/b", "c"]);
        assert_eq!(segments("/1/2/3/4/5/6/7/8/9/10")[8..], ["9", ""]);
    }

    #[test]
    fn a_tail_is_everything_behind() {
        let path = Path::read(&"/readyz/watch/a%20b/".parse().unwrap()).unwrap();
        assert_eq!((&*path.tail(1), &*path.tail(3)), ("watch/a b", ""));
    }

    #[test]
    fn refuses_what_cannot_be_decoded() {
        for path in ["/a%", "/a%2", "/a%zz", "/%ff", "/%c3/x"] {
            assert_eq!(
                Path::read(&path.parse().unwrap()).map(|p| p.len()),
                Err(ApiError::BadRequest("invalid percent-encoding in the path".into())),
                "{path}"
            );
        }
        let long = format!("/{}", "a".repeat(MAX_PATH_BYTES));
        assert_eq!(
            Path::read(&long.parse().unwrap()).map(|p| p.len()),
            Err(ApiError::RequestTooLarge(
                "the request path has 8193 bytes, at most 8192 are accepted".into()
            ))
        );
    }

    proptest::proptest! {
        #[test]
        fn decoding_agrees_with_the_crate_that_does_nothing_else(text in "(%[0-9a-fA-F]{0,2}|[+a-zµ%]){0,12}") {
            let expected = percent_encoding::percent_decode_str(&text);
            proptest::prop_assert_eq!(&*unescape(&text, false), &*expected.clone().decode_utf8_lossy());
            let form = text.replace('+', " ");
            let form = percent_encoding::percent_decode_str(&form).decode_utf8_lossy();
            proptest::prop_assert_eq!(&*unescape(&text, true), &*form);
            let bytes = text.as_bytes();
            let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
            let sound = bytes.iter().enumerate().all(|(i, b)| *b != b'%' || (digit(i + 1) && digit(i + 2)));
            proptest::prop_assert_eq!(is_well_encoded(&text), sound && expected.decode_utf8().is_ok());
        }
    }
}
