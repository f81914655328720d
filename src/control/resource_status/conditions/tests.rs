use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::cache::QueryCell;
use crate::control::resource_status::readers::{Trouble, TroubleKind};
use crate::control::resource_status::testing::{declared, end, entry, id, no_data, served};
use crate::definition::resource::{self, Resource};
use crate::definition::{Author, Context, Defaults};
use crate::model::{
    Cause, Clock, CostSettings, Decimal, DefinitionId, DefinitionKind, ManualClock, OnNoData,
    SourceDirectory, SourceKind, SourceName, SourceProfile,
};

/// A resource, its cell, and a clock.
struct Case {
    clock: ManualClock,
    declared: Declared,
    served: Option<Arc<Served>>,
    conflict: Option<Conflict>,
    readers: Readers,
    is_usage_known: bool,
}

fn case(on_no_data: OnNoData) -> Case {
    let id = id(DefinitionKind::ExternalMetric, "jobs");
    Case {
        clock: ManualClock::at("2026-01-02T10:00:00Z".parse().unwrap()),
        declared: declared(&id, 3),
        served: Some(served(entry(&id, on_no_data))),
        conflict: None,
        readers: Readers::default(),
        is_usage_known: true,
    }
}

impl Case {
    fn cell(&self) -> &Arc<QueryCell> {
        self.served.as_ref().unwrap().cell.as_ref().unwrap()
    }

    fn end(&self, result: Result<&[(&str, i64)], FetchError>) {
        end(self.cell(), result, &self.clock);
    }

    fn status(&self, previous: Option<&Status>) -> Status {
        let cells: Vec<CellOf> = self
            .served
            .iter()
            .map(|served| CellOf {
                namespace: None,
                cell: Arc::clone(served.cell.as_ref().unwrap()),
            })
            .collect();
        let facts = Facts {
            declared: &self.declared,
            served: self.served.as_deref(),
            conflict: self.conflict.as_ref(),
            cells: &cells,
            readers: self.is_usage_known.then_some(&self.readers),
            now: Moment { timestamp: self.clock.now(), tick: self.clock.tick() },
        };
        status(&facts, previous)
    }

    /// Status and reason of `Ready` and `Fresh`, and what `Ready` says.
    fn ready(&self) -> (String, String, String) {
        let status = self.status(None);
        let short = |r#type| {
            let condition = condition_of(&status, r#type).unwrap();
            assert_eq!(condition.observed_generation, 3);
            format!("{} {}", condition.status, condition.reason)
        };
        (short(READY), short(FRESH), condition_of(&status, READY).unwrap().message.clone())
    }

    fn accepted(&self) -> (String, String, String) {
        let status = self.status(None);
        let condition = condition_of(&status, ACCEPTED).unwrap();
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    }
}

#[test]
fn a_metric_that_nobody_wants_says_so() {
    let case = case(OnNoData::Hold);
    let (ready, fresh, message) = case.ready();
    assert_eq!((&*ready, &*fresh), ("Unknown NotUsed", "Unknown NotUsed"));
    assert_eq!(
        message,
        "jobs: no HPA refers to it and nobody has read it lately; source main is not asked until \
         somebody reads it"
    );
    assert_eq!(case.status(None).next_refresh, None);
    case.cell().claim_schedule(case.clock.tick());
    let (ready, _, message) = case.ready();
    assert_eq!(ready, "Unknown Pending");
    assert_eq!(message, "jobs in shop: source main has not yet answered the first query");
}

#[test]
fn one_that_is_asked_for_in_vain_says_how() {
    let mut case = case(OnNoData::Hold);
    let reader = |kind: Option<TroubleKind>| super::Reader {
        namespace: "mail".into(),
        name: "web".into(),
        problem: kind.map(|kind| Trouble { kind, message: "jobs in mail: why".into() }),
    };
    let told = |case: &Case, reason: &str| {
        let (ready, fresh, message) = case.ready();
        let wanted = format!("Unknown {reason}");
        assert_eq!((&ready, &fresh), (&wanted, &wanted));
        message
    };
    case.readers.missed_by = vec![reader(Some(TroubleKind::NotSeen))];
    assert_eq!(
        told(&case, "NotSeenInNamespace"),
        "jobs: HPA mail/web asks for it in vain, because it is seen in namespace shop alone; source \
         main is not asked until somebody reads it"
    );
    case.readers.used_by = vec![reader(None)];
    assert_eq!(
        told(&case, "Pending"),
        "jobs: HPA mail/web refers to it, and source main is about to be asked"
    );
    case.readers.used_by.push(reader(Some(TroubleKind::NoMatch)));
    assert_eq!(
        told(&case, "SelectorMatchesNothing"),
        "jobs: HPA mail/web asks for it in vain: jobs in mail: why; source main is not asked until \
         somebody reads it"
    );
}

#[test]
fn without_a_look_at_hpas_nobody_is_said_to_want_nothing() {
    let mut case = case(OnNoData::Hold);
    case.is_usage_known = false;
    let (ready, fresh, message) = case.ready();
    assert_eq!((&*ready, &*fresh), ("Unknown UsageUnknown", "Unknown UsageUnknown"));
    let said =
        "jobs: nobody has read it lately, and whether an HPA refers to it is not known, because";
    assert!(message.starts_with(said), "{message}");
    assert_eq!(case.status(None).used_by, None);
    // What is served is told all the same.
    case.end(Ok(&[("a", 5)]));
    assert_eq!(case.ready().0, "True Serving");
    assert_eq!(case.status(None).used_by, None);
}

#[test]
fn values_stand_in_the_status() {
    let case = case(OnNoData::Hold);
    case.end(Ok(&[("a", 5)]));
    let status = case.status(None);
    assert_eq!(status.observed_generation, 3);
    assert_eq!(status.metric.as_deref(), Some("jobs"));
    assert_eq!(status.source.as_deref(), Some("main (prometheus)"));
    assert_eq!(status.value.as_deref(), Some("5"));
    assert_eq!(status.sampled_at.as_deref(), Some("2026-01-02T10:00:00Z"));
    assert_eq!(status.next_refresh.as_deref(), Some("2026-01-02T10:00:15Z"));
    assert_eq!(status.last_error, None);
    assert_eq!(case.ready().0, "True Serving");
    assert_eq!(case.ready().1, "True Fresh");
    let names: Vec<String> = (0..20).map(|i| format!("q{i:02}")).collect();
    let many: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    case.end(Ok(&many));
    let status = case.status(None);
    assert_eq!(status.value.as_deref(), Some("20 series"));
    assert_eq!(status.current.len(), 5);
    assert_eq!(status.current[4].labels["queue"], "q04");
    assert_eq!(status.current[4].value, "1");
}

#[test]
fn every_failure_has_its_reason_and_the_sentence_that_readers_get() {
    let errors: [(FetchError, &str); 8] = [
        (no_data(), "NoData"),
        (FetchError::Partial(Cause::new("x")), "Partial"),
        (FetchError::Denied(Cause::new("x")), "Denied"),
        (FetchError::Throttled(Cause::new("x")), "Throttled"),
        (FetchError::Timeout(Cause::new("x")), "Timeout"),
        (FetchError::Unavailable(Cause::new("x")), "Unavailable"),
        (FetchError::Malformed(Cause::new("x")), "Malformed"),
        (FetchError::Invalid(Cause::new("the queue \"jobs\" does not exist")), "Invalid"),
    ];
    for (error, reason) in errors {
        let case = case(OnNoData::Hold);
        let said = error.cause().message().to_owned();
        case.end(Err(error));
        let (ready, fresh, message) = case.ready();
        assert_eq!(ready, format!("False {reason}"));
        assert_eq!(fresh, format!("False {reason}"));
        assert_eq!(message, format!("jobs in shop: {said} (source main)"));
        let status = case.status(None);
        let error = status.last_error.unwrap();
        assert_eq!((error.reason.as_str(), error.message), (reason, said));
        assert_eq!(error.at, "2026-01-02T10:00:00Z");
        assert_eq!(status.value, None);
    }
}

#[test]
fn a_held_value_is_served_and_not_fresh() {
    let case = case(OnNoData::Hold);
    case.end(Ok(&[("a", 5)]));
    case.clock.advance(Duration::from_secs(15));
    case.end(Err(FetchError::Unavailable(Cause::new("connection refused"))));
    let (ready, fresh, message) = case.ready();
    assert_eq!((&*ready, &*fresh), ("True ServingHeld", "False Unavailable"));
    assert_eq!(
        message,
        "jobs in shop: connection refused (source main); the last good value 5 of 10:00:00Z is \
         served until it is older than maxAge 2m"
    );
    assert_eq!(case.status(None).value.as_deref(), Some("5"));
    case.clock.advance(Duration::from_mins(3));
    let (ready, _, message) = case.ready();
    assert_eq!(ready, "False Unavailable");
    assert!(
        message.ends_with("last good value 5 at 10:00:00Z is older than maxAge 2m"),
        "{message}"
    );
    // The newest answer was good, and then nothing was heard.
    case.end(Ok(&[("a", 5)]));
    case.clock.advance(Duration::from_mins(3));
    assert_eq!((&*case.ready().0, &*case.ready().1), ("False Stale", "False Stale"));
}

#[test]
fn a_number_for_no_data_is_told_as_such() {
    let case = case(OnNoData::Value(Decimal::ZERO));
    case.end(Err(no_data()));
    let (ready, fresh, message) = case.ready();
    assert_eq!((&*ready, &*fresh), ("True NoDataAsZero", "True Fresh"));
    assert_eq!(
        message,
        "jobs in shop: the query gives no series (source main); 0 is served, because onNoData says \
         so"
    );
    let status = case.status(None);
    assert_eq!(status.value.as_deref(), Some("0"));
    assert_eq!(status.last_error.unwrap().reason, "NoData");
    // A failure is told, and becomes no zero.
    case.end(Err(FetchError::Denied(Cause::new("access denied"))));
    let (ready, fresh, message) = case.ready();
    assert_eq!((&*ready, &*fresh), ("True NoDataAsZero", "False Denied"));
    assert!(message.ends_with("; since then: access denied"), "{message}");
    case.clock.advance(Duration::from_mins(3));
    assert_eq!(case.ready().0, "False Denied");
    let seven = self::case(OnNoData::Value(Decimal::from(7_i64)));
    seven.end(Err(no_data()));
    assert_eq!(seven.ready().0, "True NoDataAsNumber");
}

#[test]
fn what_is_refused_says_why_and_whether_something_is_served() {
    let mut case = case(OnNoData::Hold);
    case.end(Ok(&[("a", 5)]));
    let problem = || Problem::new("x", "is wrong").with_field("spec.a");
    let problems: Arc<[Problem]> = (0..7).map(|_| problem()).collect();
    case.declared.verdict = Verdict::Refused { problems, last_good_stays: true };
    let (status, reason, message) = case.accepted();
    assert_eq!((&*status, &*reason), ("False", "Invalid"));
    assert!(message.starts_with("spec.a: is wrong; "), "{message}");
    assert!(message.ends_with("; and 2 more; the version before it stays in force"), "{message}");
    assert_eq!(case.ready().0, "True Serving");
    case.served = None;
    assert_eq!((&*case.ready().0, &*case.ready().1), ("False NotAccepted", "Unknown NotAccepted"));
}

#[test]
fn a_conflict_names_the_winner() {
    let mut case = case(OnNoData::Hold);
    let winner = id(DefinitionKind::ExternalMetric, "first");
    let origin = crate::model::Origin::File { path: "/etc/a.yaml".into(), line: 3 };
    let conflict = |total| Conflict {
        winner: winner.clone(),
        winner_origin: origin.clone(),
        loser: case.declared.id.clone(),
        loser_origin: origin.clone(),
        metric: crate::model::MetricName::external("jobs").unwrap(),
        resource: None,
        total,
    };
    let (total, partial) = (conflict(true), conflict(false));
    case.conflict = Some(partial);
    let (status, reason, message) = case.accepted();
    assert_eq!((&*status, &*reason), ("True", "Valid"));
    assert!(message.ends_with("goes before this one where both are seen"), "{message}");
    (case.conflict, case.served) = (Some(total), None);
    assert_eq!(
        case.accepted(),
        (
            "False".to_owned(),
            "Conflict".to_owned(),
            "ExternalMetric shop/first (/etc/a.yaml:3) defines metric jobs with the same labels, and \
             goes before this one, which is served nowhere"
                .to_owned()
        )
    );
}

/// What the store refuses beside these, by count and cost, is tested there.
#[test]
fn reasons_follow_from_what_definitions_are_really_refused_with() {
    let profile = SourceProfile {
        name: SourceName::new("aws"),
        kind: SourceKind::Aws,
        region: Some("eu-west-1".into()),
        allowed_regions: vec!["eu-west-1".into()],
        allowed_roles: Vec::new(),
        cost: CostSettings::default(),
        allowed_namespaces: vec![crate::model::Pattern::new("billing")],
    };
    let open = SourceProfile {
        name: SourceName::new("open"),
        allowed_namespaces: Vec::new(),
        ..profile.clone()
    };
    let reason = |spec: &serde_json::Value, profiles: &[&SourceProfile]| {
        let sources = SourceDirectory::new(profiles.iter().map(|profile| (*profile).clone()));
        let read_file = |_: &Path, _: usize| Err(std::io::ErrorKind::NotFound.into());
        let context = Context {
            sources: Some(&sources),
            defaults: &Defaults::default(),
            cluster: true,
            author: Author::Tenant,
            read_file: &read_file,
        };
        let id: DefinitionId = id(DefinitionKind::ExternalMetric, "jobs");
        let created = jiff::Timestamp::UNIX_EPOCH;
        let resource =
            Resource { id: &id, created, annotations: &std::collections::BTreeMap::new(), spec };
        let problems = resource::read(&resource, &context).outcome.unwrap_err();
        (ProblemKind::of_all(&problems).as_str(), problems[0].message.clone())
    };
    let queue = |more: serde_json::Value| {
        let mut spec = json!({ "sqs": { "queues": ["jobs"] } });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    };
    for (spec, profiles, wanted) in [
        (queue(json!({})), vec![], "SourceNotFound"),
        (queue(json!({ "source": "awz" })), vec![&open], "SourceNotFound"),
        (queue(json!({})), vec![&profile], "NotAllowed"),
        (
            json!({ "sqs": { "queues": ["jobs"], "region": "us-east-1" } }),
            vec![&open],
            "NotAllowed",
        ),
        (
            json!({ "sqs": { "queues": ["jobs"], "roleArn": "arn:aws:iam::123456789012:role/x" } }),
            vec![&open],
            "NotAllowed",
        ),
        (json!({ "source": "aws", "sqs": { "queues": ["jobs"] } }), vec![&profile], "NotAllowed"),
        (json!({ "sqs": { "queues": 7 } }), vec![&open], "Invalid"),
        // Whoever reads it has to change it in any case.
        (
            json!({ "sqs": { "queues": ["jobs"], "region": "us-east-1" }, "refersh": "1s" }),
            vec![&open],
            "Invalid",
        ),
        // The words of a mistake are its author's, and say nothing of its kind.
        (
            json!({ "sqs": { "queues": ["cost.maxMetricsPerMinute (allowedRegions)"] } }),
            vec![&open],
            "Invalid",
        ),
    ] {
        let (told, message) = reason(&spec, &profiles);
        assert_eq!(told, wanted, "{spec}: {message}");
    }
}

#[test]
fn a_condition_keeps_its_time_as_long_as_its_status() {
    let case = case(OnNoData::Hold);
    case.end(Err(FetchError::Denied(Cause::new("no"))));
    let first = case.status(None);
    case.clock.advance(Duration::from_mins(10));
    case.end(Err(FetchError::Timeout(Cause::new("slow"))));
    let second = case.status(Some(&first));
    let ready = |status: &Status| condition_of(status, READY).unwrap().clone();
    assert_eq!(ready(&second).reason, "Timeout");
    assert_eq!(ready(&second).last_transition_time, "2026-01-02T10:00:00Z");
    case.end(Ok(&[("a", 1)]));
    let third = case.status(Some(&second));
    assert_eq!(ready(&third).last_transition_time, "2026-01-02T10:10:00Z");
    assert_ne!(gist(&second), gist(&third));
    // A new value alone is no news.
    case.clock.advance(Duration::from_secs(15));
    case.end(Ok(&[("a", 2)]));
    let fourth = case.status(Some(&third));
    assert_eq!(gist(&third), gist(&fourth));
    assert_ne!(third, fourth);
}

#[test]
fn readers_are_listed_up_to_a_bound() {
    let mut case = case(OnNoData::Hold);
    case.end(Ok(&[("a", 1)]));
    let reader = |i: usize, problem: Option<&str>| super::Reader {
        namespace: "shop".into(),
        name: format!("hpa-{i:02}").into(),
        problem: problem
            .map(|message| Trouble { kind: TroubleKind::NoMatch, message: message.into() }),
    };
    case.readers.used_by = (0..12).map(|i| reader(i, (i == 1).then_some("no match"))).collect();
    case.readers.missed_by = vec![reader(20, Some("not here"))];
    let status = case.status(None);
    let used_by = status.used_by.unwrap();
    assert_eq!((used_by.count, used_by.hpas.len()), (12, 10));
    assert_eq!(used_by.hpas[1].problem.as_deref(), Some("no match"));
    assert_eq!(status.missed_by[0].problem.as_deref(), Some("not here"));
    // What the condition says already is not said again for each HPA.
    case.end(Err(FetchError::Denied(Cause::new("no"))));
    case.clock.advance(Duration::from_mins(3));
    let message = case.ready().2;
    case.readers.used_by = vec![reader(0, Some(&message)), reader(1, Some("no match"))];
    let used_by = case.status(None).used_by.unwrap();
    let told: Vec<_> = used_by.hpas.iter().map(|hpa| hpa.problem.as_deref()).collect();
    assert_eq!(told, [None, Some("no match")]);
}
