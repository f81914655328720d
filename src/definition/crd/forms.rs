//! The forms of texts, as regular expressions in RE2's syntax, which Go and CEL share.
//!
//! Each takes what the reader of the same thing takes, or more where the reader's rule is no regular
//! one.

/// [`GoDuration`](crate::definition::scalar::GoDuration).
pub(super) const DURATION: &str =
    "^([+]?0|-0|[+]?(([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

/// What is wrong with what has not that form.
pub(super) const NO_DURATION: &str =
    "not a duration; write it like 15s, 2m, 1h30m or 500ms, with a unit";

/// [`Number`](crate::definition::scalar::Number), where it is text.
pub(super) const QUANTITY: &str =
    "^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?([numkMGTPE]|[KMGTPE]i)?$";

/// [`names::dns_label`](crate::definition::names::dns_label).
pub(super) const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// [`names::dns_subdomain`](crate::definition::names::dns_subdomain).
pub(super) const DNS_SUBDOMAIN: &str =
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// [`names::label_key`](crate::definition::names::label_key).
pub(super) const LABEL_KEY: &str =
    "^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";

/// [`names::label_value`](crate::definition::names::label_value).
pub(super) const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";

/// What no name of a metric may hold ([`MetricName`](crate::model::MetricName)).
pub(super) const NOT_IN_METRIC: &str = r"[/%\pZ\p{Cc}]";

/// What no name of a series' label may hold (`definition::objects`).
pub(super) const NOT_IN_OBJECT_LABEL: &str = r#"[\pZ\p{Cc}"'`{}(),=~!]"#;

/// [`check_region`](crate::model::region::check_region).
pub(super) const REGION: &str = "^[a-z]{2,4}(-[a-z]+){1,3}-[0-9]{1,2}$";

/// [`check_role`](crate::model::arn::check_role).
pub(super) const ROLE: &str =
    "^arn:aws[-a-z]*:iam::[0-9]{12}:role/[-A-Za-z0-9+=,.@_/]*[-A-Za-z0-9+=,.@_]$";

/// [`aws::queue`](crate::definition::aws::queue): a name, an ARN or a URL.
pub(super) const QUEUE: &str = "^([-A-Za-z0-9_]{1,80}([.]fifo)?|arn:aws[-a-z]*:sqs:[-a-z0-9]+:[0-9]{12}:[-A-Za-z0-9_]{1,80}([.]fifo)?|[hH][tT][tT][pP][sS]?:/[^?#]*)$";

/// `definition::cloudwatch::statistic`.
pub(super) const STATISTIC: &str = "^(Average|Sum|Minimum|Maximum|SampleCount|IQM|(p|tm|tc|ts|wm)[0-9]+([.][0-9]+)?|(TM|TC|TS|WM|PR)[(]([0-9]+([.][0-9]+)?%?)?:([0-9]+([.][0-9]+)?%?)?[)])$";

/// Names and values of `definition::cloudwatch::metric`: printable ASCII, not blank.
pub(super) const PRINTABLE: &str = "^ *[!-~][ -~]*$";

/// The same without a colon in front.
pub(super) const PRINTABLE_NAME: &str = "^( +[!-~]|[!-9;-~])[ -~]*$";

/// An AWS account.
pub(super) const ACCOUNT: &str = "^[0-9]{12}$";

/// The id of one of several CloudWatch queries.
pub(super) const ID: &str = "^[a-z][A-Za-z0-9_]*$";

/// A Metrics Insights query.
pub(super) const SELECT: &str = r"^[\s\pZ\p{Cc}]*[sS][eE][lL][eE][cC][tT]\b";

/// What finds its data by itself: a Metrics Insights query, or a call of `SEARCH` before any quote.
/// Others do as well; the time that the API server has for five hundred expressions ends here.
pub(super) const FINDS_DATA: &str =
    r#"^(\s*[sS][eE][lL][eE][cC][tT]\b|([^"']*[^"'A-Za-z0-9_])?SEARCH\s*[(])"#;

/// A call of `LAMBDA`, before any quote.
pub(super) const LAMBDA: &str = r#"^([^"']*[^"'A-Za-z0-9_])?LAMBDA\s*[(]"#;

/// That a value has a form, in CEL.
pub(super) fn matches(value: &str, form: &str) -> String {
    format!("{value}.matches({})", literal(form))
}

/// A text in CEL, as it is.
pub(super) fn literal(text: &str) -> String {
    let quote = if text.contains('\'') { "\"\"\"" } else { "'" };
    format!("r{quote}{text}{quote}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::definition::names;
    use crate::definition::scalar::GoDuration;
    use crate::definition::{aws, scalar};
    use crate::model::{Decimal, MetricName, arn, region};

    /// Every form, compiled once.
    static FORMS: LazyLock<HashMap<&str, Regex>> = LazyLock::new(|| {
        let all = [
            DURATION,
            QUANTITY,
            DNS_LABEL,
            DNS_SUBDOMAIN,
            LABEL_KEY,
            LABEL_VALUE,
            NOT_IN_METRIC,
            REGION,
            ROLE,
            QUEUE,
        ];
        all.into_iter().map(|form| (form, Regex::new(form).unwrap())).collect()
    });

    fn fits(form: &str, text: &str) -> bool {
        FORMS[form].is_match(text)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn what_a_reader_takes_has_the_form(
            text in "[-+0-9.nuµmsh]{0,8}|[-+]?[0-9.]{1,5}([eE][-+]?[0-9]{0,2})?[numkMGTPEKi]{0,2}|[-a-zA-Z0-9._/]{0,8}|[-a-z0-9]{2,12}|\\PC{0,6}|(https?://h|arn:aws:(sqs|iam):)[-a-z0-9:/]{0,30}(/111122223333/q)?|arn:aws:iam::111122223333:role/[-a-zA-Z0-9+=,.@_/]{0,9}",
        ) {
            let duration = text.parse::<GoDuration>();
            if !matches!(duration, Err(scalar::InvalidDuration::TooLong(_))) {
                prop_assert_eq!(duration.is_ok(), fits(DURATION, &text));
            }
            prop_assert_eq!(Decimal::parse_quantity(&text).is_ok(), fits(QUANTITY, &text));
            prop_assert_eq!(names::dns_label(&text).is_ok(), fits(DNS_LABEL, &text));
            prop_assert_eq!(names::dns_subdomain(&text).is_ok(), fits(DNS_SUBDOMAIN, &text));
            prop_assert_eq!(names::label_value(&text).is_ok(), fits(LABEL_VALUE, &text));
            prop_assert!(names::label_key(&text).is_err() || fits(LABEL_KEY, &text));
            prop_assert_eq!(region::check_region(&text).is_ok(), fits(REGION, &text));
            prop_assert_eq!(arn::check_role(&text).is_ok(), fits(ROLE, &text));
            prop_assert!(aws::queue(&text).is_err() || fits(QUEUE, &text));
            let odd = text.is_empty() || text == "." || text == "..";
            prop_assert_eq!(
                MetricName::custom(&text).is_ok(),
                !odd && !fits(NOT_IN_METRIC, &text)
            );
        }
    }

    #[test]
    fn literals_of_cel() {
        assert_eq!(matches("self", "a\\d"), "self.matches(r'a\\d')");
        assert_eq!(literal("'\""), "r\"\"\"'\"\"\"\"");
    }
}
