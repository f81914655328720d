//! `tidepole check --explain`: what each rule of rule files makes of the series there are.
//!
//! Responsible for: the text. Not responsible for: what a rule means ([`crate::rules`]), asking for
//! series and resources (`cli::rule_files`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::rule_files::{self, AllSeries, Cluster, Loaded, Series};
use crate::config::Config;
use crate::lookup::message::show;
use crate::model::{Clock, Resource, ResourceDirectory, Selector, SeriesShape, SystemClock};
use crate::rules::{Listed, Registry, Rule, RuleMetric};

/// Most series, names and problems of one rule that are told.
const MAX_SHOWN: usize = 20;

/// The object and the namespace of example queries.
const OBJECT: &str = "example";
const NAMESPACE: &str = "default";

/// Whom to ask.
#[derive(Debug, Default)]
pub struct Ask {
    /// Where Prometheus is; goes before the config.
    pub prometheus: Option<String>,
    /// The config whose sources and cluster are asked.
    pub config: Option<Config>,
    /// The cluster that is asked for its resources.
    pub kubeconfig: Option<PathBuf>,
}

/// Explains every rule of these files. Gives the text, and whether everything that was asked
/// answered.
///
/// # Errors
/// One line each for what is wrong with the files, the config or the flags.
pub fn explain(paths: &[PathBuf], ask: &Ask) -> Result<(String, bool), Vec<String>> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        let file = rule_files::parse(path)
            .map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>());
        // Without a config, and with a URL, all files are asked of one server.
        let config = ask.config.as_ref().filter(|_| ask.prometheus.is_none());
        let settings = rule_files::settings(path, config).map_err(|message| vec![message]);
        match (file, settings) {
            (Ok(file), Ok(settings)) => files.push(Loaded { settings, file }),
            (file, settings) => {
                problems.extend(file.err().into_iter().chain(settings.err()).flatten());
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| vec![format!("no runtime: {error}")])?;
    runtime.block_on(told(&files, ask)).map_err(|message| vec![message])
}

async fn told(files: &[Loaded], ask: &Ask) -> Result<(String, bool), String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let config = ask.config.as_ref();
    let upstreams = rule_files::upstreams(files, ask.prometheus.as_deref(), config, &clock)?;
    let cluster = Cluster::find(ask.kubeconfig.as_deref(), config, &clock).await?;
    let series = match &upstreams {
        Some(upstreams) => AllSeries::list(files, upstreams, &*clock).await,
        None => AllSeries::assumed(),
    };
    let resources = cluster.resources();
    let all = series.registry(files, &*resources);
    let mut text = format!("Resources: {}.\n", cluster.told());
    text.push_str(match upstreams {
        Some(_) => "Series: as listed now.\n",
        None => {
            "Series: nobody was asked; --prometheus URL, or --config FILE, lists them. Where a \
             series query names its series, that one is taken.\n"
        }
    });
    let mut answered = true;
    for loaded in files {
        let folder = Scene { loaded, series: &series, resources: &*resources, all: &all };
        for (external, rules) in [(false, &loaded.file.custom), (true, &loaded.file.external)] {
            for rule in rules {
                answered &= !matches!(series.of(loaded, rule), Series::Failed(_));
                text.push('\n');
                text.push_str(&folder.rule(rule, external));
            }
        }
        if let Some(place) = &loaded.file.resource_rules {
            let _ = write!(
                text,
                "\n{}:{}: resourceRules\n  {:HEADING$}not served here: metrics-server is the place for metrics.k8s.io\n",
                place.path.display(),
                place.line,
                "Problem"
            );
        }
    }
    cluster.close().await;
    Ok((text, answered))
}

/// Columns of the headings.
const HEADING: usize = 14;

/// What a rule is explained with.
struct Scene<'a> {
    loaded: &'a Loaded,
    series: &'a AllSeries,
    resources: &'a dyn ResourceDirectory,
    /// What all rules give.
    all: &'a Registry,
}

impl Scene<'_> {
    fn rule(&self, rule: &Arc<Rule>, external: bool) -> String {
        let place = rule.place();
        let mut text = format!("{}:{}: {}\n", place.path.display(), place.line, place.field);
        let mut line = |heading: &str, words: &str| {
            for (at, words) in words.lines().enumerate() {
                let heading = if at == 0 { heading } else { "" };
                let _ = writeln!(text, "  {heading:HEADING$}{words}");
            }
        };
        line("seriesQuery", rule.series_query());
        let listed = self.series.listed(self.loaded, rule);
        let age = show(self.loaded.settings.series_max_age);
        let source = &self.loaded.settings.source;
        match self.series.of(self.loaded, rule) {
            Series::Found(shapes) => {
                let count = counted(shapes.len(), "shape", "shapes");
                line("Series", &format!("{count} in the last {age}, of source {source}"));
            }
            Series::Assumed(shapes) => {
                let shown: Vec<String> = shapes.iter().map(shape).collect();
                line("Series", &format!("assumed: {}", shown.join(", ")));
            }
            Series::Unknown => {
                line("Series", "not known: the series query names none, and nobody was asked");
                return text;
            }
            Series::Failed(why) => {
                line("Problem", &format!("source {source} cannot list the series: {why}"));
                return text;
            }
        }
        let own = self.registry(&listed, external);
        let metrics = metrics(&own, external, self.resources);
        for metric in metrics.iter().take(MAX_SHOWN) {
            line("Metric", &metric.told());
            for (winner, of) in self.winners(metric, rule) {
                let of = if of.is_empty() { String::new() } else { format!(" of {of}") };
                line("", &format!("but that{of} comes of {winner}, which stands later"));
            }
        }
        if metrics.len() > MAX_SHOWN {
            line("", &format!("and {} more", metrics.len() - MAX_SHOWN));
        }
        if let Some(first) = metrics.first() {
            match first.query() {
                Ok((asked, query)) => line("Query", &format!("{asked}\n{query}")),
                Err(why) => line("Problem", &why),
            }
        }
        for problem in self.problems(&listed, &own, external) {
            line("Problem", &problem);
        }
        text
    }

    fn registry(&self, listed: &Listed, external: bool) -> Registry {
        let one = std::slice::from_ref(listed);
        if external {
            Registry::build(&[], one, self.resources)
        } else {
            Registry::build(one, &[], self.resources)
        }
    }

    /// The rules that give the metric in place of this one, and of which resources.
    fn winners(&self, metric: &Metric, rule: &Rule) -> BTreeMap<String, String> {
        let mut winners: BTreeMap<String, String> = BTreeMap::new();
        let mut note = |found: Option<&RuleMetric>, of: &str| {
            let place = found.map(|found| found.rule.place());
            let Some(place) = place.filter(|place| *place != rule.place()) else { return };
            let named = format!("{} ({}:{})", place.field, place.path.display(), place.line);
            let all = winners.entry(named).or_default();
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(of);
        };
        if metric.resources.is_empty() {
            note(self.all.external(&metric.name), "");
        }
        for (resource, namespaced) in &metric.resources {
            let found = self.all.custom(&resource.id, *namespaced, &metric.name);
            note(found, &resource.id.to_string());
        }
        winners
    }

    /// Why series give nothing.
    fn problems(&self, listed: &Listed, own: &Registry, external: bool) -> Vec<String> {
        let mut problems: Vec<String> =
            own.problems().iter().map(|problem| problem.message.clone()).collect();
        let shapes = listed.series.as_deref().unwrap_or_default();
        if shapes.is_empty() {
            problems
                .push("the series query finds nothing: no metric comes of this rule".to_owned());
        }
        let (named, unnamed): (Vec<&SeriesShape>, Vec<&SeriesShape>) =
            shapes.iter().partition(|shape| listed.rule.metric_name(&shape.name).is_some());
        let unnamed: BTreeSet<String> =
            unnamed.into_iter().map(|shape| shape.name.to_string()).collect();
        if !unnamed.is_empty() {
            problems.push(format!(
                "seriesFilters or name.matches leave out {}: {}",
                counted(unnamed.len(), "name", "names"),
                some(unnamed)
            ));
        }
        // An override without a resource has been told, and is why nothing is found.
        if !external && (!own.custom_names().is_empty() || own.problems().is_empty()) {
            let without: BTreeSet<String> = named
                .into_iter()
                .filter(|shape| {
                    let series = Some([(*shape).clone()].into());
                    let one = Listed { series, ..listed.clone() };
                    self.registry(&one, false).custom_names().is_empty()
                })
                .map(shape)
                .collect();
            if !without.is_empty() {
                problems.push(format!(
                    "no label stands for a resource in {}: {}",
                    counted(without.len(), "shape", "shapes"),
                    some(without)
                ));
            }
        }
        let more = problems.len().saturating_sub(MAX_SHOWN);
        problems.truncate(MAX_SHOWN);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        problems
    }
}

/// A metric of a rule.
struct Metric {
    name: Arc<str>,
    /// Of which resources, and whether they are asked for in a namespace. Empty for external ones.
    resources: Vec<(Arc<Resource>, bool)>,
    found: RuleMetric,
}

impl Metric {
    fn told(&self) -> String {
        let mut text = format!("{} from {}", self.name, self.found.series);
        let names: Vec<String> = self.resources.iter().map(|(r, _)| r.id.to_string()).collect();
        if !names.is_empty() {
            let _ = write!(text, ", of {}", names.join(", "));
        }
        text
    }

    /// An example: what is asked for, and the query for it. Of pods, if there are any.
    fn query(&self) -> Result<(String, String), String> {
        let namespace =
            Some(NAMESPACE).filter(|_| self.resources.iter().any(|(_, within)| *within));
        let is_pods = |resource: &Resource| resource.id.to_string() == "pods";
        let chosen = self
            .resources
            .iter()
            .find(|(resource, _)| is_pods(resource))
            .or_else(|| self.resources.iter().find(|(_, namespaced)| *namespaced))
            .or_else(|| self.resources.first());
        let all = Selector::default();
        let Some((resource, within)) = chosen else {
            let query = self.found.external(NAMESPACE, &all)?;
            return Ok((format!("{} for a reader in namespace {NAMESPACE}:", self.name), query));
        };
        let namespace = namespace.filter(|_| *within);
        let text = self.found.objects(resource, namespace, &all)?;
        let query = text.0.write(Some(&[OBJECT.into()])).map_err(|error| error.to_string())?;
        let place = namespace.map(|name| format!(" in namespace {name}")).unwrap_or_default();
        Ok((format!("{}/{} of {OBJECT}{place}:", resource.id, self.name), query))
    }
}

/// The metrics of a registry, by name.
fn metrics(registry: &Registry, external: bool, directory: &dyn ResourceDirectory) -> Vec<Metric> {
    if external {
        let metric = |name: &crate::model::MetricName| {
            let found = registry.external(name.as_str())?.clone();
            Some(Metric { name: name.as_str().into(), resources: Vec::new(), found })
        };
        return registry.external_names().iter().filter_map(metric).collect();
    }
    let mut all: BTreeMap<Arc<str>, Metric> = BTreeMap::new();
    for name in registry.custom_names().iter() {
        let id = &name.resource;
        let resource = directory.resolve(&id.group, &id.resource);
        let found = registry.custom(id, name.namespaced, &name.metric);
        let (Some(resource), Some(found)) = (resource, found) else { continue };
        let metric = all.entry(Arc::clone(&name.metric)).or_insert_with(|| Metric {
            name: Arc::clone(&name.metric),
            resources: Vec::new(),
            found: found.clone(),
        });
        metric.resources.push((resource, name.namespaced));
    }
    all.into_values().collect()
}

fn shape(shape: &SeriesShape) -> String {
    format!("{}{{{}}}", shape.name, shape.labels.join(","))
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A bounded list.
fn some(all: BTreeSet<String>) -> String {
    let more = all.len().saturating_sub(MAX_SHOWN);
    let shown: Vec<String> = all.into_iter().take(MAX_SHOWN).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// The config that a flag names.
///
/// # Errors
/// Everything that is wrong with it.
pub fn config(path: &Path) -> Result<Config, Vec<String>> {
    let overrides = crate::config::Overrides::default();
    Config::load(path, &overrides)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::upstream::{Prometheus, Reply};

    const RULES: &str = "\
rules:
- seriesQuery: '{__name__=~\"^http_.*\"}'
  resources: { template: '<<.Resource>>' }
  name: { matches: '^(.*)_total$', as: '${1}_per_second' }
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)'
- seriesQuery: 'jobs{namespace!=\"\",widget!=\"\"}'
  resources: { overrides: { namespace: { resource: namespace }, widget: { resource: widget, group: example.com } } }
  metricsQuery: 'x'
- seriesQuery: 'http_requests_total{namespace!=\"\"}'
  resources: { overrides: { namespace: { resource: namespace } } }
  name: { as: http_requests_per_second }
  metricsQuery: '<<.Series>>{<<.LabelMatchers>>}'
externalRules:
- seriesQuery: 'depth{queue!=\"\"}'
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>})'
  resources: { template: 'x_<<.Resource>>' }
resourceRules: {}
";

    fn explained(ask: &Ask) -> (String, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.yaml");
        std::fs::write(&path, RULES).unwrap();
        let (text, answered) = explain(&[path], ask).unwrap();
        (text.replace(&format!("{}/", folder.path().display()), ""), answered)
    }

    #[test]
    fn without_a_prometheus_what_the_file_itself_says_is_told() {
        let (text, answered) = explained(&Ask::default());
        assert!(answered);
        let expected = "\
Resources: Kubernetes' own, from a built-in list: no cluster was asked, and custom resources are not known; --kubeconfig FILE asks one.
Series: nobody was asked; --prometheus URL, or --config FILE, lists them. Where a series query names its series, that one is taken.

rules.yaml:2: rules[0]
  seriesQuery   {__name__=~\"^http_.*\"}
  Series        not known: the series query names none, and nobody was asked

rules.yaml:6: rules[1]
  seriesQuery   jobs{namespace!=\"\",widget!=\"\"}
  Series        assumed: jobs{namespace,widget}
  Problem       resources.overrides.widget: the cluster has no resource \"widget\" in the group \"example.com\"; the rule gives no metrics until it has

rules.yaml:9: rules[2]
  seriesQuery   http_requests_total{namespace!=\"\"}
  Series        assumed: http_requests_total{namespace}
  Metric        http_requests_per_second from http_requests_total, of namespaces
  Query         namespaces/http_requests_per_second of example:
                http_requests_total{namespace=\"example\"}

rules.yaml:14: externalRules[0]
  seriesQuery   depth{queue!=\"\"}
  Series        assumed: depth{queue,x_namespace,x_pod}
  Metric        depth from depth
  Query         depth for a reader in namespace default:
                sum(depth{x_namespace=\"default\"})

rules.yaml:17: resourceRules
  Problem       not served here: metrics-server is the place for metrics.k8s.io
";
        assert_eq!(text, expected);
    }

    #[test]
    fn with_one_the_series_tell() {
        let fake = Prometheus::start();
        let list = r#"{"status":"success","data":[
            {"__name__":"http_requests_total","namespace":"a","pod":"b","host":"x"},
            {"__name__":"http_errors_total","host":"x"},
            {"__name__":"http_up","namespace":"a"}]}"#;
        let series = |selector: &str, reply| fake.series(selector, reply);
        series("{__name__=~\"^http_.*\"}", Reply::json(200, list.to_owned()));
        series("http_requests_total{namespace!=\"\"}", Reply::json(200, list.to_owned()));
        series("depth{queue!=\"\"}", Reply::json(503, "{}".to_owned()));
        let prometheus = Some(format!("http://{}", fake.server().address()));
        let (text, answered) = explained(&Ask { prometheus, ..Ask::default() });
        assert!(!answered, "{text}");
        for part in [
            "Series        3 shapes in the last 10m, of source prometheus\n",
            "  Metric        http_requests_per_second from http_requests_total, of namespaces, pods\n                but that of namespaces comes of rules[2]",
            "Query         pods/http_requests_per_second of example in namespace default:\n                sum(rate(http_requests_total{namespace=\"default\",pod=\"example\"}[2m])) by (pod)\n",
            "Problem       seriesFilters or name.matches leave out 1 name: http_up\n",
            "Problem       no label stands for a resource in 1 shape: http_errors_total{host}\n",
            "Problem       the series query finds nothing: no metric comes of this rule\n",
            "Problem       source prometheus cannot list the series: ",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        let problems = explain(&["/no/such".into()], &Ask::default()).unwrap_err();
        assert!(problems[0].contains("/no/such: cannot be read"), "{problems:?}");
    }
}
