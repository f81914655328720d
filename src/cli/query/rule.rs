//! `tidepole query` of a metric that a rule gives: series are listed, the rules make metrics of them,
//! and one read goes through the server's own lookup, whose question is asked once.
//!
//! Responsible for: finding rule, objects and cluster from the arguments, and what is told of the
//! answer. Not responsible for: the question and what a reader gets ([`crate::lookup`]), the text of
//! a query ([`crate::rules`]).
//!
//! Invariants: a dry run asks neither Prometheus for anything nor a cluster that was not named.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::cache::{Admission, Demand, OnDemand, QueryCell};
use crate::catalog::Catalog;
use crate::cli::query::account::{Account, RuleAccount, RuleAnswer};
use crate::cli::query::definitions::{Library, Wanted};
use crate::cli::query::{ASSUMED_NAMESPACE, QueryArgs, Refusal};
use crate::cli::rule_files::{self, AllSeries, Cluster, Loaded, Series, Upstreams};
use crate::config::Config;
use crate::definition::field::closest;
use crate::lookup::{self, Lookup};
use crate::model::{
    Clock, CustomRequest, Labels, MetricsProvider, NamespaceDirectory, ObjectChoice,
    ObjectDirectory, ObjectNames, ObjectReference, ObjectSet, Objects, Query, QuerySpec, Resource,
    ScaleDirectory, Source, SystemClock, TargetPods,
};
use crate::objects::AskingSource;
use crate::rules::{Registry, RuleMetric, Rules};

/// The word before the slash that stands for external metrics.
const EXTERNAL: &str = "external";

/// How long the read may wait: for the first listing of a large cluster's objects, while a person
/// looks on.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether the arguments are about a metric of rules, not about a definition.
pub(super) fn is_meant(args: &QueryArgs, config: Option<&Config>) -> bool {
    if args.rules.is_some() {
        return true;
    }
    let Some(config) = config.filter(|config| args.file.is_none() && !config.rules.is_empty())
    else {
        return false;
    };
    args.wanted.as_ref().is_some_and(|text| match text.parse::<Wanted>() {
        Ok(wanted) => !text.contains('/') && !Library::of_config(config).has(&wanted),
        // What stands before the slash is no kind of definitions.
        Err(_) => true,
    })
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    External(&'a str),
    Objects { resource: &'a str, metric: &'a str },
}

impl<'a> Asked<'a> {
    fn read(text: &'a str) -> Self {
        match text.split_once('/') {
            None => Self::External(text),
            Some((EXTERNAL, metric)) => Self::External(metric),
            Some((resource, metric)) => Self::Objects { resource, metric },
        }
    }
}

/// Asks for the metric, and tells how its value comes about.
///
/// # Errors
/// When there is no such metric, or the arguments do not say enough.
pub(super) fn account(args: &QueryArgs, config: Option<&Config>) -> Result<Account, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Refusal::Internal(format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let bench = Bench::new(args, config, &clock).await?;
        let told = bench.told(args).await;
        bench.cluster.close().await;
        told
    })
}

/// Everything that a read takes.
struct Bench {
    files: Vec<Loaded>,
    upstreams: Upstreams,
    series: AllSeries,
    registry: Arc<Registry>,
    cluster: Cluster,
    clock: Arc<dyn Clock>,
}

impl Bench {
    async fn new(
        args: &QueryArgs,
        config: Option<&Config>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Refusal> {
        let files = files(args, config)?;
        let url = args.prometheus.as_deref();
        let upstreams =
            rule_files::upstreams(&files, url, config, clock).map_err(Refusal::input)?;
        let upstreams = match upstreams {
            Some(upstreams) => upstreams,
            // Nobody is asked; the address is shown as it would be by default.
            None if args.dry_run => {
                rule_files::upstreams(&files, Some("http://prometheus:9090"), None, clock)
                    .map_err(Refusal::Internal)?
                    .unwrap_or_default()
            }
            None => {
                return Err(Refusal::Usage(
                    "a rules file does not say where Prometheus is; give it with --prometheus URL, or with the sources of --config FILE".to_owned(),
                ));
            }
        };
        let of_config = config.filter(|_| !args.dry_run);
        let kubeconfig = args.kubeconfig.as_deref();
        let cluster = Cluster::find(kubeconfig, of_config, clock).await.map_err(Refusal::input)?;
        let series = if args.dry_run {
            AllSeries::assumed()
        } else {
            AllSeries::list(&files, &upstreams, &**clock).await
        };
        let registry = Arc::new(series.registry(&files, &*cluster.resources()));
        Ok(Self { files, upstreams, series, registry, cluster, clock: Arc::clone(clock) })
    }

    async fn told(&self, args: &QueryArgs) -> Result<Account, Refusal> {
        let wanted = args.wanted.as_deref().unwrap_or_default();
        match Asked::read(wanted) {
            Asked::External(metric) => self.external(args, metric).await,
            Asked::Objects { resource, metric } => self.objects(args, resource, metric).await,
        }
    }

    async fn external(&self, args: &QueryArgs, metric: &str) -> Result<Account, Refusal> {
        if !args.names.is_empty() || args.metric_selector.is_some() {
            return Err(Refusal::Usage(
                "--name and --metric-selector are for metrics of objects, such as pods/http_requests; an external metric is chosen by --selector".to_owned(),
            ));
        }
        let Some(rule) = self.registry.external(metric) else {
            let known = self.registry.external_names();
            return Err(self.unknown(
                &format!("no rule gives the external metric {metric:?}"),
                metric,
                &known.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>(),
            ));
        };
        let namespace = args.namespace.clone().unwrap_or_else(|| ASSUMED_NAMESPACE.to_owned());
        let selector = args.selector.clone().unwrap_or_default();
        let mut account =
            self.begun(args, rule, &format!("{EXTERNAL}/{metric}"), Some(namespace.clone()));
        let given = self.given(args);
        let (lookup, questions) = self.lookup(&given);
        let answer = async {
            let reading = lookup.external(&namespace, metric, &selector).resolve().await;
            reading.map(RuleAnswer::External).map_err(|error| error.to_string())
        };
        self.ask(args, rule, &given, questions, answer.boxed(), &mut account).await;
        Ok(account)
    }

    async fn objects(
        &self,
        args: &QueryArgs,
        word: &str,
        metric: &str,
    ) -> Result<Account, Refusal> {
        let Some(resource) = self.cluster.resources().resolve_path(word) else {
            return Err(Refusal::input(format!(
                "there is no resource {word:?}; resources are {}",
                self.cluster.told()
            )));
        };
        let rule = self.registry.custom(&resource.id, resource.namespaced, metric);
        let Some(rule) = rule else {
            let known = self.registry.custom_names();
            let known = known.iter().filter(|name| name.resource == resource.id);
            return Err(self.unknown(
                &format!("no rule gives the metric {metric:?} of {}", resource.id),
                metric,
                &known.map(|name| name.metric.to_string()).collect::<Vec<_>>(),
            ));
        };
        if args.names.is_empty() && self.cluster.objects().is_none() {
            return Err(Refusal::Usage(format!(
                "which {} there are is known to a cluster alone; give it with --kubeconfig FILE, or names with --name",
                resource.id
            )));
        }
        let namespace = resource
            .namespaced
            .then(|| args.namespace.clone().unwrap_or_else(|| ASSUMED_NAMESPACE.to_owned()));
        let name = format!("{}/{metric}", resource.id);
        let mut account = self.begun(args, rule, &name, namespace.clone());
        let given = self.given(args);
        let (lookup, questions) = self.lookup(&given);
        let all = args.selector.clone().unwrap_or_default();
        let path = resource.id.to_string();
        let metric_selector = args.metric_selector.clone().unwrap_or_default();
        let answer = async {
            let request = CustomRequest {
                resource: &path,
                namespace: namespace.as_deref(),
                objects: match &args.names[..] {
                    [one] => ObjectChoice::Named(one),
                    _ => ObjectChoice::Matching(&all),
                },
                metric,
                metric_selector: &metric_selector,
            };
            let reading = lookup.custom(&request).resolve().await;
            reading.map(RuleAnswer::Objects).map_err(|error| error.to_string())
        };
        self.ask(args, rule, &given, questions, answer.boxed(), &mut account).await;
        Ok(account)
    }

    /// What is known before anything is asked.
    fn begun(
        &self,
        args: &QueryArgs,
        rule: &RuleMetric,
        metric: &str,
        namespace: Option<String>,
    ) -> Account {
        let place = rule.rule.place();
        let series = self.files.iter().find_map(|loaded| {
            let ours = loaded.rules().any(|own| own.place() == place);
            ours.then(|| self.series.of(loaded, &rule.rule))
        });
        let series = match series {
            Some(Series::Assumed(_)) => {
                format!(
                    "Series {} as the rule's own text names it; a dry run lists none.",
                    rule.series
                )
            }
            _ => format!(
                "Series {}, which is among those that {} finds.",
                rule.series,
                rule.rule.series_query()
            ),
        };
        let mut notes = vec![series, format!("Resources are {}.", self.cluster.told())];
        if let Some(selector) = args.metric_selector.as_ref().filter(|s| !s.is_everything()) {
            notes.push(format!("Metric selector {selector}."));
        }
        if !args.names.is_empty() {
            notes.push(format!("Objects are those given: {}.", args.names.join(", ")));
        }
        Account::of_rule(RuleAccount {
            name: place.field.to_string(),
            origin: format!("{}:{}", place.path.display(), place.line),
            metric: metric.to_owned(),
            assumed: args.namespace.is_none() && namespace.is_some(),
            namespace: namespace.unwrap_or_default(),
            selector: args.selector.clone().unwrap_or_default(),
            source: rule.source.clone(),
            policy: Arc::clone(&rule.policy),
            notes,
        })
    }

    /// The objects: those of the cluster, or those that were named.
    fn given(&self, args: &QueryArgs) -> Arc<dyn ObjectDirectory> {
        match self.cluster.objects() {
            Some(objects) if args.names.is_empty() => objects,
            _ => Arc::new(Given::of(&args.names)),
        }
    }

    /// The server's lookup over these rules, whose questions come out instead of being scheduled.
    fn lookup(
        &self,
        objects: &Arc<dyn ObjectDirectory>,
    ) -> (Lookup, mpsc::UnboundedReceiver<Arc<QueryCell>>) {
        let (sender, questions) = mpsc::unbounded_channel();
        let rules = Arc::new(Rules::new());
        rules.replace(Arc::clone(&self.registry));
        let lookup = Lookup::new(
            Arc::new(Catalog::new()),
            rules,
            Arc::new(OnDemand::new()),
            Arc::new(Questions { sender, clock: Arc::clone(&self.clock) }),
            Arc::new(NoNamespaces),
            Some(lookup::Cluster {
                resources: self.cluster.resources(),
                objects: Arc::clone(objects),
                scales: Arc::new(NoScales),
            }),
            Arc::clone(&self.clock),
        );
        (lookup, questions)
    }

    /// Asks the question that the read has, and takes in what the read ends in.
    async fn ask(
        &self,
        args: &QueryArgs,
        rule: &RuleMetric,
        objects: &Arc<dyn ObjectDirectory>,
        mut questions: mpsc::UnboundedReceiver<Arc<QueryCell>>,
        mut answer: BoxFuture<'_, Result<RuleAnswer, String>>,
        account: &mut Account,
    ) {
        let ended = tokio::select! {
            // The question first: an answer that needs none is there at once.
            biased;
            answer = &mut answer => Err(answer),
            Some(cell) = questions.recv() => Ok(cell),
        };
        let cell = match ended {
            Ok(cell) => cell,
            Err(answer) => return account.answered(answer, None),
        };
        let query = cell.query();
        account.query = Self::text(query, &**objects);
        let Some(upstream) = self.upstreams.get(&rule.source) else { return };
        let source = AskingSource::new(Arc::clone(&upstream.source), Arc::clone(objects));
        if args.dry_run {
            account.previewed(source.preview(query).await);
        } else {
            let explanation = source.explain(query).await;
            account.asked(&explanation, self.clock.tick());
            let failure = explanation.outcome.as_ref().err().cloned();
            cell.complete(explanation.outcome, self.clock.tick(), self.clock.now());
            account.answered(answer.await, failure.as_ref());
        }
        if !args.full {
            account.shorten();
        }
    }

    /// The text of a question, with the objects' names.
    fn text(query: &Query, objects: &dyn ObjectDirectory) -> String {
        let QuerySpec::Objects(asked) = &query.spec else { return query.spec.to_string() };
        let Objects::Known(names) = objects.names(&asked.objects) else {
            return query.spec.to_string();
        };
        asked.text.0.write(Some(&names)).unwrap_or_else(|error| error.to_string())
    }

    /// That there is no such metric, with what may be the reason.
    fn unknown(&self, sentence: &str, metric: &str, known: &[String]) -> Refusal {
        let mut lines = Vec::new();
        let near = closest(metric, known.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        lines.push(format!("{sentence}{near}"));
        for loaded in &self.files {
            for rule in loaded.rules() {
                let place = rule.place();
                let why = match self.series.of(loaded, rule) {
                    Series::Failed(why) => format!("its series cannot be listed: {why}"),
                    Series::Unknown => {
                        "its series are not known without asking Prometheus".to_owned()
                    }
                    Series::Found(_) | Series::Assumed(_) => continue,
                };
                lines.push(format!(
                    "{}:{}: {}: {why}",
                    place.path.display(),
                    place.line,
                    place.field
                ));
            }
        }
        lines.extend(self.registry.problems().iter().map(|problem| {
            let place = &problem.place;
            format!("{}:{}: {}: {}", place.path.display(), place.line, place.field, problem.message)
        }));
        lines.push("tidepole check --explain shows what each rule gives".to_owned());
        Refusal::Input(lines)
    }
}

/// The rule files that are meant: the one that was given, or those of the config.
fn files(args: &QueryArgs, config: Option<&Config>) -> Result<Vec<Loaded>, Refusal> {
    let paths: Vec<PathBuf> = match (&args.rules, config) {
        (Some(path), _) => vec![path.clone()],
        (None, Some(config)) => rule_files::paths_of(config).cloned().collect(),
        (None, None) => Vec::new(),
    };
    let of_settings = config.filter(|_| args.prometheus.is_none());
    let mut files = Vec::new();
    for path in paths {
        let file = rule_files::parse(&path).map_err(|problems| {
            Refusal::Input(problems.iter().map(ToString::to_string).collect())
        })?;
        let mut settings = rule_files::settings(&path, of_settings).map_err(Refusal::input)?;
        settings.first_read_timeout = PATIENCE;
        files.push(Loaded { settings, file });
    }
    Ok(files)
}

/// Tells which queries somebody wants.
struct Questions {
    sender: mpsc::UnboundedSender<Arc<QueryCell>>,
    clock: Arc<dyn Clock>,
}

impl Demand for Questions {
    fn want(&self, cell: &Arc<QueryCell>) -> Admission {
        if cell.claim_schedule(self.clock.tick()) {
            // Nobody listens once the first question is known.
            let _ = self.sender.send(Arc::clone(cell));
        }
        Admission::Accepted
    }

    fn hurry(&self, _cell: &Arc<QueryCell>) {}
}

/// No definition is looked up here.
struct NoNamespaces;

impl NamespaceDirectory for NoNamespaces {
    fn labels(&self, _namespace: &str) -> Option<Labels> {
        None
    }
}

/// HPAs announce nothing here, so nobody asks for the pods of their targets.
struct NoScales;

impl ScaleDirectory for NoScales {
    fn pods_of(&self, _namespace: &Arc<str>, _target: &ObjectReference) -> TargetPods {
        TargetPods::Unknown
    }
}

/// Objects that the command line names, in every namespace.
struct Given(Arc<[Arc<str>]>);

impl Given {
    fn of(names: &[String]) -> Self {
        let mut names: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
        names.sort();
        names.dedup();
        Self(names.into())
    }
}

impl ObjectDirectory for Given {
    fn names(&self, set: &ObjectSet) -> Objects {
        Objects::Known(match &set.names {
            ObjectNames::One(name) => [Arc::clone(name)].into(),
            ObjectNames::Matching(_) | ObjectNames::All => Arc::clone(&self.0),
        })
    }

    fn listed(&self, _resource: &Arc<Resource>) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Selector;

    #[test]
    fn a_metric_is_named_with_its_resource() {
        assert_eq!(Asked::read("queue_depth"), Asked::External("queue_depth"));
        assert_eq!(Asked::read("external/queue_depth"), Asked::External("queue_depth"));
        let objects = Asked::Objects { resource: "ingresses.networking.k8s.io", metric: "hits" };
        assert_eq!(Asked::read("ingresses.networking.k8s.io/hits"), objects);
    }

    #[test]
    fn given_objects_are_whatever_is_asked_about() {
        let given = Given::of(&["b".to_owned(), "a".to_owned(), "b".to_owned()]);
        let resource = crate::objects::BuiltInResources::new();
        let resource = crate::model::ResourceDirectory::resolve(&resource, "", "pod").unwrap();
        let set = |names| ObjectSet { resource: Arc::clone(&resource), namespace: None, names };
        let all = given.names(&set(ObjectNames::Matching(Selector::default())));
        assert_eq!(all, Objects::Known(["a".into(), "b".into()].into()));
        let one = given.names(&set(ObjectNames::One("c".into())));
        assert_eq!(one, Objects::Known(["c".into()].into()));
    }
}
