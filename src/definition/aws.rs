//! The forms that AWS gives to queues: name, ARN and URL.

use std::sync::Arc;

use url::{Host, Url};

use crate::model::arn::{is_account, is_partition};
use crate::model::region::is_region;

/// Longest queue name, `.fifo` included (SQS quotas).
const MAX_QUEUE_NAME: usize = 80;

/// A queue as a definition names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedQueue {
    /// Its region, when the ARN or URL says so.
    pub region: Option<Arc<str>>,
    /// Its account, when the ARN or URL says so.
    pub account: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
}

/// Why a text names no queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAws {
    /// Not a queue's name.
    #[error(
        "{0:?} is not a queue name: 1 to {MAX_QUEUE_NAME} letters, digits, \"-\" and \"_\", for a FIFO queue with \".fifo\" at the end"
    )]
    QueueName(String),
    /// Begins with `arn:` and goes wrong somewhere.
    #[error("{0:?} is not a queue's ARN; one looks like arn:aws:sqs:eu-west-1:111122223333:jobs")]
    QueueArn(String),
    /// Begins with a scheme and goes wrong somewhere.
    #[error(
        "{0:?} is not a queue's URL; one looks like https://sqs.eu-west-1.amazonaws.com/111122223333/jobs"
    )]
    QueueUrl(String),
}

/// Reads a queue's name, ARN or URL.
///
/// # Errors
/// When it is none of these.
pub fn queue(text: &str) -> Result<NamedQueue, InvalidAws> {
    if text.starts_with("arn:") {
        queue_arn(text).ok_or_else(|| InvalidAws::QueueArn(crop(text)))
    } else if text.contains("://") {
        queue_url(text).ok_or_else(|| InvalidAws::QueueUrl(crop(text)))
    } else if is_queue_name(text) {
        Ok(NamedQueue { region: None, account: None, name: text.into() })
    } else {
        Err(InvalidAws::QueueName(crop(text)))
    }
}

fn queue_arn(text: &str) -> Option<NamedQueue> {
    let parts: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "sqs", region, account, name] = parts[..] else { return None };
    let fits =
        is_partition(partition) && is_region(region) && is_account(account) && is_queue_name(name);
    fits.then(|| NamedQueue {
        region: Some(region.into()),
        account: Some(account.into()),
        name: name.into(),
    })
}

/// The last two elements of the path are account and name; the region is in the host, or before
/// these two in an emulator's path, or nowhere.
fn queue_url(text: &str) -> Option<NamedQueue> {
    // The parser would drop these, or read them as something else.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return None;
    }
    let url = Url::parse(text).ok()?;
    if !matches!(url.scheme(), "http" | "https")
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return None;
    }
    let elements: Vec<&str> = url.path().trim_end_matches('/').split('/').skip(1).collect();
    let [before @ .., account, name] = &elements[..] else { return None };
    if !is_account(account) || !is_queue_name(name) {
        return None;
    }
    let host_region = match url.host()? {
        // `sqs.REGION.amazonaws.com`, `REGION.queue.amazonaws.com`, `sqs.REGION.api.aws`,
        // `vpce-x.sqs.REGION.vpce.amazonaws.com` and what emulators make of them.
        Host::Domain("queue.amazonaws.com") => Some("us-east-1".to_owned()),
        Host::Domain(host) => host.split('.').find(|part| is_region(part)).map(str::to_owned),
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    };
    let region = host_region
        .or_else(|| before.iter().find(|part| is_region(part)).map(|part| (*part).to_owned()));
    Some(NamedQueue {
        region: region.map(Into::into),
        account: Some((*account).into()),
        name: (*name).into(),
    })
}

fn is_queue_name(text: &str) -> bool {
    let body = text.strip_suffix(".fifo").unwrap_or(text);
    !body.is_empty()
        && text.len() <= MAX_QUEUE_NAME
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn crop(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queues_by_name_arn_and_url() {
        for (text, region, account, name) in [
            ("jobs", None, None, "jobs"),
            ("jobs.fifo", None, None, "jobs.fifo"),
            ("arn:aws:sqs:eu-west-1:111122223333:a", Some("eu-west-1"), Some("111122223333"), "a"),
            (
                "arn:aws-us-gov:sqs:us-gov-west-1:111122223333:a.fifo",
                Some("us-gov-west-1"),
                Some("111122223333"),
                "a.fifo",
            ),
            (
                "https://sqs.eu-west-1.amazonaws.com/111122223333/jobs",
                Some("eu-west-1"),
                Some("111122223333"),
                "jobs",
            ),
            (
                "https://vpce-0a1b-x.sqs.eu-west-1.vpce.amazonaws.com/111122223333/jobs/",
                Some("eu-west-1"),
                Some("111122223333"),
                "jobs",
            ),
            (
                "https://queue.amazonaws.com/111122223333/jobs",
                Some("us-east-1"),
                Some("111122223333"),
                "jobs",
            ),
            (
                "https://ap-southeast-2.queue.amazonaws.com/111122223333/jobs",
                Some("ap-southeast-2"),
                Some("111122223333"),
                "jobs",
            ),
            ("http://127.0.0.1:9324/000000000000/jobs", None, Some("000000000000"), "jobs"),
            (
                "http://localhost:4566/queue/us-east-2/000000000000/jobs",
                Some("us-east-2"),
                Some("000000000000"),
                "jobs",
            ),
        ] {
            let expected = NamedQueue {
                region: region.map(Into::into),
                account: account.map(Into::into),
                name: name.into(),
            };
            assert_eq!(queue(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_names_no_queue_is_refused_with_an_example() {
        for text in ["", ".fifo", "a b", "a/b", "a.b", &"a".repeat(81)] {
            assert_eq!(queue(text), Err(InvalidAws::QueueName(text.to_owned())));
        }
        for text in [
            "arn:aws:sqs:eu-west-1:111122223333",
            "arn:aws:sns:eu-west-1:111122223333:a",
            "arn:aws:sqs:eu-west:111122223333:a",
            "arn:aws:sqs:eu-west-1:1111:a",
            "arn:aws:sqs:eu-west-1:111122223333:a:b",
            "arn:gcp:sqs:eu-west-1:111122223333:a",
        ] {
            assert_eq!(queue(text), Err(InvalidAws::QueueArn(text.to_owned())));
        }
        for text in [
            "ftp://sqs.eu-west-1.amazonaws.com/111122223333/jobs",
            "https://sqs.eu-west-1.amazonaws.com/jobs",
            "https://sqs.eu-west-1.amazonaws.com/11/jobs",
            "https://sqs.eu-west-1.amazonaws.com/111122223333/a%20b",
            "https://sqs.eu-west-1.amazonaws.com/111122223333/jobs?x=1",
            "https://",
        ] {
            assert_eq!(queue(text), Err(InvalidAws::QueueUrl(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(arn:|https?://)?[-a-z0-9:/.]{0,60}|.{0,30}") {
            let _ = queue(&text);
        }
    }
}
