//! Labels of series, static and dynamic. After "Use dynamic labels" in the service's user guide.

use super::math::Line;

/// The label of a series: of the query's `Label`, if it has one, and the series' own. `id`: of an
/// expression that gives one series. `several`: the expression gives an array.
pub(super) fn of(label: Option<&str>, id: Option<&str>, line: &Line, several: bool) -> String {
    match (label, id) {
        (None, Some(id)) if !several => id.to_owned(),
        (None, _) => line.label.clone(),
        (Some(label), _) if label.contains("${") => expand(label, line),
        // A static label does not tell the series of an array apart: the service appends theirs.
        (Some(label), _) if several => format!("{label} {}", line.label).trim().to_owned(),
        (Some(label), _) => label.to_owned(),
    }
}

fn expand(label: &str, line: &Line) -> String {
    let mut expanded = String::new();
    let mut rest = label;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let Some((inner, tail)) = after.split_once('}') else {
            return expanded + "${" + after;
        };
        match value(inner.trim(), line) {
            Some(value) => expanded.push_str(&value),
            None => expanded.extend(["${", inner, "}"]),
        }
        rest = tail;
    }
    expanded + rest
}

fn value(name: &str, line: &Line) -> Option<String> {
    let number = |value: Option<f64>| Some(value.map_or_else(String::new, |v| v.to_string()));
    let values = || line.values();
    #[expect(clippy::cast_precision_loss, reason = "datapoints of a window are few")]
    let count = line.points.len() as f64;
    match name {
        "LABEL" => Some(line.label.clone()),
        "AVG" => number((count > 0.0).then(|| values().sum::<f64>() / count)),
        "SUM" => number(Some(values().sum())),
        "MIN" => number(values().reduce(f64::min)),
        "MAX" => number(values().reduce(f64::max)),
        "FIRST" => number(values().next()),
        "LAST" => number(values().last()),
        "DATAPOINT_COUNT" => number(Some(count)),
        _ => {
            let property = name.strip_prefix("PROP('")?.strip_suffix("')")?;
            let found = line.properties.iter().find(|(name, _)| name == property);
            Some(found.map_or_else(String::new, |(_, value)| value.clone()))
        }
    }
}
