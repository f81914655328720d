//! README as a text: its sections, the examples in them, and the commands that it shows with their
//! output.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec};
use serde_json::Value;

use crate::support::process::tidepole;
use crate::support::server::Setup;

/// A fenced block.
struct Block {
    heading: String,
    /// After the fence: `yaml`, `console`.
    language: String,
    text: String,
    /// In README.
    line: usize,
}

/// All blocks, and which of them some test has taken.
pub(super) struct Readme {
    blocks: Vec<Block>,
    used: RefCell<BTreeSet<usize>>,
}

impl Readme {
    pub(super) fn new(text: &str) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        let mut heading = String::new();
        let mut open: Option<Block> = None;
        for (at, line) in text.lines().enumerate() {
            match &mut open {
                Some(_) if line == "```" => blocks.extend(open.take()),
                Some(block) => block.text.extend([line, "\n"]),
                None if line.starts_with("```") => {
                    let language = line.trim_start_matches('`').to_owned();
                    let (heading, text) = (heading.clone(), String::new());
                    open = Some(Block { heading, language, text, line: at + 1 });
                }
                None if line.starts_with('#') => {
                    line.trim_start_matches(['#', ' ']).clone_into(&mut heading);
                }
                None => {}
            }
        }
        assert!(open.is_none(), "a block without an end");
        Self { blocks, used: RefCell::default() }
    }

    /// The sections that have something to be loaded, in order.
    pub(super) fn headings(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for (_, block) in self.examples() {
            if found.last() != Some(&&*block.heading) {
                found.push(&block.heading);
            }
        }
        found
    }

    pub(super) fn section<'a>(&'a self, heading: &'a str) -> Section<'a> {
        Section { readme: self, heading }
    }

    /// The blocks that nobody has taken: `heading, line`.
    pub(super) fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        let idle = self.examples().filter(|(at, _)| !used.contains(at));
        idle.map(|(_, block)| format!("{}, line {}", block.heading, block.line)).collect()
    }

    /// Every YAML, and the outputs of commands that need nothing but files.
    fn examples(&self) -> impl Iterator<Item = (usize, &Block)> {
        let is_example = |block: &Block| match block.language.as_str() {
            "yaml" => true,
            "console" => COMMANDS.iter().any(|command| block.text.starts_with(command)),
            _ => false,
        };
        self.blocks.iter().enumerate().filter(move |(_, block)| is_example(block))
    }
}

/// The commands whose output is compared.
const COMMANDS: [&str; 3] =
    ["$ tidepole query ", "$ tidepole check --cost ", "$ tidepole check server.yaml"];

/// What a section has.
pub(super) struct Section<'a> {
    readme: &'a Readme,
    heading: &'a str,
}

impl<'a> Section<'a> {
    /// Blocks that a test can do something with; they count as taken.
    fn take<T>(&self, mut read: impl FnMut(&'a Block) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        for (at, block) in self.readme.examples().filter(|(_, b)| b.heading == self.heading) {
            if let Some(read) = read(block) {
                self.readme.used.borrow_mut().insert(at);
                found.push(read);
            }
        }
        found
    }

    /// The `sources` of its server config.
    pub(super) fn sources(&self) -> Value {
        let found = self.take(|block| yaml(block)?.get("sources").cloned());
        let [sources] = &found[..] else { panic!("{}: {found:?}", self.heading) };
        sources.clone()
    }

    /// The definitions by their names, as they are printed.
    pub(super) fn definitions(&self) -> Vec<(String, String)> {
        let found = self.take(|block| {
            let value = yaml(block)?;
            let ours = value["apiVersion"] == "tidepole.dev/v1alpha1";
            let name = value["metadata"]["name"].as_str()?.to_owned();
            ours.then(|| (name, block.text.clone()))
        });
        assert!(!found.is_empty(), "{} has no definition", self.heading);
        found
    }

    /// What its HPAs read.
    pub(super) fn hpas(&self) -> Vec<Hpa> {
        self.take(|block| {
            let value = yaml(block)?;
            (value["kind"] == "HorizontalPodAutoscaler").then(|| Hpa::of(&value))
        })
    }

    /// Its rule files, as they are printed.
    pub(super) fn rule_files(&self) -> Vec<&'a str> {
        self.take(|block| yaml(block)?.get("rules").map(|_| block.text.as_str()))
    }

    /// The metric and the namespace of its HPAs of pods.
    pub(super) fn pods_hpas(&self) -> Vec<(String, String)> {
        self.take(|block| {
            let value = yaml(block)?;
            if value["kind"] != "HorizontalPodAutoscaler" {
                return None;
            }
            let hpa: HorizontalPodAutoscaler = serde_json::from_value(value.clone()).ok()?;
            assert_eq!(serde_json::to_value(&hpa).ok()?, value);
            let metric = hpa.spec?.metrics?.first()?.pods.clone()?.metric.name;
            Some((metric, hpa.metadata.namespace?))
        })
    }

    /// What its HPAs with metrics of objects read, behind the namespace, which is always `shop`.
    pub(super) fn object_hpas(&self) -> Vec<String> {
        self.take(|block| {
            let value = yaml(block)?;
            (value["kind"] == "HorizontalPodAutoscaler").then(|| objects_of(&value))
        })
    }

    /// Its commands.
    pub(super) fn commands(&self) -> Vec<Shown<'a>> {
        self.take(|block| {
            let (line, output) = block.text.strip_prefix("$ tidepole ")?.split_once('\n')?;
            Some(Shown { arguments: line.split(' ').collect(), output })
        })
    }
}

fn yaml(block: &Block) -> Option<Value> {
    let read = |error| panic!("line {}: {error}", block.line);
    (block.language == "yaml").then(|| serde_saphyr::from_str(&block.text).unwrap_or_else(read))
}

/// What an HPA with one external metric reads.
pub(super) struct Hpa {
    pub(super) namespace: String,
    pub(super) metric: String,
    /// As a parameter.
    pub(super) selector: String,
}

/// An HPA's namespace and its only metric.
fn only_metric(value: &Value) -> (String, MetricSpec) {
    let hpa: HorizontalPodAutoscaler = serde_json::from_value(value.clone()).expect("it is an HPA");
    // A field that Kubernetes does not know would be lost here.
    assert_eq!(serde_json::to_value(&hpa).expect("it has a form"), *value);
    let metrics = hpa.spec.and_then(|spec| spec.metrics).expect("it has metrics");
    let [metric] = &metrics[..] else { panic!("one metric") };
    (hpa.metadata.namespace.expect("it has a namespace"), metric.clone())
}

/// What the controller reads of an HPA's metric of objects.
fn objects_of(value: &Value) -> String {
    let (namespace, metric) = only_metric(value);
    assert_eq!(namespace, "shop");
    if let Some(pods) = metric.pods {
        return format!("pods/*/{}", pods.metric.name);
    }
    let object = metric.object.expect("it is about objects");
    let described = object.described_object;
    let version = described.api_version.unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let kind = described.kind.to_lowercase();
    format!("{kind}.{group}/{}/{}", described.name, object.metric.name)
}

impl Hpa {
    fn of(value: &Value) -> Self {
        let (namespace, metric) = only_metric(value);
        let external = metric.external.as_ref().expect("it is external");
        let labels = external.metric.selector.iter().flat_map(|s| s.match_labels.iter().flatten());
        let selector: Vec<_> = labels.map(|(key, value)| format!("{key}={value}")).collect();
        Self { namespace, metric: external.metric.name.clone(), selector: selector.join(",") }
    }
}

/// A command and what README says that it prints.
pub(super) struct Shown<'a> {
    arguments: Vec<&'a str>,
    output: &'a str,
}

impl Shown<'_> {
    /// Runs it in the folder of a set-up, whose config it finds as `server.yaml`; it has to print
    /// what is shown, but for numbers that are never the same: addresses and times.
    pub(super) fn run(&self, setup: &Setup) {
        fs::copy(setup.config(), setup.path("server.yaml")).expect("the folder is ours");
        let (_, out) = run(setup, &self.arguments);
        let alike = is_alike(&words(&out), &words(self.output));
        assert!(alike, "README shows:\n{}\nit printed:\n{out}", self.output);
    }
}

/// Runs `tidepole` in the folder of a set-up: exit code, and all that it printed.
pub(super) fn run(setup: &Setup, arguments: &[&str]) -> (Option<i32>, String) {
    let (last, others) = arguments.split_last().expect("a subcommand");
    let mut command = tidepole(others, last.as_ref());
    let output = command.current_dir(setup.path("")).output().expect("the binary was built");
    let text = |bytes| String::from_utf8(bytes).expect("the output is text");
    (output.status.code(), text(output.stderr) + &text(output.stdout))
}

/// The words of a text, without what is different every time: moments, and how long something took.
fn words(text: &str) -> Vec<&str> {
    let all: Vec<&str> = text.split_whitespace().collect();
    let word = |at: usize| all.get(at).map_or("", |word| word.trim_matches(['"', ',', '.', ':']));
    let masked = |at: usize| {
        if word(at).parse::<jiff::Timestamp>().is_ok() {
            "TIME"
        } else if word(at + 1) == "old" || (at > 0 && word(at - 1) == "after") {
            "DURATION"
        } else {
            all[at]
        }
    };
    (0..all.len()).map(masked).collect()
}

/// Whether words are those shown; `...` stands for any.
fn is_alike(words: &[&str], shown: &[&str]) -> bool {
    let Some(gap) = shown.iter().position(|word| *word == "...") else { return words == shown };
    let (head, tail) = (&shown[..gap], &shown[gap + 1..]);
    let Some(rest) = words.strip_prefix(head) else { return false };
    (0..=rest.len()).any(|skipped| is_alike(&rest[skipped..], tail))
}
