//! The rule files, as they are and as they were when they were last right.

use std::sync::Arc;

use crate::definition::read_bounded;
use crate::definition::yaml::MAX_FILE_BYTES;
use crate::model::Problem;
use crate::rules::{RuleFile, RuleFileSettings};

/// All rule files of the config.
#[derive(Default)]
pub(super) struct RuleFiles(Vec<Watched>);

struct Watched {
    settings: RuleFileSettings,
    /// What was read last, or why nothing could be.
    content: Option<Result<String, String>>,
    /// The last file that was right.
    file: Option<Arc<RuleFile>>,
    problems: Vec<Problem>,
}

impl RuleFiles {
    pub(super) fn new(settings: Vec<RuleFileSettings>) -> Self {
        let watched =
            |settings| Watched { settings, content: None, file: None, problems: Vec::new() };
        Self(settings.into_iter().map(watched).collect())
    }

    /// Reads every file; tells whether anything in force, or any problem, is another now.
    pub(super) fn look(&mut self) -> bool {
        let mut changed = false;
        for watched in &mut self.0 {
            changed |= watched.look();
        }
        changed
    }

    /// The files that are in force, in the config's order.
    pub(super) fn in_force(&self) -> impl Iterator<Item = (&RuleFileSettings, &Arc<RuleFile>)> {
        self.0.iter().filter_map(|watched| Some((&watched.settings, watched.file.as_ref()?)))
    }

    /// What is wrong with the files as they are now.
    pub(super) fn problems(&self) -> Vec<Problem> {
        self.0.iter().flat_map(|watched| watched.problems.iter().cloned()).collect()
    }
}

impl Watched {
    fn look(&mut self) -> bool {
        let content = read_bounded(&self.settings.path, MAX_FILE_BYTES)
            .map_err(|error| format!("cannot be read: {error}"))
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned()));
        if self.content.as_ref() == Some(&content) {
            return false;
        }
        let path = &self.settings.path;
        let parsed = match &content {
            Ok(text) => RuleFile::parse(path, text),
            Err(message) => Err(vec![Problem::new(path, message)]),
        };
        self.content = Some(content);
        match parsed {
            Ok(file) => {
                let rules = file.custom.len() + file.external.len();
                tracing::info!(file = %path.display(), rules, "took over a rule file");
                if let Some(place) = &file.resource_rules {
                    tracing::warn!(
                        file = %place.path.display(), line = place.line,
                        "resourceRules are not served here; metrics-server is the place for metrics.k8s.io"
                    );
                }
                self.file = Some(Arc::new(file));
                self.problems = Vec::new();
            }
            Err(problems) => {
                let kept =
                    if self.file.is_some() { "; the last good file stays in force" } else { "" };
                for problem in &problems {
                    tracing::warn!(%problem, "a rule file is wrong{kept}");
                }
                self.problems = problems;
            }
        }
        true
    }
}
