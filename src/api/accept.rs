//! Content negotiation.
//!
//! We write JSON, and metrics also as YAML. Clients that prefer something else (protobuf, CBOR, a
//! Table) name JSON or a wildcard further back, and get that; clients that accept nothing we write
//! get 406.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};

/// What an endpoint writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// The aggregated discovery document `apidiscovery.k8s.io/v2`.
    DiscoveryV2,
    /// The same as `apidiscovery.k8s.io/v2beta1`.
    DiscoveryV2Beta1,
}

/// What an endpoint has on offer beside `application/json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Nothing.
    Json,
    /// YAML.
    Yaml,
    /// The aggregated discovery documents.
    Discovery,
}

impl Offer {
    /// All of it, as the refusal names it.
    pub(super) fn listed(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/json, application/yaml",
            Self::Discovery => {
                "application/json, \
                 application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList, \
                 application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The form.
    pub(super) format: Format,
    /// Indented (`pretty=1` in the chosen clause).
    pub(super) pretty: bool,
}

/// Chooses what to write: the acceptable clause with the highest `q`, the first of equals. `None`
/// when nothing on offer is acceptable.
pub(super) fn negotiate(headers: &HeaderMap, offer: Offer) -> Option<Chosen> {
    let mut best: Option<(u16, Chosen)> = None;
    let mut any = false;
    for value in headers.get_all(ACCEPT) {
        // A header that is not text accepts nothing.
        for clause in value.to_str().unwrap_or("?").split(',') {
            let clause = clause.trim();
            if clause.is_empty() {
                continue;
            }
            any = true;
            if let Some((weight, chosen)) = read_clause(clause, offer)
                && best.is_none_or(|(w, _)| weight > w)
            {
                best = Some((weight, chosen));
            }
        }
    }
    if any {
        best.map(|(_, chosen)| chosen)
    } else {
        Some(Chosen { format: Format::Json, pretty: false })
    }
}

/// One clause of `Accept`: its weight in thousandths and what it asks for; `None` when we do not
/// write that.
fn read_clause(clause: &str, offer: Offer) -> Option<(u16, Chosen)> {
    let mut parts = clause.split(';').map(str::trim);
    let media = parts.next()?;
    let wanted = ["application/json", "*/*", "application/*", "*"];
    let yaml = offer == Offer::Yaml && media.eq_ignore_ascii_case("application/yaml");
    if !yaml && !wanted.iter().any(|w| media.eq_ignore_ascii_case(w)) {
        return None;
    }
    let discovery = offer == Offer::Discovery;
    let (mut weight, mut pretty) = (1000, false);
    let (mut group, mut version, mut kind) = ("", "", "");
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let (name, value) = (name.trim(), value.trim().trim_matches('"'));
        match name {
            "q" => weight = read_weight(value),
            "pretty" => pretty = value == "1",
            "g" => group = value,
            "v" => version = value,
            "as" => kind = value,
            // A stream of anything is not on offer.
            "stream" if !value.is_empty() => return None,
            _ => {}
        }
    }
    let format = match (group, version, kind) {
        ("", "", "") if yaml => Format::Yaml,
        ("", "", "") => Format::Json,
        _ if yaml => return None,
        ("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList") if discovery => Format::DiscoveryV2,
        ("apidiscovery.k8s.io", "v2beta1", "APIGroupDiscoveryList") if discovery => {
            Format::DiscoveryV2Beta1
        }
        _ => return None,
    };
    (weight > 0).then_some((weight, Chosen { format, pretty }))
}

/// A weight in thousandths (RFC 9110: at most three decimals); what is not a weight counts as 1,
/// as in Go's parser.
fn read_weight(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut weight = match whole {
        "0" | "" if !text.is_empty() => 0,
        _ => return 1000,
    };
    let mut unit = 100;
    for digit in fraction.bytes() {
        if !digit.is_ascii_digit() {
            return 1000;
        }
        weight += u16::from(digit - b'0') * unit;
        unit /= 10;
    }
    weight
}

/// Whether the client can read gzip.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).any(|value| {
        value.split(',').any(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"))
                && parts.all(|p| p.strip_prefix("q=").is_none_or(|q| read_weight(q) > 0))
        })
    })
}

/// Whether a person looks on: Go's servers indent JSON for these programs.
pub(super) fn is_for_people(headers: &HeaderMap) -> bool {
    headers.get(USER_AGENT).is_some_and(|agent| {
        ["curl", "Wget", "Mozilla/5.0"].iter().any(|p| agent.as_bytes().starts_with(p.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn choose(accept: &'static str, offer: Offer) -> Option<Format> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        negotiate(&headers, offer).map(|c| c.format)
    }

    #[test]
    fn c47_the_accept_matrix() {
        assert_eq!(
            negotiate(&HeaderMap::new(), Offer::Json),
            Some(Chosen { format: Format::Json, pretty: false })
        );
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                     application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (accept, json) in [
            ("", true),
            ("*/*", true),
            ("*", true),
            ("application/*", true),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;profile=nopeer", true),
            ("application/vnd.kubernetes.protobuf, */*", true),
            ("application/vnd.kubernetes.protobuf,application/json", true),
            ("application/cbor,application/vnd.kubernetes.protobuf,application/json", true),
            (table, true),
            ("application/vnd.kubernetes.protobuf", false),
            ("application/yaml", false),
            ("application/cbor", false),
            ("text/html", false),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", false),
            ("application/json;stream=watch", false),
            ("application/json;q=0", false),
            ("application/json;q=0.001", true),
            ("application/json;q=0.0", false),
        ] {
            assert_eq!(choose(accept, Offer::Json).is_some(), json, "{accept}");
        }
    }

    #[test]
    fn yaml_is_written_where_it_is_on_offer() {
        for (accept, format) in [
            ("application/yaml", Some(Format::Yaml)),
            ("Application/YAML;q=0.9", Some(Format::Yaml)),
            ("application/json, application/yaml", Some(Format::Json)),
            ("application/json;q=0.5, application/yaml", Some(Format::Yaml)),
            ("application/vnd.kubernetes.protobuf, */*", Some(Format::Json)),
            ("application/yaml;as=Table;v=v1;g=meta.k8s.io", None),
            ("application/yaml;q=0", None),
            ("text/html", None),
        ] {
            assert_eq!(choose(accept, Offer::Yaml), format, "{accept}");
        }
    }

    #[test]
    fn the_highest_weight_wins_then_the_first() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(choose(v2, Offer::Discovery), Some(Format::DiscoveryV2));
        assert_eq!(choose(beta, Offer::Discovery), Some(Format::DiscoveryV2Beta1));
        assert_eq!(choose(v2, Offer::Json), None);
        let mut headers = HeaderMap::new();
        let all = format!("{v2},{beta},application/json");
        headers.insert(ACCEPT, all.parse().unwrap());
        assert_eq!(
            negotiate(&headers, Offer::Discovery).map(|c| c.format),
            Some(Format::DiscoveryV2)
        );
        let all = format!("{v2};q=0.5,{beta};q=0.7,application/json;q=0.6");
        headers.insert(ACCEPT, all.parse().unwrap());
        assert_eq!(
            negotiate(&headers, Offer::Discovery).map(|c| c.format),
            Some(Format::DiscoveryV2Beta1)
        );
        assert_eq!(
            choose(
                "application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList",
                Offer::Discovery
            ),
            None
        );
    }

    #[test]
    fn several_headers_are_one_list_and_pretty_is_a_parameter() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("text/html"));
        headers.append(ACCEPT, HeaderValue::from_static("application/json;pretty=1"));
        assert_eq!(
            negotiate(&headers, Offer::Json),
            Some(Chosen { format: Format::Json, pretty: true })
        );
        headers.insert(ACCEPT, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(negotiate(&headers, Offer::Json), None);
    }

    #[test]
    fn gzip_is_used_only_when_accepted() {
        for (value, gzip) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("gzipped", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_gzip(&headers), gzip, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
