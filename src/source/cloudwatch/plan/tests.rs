use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::query::expression::{Token, tokens};
use crate::source::cloudwatch::expression::{is_call, is_id};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn stat(name: &str, period: u64) -> MetricStat {
    MetricStat {
        namespace: "N".into(),
        name: name.into(),
        dimensions: vec![("D".into(), "v".into())],
        statistic: "Sum".into(),
        period: Duration::from_secs(period),
        unit: None,
        account_id: None,
    }
}

fn metric(id: &str, name: &str, period: u64) -> MetricDataQuery {
    let question = MetricQuestion::Metric(stat(name, period));
    MetricDataQuery { id: id.into(), question, label: None, return_data: false }
}

fn math(id: &str, text: &str) -> MetricDataQuery {
    let question = MetricQuestion::Expression { text: text.into(), period: None };
    MetricDataQuery { id: id.into(), question, label: None, return_data: false }
}

/// The last is returned.
fn group(mut queries: Vec<MetricDataQuery>) -> CloudWatchQuery {
    queries.last_mut().unwrap().return_data = true;
    CloudWatchQuery {
        region: "eu-west-1".into(),
        role_arn: None,
        queries,
        period: Duration::from_mins(1),
        delay: Duration::from_mins(1),
        lookback: Duration::from_mins(6),
        manner: Manner::Strict,
    }
}

fn single(name: &str) -> CloudWatchQuery {
    group(vec![metric(CloudWatchQuery::SINGLE_ID, name, 60)])
}

const NOW: &str = "2026-11-21T12:00:37.250Z";

fn shown(queries: &[CloudWatchQuery]) -> Vec<Vec<String>> {
    let queries: Vec<_> = queries.iter().collect();
    let item = |item: &Item<'_>| {
        let asked = match &item.asked {
            Asked::Metric(stat) => stat.name.to_string(),
            Asked::Expression { text, .. } => text.to_string(),
        };
        format!("{}{} = {asked}", item.id, if item.return_data { "!" } else { "" })
    };
    let calls = plan(&queries, at(NOW)).calls;
    calls.iter().map(|call| call.items.iter().map(item).collect()).collect()
}

#[test]
fn windows_are_whole_buckets() {
    let mut query = single("A");
    for (now, period, delay, lookback, start, end) in [
        (NOW, 60, 60, 360, "2026-11-21T11:54:00Z", "2026-11-21T11:59:00Z"),
        // To the moment.
        ("2026-11-21T12:00:00Z", 60, 60, 360, "2026-11-21T11:54:00Z", "2026-11-21T11:59:00Z"),
        ("2026-11-21T11:59:59.999Z", 60, 60, 360, "2026-11-21T11:53:00Z", "2026-11-21T11:58:00Z"),
        (NOW, 300, 120, 1620, "2026-11-21T11:30:00Z", "2026-11-21T11:55:00Z"),
        (NOW, 10, 10, 60, "2026-11-21T11:59:30Z", "2026-11-21T12:00:20Z"),
        // At least one bucket.
        (NOW, 3600, 60, 120, "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"),
        (NOW, 86_400, 0, 86_400, "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"),
    ] {
        query.period = Duration::from_secs(period);
        query.delay = Duration::from_secs(delay);
        query.lookback = Duration::from_secs(lookback);
        let window = Window::of(&query, at(now));
        assert_eq!(window.to_string(), format!("{start} and {end}"), "{now} {period}");
    }
}

#[test]
fn groups_share_a_call_and_their_metrics() {
    let rate = |name| {
        group(vec![metric("errors", name, 60), metric("m0", "T", 60), math("rate", "errors/m0")])
    };
    let all = [single("A"), rate("E"), single("T"), rate("F"), single("A")];
    assert_eq!(
        shown(&all),
        [["m0! = A", "m1! = E", "m2! = T", "g1_rate! = m1/m2", "m4! = F", "g3_rate! = m4/m2",]]
    );
    let all: Vec<_> = all.iter().collect();
    let plan = plan(&all, at(NOW));
    let answers: Vec<_> = plan.calls[0].members.iter().map(|m| (m.position, m.answer)).collect();
    assert_eq!(answers, [(0, 0), (1, 3), (2, 2), (3, 5), (4, 0)]);
    assert_eq!(plan.calls[0].metrics(), 4);
}

#[test]
fn a_call_for_one_group_has_the_authors_ids() {
    let group = group(vec![metric("errors", "E", 60), metric("b", "E", 60), math("r", "errors/b")]);
    assert_eq!(shown(&[group]), [["errors! = E", "b! = E", "r! = errors/b"]]);
}

#[test]
fn what_cannot_share_goes_alone() {
    let sum = |text| group(vec![metric("a", "A", 60), metric("ab", "B", 60), math("e", text)]);
    let select = group(vec![math("q", "SELECT AVG(X) FROM \"N\"")]);
    let search = group(vec![math("s", "SUM(SEARCH('{N,D} x', 'Sum', 60))")]);
    let shared = sum("SUM(METRICS('a'))");
    let all = [single("A"), select, search, shared, sum("SUM(METRICS('b'))"), sum("c+1")];
    assert_eq!(
        shown(&all),
        [
            vec!["m0! = A", "m1! = B", "g1_e! = SUM([m0,m1])"],
            vec!["q! = SELECT AVG(X) FROM \"N\""],
            vec!["s! = SUM(SEARCH('{N,D} x', 'Sum', 60))"],
            vec!["a = A", "ab! = B", "e! = SUM(METRICS('b'))"],
            vec!["a = A", "ab = B", "e! = c+1"],
        ]
    );
}

#[test]
fn names_may_grow_up_to_the_services_limits() {
    let grown = |terms: usize| {
        // Each `aa` becomes `m0`, and each `x` becomes `g500_x` or shorter.
        let text = format!("aa{}", "+x".repeat(terms));
        group(vec![metric("aa", "A", 60), math("x", "aa*2"), math("e", &text)])
    };
    let sizes = |all: &[CloudWatchQuery]| shown(all).iter().map(Vec::len).collect::<Vec<_>>();
    // 4 + 7 * 292 = 2048 characters at most with the longest names, and one more term is too long.
    assert_eq!(sizes(&[grown(292), single("A")]), [3]);
    assert_eq!(sizes(&[grown(293), single("A")]), [3, 1]);
}

#[test]
fn other_regions_roles_and_windows_are_other_calls() {
    let mut others = vec![single("A"), single("B")];
    others.push(CloudWatchQuery { region: "us-east-1".into(), ..single("A") });
    others.push(CloudWatchQuery { role_arn: Some("arn".into()), ..single("A") });
    others.push(CloudWatchQuery { lookback: Duration::from_mins(9), ..single("A") });
    others.push(single("C"));
    let calls: Vec<_> = shown(&others).iter().map(Vec::len).collect();
    assert_eq!(calls, [3, 1, 1, 1]);
}

#[test]
fn calls_end_at_the_services_limits() {
    let many: Vec<_> = (0..1001).map(|i| single(&format!("M{i}"))).collect();
    let calls: Vec<_> = shown(&many).iter().map(Vec::len).collect();
    assert_eq!(calls, [500, 500, 1]);
    // 15 hours of 60 s are 900 datapoints: 112 metrics fill an answer.
    let long = |name: &str| CloudWatchQuery { lookback: Duration::from_mins(901), ..single(name) };
    let many: Vec<_> = (0..113).map(|i| long(&format!("M{i}"))).collect();
    let calls: Vec<_> = shown(&many).iter().map(Vec::len).collect();
    assert_eq!(calls, [112, 1]);
}

#[test]
fn a_group_above_the_limits_goes_alone() {
    let part = |i: u32| metric(&format!("m{i}"), &format!("M{i}"), 60);
    let large = || group((0..501).map(part).collect());
    let sizes = |all: &[CloudWatchQuery]| shown(all).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(&[single("A"), large(), single("B")]), [2, 501]);
    assert_eq!(sizes(&[large(), single("B"), single("C")]), [501, 2]);
}

#[test]
fn a_group_that_returns_nothing_is_refused() {
    let mut nothing = single("A");
    nothing.queries[0].return_data = false;
    let empty = CloudWatchQuery { queries: Vec::new(), ..single("A") };
    let all = [&nothing, &empty];
    let plan = plan(&all, at(NOW));
    assert!(plan.calls.is_empty());
    let kinds: Vec<_> = plan.refused.iter().map(|(at, error)| (*at, error.kind())).collect();
    assert_eq!(kinds, [(0, "invalid"), (1, "invalid")]);
}

fn any_part() -> impl Strategy<Value = MetricDataQuery> {
    let id = select(vec!["a", "ab", "b", "m0", "m1", "g0_a", "rate"]);
    let text = select(vec![
        "a/b",
        "a+ab*1e3",
        "SUM(METRICS())",
        "SUM(METRICS('a'))/b",
        "FILL(m0, 0)",
        "rate",
        "m1-g0_a",
        "SEARCH('{N,D} x', 'Sum', 60)",
        "select AVG(x) FROM n",
        "[METRICS(), a]",
        "SUM([a,b])",
    ]);
    let label = proptest::option::weighted(0.2, select(vec!["x", "y"]));
    (id, any::<bool>(), 0..12_u32, select(vec![1, 10, 60, 300]), text, label, any::<bool>())
        .prop_map(|(id, is_metric, name, period, text, label, return_data)| MetricDataQuery {
            return_data,
            label: label.map(Arc::from),
            ..if is_metric { metric(id, &format!("M{name}"), period) } else { math(id, text) }
        })
}

fn any_query() -> impl Strategy<Value = CloudWatchQuery> {
    let role = proptest::option::weighted(0.1, Just(Arc::from("arn")));
    let spans = (select(vec![1, 10, 60, 86_400, u64::MAX]), any::<u32>(), any::<u32>());
    let parts = proptest::collection::vec(any_part(), 0..6);
    (select(vec!["eu-west-1", "us-east-1"]), role, parts, spans).prop_map(
        |(region, role_arn, queries, (period, delay, lookback))| CloudWatchQuery {
            region: region.into(),
            role_arn,
            queries,
            period: Duration::from_secs(period),
            // Mostly the same window, so that calls fill up.
            delay: Duration::from_secs(if delay % 4 == 0 { delay.into() } else { 60 }),
            lookback: Duration::from_secs(if lookback % 4 == 0 { lookback.into() } else { 3660 }),
            manner: Manner::Strict,
        },
    )
}

/// Whether an expression of a call for several groups refers only to items of its own group.
fn is_closed(call: &Call<'_>, member: &Member<'_>) -> bool {
    let own: HashSet<&str> = member.items.iter().map(|&item| &*call.items[item].id).collect();
    member.items.iter().all(|&item| match &call.items[item].asked {
        Asked::Metric(_) => true,
        Asked::Expression { text, .. } => {
            let all = tokens(text).unwrap();
            all.iter().enumerate().all(|(i, spanned)| {
                let Token::Word(word) = spanned.token else { return true };
                if is_call(&all[i + 1..]) {
                    word != "METRICS"
                } else {
                    !is_id(word) || own.contains(word)
                }
            })
        }
    })
}

proptest! {
    #[test]
    fn every_plan_keeps_the_rules(queries in proptest::collection::vec(any_query(), 0..60)) {
        let queries: Vec<_> = queries.iter().collect();
        let plan = plan(&queries, at(NOW));
        let mut answered: Vec<usize> = plan.refused.iter().map(|(at, _)| *at).collect();
        for call in &plan.calls {
            answered.extend(call.members.iter().map(|member| member.position));
            for member in &call.members {
                prop_assert!(call.items[member.answer].return_data);
                prop_assert_eq!(member.items.len(), member.query.queries.len());
                prop_assert!(member.items.contains(&member.answer));
                for (place, _) in &member.needed {
                    prop_assert!(matches!(call.items[member.items[*place]].asked, Asked::Metric(_)));
                }
                prop_assert_eq!(&*member.query.region, &**call.region);
                prop_assert_eq!(member.query.role_arn.as_ref(), call.role);
                prop_assert_eq!(Window::of(member.query, at(NOW)), call.window);
                prop_assert!(call.window.start < call.window.end);
            }
            if call.members.len() < 2 {
                continue;
            }
            let mut ids: Vec<_> = call.items.iter().map(|item| &*item.id).collect();
            ids.sort_unstable();
            prop_assert!(ids.windows(2).all(|two| two[0] != two[1]), "{:?}", ids);
            prop_assert!(ids.iter().all(|id| id.len() <= MAX_ID && id.starts_with(['g', 'm'])));
            prop_assert!(call.items.len() <= MAX_QUERIES_PER_CALL);
            let datapoints = call.members.iter().flat_map(|m| m.items.iter().map(move |item| (*item, m)));
            let datapoints: HashMap<usize, u64> = datapoints
                .map(|(item, member)| {
                    let period = match &call.items[item].asked {
                        Asked::Metric(stat) => stat.period,
                        Asked::Expression { period, .. } => period.unwrap_or(member.query.period),
                    };
                    (item, call.window.datapoints(period))
                })
                .collect();
            prop_assert!(datapoints.values().sum::<u64>() <= MAX_DATAPOINTS_PER_CALL);
            prop_assert!(call.members.iter().all(|member| !member.query.is_open_ended()));
            prop_assert!(call.members.iter().all(|member| is_closed(call, member)), "{:?}", call.items);
            let mut wanted: HashSet<usize> = call.members.iter().map(|member| member.answer).collect();
            for member in &call.members {
                wanted.extend(member.needed.iter().map(|(place, _)| member.items[*place]));
            }
            let returned: HashSet<usize> =
                (0..call.items.len()).filter(|at| call.items[*at].return_data).collect();
            prop_assert_eq!(wanted, returned);
        }
        answered.sort_unstable();
        prop_assert_eq!(answered, (0..queries.len()).collect::<Vec<_>>());
    }
}

/// A group of 500 whose expressions name one of its metrics 200 times each.
fn large(named: &str) -> CloudWatchQuery {
    let mut parts: Vec<_> =
        (100..350).map(|at| metric(&format!("a{at}"), &format!("M{at}"), 60)).collect();
    let text = vec![named; 200].join("+");
    parts.extend((0..250).map(|at| math(&format!("e{at}"), &text)));
    group(parts)
}

#[test]
fn large_groups_are_planned_in_the_time_of_their_text() {
    let best = |named| {
        let groups = [large(named), large(named)];
        let groups: Vec<_> = groups.iter().collect();
        let once = || {
            let before = std::time::Instant::now();
            let calls = plan(&groups, at(NOW)).calls;
            let took = before.elapsed();
            assert_eq!(calls.iter().map(|call| call.items.len()).collect::<Vec<_>>(), [500, 500]);
            took
        };
        (0..3).map(|_| once()).min().unwrap()
    };
    // A search among the metrics for each name takes many times as long for the last of them.
    let (first, last) = (best("a100"), best("a349"));
    assert!(last < first * 3, "{first:?} {last:?}");
}

#[test]
fn a_fetch_is_one_call_whatever_the_groups_are() {
    for (parts, lookback, held) in [(1, 6, 500), (3, 6, 500), (7, 6, 500), (1, 1441, 70)] {
        let groups: Vec<_> = (0..600)
            .map(|number| {
                let part = |at| metric(&format!("a{at}"), &format!("M{number}_{at}"), 60);
                let mut group = group((0..parts).map(part).collect());
                group.lookback = Duration::from_mins(lookback);
                group
            })
            .collect();
        let batch = super::super::dispatch(&groups[0]).batch.unwrap();
        assert_eq!(batch.limit, held);
        assert!(groups.iter().all(|group| super::super::dispatch(group).batch == Some(batch)));
        let fetch: Vec<_> = groups.iter().take(batch.limit / parts).collect();
        assert_eq!(plan(&fetch, at(NOW)).calls.len(), 1, "{parts} {lookback}");
    }
}
