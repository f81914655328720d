//! Rule files without a server: what `tidepole check --explain` and `tidepole query --rules` have in
//! common.
//!
//! Responsible for: telling rule files from other files, their settings, the Prometheus servers that
//! they are asked of, the cluster whose resources count, and one listing of their series.
//! Not responsible for: what rules mean (`rules`), what is told of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::join_all;

use crate::cli::prometheus_adapter;
use crate::config::Config;
use crate::control::file_watch::{Content, read};
use crate::definition::field::Field;
use crate::definition::{Defaults, yaml};
use crate::model::{
    Clock, ObjectDirectory, Problem, ResourceDirectory, SeriesLister, SeriesShape, Source,
    SourceName,
};
use crate::objects::BuiltInResources;
use crate::rules::settings::DEFAULT_RELIST_INTERVAL;
use crate::rules::{Listed, Registry, Rule, RuleFile, RuleFileSettings};
use crate::runtime::cluster_view::ClusterView;
use crate::source::{self, Metrics, Settings};
use crate::telemetry::Telemetry;

/// The name of a Prometheus that a URL on the command line names.
const URL_SOURCE: &str = "prometheus";

/// Whether a file's text is one of prometheus-adapter: its keys at the top, and none that every
/// document of ours and of Kubernetes has. An empty file is a definition file without definitions.
pub(super) fn is_rule_file(text: &str) -> bool {
    let Ok(documents) = yaml::parse(text) else { return looks_like_rules(text) };
    let Some(first) = documents.first() else { return false };
    let has = |key: &str| first.root.find(&Field::of(key)).is_some();
    !has("apiVersion")
        && !has("kind")
        && ["rules", "externalRules", "resourceRules"].into_iter().any(has)
}

/// The same for a text that is no YAML: which reader complains is a guess then.
fn looks_like_rules(text: &str) -> bool {
    let starts = |word: &str| text.lines().any(|line| line.starts_with(word));
    !starts("apiVersion:")
        && !starts("kind:")
        && ["rules:", "externalRules:", "resourceRules:"].into_iter().any(starts)
}

/// Reads a rule file.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn parse(path: &Path) -> Result<RuleFile, Vec<Problem>> {
    let problem = |message: String| vec![Problem::new(path, message)];
    match read(path) {
        Content::Text(text) => RuleFile::parse(path, &text),
        Content::Unreadable(why) => Err(problem(format!("cannot be read: {why}"))),
        Content::Missing => Err(problem("cannot be read: there is no such file".to_owned())),
    }
}

/// A rule file and how it is served.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) settings: RuleFileSettings,
    pub(super) file: RuleFile,
}

impl Loaded {
    /// All rules, those of custom metrics first.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.file.custom.iter().chain(&self.file.external)
    }
}

/// How a file is served: as the config says, otherwise by the config's only Prometheus, with the
/// defaults. Without a config by the Prometheus that the command line names.
///
/// # Errors
/// When the config has several, or none.
pub(super) fn settings(path: &Path, config: Option<&Config>) -> Result<RuleFileSettings, String> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let defaults = config.map_or_else(Defaults::default, |config| config.defaults.clone());
    let source = match config {
        None => SourceName::new(URL_SOURCE),
        Some(config) => {
            let listed = config.rules.iter().find(|listed| real(&listed.path) == real(path));
            if let Some(listed) = listed {
                return Ok(RuleFileSettings { path: path.to_owned(), ..listed.clone() });
            }
            let is_prometheus = |settings: &Settings| matches!(settings, Settings::Prometheus(_));
            let mut all = config.sources.iter().filter(|source| is_prometheus(&source.settings));
            match (all.next(), all.next()) {
                (Some(only), None) => only.name.clone(),
                (None, _) => {
                    return Err("the server config has no source of kind prometheus".to_owned());
                }
                (Some(_), Some(_)) => {
                    return Err(format!(
                        "the server config has several sources of kind prometheus; list {} under its `rules:` with the `source` that has the series",
                        path.display()
                    ));
                }
            }
        }
    };
    Ok(RuleFileSettings {
        path: path.to_owned(),
        source,
        relist_interval: DEFAULT_RELIST_INTERVAL,
        series_max_age: DEFAULT_RELIST_INTERVAL,
        refresh: defaults.refresh,
        sample_max_age: defaults.max_age,
        first_read_timeout: defaults.first_read_timeout,
    })
}

/// A Prometheus server.
pub(super) struct Upstream {
    pub(super) source: Arc<dyn Source>,
    pub(super) series: Arc<dyn SeriesLister>,
}

/// The Prometheus servers that the files name.
pub(super) type Upstreams = BTreeMap<SourceName, Upstream>;

/// The servers of these files. `url` goes before the config. None where neither is given.
///
/// # Errors
/// With a sentence, when one cannot be set up. No connection is made.
pub(super) fn upstreams(
    files: &[Loaded],
    url: Option<&str>,
    config: Option<&Config>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Upstreams>, String> {
    let of_url = match url {
        Some(url) => {
            let settings =
                prometheus_adapter::connection(url).map_err(|e| format!("--prometheus: {e}"))?;
            Some(Settings::Prometheus(Box::new(settings)))
        }
        None if config.is_none() => return Ok(None),
        None => None,
    };
    let metrics = Metrics::register(&Telemetry::new());
    let mut all = Upstreams::new();
    for loaded in files {
        let name = &loaded.settings.source;
        if all.contains_key(name) {
            continue;
        }
        let named = config.and_then(|config| config.sources.iter().find(|s| s.name == *name));
        let Some(settings) = of_url.as_ref().or(named.map(|named| &named.settings)) else {
            return Err(format!("there is no source {name}"));
        };
        let built = source::build(name, settings, Arc::clone(clock), &metrics);
        let built = built.map_err(|error| error.to_string())?;
        let Some(series) = built.series else {
            return Err(format!("source {name} is no Prometheus"));
        };
        all.insert(name.clone(), Upstream { source: built.source, series });
    }
    Ok(Some(all))
}

/// Whose resources count.
pub(super) enum Cluster {
    /// A cluster's.
    Live(ClusterView),
    /// Kubernetes' own; and why no cluster was asked, if one was meant to be.
    BuiltIn(Option<String>),
}

impl Cluster {
    /// The cluster of a kubeconfig, otherwise that of the config, otherwise none. A cluster that is
    /// named by flag has to answer; that of the config may be out of reach from here.
    ///
    /// # Errors
    /// With a sentence, for the former.
    pub(super) async fn find(
        kubeconfig: Option<&Path>,
        config: Option<&Config>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, String> {
        if let Some(path) = kubeconfig {
            let view = ClusterView::connect(Some(path), Arc::clone(clock)).await;
            return view.map(Self::Live).map_err(|error| format!("--kubeconfig: {error:#}"));
        }
        let section = config.map(|config| &config.kubernetes).filter(|section| section.enabled);
        let Some(section) = section else { return Ok(Self::BuiltIn(None)) };
        Ok(match ClusterView::connect(section.kubeconfig.as_deref(), Arc::clone(clock)).await {
            Ok(view) => Self::Live(view),
            Err(error) => Self::BuiltIn(Some(format!("{error:#}"))),
        })
    }

    /// The resources.
    pub(super) fn resources(&self) -> Arc<dyn ResourceDirectory> {
        match self {
            Self::Live(view) => view.resources(),
            Self::BuiltIn(_) => Arc::new(BuiltInResources::new()),
        }
    }

    /// The objects, where a cluster knows them.
    pub(super) fn objects(&self) -> Option<Arc<dyn ObjectDirectory>> {
        match self {
            Self::Live(view) => Some(view.objects()),
            Self::BuiltIn(_) => None,
        }
    }

    /// Where resources come from, in a sentence.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Live(_) => "the cluster's, by API discovery".to_owned(),
            Self::BuiltIn(why) => {
                let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                format!(
                    "Kubernetes' own, from a built-in list: no cluster was asked{why}, and custom \
                     resources are not known; --kubeconfig FILE asks one"
                )
            }
        }
    }

    /// Ends what runs.
    pub(super) async fn close(self) {
        if let Self::Live(view) = self {
            view.close().await;
        }
    }
}

/// What is known of the series of rules.
#[derive(Clone, Debug)]
pub(super) enum Series {
    /// Listed.
    Found(Arc<[SeriesShape]>),
    /// The rule's own text names it; nobody was asked.
    Assumed(Arc<[SeriesShape]>),
    /// Nobody was asked, and the text names none.
    Unknown,
    /// They cannot be listed: why.
    Failed(String),
}

impl Series {
    /// The shapes, if there are any to go by.
    pub(super) fn shapes(&self) -> Option<&Arc<[SeriesShape]>> {
        match self {
            Self::Found(shapes) | Self::Assumed(shapes) => Some(shapes),
            Self::Unknown | Self::Failed(_) => None,
        }
    }
}

/// The series of every rule, each series query of a source asked once.
pub(super) struct AllSeries(BTreeMap<(SourceName, Arc<str>), Series>);

impl AllSeries {
    /// Lists them.
    pub(super) async fn list(files: &[Loaded], upstreams: &Upstreams, clock: &dyn Clock) -> Self {
        let mut asked = BTreeMap::new();
        for loaded in files {
            for rule in loaded.rules() {
                let age = loaded.settings.series_max_age;
                let longest = asked.entry(key(loaded, rule)).or_insert(age);
                *longest = age.max(*longest);
            }
        }
        let now = clock.now();
        let listings = asked.into_iter().map(async |(key, age)| {
            let start = now.checked_sub(age).unwrap_or(now);
            let series = match upstreams.get(&key.0) {
                Some(upstream) => match upstream.series.series(&key.1, start).await {
                    Ok(shapes) => Series::Found(shapes.into()),
                    Err(error) => Series::Failed(error.to_string()),
                },
                None => Series::Unknown,
            };
            (key, series)
        });
        Self(join_all(listings).await.into_iter().collect())
    }

    /// Nobody is asked.
    pub(super) fn assumed() -> Self {
        Self(BTreeMap::new())
    }

    /// Those of a rule.
    pub(super) fn of(&self, loaded: &Loaded, rule: &Rule) -> Series {
        match self.0.get(&key(loaded, rule)) {
            Some(series) => series.clone(),
            None => match rule.assumed_series() {
                Some(shape) => Series::Assumed([shape].into()),
                None => Series::Unknown,
            },
        }
    }

    /// A rule with its series, as a registry is made of.
    pub(super) fn listed(&self, loaded: &Loaded, rule: &Arc<Rule>) -> Listed {
        Listed {
            rule: Arc::clone(rule),
            source: loaded.settings.source.clone(),
            policy: loaded.settings.policy(),
            series: self.of(loaded, rule).shapes().cloned(),
        }
    }

    /// What all rules of all files make of them.
    pub(super) fn registry(&self, files: &[Loaded], resources: &dyn ResourceDirectory) -> Registry {
        let (mut custom, mut external) = (Vec::new(), Vec::new());
        for loaded in files {
            custom.extend(loaded.file.custom.iter().map(|rule| self.listed(loaded, rule)));
            external.extend(loaded.file.external.iter().map(|rule| self.listed(loaded, rule)));
        }
        Registry::build(&custom, &external, resources)
    }
}

fn key(loaded: &Loaded, rule: &Rule) -> (SourceName, Arc<str>) {
    (loaded.settings.source.clone(), Arc::clone(rule.series_query()))
}

/// The rule files that a config names.
pub(super) fn paths_of(config: &Config) -> impl Iterator<Item = &PathBuf> {
    config.rules.iter().map(|settings| &settings.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_files_are_told_by_their_keys() {
        for text in ["rules: []", "externalRules:\n", "resourceRules: {}", "rulez: 1\nrules: []"] {
            assert!(is_rule_file(text), "{text}");
        }
        assert!(is_rule_file("rules:\n- seriesQuery: 'a\n"), "broken YAML");
        for text in [
            "",
            "apiVersion: tidepole.dev/v1alpha1\nkind: ServerConfig\nrules: []",
            "kind: x\nrules: []",
            "groups: []",
            "apiVersion: v1\nrules: 'a\n",
        ] {
            assert!(!is_rule_file(text), "{text}");
        }
    }
}
