//! Metric definitions: the documents users write, and their translation into catalog entries.
//!
//! Responsible for: reading `ExternalMetric` and `CustomMetric` documents, and those of their
//! cluster-wide kin, strictly, saying everything that is wrong with one at once and where, and turning valid ones into
//! [`Entry`]s. Its reading layer (`yaml`, `decode`, `report`) also serves the server config.
//! Not responsible for: finding and watching files (`control::file_watch`), conflicts between
//! definitions (the catalog), calling a source.
//!
//! Invariants: a document yields either an entry or at least one problem, never both; no text makes
//! reading panic; a definition never reaches a region, role or source that the operator did not
//! allow.
//!
//! A new kind of question is one field in [`document::Spec`], one arm in `question`, and its
//! variant of [`QuerySpec`](crate::model::QuerySpec).

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::model::{
    DefinitionId, Entry, OnNoData, Origin, Problem, SourceDirectory, SourceProfile,
};

pub mod aws;
pub mod bounds;
mod cloudwatch;
mod compat;
pub mod crd;
pub mod decode;
pub mod document;
pub mod field;
pub mod freshness;
pub mod names;
mod objects;
mod question;
mod reach;
pub mod recording;
pub mod report;
pub mod resource;
pub mod scalar;
mod signal;
pub mod status;
pub mod tenancy;
mod translate;
pub mod yaml;

pub use freshness::REFRESH_FLOOR;

/// What a definition says nothing about. The server config's `defaults`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// How often an upstream is read. 15 s: the HPA's own sync period.
    pub refresh: Duration,
    /// Oldest sample that is served. 2 min: eight failed reads at the default refresh, and less
    /// than the HPA's default 5 min stabilization, so an outage is an error before it is a scale-down.
    pub max_age: Duration,
    /// What to do without a datapoint. Hold: a gap of one scrape is no reason to stop scaling.
    pub on_no_data: OnNoData,
    /// How long a query's very first read may wait. 2 s: well below the aggregator's patience, and
    /// more than a healthy upstream takes.
    pub first_read_timeout: Duration,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(15),
            max_age: Duration::from_mins(2),
            on_no_data: OnNoData::Hold,
            first_read_timeout: Duration::from_secs(2),
        }
    }
}

/// Who wrote a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The operator, in a file: exempt from `allowedNamespaces`, may name recordings.
    Operator,
    /// A tenant, in a resource.
    Tenant,
}

/// Reads a file of at most so many bytes; a larger one is an error.
pub type ReadFile = dyn Fn(&Path, usize) -> io::Result<Vec<u8>> + Send + Sync;

/// What definitions are read against.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The sources. None: sources are not known, and not complained about.
    pub sources: Option<&'a SourceDirectory>,
    /// What definitions say nothing about.
    pub defaults: &'a Defaults,
    /// Whether there is a cluster whose namespaces a selector can match; true where that is not
    /// known.
    pub cluster: bool,
    /// Who wrote them.
    pub author: Author,
    /// Reads the recordings that simulated metrics name.
    pub read_file: &'a ReadFile,
}

impl Context<'_> {
    /// Whether a definition in `namespace` (none: cluster-wide) may use a source.
    fn may_use(&self, source: &SourceProfile, namespace: Option<&str>) -> bool {
        let (Author::Tenant, Some(namespace)) = (self.author, namespace) else { return true };
        source.allowed_namespaces.is_empty()
            || source.allowed_namespaces.iter().any(|pattern| pattern.matches(namespace))
    }
}

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Which definition it is; none when the document does not say so.
    pub id: Option<DefinitionId>,
    /// Where its question is written (`spec.cloudwatch`, for example), or as near to it as the
    /// document goes.
    pub question: yaml::Place,
    /// The entry, or everything that is wrong with the document.
    pub outcome: Result<Entry, Vec<Problem>>,
}

/// Reads all documents of a file.
///
/// # Errors
/// When the text is no YAML at all: then nothing is known of its documents.
pub fn read(path: &Path, text: &str, context: &Context<'_>) -> Result<Vec<Definition>, Problem> {
    let documents = yaml::parse(text).map_err(|mistake| report::problem(path, mistake))?;
    Ok(documents.iter().map(|document| read_document(path, document, context)).collect())
}

/// Reads one document of a file.
#[must_use]
pub fn read_document(path: &Path, document: &yaml::Document, context: &Context<'_>) -> Definition {
    let origin = Origin::File { path: path.to_owned(), line: document.root.place.line };
    read_one(report::Report::new(path, document), context, origin)
}

fn read_one(mut report: report::Report<'_>, context: &Context<'_>, origin: Origin) -> Definition {
    if matches!(report.root().value, yaml::Value::Map(_)) {
        let id = translate::identify(&mut report);
        let kind_is_known = !report.has_problem(&field::Field::of("kind"));
        let question = question::place(&report);
        let entry =
            if kind_is_known { translate::translate(&mut report, context, origin) } else { None };
        bounds::check(&mut report);
        return match entry {
            Some(entry) if report.is_clean() => Definition { id, question, outcome: Ok(entry) },
            entry => {
                if entry.is_none() && report.is_clean() {
                    // Keeps the invariant of this module even if a rule forgot its message.
                    let root = field::Field::root();
                    report.add(&root, "this document cannot be used, for a reason that was not found; please report it");
                }
                Definition { id, question, outcome: Err(report.into_problems()) }
            }
        };
    }
    report
        .add(&field::Field::root(), "expected a mapping with apiVersion, kind, metadata and spec");
    let question = report.root().place;
    Definition { id: None, question, outcome: Err(report.into_problems()) }
}

/// Reads a file of the file system, refusing to read more than `limit` bytes of it.
///
/// # Errors
/// When it cannot be read, or is larger.
pub fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    use std::io::Read as _;

    if !std::fs::metadata(path)?.is_file() {
        // Opening a pipe could block for ever; reading a device might never end.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        let message = format!("larger than {} MiB", limit >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
