//! What the recording is compared with: the resources as a watch would read them, their catalog, a
//! read, and a source that asks the recorded AWS.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use tidepole::cache::{Admission, Demand, OnDemand, QueryCell};
use tidepole::catalog::Catalog;
use tidepole::definition::resource::{Resource, read};
use tidepole::definition::{Author, Context, Defaults};
use tidepole::lookup::Lookup;
use tidepole::model::{
    ApiError, Clock, CostSettings, DefinitionId, DefinitionKind, Entry, ExternalReading, Labels,
    ManualClock, MetricsProvider, NamespaceDirectory, Pattern, Reading, Selector, Source,
    SourceDirectory, SourceKind, SourceName, SourceProfile, Tick,
};
use tidepole::source::{self, AwsSettings, Metrics, Settings};
use tidepole::telemetry::Telemetry;

use super::answers;
use super::recorded::{self, Answer, Asked, Read};
use crate::support::upstream::cloudwatch::{Call, MetricDataQuery};
use crate::support::upstream::{CloudWatch, KeyRing, Sts};

/// The region of the original's node.
const REGION: &str = "us-east-1";

/// What the operator allows: all regions of the recording.
const REGIONS: [&str; 4] = [REGION, "eu-west-1", "mars-north-1", "cn-north-1"];

/// The role of the recording.
const ROLE: &str = "arn:aws:iam::222222222222:role/metrics";

type Script = Arc<Mutex<VecDeque<Answer>>>;

pub(super) struct Bench {
    cloudwatch: CloudWatch,
    sts: Sts,
    script: Script,
    sts_script: Script,
    source: Arc<dyn Source>,
    clock: Arc<ManualClock>,
    resources: Mutex<BTreeMap<(String, String), Value>>,
}

/// Cells that a read wants.
#[derive(Default)]
struct Wanted(Mutex<Vec<Arc<QueryCell>>>);

impl Demand for Wanted {
    fn want(&self, cell: &Arc<QueryCell>) -> Admission {
        if cell.claim_schedule(Tick(u64::MAX)) {
            lock(&self.0).push(Arc::clone(cell));
        }
        Admission::Accepted
    }
}

struct NoLabels;

impl NamespaceDirectory for NoLabels {
    fn labels(&self, _namespace: &str) -> Option<Labels> {
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next answer; the last one for ever.
fn next(script: &Script) -> Option<Answer> {
    let mut script = lock(script);
    if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
}

impl Bench {
    pub(super) fn start() -> Self {
        let clock = Arc::new(ManualClock::at(jiff::Timestamp::now()));
        let minute = minute(&*clock);
        let (script, sts_script) = (Script::default(), Script::default());
        let cloudwatch = CloudWatch::start();
        let answers = Arc::clone(&script);
        cloudwatch.fault_when(move |_| Some(answers::metric_data(&next(&answers)?, minute)));
        let sts = Sts::start(&KeyRing::with_user("BASEKEY", "secret"));
        sts.role(ROLE);
        let answers = Arc::clone(&sts_script);
        sts.fault_when(move |_| Some(answers::refusal(&next(&answers)?)));
        let mut settings = AwsSettings::new(REGION);
        settings.cloudwatch_endpoint_url = Some(cloudwatch.url().parse().expect("a URL"));
        settings.sts_endpoint_url = Some(sts.url().parse().expect("a URL"));
        let name = SourceName::new("aws");
        let metrics = Metrics::register(&Telemetry::new());
        let built =
            source::build(&name, &Settings::Aws(Box::new(settings)), clock.clone(), &metrics);
        let source = built.expect("the settings are complete").source;
        let resources = Mutex::default();
        Self { cloudwatch, sts, script, sts_script, source, clock, resources }
    }

    pub(super) fn apply(&self, path: &str) {
        for (namespace, name, resource) in recorded::resources(path) {
            lock(&self.resources).insert((namespace, name), resource);
        }
    }

    pub(super) fn delete(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        lock(&self.resources).remove(&key).expect("it was applied");
    }

    /// Reads all resources; those that are wrong are left out, each for itself.
    fn catalog(&self) -> Arc<Catalog> {
        let profile = SourceProfile {
            name: SourceName::new("aws"),
            kind: SourceKind::Aws,
            region: Some(REGION.into()),
            allowed_regions: REGIONS.map(Into::into).to_vec(),
            allowed_roles: vec![Pattern::new(ROLE)],
            cost: CostSettings::default(),
            allowed_namespaces: Vec::new(),
        };
        let sources = SourceDirectory::new([profile]);
        let read_file = |_: &Path, _: usize| Err(std::io::ErrorKind::NotFound.into());
        let defaults = Defaults::default();
        let context = Context {
            sources: Some(&sources),
            defaults: &defaults,
            cluster: true,
            author: Author::Tenant,
            read_file: &read_file,
        };
        let (mut entries, mut problems) = (Vec::<Entry>::new(), Vec::new());
        for ((namespace, name), resource) in &*lock(&self.resources) {
            let id = DefinitionId {
                kind: DefinitionKind::AwsExternalMetric,
                namespace: Some(namespace.as_str().into()),
                name: name.as_str().into(),
            };
            let (annotations, created) = (BTreeMap::new(), self.clock.now());
            let spec = &resource["spec"];
            let resource = Resource { id: &id, created, annotations: &annotations, spec };
            match read(&resource, &context).outcome {
                Ok(entry) => entries.push(entry),
                Err(mut wrong) => problems.append(&mut wrong),
            }
        }
        let catalog = Arc::new(Catalog::new());
        catalog.apply_resources(entries, problems);
        catalog
    }

    /// One read, for which nothing is known yet: the original keeps nothing either.
    async fn read(&self, asked: &Asked) -> Result<ExternalReading, ApiError> {
        let Ok(selector) = Selector::parse(&asked.selector) else {
            return Err(ApiError::Internal("the API refuses it".to_owned()));
        };
        let wanted = Arc::new(Wanted::default());
        let lookup = Lookup::new(
            self.catalog(),
            Arc::default(),
            Arc::new(OnDemand::new()),
            wanted.clone(),
            Arc::new(NoLabels),
            None,
            self.clock.clone(),
        );
        let read = || lookup.external(&asked.namespace, &asked.metric, &selector);
        if let Reading::Ready(ready) = read() {
            return ready;
        }
        let cells = std::mem::take(&mut *lock(&wanted.0));
        for cell in cells {
            let found = self.source.fetch(&[Arc::clone(cell.query())]).await.remove(0);
            cell.complete(found, self.clock.tick(), self.clock.now());
        }
        match read() {
            Reading::Ready(ready) => ready,
            Reading::Wait(_) => panic!("{asked:?}: everything was fetched"),
        }
    }

    /// What differs in a read from what was recorded.
    pub(super) async fn compare(&self, asked: &Asked, recorded: &Read) -> Vec<String> {
        let answers = |sts: bool| -> VecDeque<Answer> {
            let all = recorded.aws_answers.iter();
            all.filter(|answer| answer.whose.is_some() == sts).cloned().collect()
        };
        *lock(&self.script) = answers(false);
        *lock(&self.sts_script) = answers(true);
        self.cloudwatch.clear();
        let assumed = self.sts.calls().len();
        let found = self.read(asked).await;
        let mut differences = Vec::new();
        match (&found, recorded.value()) {
            (Ok(reading), Some(value)) => {
                let values: Vec<_> = reading.items.iter().map(|i| i.value.to_string()).collect();
                if values != [value] {
                    differences.push(format!("the value is {}, was {value}", values.join(", ")));
                }
            }
            (Ok(reading), None) => {
                let status = recorded.response.status;
                differences.push(format!("{:?} is served, was {status}", reading.items));
            }
            (Err(error), Some(value)) => differences.push(format!("{error}, was {value}")),
            (Err(_), None) => {}
        }
        let calls = self.cloudwatch.calls();
        let minute = minute(&*self.clock);
        let made: Vec<Value> = calls.iter().map(|call| shown(call, minute)).collect();
        let was = |action: &str| -> Vec<&Value> {
            let all = recorded.aws_calls.iter();
            all.filter(|call| call["action"] == action).collect()
        };
        let metric_data: Vec<Value> = was("GetMetricData").into_iter().map(plain).collect();
        // A read that fails in both: whether it is refused before or by the service is no matter.
        let both_fail = found.is_err() && recorded.value().is_none() && made.is_empty();
        if made != metric_data && !both_fail {
            let (made, was) = (Value::from(made), Value::from(metric_data));
            differences.push(format!("the calls are {made}, were {was}"));
        }
        // One identity is kept: a second read of the same role asks nobody.
        let roles: Vec<_> = was("AssumeRole")
            .into_iter()
            .map(|call| call["parameters"]["RoleArn"].as_str().map(str::to_owned))
            .collect();
        let asked: Vec<_> =
            self.sts.calls().split_off(assumed).into_iter().map(|c| c.role).collect();
        if asked != roles {
            differences.push(format!("the roles are {asked:?}, were {roles:?}"));
        }
        differences
    }
}

fn minute(clock: &dyn Clock) -> i64 {
    clock.now().as_second().div_euclid(60) * 60
}

/// A call of ours in the words of the recording.
fn shown(call: &Call, minute: i64) -> Value {
    json!({
        "region": call.region,
        "ScanBy": call.scan_by,
        "StartTime": call.start - minute,
        "EndTime": call.end - minute,
        "NextToken": call.next_token,
        "queries": call.queries.iter().map(query).collect::<Vec<_>>(),
    })
}

fn query(query: &MetricDataQuery) -> Value {
    let mut out = Map::new();
    out.insert("Id".into(), query.id.as_str().into());
    if let Some(stat) = &query.metric_stat {
        let dimensions = stat.metric.dimensions.iter().flatten();
        let dimensions: Vec<Value> =
            dimensions.map(|d| json!({ "Name": d.name, "Value": d.value })).collect();
        let mut shown = json!({
            "Metric": {
                "Namespace": stat.metric.namespace,
                "MetricName": stat.metric.metric_name,
                "Dimensions": dimensions,
            },
            "Period": stat.period,
            "Stat": stat.stat,
        });
        if let Some(unit) = &stat.unit {
            shown["Unit"] = unit.as_str().into();
        }
        out.insert("MetricStat".into(), shown);
    }
    let texts = [("Expression", &query.expression), ("Label", &query.label)];
    for (name, text) in texts {
        if let Some(text) = text {
            out.insert(name.into(), text.as_str().into());
        }
    }
    if let Some(period) = query.period {
        out.insert("Period".into(), period.into());
    }
    out.insert("ReturnData".into(), query.is_returned().into());
    out.into()
}

/// A recorded call without what was sent empty, and with what is the service's default.
fn plain(call: &Value) -> Value {
    let parameters = &call["parameters"];
    let queries = parameters["MetricDataQueries"].as_array().cloned().unwrap_or_default();
    let queries = queries.into_iter().map(|mut query| {
        let fields = query.as_object_mut().expect("a query is a mapping");
        fields.retain(|_, value| value != "");
        fields.entry("ReturnData").or_insert(true.into());
        if let Some(stat) = fields.get_mut("MetricStat").and_then(Value::as_object_mut) {
            stat.retain(|_, value| value != "");
            if let Some(metric) = stat.get_mut("Metric").and_then(Value::as_object_mut) {
                metric.retain(|_, value| value != "");
                metric.entry("Dimensions").or_insert(json!([]));
            }
        }
        query
    });
    json!({
        "region": call["signed_region"],
        "ScanBy": parameters["ScanBy"],
        "StartTime": parameters["StartTime"],
        "EndTime": parameters["EndTime"],
        "NextToken": parameters["NextToken"],
        "queries": queries.collect::<Vec<_>>(),
    })
}
