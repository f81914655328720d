//! Query parameters.
//!
//! Of a parameter that is given twice the first counts, as in Go. Unknown parameters are ignored;
//! a query that cannot be decoded is refused rather than read without what it said.

use std::borrow::Cow;
use std::time::Duration;

use crate::api::duration;
use crate::api::path::{is_well_encoded, unescape};
use crate::model::{ApiError, Selector};

/// What a metric read asks for beside its path.
#[derive(Clone, Debug, Default)]
pub(super) struct Params {
    /// Which series.
    pub(super) selector: Selector,
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
        let (mut timeout, mut label, mut field) = (None, None, None);
        let (mut watch, mut pretty) = (None, None);
        for (key, value) in pairs(query) {
            let slot = match &*key {
                "labelSelector" => &mut label,
                "fieldSelector" => &mut field,
                "timeout" => &mut timeout,
                "watch" => &mut watch,
                "pretty" => &mut pretty,
                _ => continue,
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
        match Selector::parse(label.as_deref().unwrap_or_default()) {
            Ok(selector) => params.selector = selector,
            Err(why) => return params.refuse(why.to_string()),
        }
        match check_field_selector(field.as_deref().unwrap_or_default()) {
            Ok(()) => params,
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

/// Checks a field selector by the grammar of apimachinery's `fields.ParseSelector`. Nothing here
/// selects by fields: external metrics have none.
fn check_field_selector(text: &str) -> Result<(), String> {
    let mut escaped = false;
    let terms = text.split(|c| {
        let splits = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    });
    for term in terms.filter(|t| !t.is_empty()) {
        let mut escaped = false;
        let operator = term.char_indices().find(|&(i, c)| {
            let found = !escaped && (c == '=' || term[i..].starts_with("!="));
            escaped = c == '\\' && !escaped;
            found
        });
        let Some((at, _)) = operator else {
            return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
        };
        let rest = &term[at..];
        let value = ["!=", "==", "="].iter().find_map(|op| rest.strip_prefix(op)).unwrap_or("");
        let mut chars = value.chars();
        while let Some(c) = chars.next() {
            match (c, if c == '\\' { chars.next() } else { None }) {
                ('\\', Some('\\' | ',' | '=')) => {}
                ('\\', other) => {
                    let what = other.map(String::from).unwrap_or_default();
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: \\{what}"
                    ));
                }
                ('=', _) => {
                    return Err(format!(
                        "invalid field selector: unescaped character in value: {c}"
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
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
        for query in ["fieldSelector=metadata.name%3Dx", "fieldSelector=a!=b,c==d%5C,", "timeout="]
        {
            assert_eq!(problem(query), None, "{query}");
        }
    }
}
