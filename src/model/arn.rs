//! The form of a role's ARN: definitions and sources name roles.

/// Longest path and name of a role together: 512 for the path and 64 for the name (IAM and STS
/// quotas).
const MAX_ROLE_NAME: usize = 576;

/// Not a role's ARN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role's ARN; one looks like arn:aws:iam::111122223333:role/metrics")]
pub struct InvalidRole(pub String);

/// Checks the form of a role's ARN (IAM User Guide, "IAM identifiers").
///
/// # Errors
/// When it does not have it.
pub fn check_role(text: &str) -> Result<(), InvalidRole> {
    // Enough of it to be recognized, and one line at most.
    if is_role(text) { Ok(()) } else { Err(InvalidRole(text.chars().take(120).collect())) }
}

fn is_role(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, role] = parts[..] else { return false };
    is_partition(partition)
        && is_account(account)
        && role.strip_prefix("role/").is_some_and(|name| {
            !name.is_empty()
                && name.len() <= MAX_ROLE_NAME
                && !name.ends_with('/')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&b))
        })
}

/// Whether a text has the form of an account id.
#[must_use]
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a text has the form of a partition: `aws`, `aws-cn`, `aws-us-gov`.
#[must_use]
pub fn is_partition(text: &str) -> bool {
    text.starts_with("aws") && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        for good in ["arn:aws:iam::111122223333:role/a", "arn:aws-cn:iam::111122223333:role/p/a"] {
            assert_eq!(check_role(good), Ok(()));
        }
        for bad in [
            "",
            "role/a",
            "arn:aws:iam::1111:role/a",
            "arn:aws:iam::111122223333:user/a",
            "arn:aws:iam:eu-west-1:111122223333:role/a",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/a b",
            "arn:aws:iam::111122223333:role/a:b",
        ] {
            assert_eq!(check_role(bad), Err(InvalidRole(bad.to_owned())), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(arn:aws:iam::)?[-a-z0-9:/.]{0,60}|.{0,30}") {
            let _ = check_role(&text);
        }
    }
}
