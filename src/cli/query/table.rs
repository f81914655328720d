//! What is told, for people: headings at the left, no line longer than a narrow terminal unless a
//! single word is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::cli::query::account::{Account, Call, Item, Outcome, SampleShown};
use crate::cli::query::yaml;
use crate::lookup::message::show;
use crate::model::Decimal;

/// Columns of a line.
const WIDTH: usize = 100;

/// Columns of the headings.
const HEADING: usize = 13;

/// Series and items shown, unless all are wanted.
const MAX_ROWS: usize = 20;

/// The text, with every series and item when `full`.
pub(super) fn render(account: &Account, full: bool, colours: bool) -> String {
    let mut text = Text::new(colours);
    let rows = if full { usize::MAX } else { MAX_ROWS };
    head(&mut text, account);
    for (i, call) in account.calls.iter().enumerate() {
        let number = if account.calls.len() > 1 { format!(" {}", i + 1) } else { String::new() };
        exchange(&mut text, call, &number);
    }
    if !account.choice.is_empty() {
        text.gap();
        for (i, sentence) in account.choice.iter().enumerate() {
            text.line(if i == 0 { "Choice" } else { "" }, sentence);
        }
    }
    if let Some(sample) = &account.sample {
        sampled(&mut text, sample, rows);
    }
    if let Some(result) = &account.result {
        outcome(&mut text, account, result, rows);
    } else if account.dry_run {
        text.gap();
        text.line("Result", "dry run: nothing was sent");
    }
    text.end_text()
}

fn head(text: &mut Text, account: &Account) {
    let definition = &account.definition;
    let name = match &definition.namespace {
        Some(namespace) => format!("{namespace}/{}", definition.name),
        None => definition.name.clone(),
    };
    text.line("Definition", &format!("{} {name}, {}", definition.kind, definition.origin));
    text.line("Metric", &format!("{}{}", definition.metric, after_space(&definition.labels)));
    let selector = match account.selector.as_str() {
        "" => String::new(),
        selector => format!(", selector {selector}"),
    };
    let assumed =
        if account.namespace_assumed { " (assumed; --namespace names another)" } else { "" };
    let reader = match account.namespace.as_str() {
        "" => "the whole cluster".to_owned(),
        namespace => format!("namespace {namespace}{assumed}"),
    };
    text.line("Reader", &format!("{reader}{selector}"));
    text.line("Source", &format!("{} ({})", account.source, account.kind));
    text.line("Query", &account.query);
    text.line("Rules", &rules(account));
    for note in &account.notes {
        text.line("Note", note);
    }
}

fn rules(account: &Account) -> String {
    let rules = &account.rules;
    let mut all = format!(
        "refresh {}, maxAge {}, onNoData {}",
        rules.refresh, rules.max_age, rules.on_no_data
    );
    for (name, value, silent) in [
        ("aggregate", Some(rules.aggregate), "none"),
        ("scale", Some(rules.scale.as_str()), "1"),
        ("offset", Some(rules.offset.as_str()), "0"),
        ("min", rules.min.as_deref(), ""),
        ("max", rules.max.as_deref(), ""),
    ] {
        if let Some(value) = value.filter(|value| *value != silent) {
            let _ = write!(all, ", {name} {value}");
        }
    }
    all
}

fn exchange(text: &mut Text, call: &Call, number: &str) {
    text.gap();
    text.line(&format!("Request{number}"), &call.operation);
    text.line("", &call.target);
    text.block(&call.request);
    let Some(took) = call.took_seconds else { return };
    let took = format!("after {}", show(Duration::from_secs_f64(took)));
    match (&call.answer, &call.error) {
        (Some(answer), _) => {
            text.line(&format!("Answer{number}"), &took);
            text.block(answer);
        }
        (None, error) => {
            let error = error.as_deref().unwrap_or("nothing");
            text.line(&format!("Answer{number}"), &format!("{took}: {error}"));
        }
    }
    if call.omitted > 0 {
        let more =
            format!("{} elements or characters are left out; --full shows all", call.omitted);
        text.line("", &more);
    }
}

fn sampled(text: &mut Text, sample: &SampleShown, rows: usize) {
    text.gap();
    let count = sample.series.len();
    let age = show(Duration::from_millis(millis(sample.age_seconds)));
    text.line("Sample", &format!("{:.3}, {age} old, {count} series", sample.timestamp));
    let width = sample.series.iter().take(rows).map(|s| s.value.chars().count()).max();
    for series in sample.series.iter().take(rows) {
        let value = format!("{:>1$}", series.value, width.unwrap_or(0));
        text.line("", &format!("{value}{}", after_space(&series.labels)));
    }
    text.more(count, rows);
}

fn outcome(text: &mut Text, account: &Account, result: &Outcome, rows: usize) {
    text.gap();
    for item in result.items.iter().take(rows) {
        text.line("Item", &arithmetic(item));
    }
    text.more(result.items.len(), rows);
    if let Some(value) = &result.value {
        let readable = Decimal::parse_quantity(value).map(|number| number.to_string());
        let readable = readable.ok().filter(|number| number != value);
        let readable = readable.map(|number| format!(" ({number})")).unwrap_or_default();
        let sum = match result.items.len() {
            0 | 1 => String::new(),
            items if result.is_average => format!(", the average of {items} items"),
            items => format!(", the sum of {items} items"),
        };
        let fate = format!("{value}{readable}{sum} would be served: {}", fresh(account, result));
        text.inked("Result", &fate, Ink::Good);
    }
    if let Some(error) = &result.error {
        text.inked("Result", "no value would be served; an HPA reads:", Ink::Bad);
        text.line("", error);
    }
    if let Some(detail) = &result.detail {
        text.line("Detail", detail);
    }
}

fn fresh(account: &Account, result: &Outcome) -> String {
    match &account.sample {
        Some(sample) => {
            let age = show(Duration::from_millis(millis(sample.age_seconds)));
            format!("{}, {age} old, maxAge {}", result.state, account.rules.max_age)
        }
        None => "the number that onNoData names".to_owned(),
    }
}

/// How an item came about, in one line: `{queue=jobs} 1234 -> scale 1.234 -> max 1 = 1`.
fn arithmetic(item: &Item) -> String {
    let mut line = String::new();
    if let Some(object) = &item.object {
        line = format!("{object} ");
    } else if !item.labels.is_empty() {
        line = format!("{} ", braces(&item.labels));
    }
    for (i, step) in item.steps.iter().enumerate() {
        let arrow = if i > 0 { " -> " } else { "" };
        let of = match (i, item.series) {
            (0, series) if step.step != "value" && series > 0 => format!(" of {series} series"),
            _ => String::new(),
        };
        let name = if step.step == "value" { String::new() } else { format!("{}{of} ", step.step) };
        let _ = write!(line, "{arrow}{name}{}", step.value);
    }
    let _ = write!(line, " = {}", item.value);
    line
}

fn braces(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", pairs.join(","))
}

pub(super) fn after_space(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() { String::new() } else { format!(" {}", braces(labels)) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an age is at most some years and not negative"
)]
pub(super) fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

/// What a line is about, where the terminal has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// Nothing of note.
    Plain,
    /// A value.
    Good,
    /// No value.
    Bad,
}

impl Ink {
    /// ECMA-48's "select graphic rendition": bold, with green or red.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("\u{1b}[1;32m"),
            Self::Bad => Some("\u{1b}[1;31m"),
        }
    }
}

/// A heading is bold, and what follows a colour is as it was before.
const BOLD: &str = "\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";

/// Lines under headings.
pub(super) struct Text {
    out: String,
    colours: bool,
}

impl Text {
    /// An empty text; whether it goes to a terminal that shows colours.
    pub(super) fn new(colours: bool) -> Self {
        Self { out: String::new(), colours }
    }

    /// The whole text.
    pub(super) fn end_text(self) -> String {
        self.out
    }

    pub(super) fn gap(&mut self) {
        self.out.push('\n');
    }

    /// A heading and words behind it, wrapped.
    pub(super) fn line(&mut self, heading: &str, words: &str) {
        self.inked(heading, words, Ink::Plain);
    }

    /// The same in a colour.
    pub(super) fn inked(&mut self, heading: &str, words: &str, ink: Ink) {
        let mut line = format!("{heading:HEADING$}");
        let (mut empty, mut is_first) = (true, true);
        // What an upstream says must not move the cursor.
        let words = words.replace(|c: char| c.is_control(), " ");
        for word in words.split(' ') {
            let wide = line.chars().count() + word.chars().count() + usize::from(!empty);
            if !empty && wide > WIDTH {
                self.painted(&line, std::mem::take(&mut is_first), ink);
                line = " ".repeat(HEADING);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.painted(&line, is_first, ink);
    }

    /// A whole line; the first of a paragraph has the heading.
    fn painted(&mut self, line: &str, is_first: bool, ink: Ink) {
        let line = line.trim_end();
        let heading = if is_first { line.len().min(HEADING) } else { 0 };
        if !self.colours || !line.is_char_boundary(heading) {
            return self.end(line);
        }
        let (heading, words) = line.split_at(heading);
        let heading = match heading.trim_end() {
            "" => heading.to_owned(),
            title => format!("{BOLD}{title}{RESET}{}", &heading[title.len()..]),
        };
        match ink.code() {
            Some(code) => self.end(&format!("{heading}{code}{words}{RESET}")),
            None => self.end(&format!("{heading}{words}")),
        }
    }

    fn end(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    /// Data, indented.
    fn block(&mut self, data: &serde_json::Value) {
        // A value of JSON can always be said in JSON.
        for line in yaml::render(data).unwrap_or_default().lines() {
            self.end(&format!("    {line}"));
        }
    }

    pub(super) fn more(&mut self, count: usize, rows: usize) {
        if count > rows {
            self.line("", &format!("and {} more; --full shows all", count - rows));
        }
    }
}

#[cfg(test)]
mod tests;
