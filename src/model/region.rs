//! The form of an AWS region's name.
//!
//! A region becomes a part of host names, so what is no region must not pass for one.

/// Not the name of a region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an AWS region; one looks like eu-west-1")]
pub struct InvalidRegion(pub String);

/// Checks a region's form: words of letters joined by `-`, a number at the end.
///
/// # Errors
/// When it does not have it.
pub fn check_region(text: &str) -> Result<(), InvalidRegion> {
    // Enough of it to be recognized, and one line at most.
    if is_region(text) { Ok(()) } else { Err(InvalidRegion(text.chars().take(120).collect())) }
}

/// Whether a text has a region's form.
#[must_use]
pub fn is_region(text: &str) -> bool {
    let mut parts = text.split('-');
    let number = parts.next_back().unwrap_or_default();
    let words: Vec<&str> = parts.collect();
    // `vpce-0123-1` and the like begin with a word as well; regions have two-letter countries or
    // the longer `eusc`, then at least one direction.
    (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
        && (2..=4).contains(&words.len())
        && (2..=4).contains(&words[0].len())
        && words.iter().all(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions() {
        for good in
            ["eu-west-1", "us-gov-east-1", "us-iso-west-1", "eusc-de-east-1", "mx-central-1"]
        {
            assert_eq!(check_region(good), Ok(()));
        }
        for bad in
            ["", "eu", "eu-1", "eu-west", "EU-west-1", "eu-west-1a", "eu_west_1", "vpce-0a-1"]
        {
            assert_eq!(check_region(bad), Err(InvalidRegion(bad.to_owned())), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[-a-z0-9]{0,60}|.{0,30}") {
            let _ = check_region(&text);
        }
    }
}
