//! The forms that Kubernetes gives to names and labels.
//!
//! The rules are those of `k8s.io/apimachinery/pkg/util/validation`: an HPA's selector can hold
//! nothing else, so a label outside them could never be selected.

/// Why a text is not a name or label of the wanted form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(String);

/// Longest label value, DNS label, and name part of a label key.
pub const MAX_LABEL_NAME: usize = 63;
/// Longest DNS name, and prefix of a label key.
pub const MAX_SUBDOMAIN: usize = 253;

/// Checks a namespace or another RFC 1123 label.
///
/// # Errors
/// When it is not one.
pub fn dns_label(text: &str) -> Result<(), InvalidName> {
    if text.len() <= MAX_LABEL_NAME && is_dns_label(text) {
        return Ok(());
    }
    Err(InvalidName(format!(
        "{text:?} is not a valid name here: at most {MAX_LABEL_NAME} lower-case letters, digits and \"-\", beginning and ending with a letter or digit"
    )))
}

/// Checks an object's name: an RFC 1123 subdomain.
///
/// # Errors
/// When it is not one.
pub fn dns_subdomain(text: &str) -> Result<(), InvalidName> {
    if is_subdomain(text) {
        return Ok(());
    }
    Err(InvalidName(format!(
        "{text:?} is not a valid object name: at most {MAX_SUBDOMAIN} lower-case letters, digits, \"-\" and \".\", beginning and ending with a letter or digit"
    )))
}

/// Checks a label's key: an optional DNS prefix and `/`, then a name.
///
/// # Errors
/// When Kubernetes would not take it.
pub fn label_key(key: &str) -> Result<(), InvalidName> {
    let (prefix_fits, name) = match key.split_once('/') {
        Some((prefix, name)) => (is_subdomain(prefix), name),
        None => (true, key),
    };
    if prefix_fits && !name.is_empty() && is_qualified(name) {
        return Ok(());
    }
    Err(InvalidName(format!(
        "{key:?} is not a valid label key, so no selector could name it: letters, digits, \"-\", \"_\" and \".\", at most {MAX_LABEL_NAME}, beginning and ending with a letter or digit, after an optional DNS prefix and \"/\""
    )))
}

/// Checks a label's value.
///
/// # Errors
/// When Kubernetes would not take it.
pub fn label_value(value: &str) -> Result<(), InvalidName> {
    if value.is_empty() || is_qualified(value) {
        return Ok(());
    }
    Err(InvalidName(format!(
        "{value:?} is not a valid label value, so no selector could match it: at most {MAX_LABEL_NAME} letters, digits, \"-\", \"_\" and \".\", beginning and ending with a letter or digit"
    )))
}

fn is_qualified(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    text.len() <= MAX_LABEL_NAME
        && text.bytes().all(inner)
        && ends_are(text, |b| b.is_ascii_alphanumeric())
}

fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| alphanumeric(b) || b == b'-') && ends_are(text, alphanumeric)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_dns_label)
}

fn ends_are(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| allowed(*b)) && bytes.last().is_some_and(|b| allowed(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rfc_1123() {
        for good in ["a", "team-1", "0a"] {
            assert_eq!(dns_label(good), Ok(()));
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64)] {
            assert!(dns_label(bad).unwrap_err().to_string().contains("is not a valid name"));
        }
        assert_eq!(dns_subdomain("a.b-c.d"), Ok(()));
        for bad in ["", "a..b", ".a", "a b", &"a.".repeat(127)] {
            assert!(dns_subdomain(bad).unwrap_err().to_string().contains("valid object name"));
        }
    }

    #[test]
    fn labels_are_what_selectors_can_hold() {
        for good in ["queue", "app.kubernetes.io/name", "A_b.c-d"] {
            assert_eq!(label_key(good), Ok(()));
        }
        for bad in ["", "/a", "a/", "a/b/c", "Prefix/a", "-a", "a b", "ü"] {
            assert!(label_key(bad).unwrap_err().to_string().contains("valid label key"), "{bad}");
        }
        for good in ["", "jobs", "A_1.2"] {
            assert_eq!(label_value(good), Ok(()));
        }
        for bad in ["-a", "a/b", "a b", "a.", &"a".repeat(64)] {
            assert!(label_value(bad).unwrap_err().to_string().contains("valid label value"));
        }
    }
}
