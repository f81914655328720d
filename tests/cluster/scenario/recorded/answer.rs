//! Whether an answer is the recorded one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cases::Case;

/// A status code and a body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// A thousandth, in billionths: the wire's own resolution.
const MILLI: i128 = 1_000_000;

impl Answer {
    /// What differs. Not compared: texts of errors, and bodies that are not Kubernetes' (a bare 404 of
    /// the server, a health check's words), of which only the status counts.
    pub(super) fn differences(&self, case: &Case) -> Vec<String> {
        let mut found = Vec::new();
        if self.status != case.status {
            found.push(format!("status {}, recorded {}", self.status, case.status));
        }
        let recorded = normal(case.body.clone());
        let got: Option<Value> = serde_json::from_slice(&self.body).ok().map(normal);
        if case.status >= 400 && recorded["kind"] != "Status" {
            return found;
        }
        let got = match got.filter(Value::is_object) {
            Some(got) if recorded.is_object() => got,
            None if !recorded.is_object() => return found,
            _ => {
                found.push(format!("body {}", String::from_utf8_lossy(&self.body)));
                return found;
            }
        };
        let kind = recorded["kind"].as_str().unwrap_or_default();
        let has_items = recorded.get("items").is_some();
        let fields: Vec<&str> = match kind {
            "Status" => vec!["kind", "apiVersion", "status", "code", "reason"],
            "APIResourceList" => vec!["kind", "apiVersion", "groupVersion"],
            _ if has_items => vec!["kind", "apiVersion"],
            _ => {
                let both = got.as_object().into_iter().chain(recorded.as_object());
                let all: BTreeSet<&str> = both.flatten().map(|(field, _)| field.as_str()).collect();
                all.into_iter().collect()
            }
        };
        for field in fields.into_iter().filter(|&field| got[field] != recorded[field]) {
            found.push(format!("{field} {}, recorded {}", got[field], recorded[field]));
        }
        if kind == "APIResourceList" {
            found.extend(sets(list(&got, "resources"), list(&recorded, "resources")));
        } else if has_items && !got["items"].is_array() {
            found.push("items missing or null".to_owned());
        } else if has_items {
            let (got, recorded) = (list(&got, "items"), list(&recorded, "items"));
            found.extend(items(got, recorded, case.approximate));
        }
        found
    }
}

fn list<'a>(body: &'a Value, field: &str) -> &'a [Value] {
    body[field].as_array().map_or(&[], Vec::as_slice)
}

/// The same without what is another every time: times that are well-formed, addresses.
fn normal(mut body: Value) -> Value {
    let Some(fields) = body.as_object_mut() else { return body };
    for item in fields.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        if item["timestamp"].as_str().is_some_and(is_whole_second) {
            item["timestamp"] = "<time>".into();
        }
    }
    let address = "serverAddressByClientCIDRs";
    fields.remove(address);
    if let Some(groups) = fields.get_mut("groups").and_then(Value::as_array_mut) {
        for group in groups.iter_mut().filter_map(Value::as_object_mut) {
            group.remove(address);
        }
        groups.sort_by_key(|group| group["name"].to_string());
    }
    body
}

/// `2006-01-02T15:04:05Z`
fn is_whole_second(text: &str) -> bool {
    text.len() == 20 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
}

fn sets(got: &[Value], recorded: &[Value]) -> Vec<String> {
    let lacks = recorded.iter().filter(|one| !got.contains(one));
    let extra = got.iter().filter(|one| !recorded.contains(one));
    let twice = got.iter().enumerate().filter(|(at, one)| got[..*at].contains(one));
    lacks
        .map(|one| format!("resources lack {one}"))
        .chain(extra.map(|one| format!("resources have {one}")))
        .chain(twice.map(|(_, one)| format!("resources have {one} twice")))
        .collect()
}

/// Compares items in any order: each recorded one has one that is equal in every field, but for what
/// its value may be off.
fn items(got: &[Value], recorded: &[Value], approximate: bool) -> Vec<String> {
    let mut left: Vec<&Value> = got.iter().collect();
    let mut found = Vec::new();
    for item in recorded {
        match left.iter().position(|candidate| same_item(candidate, item, approximate)) {
            Some(at) => drop(left.swap_remove(at)),
            None => found.push(format!("recorded {item}")),
        }
    }
    found.extend(left.into_iter().map(|item| format!("not recorded {item}")));
    found
}

fn same_item(got: &Value, recorded: &Value, approximate: bool) -> bool {
    let bare = |item: &Value| {
        let mut item = item.clone();
        item.as_object_mut().and_then(|fields| fields.remove("value"));
        item
    };
    let value = |item: &Value| item["value"].as_str().and_then(billionths);
    let (Some(ours), Some(theirs)) = (value(got), value(recorded)) else { return false };
    let tolerance = if approximate { (theirs.abs() / 4).max(MILLI) } else { MILLI };
    bare(got) == bare(recorded) && (ours - theirs).abs() <= tolerance
}

/// A Kubernetes quantity in billionths.
fn billionths(text: &str) -> Option<i128> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let mut factor: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => MILLI,
        "" => 1_000 * MILLI,
        "k" => 1_000_000 * MILLI,
        "M" => 1_000_000_000 * MILLI,
        "G" => 1_000_000_000_000 * MILLI,
        "T" => 1_000_000_000_000_000 * MILLI,
        "P" => 1_000_000_000_000_000_000 * MILLI,
        "Ki" => (1_000 * MILLI) << 10,
        "Mi" => (1_000 * MILLI) << 20,
        "Gi" => (1_000 * MILLI) << 30,
        _ => {
            let exponent: u32 = suffix.strip_prefix('e')?.parse().ok()?;
            10_i128.checked_pow(exponent)?.checked_mul(1_000 * MILLI)?
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mut divisor = 1;
    for _ in fraction.chars() {
        if factor % 10 == 0 {
            factor /= 10;
        } else {
            divisor *= 10;
        }
    }
    Some(digits.checked_mul(factor)? / divisor)
}

#[test]
fn quantities_are_read_exactly() {
    assert_eq!(billionths("1500m"), billionths("1.5"));
    assert_eq!(billionths("-2k"), billionths("-2000"));
    assert_eq!(billionths("3e3"), billionths("3k"));
    assert_eq!(billionths("1Ki"), billionths("1024"));
    assert_eq!(billionths("9223372036854775807m"), Some(9_223_372_036_854_775_807 * MILLI));
    assert_eq!(billionths("NaN"), None);
}

#[test]
fn items_match_in_any_order_within_a_thousandth() {
    let item = |name: &str, value: &str| serde_json::json!({"name": name, "value": value});
    let recorded = [item("a", "1"), item("b", "2")];
    assert_eq!(items(&[item("b", "2001m"), item("a", "1")], &recorded, false), [""; 0]);
    assert_eq!(items(&[item("b", "2002m"), item("a", "1")], &recorded, false).len(), 2);
    assert_eq!(items(&[item("b", "2400m"), item("a", "800m")], &recorded, true), [""; 0]);
    assert_eq!(items(&[item("a", "1")], &recorded, false).len(), 1);
}
