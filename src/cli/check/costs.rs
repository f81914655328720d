//! What definitions cost, as a table for people.

use std::fmt;

use crate::cli::check::Cost;
use crate::definition::scalar::GoDuration;
use crate::model::query::cloudwatch::MAX_FOUND;
use crate::model::{BillingUnit, Decimal, Estimate, EstimateLine, Rate, SourceEstimate};

/// The table's head.
const HEAD: [&str; 6] =
    ["DEFINITION", "SOURCE", "PER READ", "READ EVERY", "PER MINUTE", "USD PER MONTH"];

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.config {
            Some(path) => writeln!(f, "With the prices of {}:\n", path.display())?,
            None => writeln!(f, "Without a server config, at list prices:\n")?,
        }
        table(f, &self.estimate)
    }
}

fn table(f: &mut fmt::Formatter<'_>, estimate: &Estimate) -> fmt::Result {
    if estimate.lines.is_empty() {
        return writeln!(f, "No definition here asks CloudWatch or SQS: nothing is billed.");
    }
    let rows: Vec<[String; 6]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(estimate.lines.iter().map(row)).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    writeln!(f)?;
    for source in &estimate.sources {
        sum(f, source)?;
    }
    writeln!(f)?;
    f.write_str(
        "This assumes that every metric is wanted all the time, 730 hours a month; one that nobody reads is not asked for.\n",
    )?;
    let open: Vec<String> =
        estimate.sources.iter().filter(|source| source.is_open_ended).map(worst).collect();
    if !open.is_empty() {
        writeln!(
            f,
            ">= : what SELECT, SEARCH and the like find is billed per metric and known from the answer alone. Each counts as one metric here, and may be {MAX_FOUND}: {}.",
            open.join("; ")
        )?;
    }
    Ok(())
}

fn row(line: &EstimateLine) -> [String; 6] {
    let more = if line.toll.is_open_ended() { ">= " } else { "" };
    let unit = match (line.toll.unit, line.toll.count) {
        (BillingUnit::Metrics, 1) => "metric",
        (BillingUnit::Metrics, _) => "metrics",
        (BillingUnit::Requests, 1) => "request",
        (BillingUnit::Requests, _) => "requests",
    };
    let (rate, month) = match &line.same_as {
        Some(other) => ("-".to_owned(), format!("counted at {other}")),
        None => (format!("{more}{}", line.rate), format!("{more}{}", dollars(&line.per_month))),
    };
    [
        line.definition.to_string(),
        line.source.to_string(),
        format!("{more}{} {unit}", line.toll.count),
        GoDuration(line.refresh).to_string(),
        rate,
        month,
    ]
}

/// A source in one line, with the prices.
fn sum(f: &mut fmt::Formatter<'_>, source: &SourceEstimate) -> fmt::Result {
    let more = if source.is_open_ended { ">= " } else { "" };
    write!(f, "Source {}: {more}{} USD per month", source.source, dollars(&source.per_month))?;
    if source.metrics > Rate::default() {
        write!(f, ", {more}{} CloudWatch metrics per minute", source.metrics)?;
        if let Some(ceiling) = source.settings.max_metrics_per_minute {
            // The ceiling has room for the worst case.
            if source.is_open_ended {
                write!(f, ", {} reserved", source.most_metrics)?;
            }
            write!(f, " of {ceiling} allowed")?;
        }
        write!(f, " at {} USD per 1,000", source.settings.price_per_thousand_metrics)?;
    }
    if source.requests > Rate::default() {
        let price = &source.settings.price_per_million_requests;
        write!(f, ", {} SQS requests per minute at {price} USD per 1,000,000", source.requests)?;
    }
    writeln!(f, ".")
}

/// What a source may cost when every search finds as much as it can.
fn worst(source: &SourceEstimate) -> String {
    format!(
        "source {} {} metrics per minute and {} USD per month",
        source.source,
        source.most_metrics,
        dollars(&source.most_per_month)
    )
}

/// Dollars and cents, rounded; less than half a cent is still more than nothing.
fn dollars(amount: &Decimal) -> String {
    let cents = amount.mul(&Decimal::from(100_u64)).to_milli().map(|milli| (milli + 500) / 1000);
    match cents {
        Some(0) if *amount > Decimal::ZERO => "< 0.01".to_owned(),
        Some(cents) => format!("{}.{:02}", cents / 100, cents % 100),
        None => amount.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::check::{Against, check_definitions};
    use crate::control::file_watch::Content;
    use crate::definition::Defaults;
    use crate::model::{CostSettings, SourceDirectory, SourceKind, SourceName, SourceProfile};

    fn document(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: tidepole.dev/v1alpha1\nkind: ExternalMetric\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  {spec}\n"
        )
    }

    /// The table of these documents, with a source at twice the list price and one at list prices.
    fn told(text: &str) -> String {
        let profile = |name: &str, cost| SourceProfile {
            name: SourceName::new(name),
            kind: SourceKind::Aws,
            region: Some("eu-west-1".into()),
            allowed_regions: vec!["eu-west-1".into()],
            allowed_roles: Vec::new(),
            cost,
            allowed_namespaces: Vec::new(),
        };
        let dear = CostSettings {
            price_per_thousand_metrics: "0.02".parse().unwrap(),
            max_metrics_per_minute: Some(600),
            ..CostSettings::default()
        };
        let sources =
            SourceDirectory::new([profile("aws", dear), profile("other", CostSettings::default())]);
        let against =
            Against { sources: Some(sources), defaults: Defaults::default(), cluster: true };
        let contents = [(Path::new("a").to_owned(), Content::Text(text.to_owned()))];
        let mut problems = std::collections::BTreeSet::new();
        let estimate = check_definitions(&mut problems, against, contents.into());
        assert_eq!(problems.len(), 0, "{problems:?}");
        let told = Cost { config: None, estimate }.to_string();
        told.strip_prefix("Without a server config, at list prices:\n\n").unwrap().to_owned()
    }

    #[test]
    fn the_table_says_what_everything_costs() {
        let search = "source: aws\n  refresh: 2m\n  cloudwatch: { expression: \"SUM(SEARCH('a','Sum'))/SUM(SEARCH('b','Sum'))\", period: 1m }";
        let text = document("search", search)
            + &document("jobs", "source: aws\n  sqs: {queues: [a, b]}")
            + &document("again", "source: aws\n  refresh: 10s\n  sqs: {queues: [a, b]}")
            + &document(
                "rare",
                "source: other\n  refresh: 24h\n  maxAge: 48h\n  sqs: {queues: [a]}",
            );
        assert_eq!(
            told(&text),
            "\
DEFINITION                  SOURCE  PER READ      READ EVERY  PER MINUTE  USD PER MONTH
ExternalMetric shop/search  aws     >= 2 metrics  2m          >= 1        >= 0.88
ExternalMetric shop/jobs    aws     2 requests    10s         12          0.21
ExternalMetric shop/again   aws     2 requests    10s         -           counted at ExternalMetric shop/jobs
ExternalMetric shop/rare    other   1 request     24h         0.01        < 0.01

Source aws: >= 1.09 USD per month, >= 1 CloudWatch metrics per minute, 500 reserved of 600 allowed at 0.02 USD per 1,000, 12 SQS requests per minute at 0.4 USD per 1,000,000.
Source other: < 0.01 USD per month, 0.01 SQS requests per minute at 0.4 USD per 1,000,000.

This assumes that every metric is wanted all the time, 730 hours a month; one that nobody reads is not asked for.
>= : what SELECT, SEARCH and the like find is billed per metric and known from the answer alone. Each counts as one metric here, and may be 500: source aws 500 metrics per minute and 438.21 USD per month.
"
        );
    }

    #[test]
    fn nothing_costs_nothing() {
        assert_eq!(told(""), "No definition here asks CloudWatch or SQS: nothing is billed.\n");
    }
}
