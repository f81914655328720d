//! A call that was refused as a whole: who is at fault.
//!
//! The service refuses all of a request for one bad query. Often it names it, by place
//! (`The value None for parameter MetricDataQueries.member.223.MetricStat.Stat is not a valid
//! statistic.`, one such line for each) or by id (`Error in expression 'g3_rate': ..`). Where it does,
//! the named ones are at fault and the others are asked again in one call; where it does not, the
//! call is cut in halves, both are asked, and so on, within a number of calls.

use std::collections::{BTreeMap, HashSet};

use crate::source::cloudwatch::plan::Call;

/// How the service names a query by its place, counted from one.
const MEMBER: &str = "MetricDataQueries.member.";

/// The members that a message names, with the lines that name them, in the author's words.
pub(super) fn named(call: &Call<'_>, said: &str) -> BTreeMap<usize, String> {
    let mut found: BTreeMap<usize, String> = BTreeMap::new();
    for line in said.lines() {
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

/// The items that a line names: by place, or else by a quoted id.
fn items(call: &Call<'_>, line: &str) -> HashSet<usize> {
    let by_place: HashSet<usize> = line.split(MEMBER).skip(1).filter_map(place).collect();
    if !by_place.is_empty() {
        return by_place.into_iter().filter(|at| *at < call.items.len()).collect();
    }
    let quoted: HashSet<&str> = line.split(['\'', '"']).skip(1).step_by(2).collect();
    let all = call.items.iter().enumerate();
    all.filter(|(_, item)| quoted.contains(&*item.id)).map(|(at, _)| at).collect()
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
    use crate::model::{CloudWatchQuery, MetricDataQuery, MetricQuestion, MetricStat};
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
        assert_eq!(guilty("The metric 'm1' is odd").len(), 3);
        for nobody in
            ["no", "MetricDataQueries.member.0 is", "member.99", "MetricDataQueries.member.99", ""]
        {
            assert_eq!(guilty(nobody), [], "{nobody}");
        }
    }
}
