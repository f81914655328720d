//! `tidepole query`: what a running server gives to an HPA, or how the value of one definition comes
//! about, from the request to what an HPA would read.
//!
//! Responsible for: the command's arguments, finding the definition (`definitions`), asking its
//! source the way the refresher does, and what is told of it (`account`, `table`, `yaml`).
//! Not responsible for: what is sent and chosen (the source tells), what may be served
//! ([`crate::cache`]) and what becomes of it ([`crate::lookup`]): the same code as the server's.
//!
//! Metrics of rule files have a way of their own (`rule`) to the same account. Without a config, a
//! definition or a rule file a running server is asked (`live`).
//!
//! Invariants: nothing listens; a dry run asks no upstream anything; a definition contacts no cluster.

mod account;
mod definitions;
mod judgement;
mod live;
mod rule;
mod table;
pub(super) mod yaml;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::cli::{EXIT_INPUT, EXIT_INTERNAL};
use crate::config::{Config, Overrides};
use crate::definition::names;
use crate::model::{Clock, Entry, Query, QueryTemplate, Scope, Selector, Source, SystemClock};
use crate::source::{self, Settings};
use crate::telemetry::Telemetry;
use account::Account;
use definitions::{Library, Wanted};

/// What clap itself exits with when arguments are missing.
const EXIT_USAGE: u8 = 2;

/// The namespace that is assumed for a cluster-wide definition when none is given.
const ASSUMED_NAMESPACE: &str = "default";

macro_rules! examples {
    () => {
        "Examples:
  tidepole query jobs_depth                               as the current context's cluster serves it
  tidepole query -n shop -l queue=mail jobs_depth         in a namespace, with an HPA's selector
  tidepole query -n shop -l app=web pods/http_requests    a metric of pods: the average, as an HPA's
  tidepole query --config server.yaml jobs                a definition of the config's
  tidepole query --config server.yaml jobs -l queue=mail  as an HPA with this selector reads it
  tidepole query --config server.yaml -f - < jobs.yaml    a draft, with the config's sources
  tidepole query --config server.yaml jobs --dry-run      only what would be sent
  tidepole query -f config/demo.d queue-depth-mail        simulated metrics need no config
  tidepole query --rules rules.yaml --prometheus http://localhost:9090 \\
    --kubeconfig ~/.kube/config -n shop -l app=web pods/http_requests
                                                          a metric of pods, of a rules file
  tidepole query --rules rules.yaml --dry-run --name web-0 pods/http_requests
  tidepole query --config server.yaml external/depth      of the config's rule files

Exit code: 0 a value would be served, or a dry run showed the request; 1 no value would be served
(the result says why), or the input is wrong; 2 usage; 70 internal"
    };
}

/// What `-h` says after the arguments.
pub(super) const AFTER_HELP: &str = examples!();

/// What `--help` says after the arguments.
pub(super) const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

With neither --config nor --file nor --rules the metric is read from a running server, as an HPA
reads it: through the API server of the kubeconfig's context, with the credentials that kubectl takes
(token, certificate, or a program), and with the reader's own permissions.

Otherwise nothing is asked but the definition's source, once, as the server would ask it; no cluster is
contacted. For a metric of a rules file its series are listed first, and objects and resources are
those of the cluster that --kubeconfig or the config names: read only. No value of a header, credential or signature is shown.

Colours are for terminals; NO_COLOR turns them off.

Keys of -o json and -o yaml of a running server, all of them always there:
  server, context, metric, namespace, selector   who is asked, and what
  requests          [path]
  dryRun            true: nothing was sent
  value             the sum of the items, or the average over objects, as an HPA takes it, or null
  items             [object, labels, timestamp, ageSeconds, value]
  error             null, or code, reason, message (what an HPA reads), advice: [text]

Keys of the others, all of them always there:
  definition        kind, namespace, name, origin (file:line), metric, labels; kind Rule: a rule
  namespace, namespaceAssumed, selector      who reads
  source, kind, query                        who is asked, and what, in one line
  rules             refresh, maxAge, onNoData, aggregate, scale, offset, min, max
  notes             [text]
  dryRun            true: nothing was sent; sample and result are null
  calls             [operation, target, request, answer or error, omitted, tookSeconds]
  choice            [text]: which datapoint was chosen, and why
  sample            timestamp, ageSeconds, series: [labels, value]; null: there was none
  result            served, state, value (the sum of the items, or the average over objects, as an
                    HPA takes it), items: [object, labels, timestamp, value, series,
                    steps: [step, value]],
                    error (what an HPA reads), errorKind, detail"
);

/// Arguments of `tidepole query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The definition: its metadata.name, its metric's name, or KIND/metadata.name. Of rules:
    /// RESOURCE/METRIC such as `pods/http_requests`, external/METRIC, or an external metric's name.
    /// Of a running server: likewise
    #[arg(value_name = "NAME", required_unless_present = "file")]
    wanted: Option<String>,
    /// The server config: its sources and defaults, and its definitions unless -f names others
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Definitions to choose from: a file, a folder, or - for standard input. A document without
    /// apiVersion, kind and metadata is taken for a spec
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// A rules file of prometheus-adapter, instead of those that the config names
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    rules: Option<PathBuf>,
    /// The Prometheus server that rules are asked of, instead of the config's source
    #[arg(long, value_name = "URL", requires = "rules")]
    prometheus: Option<String>,
    /// The cluster: whose server is asked, or whose objects and resources rules are about. Otherwise
    /// the one that kubectl takes; for rules the config's
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, instead of its current one
    #[arg(long, value_name = "NAME", conflicts_with_all = ["file", "config", "rules"])]
    context: Option<String>,
    /// An object by its name, instead of those that a cluster finds; may be repeated
    #[arg(long = "name", value_name = "OBJECT", conflicts_with_all = ["file", "selector"])]
    names: Vec<String>,
    /// The selector of a metric of objects itself, for example verb=GET
    #[arg(long, value_name = "SELECTOR", value_parser = Selector::parse, conflicts_with = "file")]
    metric_selector: Option<Selector>,
    /// The namespace that reads the metric; needed where a cluster-wide query has $namespace in it.
    /// Of a running server the context's by default
    #[arg(short = 'n', long, value_name = "NAMESPACE", value_parser = namespace)]
    namespace: Option<String>,
    /// The HPA's selector, for example queue=jobs; for metrics of objects the objects' labels
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = Selector::parse)]
    selector: Option<Selector>,
    /// Show the request and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Show long answers and lists whole
    #[arg(long)]
    full: bool,
    /// The form of the output
    #[arg(short = 'o', long, value_enum, default_value_t)]
    output: Output,
}

/// How the result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON object.
    Json,
    /// The same as YAML.
    Yaml,
}

fn namespace(text: &str) -> Result<String, names::InvalidName> {
    names::dns_label(text).map(|()| text.to_owned())
}

/// Why there is nothing to show.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// An argument is missing.
    Usage(String),
    /// The input is wrong: one line each.
    Input(Vec<String>),
    /// A defect of ours or of the machine.
    Internal(String),
}

impl Refusal {
    fn input(line: impl Into<String>) -> Self {
        Self::Input(vec![line.into()])
    }

    fn tell(&self) -> ExitCode {
        match self {
            Self::Usage(text) => {
                eprintln!("error: {text}");
                ExitCode::from(EXIT_USAGE)
            }
            Self::Input(lines) => {
                for line in lines {
                    eprintln!("{line}");
                }
                ExitCode::from(EXIT_INPUT)
            }
            Self::Internal(text) => {
                eprintln!("tidepole: {text}");
                ExitCode::from(EXIT_INTERNAL)
            }
        }
    }
}

/// What is asked, of whom, and for which reader.
struct Inquiry {
    entry: Arc<Entry>,
    /// What is asked.
    query: Arc<Query>,
    source: Arc<dyn Source>,
    namespace: String,
    /// Nobody named the namespace.
    assumed: bool,
    /// What a reader should know besides.
    notes: Vec<String>,
    clock: Arc<dyn Clock>,
}

/// Runs the command.
#[must_use]
pub fn run(args: &QueryArgs) -> ExitCode {
    let shown = if args.config.is_none() && args.file.is_none() && args.rules.is_none() {
        live(args)
    } else {
        shown(args).and_then(|account| {
            let colours = QueryArgs::colours();
            let text = told(args, &account, || table::render(&account, args.full, colours))?;
            Ok((text, account.exit_code()))
        })
    };
    let (text, code) = match shown {
        Ok(shown) => shown,
        Err(refusal) => return refusal.tell(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        // Whoever read has read enough: `| head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => code,
        Err(error) => Refusal::Internal(format!("cannot write the result: {error}")).tell(),
    }
}

impl QueryArgs {
    /// Whether the text goes to a terminal that shows colours, and nobody asked for none
    /// (<https://no-color.org>).
    fn colours() -> bool {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        std::io::stdout().is_terminal() && !is_unwanted && !is_dumb
    }
}

/// In the form that was asked for.
fn told(
    args: &QueryArgs,
    data: &impl serde::Serialize,
    table: impl FnOnce() -> String,
) -> Result<String, Refusal> {
    match args.output {
        Output::Table => Ok(table()),
        Output::Json => serde_json::to_string_pretty(data).map(|text| text + "\n"),
        Output::Yaml => yaml::render(data),
    }
    .map_err(|error| Refusal::Internal(error.to_string()))
}

/// What a running server says.
fn live(args: &QueryArgs) -> Result<(String, ExitCode), Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Refusal::Internal(format!("no runtime: {e}")))?;
    let report = runtime.block_on(live::report(args))?;
    let code = if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INPUT) };
    let text = told(args, &report, || live::render(&report, args.full, QueryArgs::colours()))?;
    Ok((text, code))
}

fn shown(args: &QueryArgs) -> Result<Account, Refusal> {
    let config = match &args.config {
        Some(path) => Some(Config::load(path, &Overrides::default()).map_err(|problems| {
            Refusal::Input(problems.iter().map(ToString::to_string).collect())
        })?),
        None => None,
    };
    if rule::is_meant(args, config.as_ref()) {
        return rule::account(args, config.as_ref());
    }
    for (flag, given) in [
        ("--kubeconfig", args.kubeconfig.is_some()),
        ("--name", !args.names.is_empty()),
        ("--metric-selector", args.metric_selector.is_some()),
    ] {
        if given {
            let text = format!(
                "{flag} is for metrics of rules; give them with --rules FILE, or under `rules:` of the server config"
            );
            return Err(Refusal::Usage(text));
        }
    }
    let inquiry = inquire(args, config.as_ref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Refusal::Internal(format!("no runtime: {e}")))?;
    Ok(runtime.block_on(answer(args, &inquiry)))
}

/// Finds the definition and connects its source; makes no call.
fn inquire(args: &QueryArgs, config: Option<&Config>) -> Result<Inquiry, Refusal> {
    let wanted = args.wanted.as_ref().map(|text| text.parse::<Wanted>()).transpose();
    let wanted = wanted.map_err(Refusal::Usage)?;
    let library = match (&args.file, config) {
        (Some(file), config) => Library::of_file(file, config)?,
        (None, Some(config)) => Library::of_config(config),
        // A running server was asked.
        (None, None) => return Err(Refusal::Internal("no definitions to choose from".to_owned())),
    };
    let entry = library.pick(wanted.as_ref(), args.namespace.as_deref())?;
    let (namespace, assumed) = reader(&entry, args.namespace.as_deref())?;
    let query = entry.query.resolve(&namespace).ok_or_else(|| {
        Refusal::Usage(format!(
            "the query of {} depends on the objects of a cluster ($objects), which this command does not read; ask a server: kubectl get --raw /apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/...",
            entry.id
        ))
    })?;
    let notes = library.notes(&entry, &namespace);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let source = connect(&entry, config, &clock)?;
    Ok(Inquiry { entry, query, source, namespace, assumed, notes, clock })
}

/// The namespace that reads, and whether it is only assumed.
fn reader(entry: &Entry, given: Option<&str>) -> Result<(String, bool), Refusal> {
    match (given, &entry.scope) {
        (Some(given), _) => Ok((given.to_owned(), false)),
        (None, Scope::Namespace(own)) => Ok((own.to_string(), false)),
        (None, _) if matches!(entry.query, QueryTemplate::PerNamespace { .. }) => {
            Err(Refusal::Usage(format!(
                "the query of {} depends on the namespace of its reader ($namespace); give one with --namespace",
                entry.id
            )))
        }
        (None, Scope::Listed(list)) => {
            Ok((list.first().map_or(ASSUMED_NAMESPACE, |first| first).to_owned(), true))
        }
        (None, Scope::All | Scope::Selected(_)) => Ok((ASSUMED_NAMESPACE.to_owned(), true)),
    }
}

/// Builds the one source that the definition names.
fn connect(
    entry: &Entry,
    config: Option<&Config>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Source>, Refusal> {
    let name = entry.query.source();
    let settings = match config {
        Some(config) => {
            config.sources.iter().find(|source| source.name == *name).map(|s| &s.settings)
        }
        None => is_simulated(entry).then_some(&Settings::Simulated),
    };
    let settings = settings.ok_or_else(|| {
        Refusal::Usage(format!(
            "{} reads an upstream, and only a server config says how to reach it; give it with --config FILE",
            entry.id
        ))
    })?;
    let metrics = source::Metrics::register(&Telemetry::new());
    source::build(name, settings, Arc::clone(clock), &metrics)
        .map(|built| built.source)
        .map_err(|error| Refusal::input(error.to_string()))
}

fn is_simulated(entry: &Entry) -> bool {
    matches!(&entry.query, QueryTemplate::Fixed(query)
        if matches!(query.spec, crate::model::QuerySpec::Simulated(_)))
}

/// Asks, or only says what would be asked.
async fn answer(args: &QueryArgs, inquiry: &Inquiry) -> Account {
    let query = &inquiry.query;
    let selector = args.selector.clone().unwrap_or_default();
    let mut account = Account::of(inquiry, query, &selector);
    if args.dry_run {
        account.previewed(inquiry.source.preview(query).await);
    } else {
        let explanation = inquiry.source.explain(query).await;
        let (now, tick) = (inquiry.clock.now(), inquiry.clock.tick());
        account.explained(inquiry, query, &selector, &explanation, (now, tick));
    }
    if !args.full {
        account.shorten();
    }
    account
}
