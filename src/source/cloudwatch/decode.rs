//! The answer: which datapoint of which series becomes a value. Pure.
//!
//! # Rules
//!
//! * Of each series the newest complete datapoint counts: its bucket starts and ends within the
//!   window that was asked for, and its value is finite. A bucket without one is passed over.
//! * Where the service would take a missing operand for zero, the bucket does not count until each
//!   metric that the expression takes values from has a datapoint in it (`operands` says which these
//!   are); of one with a shorter period one is enough.
//! * A series without any is left out, and if all are, there is no data.
//! * Of several series one whose newest datapoint is more than two periods (`LATE_PERIODS`) older than the newest
//!   of all has ended and is left out: it must not take the others down with it. One that is late by
//!   less stays. The sample's time is that of the oldest datapoint in it, so that its age is never
//!   under-estimated.
//! * A result that the service does not call `Complete` after the last page, or that failed on any,
//!   is an error for every query that needs it, never a smaller number.
//! * A result that the service says lacks series is an error, and so is a call of which it says that
//!   it failed. That nothing was found is believed only when nothing else is said about the call.
//! * What is complete is so by the service's clock, if ours is ahead of it.
//! * A datapoint that does not start where one of the buckets asked for does is none.
//! * Two series of one answer never have the same labels: that is an error which names them.
//! * Where all is asked as it is written ([`AsWritten`](crate::model::Manner::AsWritten)), the service's
//!   word is taken for which datapoints are in the window, which is the newest and what an expression
//!   gives, and of several series the first in the answer's order counts that has not ended; a warning
//!   says how many there are.
//! * An answer in pages whose series are labelled by their values (`${LAST}`) cannot be put together:
//!   that is an error, too.

mod answer;
mod pages;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_cloudwatch::types::{MessageData, MetricDataResult, StatusCode};
use jiff::Timestamp;

use crate::model::query::expression::{self, Spanned, Token};
use crate::model::{Cause, CloudWatchQuery, FetchError, MetricQuestion, Sample, Series, Tick};
use crate::source::cloudwatch::choice::{self, Choice, Grid, Operands, end, newest};
use crate::source::cloudwatch::labels::labels;
use crate::source::cloudwatch::operands::Need;
use crate::source::cloudwatch::plan::{Asked, Call, Member, Naming, Window, moment, seconds};

pub use answer::Answer;

/// Warnings kept of one answer, and characters of each.
const MAX_WARNINGS: usize = 5;
const MAX_WARNING_CHARS: usize = 200;

/// Operands named in an error.
const MAX_OPERANDS_SHOWN: usize = 5;

/// Characters of what was asked, in errors.
const MAX_SUBJECT_CHARS: usize = 160;

/// Messages, about the whole request or one result, which say that series are missing from the
/// answer: of `SEARCH`
/// ("Maximum number of allowed metrics exceeded") and of Metrics Insights (over 10,000 metrics
/// matched, over 500 series found).
const INCOMPLETE: [&str; 3] =
    ["MaxMetricsExceeded", "MaxMatchingResultsExceeded", "MaxQueryResultsExceeded"];

/// When an answer is looked at, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The wall clock.
    pub now: Timestamp,
    /// The monotonic clock.
    pub tick: Tick,
}

/// The samples of all members of a call, with their places.
#[must_use]
pub fn decode(
    call: &Call<'_>,
    answer: &Answer,
    at: Moment,
) -> Vec<(usize, Result<Sample, FetchError>)> {
    let by_id = by_id(answer);
    let members = call.members.iter();
    members
        .map(|member| {
            let chosen = choose(call, member, answer, &by_id);
            (member.position, chosen.and_then(|chosen| chosen.sample(at)))
        })
        .collect()
}

/// The results of an answer by id.
pub(super) type ById<'a> = HashMap<&'a str, Vec<&'a MetricDataResult>>;

/// Sorts an answer.
pub(super) fn by_id(answer: &Answer) -> ById<'_> {
    let mut by_id = ById::with_capacity(answer.results.len());
    for result in &answer.results {
        by_id.entry(result.id.as_deref().unwrap_or_default()).or_default().push(result);
    }
    by_id
}

/// What was taken of all series of one query.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// One for each series, in the answer's order.
    pub choices: Vec<Choice>,
    /// What the service said about them.
    pub warnings: Vec<String>,
    /// Why there is no sample if nothing was taken.
    nothing: String,
    /// Whether of several series the first is the answer.
    pub first: bool,
}

impl Chosen {
    /// The sample, if anything was taken.
    ///
    /// # Errors
    /// [`FetchError::NoData`] if nothing was, [`FetchError::Malformed`] if all that was there are no
    /// finite numbers, or if two series have the same labels.
    pub(super) fn sample(self, at: Moment) -> Result<Sample, FetchError> {
        let mut oldest: Option<i64> = None;
        let mut series: Vec<Series> = Vec::with_capacity(self.choices.len());
        let mut seen = HashSet::new();
        for choice in &self.choices {
            let Some((start, value)) = choice.served() else { continue };
            // Most queries have one series, and there are many of them.
            if self.first && !series.is_empty() {
                break;
            }
            if self.choices.len() > 1 && !seen.insert(&choice.labels) {
                let text = format!(
                    "two series of one answer have the labels {}; give the returned query a label that tells them apart, such as ${{PROP('MetricName')}} or ${{PROP('AccountId')}}",
                    choice.labels
                );
                return Err(FetchError::Malformed(Cause::new(text)));
            }
            oldest = Some(oldest.map_or(*start, |oldest| oldest.min(*start)));
            series.push(Series { labels: choice.labels.clone(), value: value.clone() });
        }
        let Some(oldest) = oldest else {
            // Something was measured, and nobody can tell what: that is no silence, for which a
            // definition may have a number.
            if self.choices.iter().any(|choice| choice.not_finite > 0) {
                return Err(FetchError::Malformed(Cause::new(self.nothing)));
            }
            return Err(FetchError::NoData(Cause::new(self.nothing)));
        };
        let timestamp = moment(oldest);
        // A bucket that starts in the future by the clocks' difference is new, not negative.
        let age = Duration::try_from(at.now.duration_since(timestamp)).unwrap_or_default();
        Ok(Sample {
            timestamp,
            observed: at.tick.before(age),
            series,
            without_number: Vec::new(),
            warnings: self.warnings,
        })
    }
}

/// Chooses the datapoints of one member.
///
/// # Errors
/// When the answer is not complete, or not an answer to the question.
pub(super) fn choose(
    call: &Call<'_>,
    member: &Member<'_>,
    answer: &Answer,
    by_id: &ById<'_>,
) -> Result<Chosen, FetchError> {
    let query = member.query;
    let about = About { query };
    let id = call.items.get(member.answer).map_or("", |item| &*item.id);
    let results = by_id.get(id).map_or(&[][..], Vec::as_slice);
    let told = || results.iter().flat_map(|result| result.messages());
    let whole = answer.messages.iter().chain(told()).find(|message| is_incomplete(message));
    if let Some(message) = whole {
        return Err(about.invalid(&format!(
            "the answer lacks series that match; narrow the query ({})",
            said(message)
        )));
    }
    if results.is_empty() && !may_find_nothing(call, member) {
        return Err(about.malformed("the answer has no result for it"));
    }
    let first = member.naming == Naming::First;
    if answer.pages > 1 && results.len() > 1 && !first && labelled_by_values(call, member) {
        return Err(about.malformed(
            "the answer has several pages, and its series are labelled by their values, which differ from page to page; use ${LABEL} and ${PROP('..')} alone in the label, or shorten lookback",
        ));
    }
    for result in results {
        about.check(result)?;
    }
    let one = member.naming == Naming::One || is_one_select(query);
    if one && !first && results.len() > 1 {
        return Err(about.malformed(&format!("the answer has {} results for it", results.len())));
    }
    let window = answer.complete(call.window, query);
    let grid = Grid { window, period: seconds(query.period) };
    let operands = about.operands(call, member, by_id, grid)?;
    let texts: Vec<_> = results.iter().map(|r| r.label.as_deref().unwrap_or_default()).collect();
    let mut choices = Vec::with_capacity(results.len());
    for (result, labels) in results.iter().zip(labels(&member.naming, &texts)) {
        // Where our clock is known to be wrong, so is what was asked for.
        choices.push(if first && window == call.window {
            choice::first(result, labels)
        } else {
            newest(result, labels, grid, &operands)
        });
    }
    end(&mut choices, grid.period);
    let found = choices.iter().any(|choice| choice.taken.is_some());
    if let Some(message) = answer.messages.first().filter(|_| !found) {
        // Something was not done, and what would have been found by it is not known.
        return Err(about.unavailable(&format!(
            "there is no datapoint, and the service says about the whole call: {}",
            warning(message)
        )));
    }
    if !found && let Some(skew) = answer.skew.filter(|_| window != call.window) {
        // Had we asked for the window by the service's clock, there might be one before ours.
        return Err(about.unavailable(&format!(
            "this machine's clock is {} s ahead of CloudWatch's, and no bucket with a datapoint is complete by that; set the clock right",
            skew.ahead_seconds
        )));
    }
    let messages = told().chain(&answer.messages);
    let nothing =
        if found { String::new() } else { about.nothing(call.window, &choices, &operands) };
    let mut warnings: Vec<String> = messages.take(MAX_WARNINGS).map(warning).collect();
    let series = choices.iter().filter(|choice| choice.served().is_some()).count();
    if first && series > 1 {
        warnings.push(format!("the query gives {series} series, and the first of them is served"));
    }
    Ok(Chosen { choices, warnings, nothing, first })
}

/// Whether a label has other dynamic parts than those that are a constant of their series (User
/// Guide, "Use dynamic labels").
fn labelled_by_values(call: &Call<'_>, member: &Member<'_>) -> bool {
    let label = call.items.get(member.answer).and_then(|item| item.label.as_deref());
    let mut dynamic = label.unwrap_or_default().split("${").skip(1).map(str::trim_start);
    dynamic.any(|part| !part.starts_with("LABEL") && !part.starts_with("PROP("))
}

/// Whether the query is a Metrics Insights query for one series: `GROUP BY` is what makes several of
/// it (User Guide, "Metrics Insights query components and syntax").
fn is_one_select(query: &CloudWatchQuery) -> bool {
    let Some(returned) = query.returned().filter(|returned| returned.is_insights()) else {
        return false;
    };
    let MetricQuestion::Expression { text, .. } = &returned.question else { return false };
    let is = |word: &Spanned<'_>, wanted| matches!(word.token, Token::Word(word) if word.eq_ignore_ascii_case(wanted));
    // A quote that is not closed may hide the clause.
    expression::tokens(text)
        .is_ok_and(|words| !words.windows(2).any(|two| is(&two[0], "GROUP") && is(&two[1], "BY")))
}

/// Whether an answer without a result can be a complete one: the expression gives as many series as
/// it finds.
fn may_find_nothing(call: &Call<'_>, member: &Member<'_>) -> bool {
    let Some(item) = call.items.get(member.answer) else { return false };
    let Asked::Expression { text, .. } = &item.asked else { return false };
    let open_ended = member.query.is_open_ended();
    open_ended || expression::calls(text, &["REMOVE_EMPTY", "SLICE", "SORT"]) > 0
}

fn is_incomplete(message: &MessageData) -> bool {
    message.code().is_some_and(|code| INCOMPLETE.contains(&code))
}

fn said(message: &MessageData) -> String {
    match (message.code(), message.value()) {
        (Some(code), Some(value)) => format!("{code}: {value}"),
        (one, other) => one.or(other).unwrap_or("no message").to_owned(),
    }
}

fn warning(message: &MessageData) -> String {
    said(message).chars().take(MAX_WARNING_CHARS).collect()
}

/// Errors about one query.
struct About<'a> {
    query: &'a CloudWatchQuery,
}

impl About<'_> {
    fn invalid(&self, text: &str) -> FetchError {
        FetchError::Invalid(self.cause(text))
    }

    fn unavailable(&self, text: &str) -> FetchError {
        FetchError::Unavailable(self.cause(text))
    }

    fn partial(&self, text: &str) -> FetchError {
        FetchError::Partial(self.cause(text))
    }

    fn malformed(&self, text: &str) -> FetchError {
        FetchError::Malformed(self.cause(text))
    }

    fn cause(&self, text: &str) -> Cause {
        Cause::new(format!("CloudWatch in {}: {text}", self.query.region))
    }

    /// What the service says about one result.
    fn check(&self, result: &MetricDataResult) -> Result<(), FetchError> {
        let messages: Vec<_> = result.messages().iter().map(warning).collect();
        let why =
            if messages.is_empty() { "without a reason".to_owned() } else { messages.join("; ") };
        match &result.status_code {
            Some(StatusCode::Complete) => {}
            Some(StatusCode::PartialData) => {
                let text = format!("the datapoints are not complete (PartialData, {why})");
                return Err(self.partial(&text));
            }
            Some(StatusCode::InternalError) => {
                let text = format!("the service failed on this metric (InternalError, {why})");
                return Err(self.unavailable(&text));
            }
            Some(StatusCode::Forbidden) => return Err(self.forbidden(&why)),
            Some(other) => {
                let text = format!("unknown status {:?} ({why})", other.as_str());
                return Err(self.malformed(&text));
            }
            None => return Err(self.malformed("a result has no status")),
        }
        if result.timestamps().len() != result.values().len() {
            return Err(self.malformed("a result has more values than times, or fewer"));
        }
        if pages::is_ambiguous(result) {
            return Err(self.malformed("a result has two values for one time"));
        }
        Ok(())
    }

    /// The operands that a value needs.
    fn operands<'b>(
        &self,
        call: &Call<'_>,
        member: &Member<'b>,
        by_id: &ById<'_>,
        grid: Grid,
    ) -> Result<Operands<'b>, FetchError> {
        let mut operands = Operands::default();
        for &(place, need) in &member.needed {
            let part = member.query.queries.get(place);
            let item = member.items.get(place).and_then(|&item| call.items.get(item));
            let (Some(part), Some(item)) = (part, item) else { continue };
            let results = by_id.get(&*item.id).map_or(&[][..], Vec::as_slice);
            let [result] = results else {
                let text =
                    format!("the answer has {} results for the operand {}", results.len(), part.id);
                return Err(self.malformed(&text));
            };
            self.check(result)?;
            operands.add(&part.id, result, grid, need == Need::IfAny);
        }
        Ok(operands)
    }

    fn forbidden(&self, why: &str) -> FetchError {
        let accounts = self.query.queries.iter().filter_map(|part| match &part.question {
            MetricQuestion::Metric(stat) => stat.account_id.as_deref(),
            MetricQuestion::Expression { .. } => None,
        });
        let mut text = format!("the metric may not be read (Forbidden, {why})");
        if let Some(account) = accounts.into_iter().next() {
            let _ = write!(
                text,
                "; account {account} must share its metrics with this one (cross-account observability)"
            );
        }
        FetchError::Denied(self.cause(&text))
    }

    /// Why there is nothing, and where to look.
    fn nothing(&self, window: Window, choices: &[Choice], operands: &Operands<'_>) -> String {
        let returned = self.query.returned().map(|part| &part.question);
        let (subject, advice) = match returned {
            Some(MetricQuestion::Metric(stat)) => (
                stat.to_string(),
                "the namespace, the name and the exact set of dimensions must be those of the metric, and a unit, if given, that of its datapoints",
            ),
            Some(MetricQuestion::Expression { text, .. }) => (
                text.to_string(),
                "operands without datapoints can leave an expression without any, and a search finds only what was published lately",
            ),
            None => (String::new(), ""),
        };
        let subject: String = subject.chars().take(MAX_SUBJECT_CHARS).collect();
        if let Some(text) = lacking(choices, operands) {
            return format!(
                "CloudWatch in {}: no datapoint of {subject} between {window} at which all its operands have one: {text}",
                self.query.region
            );
        }
        let passed: usize = choices.iter().map(|choice| choice.datapoints).sum();
        let passed = if passed == 0 {
            String::new()
        } else {
            format!(" ({passed} outside of that or not finite)")
        };
        format!(
            "CloudWatch in {}: no datapoint of {subject} between {window}{passed}; {advice}",
            self.query.region
        )
    }
}

/// Which operands are to blame that nothing can be taken, and what to do.
fn lacking(choices: &[Choice], operands: &Operands<'_>) -> Option<String> {
    let absent = operands.absent();
    let (ids, at) = if absent.is_empty() {
        let (at, ids) = choices.iter().filter_map(|choice| choice.lacking.as_ref()).max()?;
        (ids, format!(" at {}", moment(*at)))
    } else {
        (&absent, String::new())
    };
    let first = ids.first()?;
    let have = if ids.len() == 1 { "has" } else { "have" };
    let shown = ids.iter().take(MAX_OPERANDS_SHOWN).map(String::as_str).collect::<Vec<_>>();
    Some(format!(
        "{} {have} none{at}; wrap it in FILL({first}, 0) if no datapoint means 0",
        shown.join(", ")
    ))
}

#[cfg(test)]
mod tests;
