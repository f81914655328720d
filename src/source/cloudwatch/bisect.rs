//! A call that was refused as a whole: who is at fault.
//!
//! The service refuses all of a request for one bad query. Often it names it, by place
//! (`The value None for parameter MetricDataQueries.member.223.MetricStat.Stat is not a valid
//! statistic.`, one such line for each) or by id (`Error in expression 'g3_rate': ..`). Where it does,
//! the named ones are at fault and the others are asked again in one call; where it does not, the
//! call is cut in halves, both are asked, and so on, within a number of calls.
//!
//! Only these two forms count. The service repeats what it was sent, and a tenant may name a metric
//! `g3_rate`: what else is quoted names nobody. While a definition of the call has one of the forms in
//! its own text, no message about the call is believed.

use std::collections::{BTreeMap, HashSet};

use crate::source::cloudwatch::plan::{Asked, Call, Item};

/// How the service names a query by its place, counted from one.
const MEMBER: &str = "MetricDataQueries.member.";

/// How the service begins when it names an expression by its id; a quote ends the id.
const IN_EXPRESSION: &str = "Error in expression '";

/// The members that a message names, with the lines that name them, in the author's words.
pub(super) fn named(call: &Call<'_>, said: &str) -> BTreeMap<usize, String> {
    let mut found: BTreeMap<usize, String> = BTreeMap::new();
    if call.items.iter().any(imitates_the_service) {
        return found;
    }
    // What is wrong with an expression is one text, whatever lines the expression has.
    let said = said.trim();
    let is_one = said.starts_with(IN_EXPRESSION);
    for line in said.split(|c| c == '\n' && !is_one) {
        let items = items(call, line);
        for (at, member) in call.members.iter().enumerate() {
            if member.items.iter().any(|item| items.contains(item)) {
                let text = found.entry(at).or_default();
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(&in_authors_words(call, at, line.trim()));
            }
        }
    }
    found
}

/// The items that a line names: by place, or the expression that it begins with.
fn items(call: &Call<'_>, line: &str) -> HashSet<usize> {
    let Some(rest) = line.strip_prefix(IN_EXPRESSION) else {
        let places = line.split(MEMBER).skip(1).filter_map(place);
        return places.filter(|at| *at < call.items.len()).collect();
    };
    let id = rest.split_once('\'').map(|(id, _)| id);
    let all = call.items.iter().enumerate();
    all.filter(|(_, item)| id == Some(&*item.id)).map(|(at, _)| at).collect()
}

/// Whether a text of a definition has what names queries in the service's sentences.
fn imitates_the_service(item: &Item<'_>) -> bool {
    let is_imitation = |text: &str| text.contains(MEMBER) || text.contains(IN_EXPRESSION);
    let asked = match &item.asked {
        Asked::Metric(stat) => {
            let names = [&stat.namespace, &stat.name, &stat.statistic];
            let optional = [&stat.unit, &stat.account_id].into_iter().flatten();
            let dimensions = stat.dimensions.iter().flat_map(|(name, value)| [name, value]);
            names.into_iter().chain(optional).chain(dimensions).any(|text| is_imitation(text))
        }
        Asked::Expression { text, .. } => is_imitation(text),
    };
    asked || item.label.as_deref().is_some_and(is_imitation)
}

/// The index in `223.MetricStat.Stat is ..`.
fn place(after: &str) -> Option<usize> {
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse::<usize>().ok()?.checked_sub(1)
}

/// A message with the places and ids of a call replaced by the ids that the author of one of its
/// members wrote.
pub(super) fn in_authors_words(call: &Call<'_>, member: usize, line: &str) -> String {
    let Some(member) = call.members.get(member) else { return line.to_owned() };
    let author = |item: usize| {
        let at = member.items.iter().position(|&own| own == item)?;
        Some(&*member.query.queries.get(at)?.id)
    };
    let mut out = String::with_capacity(line.len());
    let mut parts = line.split(MEMBER);
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match place(part).and_then(author) {
            Some(id) => {
                let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
                let rest = part[digits..].trim_start_matches('.');
                out.extend(["query \"", id, "\", ", rest]);
            }
            None => out.extend([MEMBER, part]),
        }
    }
    for &item in &member.items {
        let (Some(sent), Some(id)) = (call.items.get(item), author(item)) else { continue };
        for quote in ['\'', '"'] {
            out =
                out.replace(&format!("{quote}{}{quote}", sent.id), &format!("{quote}{id}{quote}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::model::{CloudWatchQuery, Manner, MetricDataQuery, MetricQuestion, MetricStat};
    use crate::source::cloudwatch::plan::plan;

    fn group(name: &str) -> CloudWatchQuery {
        let stat = |name: &str| {
            MetricQuestion::Metric(MetricStat {
                namespace: "N".into(),
                name: name.into(),
                dimensions: Vec::new(),
                statistic: "Sum".into(),
                period: Duration::from_mins(1),
                unit: None,
                account_id: None,
            })
        };
        let part = |id: &str, question, return_data| MetricDataQuery {
            id: id.into(),
            question,
            label: None,
            return_data,
        };
        let rate = MetricQuestion::Expression { text: "errors/total".into(), period: None };
        CloudWatchQuery {
            region: "eu-west-1".into(),
            role_arn: None,
            queries: vec![
                part("errors", stat(name), false),
                part("total", stat("Total"), false),
                part("rate", rate, true),
            ],
            period: Duration::from_mins(1),
            delay: Duration::from_mins(1),
            lookback: Duration::from_mins(6),
            manner: Manner::Strict,
        }
    }

    #[test]
    fn the_service_names_the_guilty() {
        let groups = [group("A"), group("B"), group("C")];
        let groups: Vec<_> = groups.iter().collect();
        let plan = plan(&groups, Timestamp::UNIX_EPOCH);
        let call = &plan.calls[0];
        let ids: Vec<_> = call.items.iter().map(|item| &*item.id).collect();
        assert_eq!(ids, ["m0", "m1", "g0_rate", "m3", "g1_rate", "m5", "g2_rate"]);
        let guilty = |said: &str| named(call, said).into_iter().collect::<Vec<_>>();

        let said = "The value None for parameter MetricDataQueries.member.4.MetricStat.Stat is not a valid statistic.\nThe value x for parameter MetricDataQueries.member.6.MetricStat.Stat is not a valid statistic.\n";
        let text = |x: &str| {
            format!(
                "The value {x} for parameter query \"errors\", MetricStat.Stat is not a valid statistic."
            )
        };
        assert_eq!(guilty(said), [(1, text("None")), (2, text("x"))]);

        let said = "Error in expression 'g1_rate': operator '/' is odd";
        let text = "Error in expression 'rate': operator '/' is odd".to_owned();
        assert_eq!(guilty(said), [(1, text)]);

        // What all share makes all of them guilty.
        let said = "The value x for parameter MetricDataQueries.member.2.MetricStat.Stat is odd";
        assert_eq!(guilty(said).len(), 3);
        for nobody in [
            "no",
            "MetricDataQueries.member.0 is",
            "member.99",
            "MetricDataQueries.member.99",
            "",
            "Error in expression 'g1_rat': no",
            "Error in expression 'g1_rate",
        ] {
            assert_eq!(guilty(nobody), [], "{nobody}");
        }
    }

    #[test]
    fn what_a_tenant_writes_blames_nobody_else() {
        // Whose metric or text has another's id: the service repeats it.
        let groups = [group("A"), group("g2_rate"), group("C")];
        let groups: Vec<_> = groups.iter().collect();
        let hostile = plan(&groups, Timestamp::UNIX_EPOCH);
        let guilty = |said: &str| named(&hostile.calls[0], said).into_keys().collect::<Vec<_>>();
        for said in ["The metric 'g2_rate' is odd", "No \"m1\" here", "'m0'"] {
            assert!(guilty(said).is_empty(), "{said}");
        }
        for said in [
            "Error in expression 'g1_rate': Unexpected 'g2_rate' and \"m1\"",
            "Error in expression 'g1_rate': Unexpected 'x\ny' in MetricStat 'g2_rate'\n'g0_rate'",
            "The value g2_rate for parameter MetricDataQueries.member.4.Id is 'g2_rate'",
        ] {
            assert_eq!(guilty(said), [1], "{said}");
        }
        // Who writes like the service: nobody is named, so the call is divided.
        for text in [
            "x for parameter MetricDataQueries.member.7.Id is bad",
            "x\nError in expression 'g2_rate': no",
        ] {
            let groups = [group("A"), group(text), group("C")];
            let groups: Vec<_> = groups.iter().collect();
            let imitated = plan(&groups, Timestamp::UNIX_EPOCH);
            let said = format!(
                "The value {text} for parameter MetricDataQueries.member.4.MetricName is odd"
            );
            assert_eq!(named(&imitated.calls[0], &said).len(), 0, "{said}");
        }
    }
}
