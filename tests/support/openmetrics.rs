//! A strict reader of the `OpenMetrics` 1.0 text format: what `promtool check metrics` and
//! Prometheus' own parser refuse, this refuses, and a little more.

use std::collections::{BTreeMap, BTreeSet};

/// One metric family.
#[derive(Debug, Default)]
pub(crate) struct Family {
    /// `counter`, `gauge`, `histogram`, `info`, ...
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Reads a whole exposition.
///
/// # Errors
/// With the line number and what is wrong with that line.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let Some(body) = text.strip_suffix("# EOF\n") else {
        return Err("the last line must be \"# EOF\" and end in a line break".to_owned());
    };
    let mut reader = Reader::default();
    for (at, line) in body.lines().enumerate() {
        reader.line(line).map_err(|what| format!("line {}: {what}: {line}", at + 1))?;
    }
    for (name, family) in &reader.families {
        complete(name, family).map_err(|what| format!("{name}: {what}"))?;
    }
    Ok(reader.families)
}

#[derive(Default)]
struct Reader {
    families: BTreeMap<String, Family>,
    current: String,
    seen: BTreeSet<String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        match line.strip_prefix("# ") {
            Some(descriptor) => self.descriptor(descriptor),
            None if line.starts_with('#') || line.trim() != line || line.is_empty() => {
                Err("neither a descriptor nor a sample".to_owned())
            }
            None => self.sample(line),
        }
    }

    fn descriptor(&mut self, text: &str) -> Result<(), String> {
        let mut words = text.splitn(3, ' ');
        let (Some(what), Some(name), rest) = (words.next(), words.next(), words.next()) else {
            return Err("a descriptor has a keyword and a name".to_owned());
        };
        if !is_name(name, true) {
            return Err(format!("{name:?} is not a metric name"));
        }
        if name != self.current {
            if self.families.contains_key(name) {
                return Err("the lines of a family must be together".to_owned());
            }
            name.clone_into(&mut self.current);
            self.families.insert(name.to_owned(), Family::default());
        }
        let family = self.families.entry(name.to_owned()).or_default();
        if !family.samples.is_empty() {
            return Err("a descriptor comes before its samples".to_owned());
        }
        let rest = rest.unwrap_or_default();
        match what {
            "HELP" if family.help.is_empty() => rest.clone_into(&mut family.help),
            "TYPE" if family.kind.is_empty() => {
                const KINDS: [&str; 8] = [
                    "counter",
                    "gauge",
                    "histogram",
                    "gaugehistogram",
                    "info",
                    "stateset",
                    "summary",
                    "unknown",
                ];
                if !KINDS.contains(&rest) {
                    return Err(format!("unknown type {rest:?}"));
                }
                if rest == "counter" && name.ends_with("_total") {
                    return Err("a counter family's name has no _total".to_owned());
                }
                rest.clone_into(&mut family.kind);
            }
            "UNIT" if name.ends_with(&format!("_{rest}")) => {}
            "UNIT" => return Err("the unit must be the end of the name".to_owned()),
            "HELP" | "TYPE" => return Err("stated twice".to_owned()),
            _ => return Err(format!("unknown descriptor {what:?}")),
        }
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let end = line.find(['{', ' ']).ok_or("a sample needs a value")?;
        let (name, mut rest) = line.split_at(end);
        if !is_name(name, true) {
            return Err(format!("{name:?} is not a metric name"));
        }
        let mut labels = BTreeMap::new();
        if let Some(text) = rest.strip_prefix('{') {
            rest = read_labels(text, &mut labels)?;
        }
        let values = rest.strip_prefix(' ').ok_or("a space comes before the value")?;
        let (values, exemplar) =
            values.split_once(" # ").map_or((values, None), |(v, e)| (v, Some(e)));
        let mut numbers = values.split(' ');
        let value = number(numbers.next().unwrap_or_default())?;
        numbers.next().map_or(Ok(0.0), number)?;
        if numbers.next().is_some() {
            return Err("more than a value and a timestamp".to_owned());
        }
        let family = self
            .families
            .get_mut(&self.current)
            .ok_or("a sample without a descriptor before it")?;
        let suffix = name.strip_prefix(self.current.as_str()).ok_or("not of the family above")?;
        let suffixes: &[&str] = match family.kind.as_str() {
            "counter" => &["_total", "_created"],
            "histogram" => &["_bucket", "_sum", "_count", "_created"],
            "summary" => &["", "_sum", "_count", "_created"],
            "info" => &["_info"],
            "" => return Err("the family has no TYPE".to_owned()),
            _ => &[""],
        };
        if !suffixes.contains(&suffix) {
            return Err(format!("a {} must not have the suffix {suffix:?}", family.kind));
        }
        if exemplar.is_some() && !["_total", "_bucket"].contains(&suffix) {
            return Err("an exemplar belongs to a counter or a bucket".to_owned());
        }
        if ["_total", "_bucket", "_count"].contains(&suffix) && (value.is_nan() || value < 0.0) {
            return Err("a count is a number from zero up".to_owned());
        }
        if suffix == "_bucket" && !labels.contains_key("le") {
            return Err("a bucket needs the label le".to_owned());
        }
        if !self.seen.insert(format!("{name}{labels:?}")) {
            return Err("the same series twice".to_owned());
        }
        family.samples.push(Sample { name: name.to_owned(), labels, value });
        Ok(())
    }
}

/// Reads `key="value",...}` and returns what follows.
fn read_labels<'a>(
    mut text: &'a str,
    labels: &mut BTreeMap<String, String>,
) -> Result<&'a str, String> {
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Ok(rest);
        }
        let (key, rest) = text.split_once("=\"").ok_or("a label is key=\"value\"")?;
        if !is_name(key, false) {
            return Err(format!("{key:?} is not a label name"));
        }
        let (value, rest) = read_value(rest)?;
        if labels.insert(key.to_owned(), value).is_some() {
            return Err(format!("label {key} twice"));
        }
        text = match rest.strip_prefix(',') {
            Some("" | "}") => return Err("a comma is followed by a label".to_owned()),
            Some(rest) if !rest.starts_with('}') => rest,
            Some(_) => return Err("a comma is followed by a label".to_owned()),
            None if rest.starts_with('}') => rest,
            None => return Err("labels are separated by commas".to_owned()),
        };
    }
}

/// Reads a label's value up to its closing quote.
fn read_value(text: &str) -> Result<(String, &str), String> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match (escaped, c) {
            (true, 'n') => value.push('\n'),
            (true, '\\' | '"') => value.push(c),
            (true, _) => return Err(format!("unknown escape \\{c}")),
            (false, '\\') => {}
            (false, '"') => return Ok((value, &text[at + 1..])),
            (false, _) => value.push(c),
        }
        escaped = !escaped && c == '\\';
    }
    Err("a label's value has no end".to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            text.parse().map_err(|_| format!("{text:?} is not a number"))
        }
        _ => Err(format!("{text:?} is not a number")),
    }
}

fn is_name(text: &str, colons: bool) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    !text.is_empty() && text.chars().all(ok) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Buckets of one series as (bound, count), and the series' count.
type Buckets = (Vec<(f64, f64)>, Option<f64>);

/// What can be said only of a whole family.
fn complete(name: &str, family: &Family) -> Result<(), String> {
    if family.kind.is_empty() || family.help.is_empty() {
        return Err("TYPE and HELP belong to every family".to_owned());
    }
    if family.kind != "histogram" {
        return Ok(());
    }
    // By the labels apart from `le`.
    let mut series: BTreeMap<BTreeMap<String, String>, Buckets> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le");
        let (buckets, count) = series.entry(labels).or_default();
        match (sample.name.strip_prefix(name), bound) {
            (Some("_bucket"), Some(bound)) => buckets.push((number(&bound)?, sample.value)),
            (Some("_count"), _) => *count = Some(sample.value),
            _ => {}
        }
    }
    for (labels, (buckets, count)) in series {
        let rising = buckets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1);
        let last = buckets.last().copied().unwrap_or_default();
        if !rising || last.0 != f64::INFINITY || Some(last.1) != count {
            return Err(format!("buckets of {labels:?} do not rise to +Inf and the count"));
        }
    }
    Ok(())
}
