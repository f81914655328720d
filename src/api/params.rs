//! Query parameters.
//!
//! Of a parameter that is given twice the first counts, as in Go. Unknown parameters are ignored;
//! a query that cannot be decoded is refused rather than read without what it said.

use std::borrow::Cow;
use std::num::IntErrorKind;
use std::time::Duration;

use crate::api::duration;
use crate::api::fields::FieldSelector;
use crate::api::path::{is_well_encoded, unescape};
use crate::model::{ApiError, Selector};

/// What a metric read asks for beside its path.
#[derive(Clone, Debug, Default)]
pub(super) struct Params {
    /// `labelSelector`: which series, or which objects.
    pub(super) selector: Selector,
    /// `metricLabelSelector`: which series of a metric of objects.
    pub(super) metric_selector: Selector,
    /// Why `metricLabelSelector` cannot be read. A problem for those who look at it alone.
    pub(super) metric_problem: Option<String>,
    /// `fieldSelector`.
    pub(super) fields: FieldSelector,
    /// The client's own deadline.
    pub(super) timeout: Option<Duration>,
    /// Whether the client wants a watch.
    pub(super) watch: bool,
    /// Whether the client asked for (or declined) indented JSON.
    pub(super) pretty: Option<bool>,
    /// Why the query is refused.
    pub(super) problem: Option<Box<ApiError>>,
}

impl Params {
    /// Reads the parameters of a request for a resource. Never fails: what is wrong is kept in
    /// `problem`, so that the request can be authorized before it is refused.
    pub(super) fn read(query: Option<&str>) -> Self {
        let mut params = Self::default();
        let Some(query) = query.filter(|q| !q.is_empty()) else { return params };
        if query.contains('%') && !is_well_encoded(query) {
            return params.refuse("invalid percent-encoding in the query".to_owned());
        }
        let (mut timeout, mut label, mut metric, mut field) = (None, None, None, None);
        let (mut watch, mut pretty) = (None, None);
        let mut numbers = [("limit", None), ("timeoutSeconds", None)];
        for (key, value) in pairs(query) {
            let slot = match &*key {
                "labelSelector" => &mut label,
                "metricLabelSelector" => &mut metric,
                "fieldSelector" => &mut field,
                "timeout" => &mut timeout,
                "watch" => &mut watch,
                "pretty" => &mut pretty,
                other => match numbers.iter_mut().find(|(name, _)| *name == other) {
                    Some((_, slot)) => slot,
                    None => continue,
                },
            };
            slot.get_or_insert(value);
        }
        // The conversion of Kubernetes' list options: present and neither of these means yes.
        params.watch = watch.is_some_and(|v| v != "false" && v != "0");
        params.pretty = pretty.filter(|v| !v.is_empty()).map(|v| is_true(&v));
        if let Some(text) = timeout.filter(|v| !v.is_empty()) {
            match duration::parse(&text) {
                Ok(timeout) => params.timeout = timeout,
                Err(why) => {
                    return params
                        .refuse(format!("invalid timeout specified in the request URL - {why}"));
                }
            }
        }
        // Nothing here comes in pieces, but what is no number is refused, as in Go.
        for number in numbers.into_iter().filter_map(|(_, given)| given) {
            if let Err(why) = number.parse::<i64>() {
                let why = match why.kind() {
                    IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                return params.refuse(format!("strconv.ParseInt: parsing {number:?}: {why}"));
            }
        }
        match Selector::parse(label.as_deref().unwrap_or_default()) {
            Ok(selector) => params.selector = selector,
            Err(why) => return params.refuse(why.to_string()),
        }
        match Selector::parse(metric.as_deref().unwrap_or_default()) {
            Ok(selector) => params.metric_selector = selector,
            Err(why) => params.metric_problem = Some(why.to_string()),
        }
        match FieldSelector::parse(field.as_deref().unwrap_or_default()) {
            Ok(fields) => {
                params.fields = fields;
                params
            }
            Err(why) => params.refuse(why),
        }
    }

    fn refuse(mut self, why: String) -> Self {
        self.problem = Some(Box::new(ApiError::BadRequest(why)));
        self
    }
}

/// All parameters in their order, decoded. Escapes that are broken stay as they are.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(key, true), unescape(value, true))
    })
}

/// Go's `strconv.ParseBool`; whatever it refuses is "no".
pub(super) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(query: &str) -> Option<String> {
        Params::read(Some(query)).problem.map(|p| p.to_string())
    }

    #[test]
    fn of_two_equal_parameters_the_first_counts() {
        let params = Params::read(Some("labelSelector=a%3Db&labelSelector=c&timeout=1s&timeout=x"));
        assert_eq!(params.selector.to_string(), "a=b");
        assert_eq!(params.timeout, Some(Duration::from_secs(1)));
        assert_eq!(params.problem, None);
    }

    #[test]
    fn plus_is_a_space_and_keys_may_be_encoded() {
        let params = Params::read(Some("&label%53elector=a+in+%28x%2Cy%29&limit=500&x"));
        assert_eq!(params.selector.to_string(), "a in (x,y)");
        assert_eq!(params.problem, None);
    }

    #[test]
    fn flags_read_as_go_reads_them() {
        for (query, watch) in
            [("watch=true", true), ("watch", true), ("watch=1", true), ("watch=0", false)]
        {
            assert_eq!(Params::read(Some(query)).watch, watch, "{query}");
        }
        assert!(!Params::read(Some("watch=false")).watch);
        assert_eq!(Params::read(Some("pretty=1")).pretty, Some(true));
        assert_eq!(Params::read(Some("pretty=no")).pretty, Some(false));
        assert_eq!(Params::read(Some("pretty=")).pretty, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, complaint) in [
            ("labelSelector=%zz", "invalid percent-encoding in the query"),
            ("labelSelector=%ff", "invalid percent-encoding in the query"),
            ("limit=many", "strconv.ParseInt: parsing \"many\": invalid syntax"),
            ("limit=", "strconv.ParseInt: parsing \"\": invalid syntax"),
            (
                "timeoutSeconds=9223372036854775808",
                "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
            ),
            ("labelSelector=,", "found ',', expected: !, identifier, or 'end of string'"),
            (
                "timeout=abc",
                "invalid timeout specified in the request URL - time: invalid duration \"abc\"",
            ),
            ("fieldSelector=metadata", "invalid selector: 'metadata'; can't understand 'metadata'"),
            ("fieldSelector=a%3D%5Cx", "invalid field selector: invalid escape sequence: \\x"),
            ("fieldSelector=a%3Db%3Dc", "invalid field selector: unescaped character in value: ="),
        ] {
            assert_eq!(problem(query).as_deref(), Some(complaint), "{query}");
        }
        for query in [
            "fieldSelector=metadata.name%3Dx",
            "fieldSelector=a!=b,c==d%5C,",
            "timeout=",
            "limit=-5&timeoutSeconds=%2B30&limit=x",
            "metricLabelSelector=%2C",
        ] {
            assert_eq!(problem(query), None, "{query}");
        }
    }

    #[test]
    fn the_two_selectors_are_apart() {
        let params = Params::read(Some("labelSelector=a&metricLabelSelector=b+in+%28c%29"));
        assert_eq!(params.selector.to_string(), "a");
        assert_eq!(params.metric_selector.to_string(), "b in (c)");
        assert_eq!(params.metric_problem, None);
        let params = Params::read(Some("labelSelector=a&metricLabelSelector=b,"));
        let complaint = "found '', expected: identifier after ','";
        assert_eq!(params.metric_problem.as_deref(), Some(complaint));
        assert_eq!(params.selector.to_string(), "a");
    }
}
