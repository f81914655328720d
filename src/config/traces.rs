//! Where traces go: `telemetry.traces`.

use std::path::Path;

use url::Url;

use crate::config::document::{self, Header};
use crate::config::validate::file;
use crate::definition::field::Field;
use crate::definition::report::Report;
use crate::telemetry::traces;

/// The settings of traces; `None` where they are off, or the report holds what is wrong.
pub(super) fn traces(
    report: &mut Report<'_>,
    spec: Option<&document::Traces>,
    base: &Path,
) -> Option<traces::Settings> {
    let spec = spec?;
    let field = Field::of("telemetry.traces");
    let key = field.key("endpoint");
    let text = report.require(&key, spec.endpoint.as_deref())?;
    let explain =
        |error| format!("not a URL ({error}); write it like http://otel-collector.monitoring:4318");
    let endpoint = report.check(&key, Url::parse(text).map_err(explain))?;
    let sample_ratio = match &spec.sample_ratio {
        // What is no number is out of range, so that the setting's own check says what it may be.
        Some(number) => number.0.to_string().parse().unwrap_or(f64::NAN),
        None => traces::Settings::DEFAULT_SAMPLE_RATIO,
    };
    let mut headers = Vec::new();
    for (name, header) in &spec.headers {
        let field = field.key("headers").key(name);
        let header = match header {
            Header::Values(values) => {
                let [value] = &values[..] else {
                    report.add(&field, "expected one value");
                    continue;
                };
                traces::Header::Fixed(value.clone())
            }
            Header::File(path) => {
                let path = file(report, &field.key("file"), Some(path), base);
                traces::Header::File(path.unwrap_or_default())
            }
        };
        headers.push((name.clone(), header));
    }
    let settings = traces::Settings { endpoint, sample_ratio, headers };
    for problem in settings.problems() {
        let field = problem.field.iter().fold(field.clone(), |field, key| field.key(key));
        report.add(&field, problem.message);
    }
    Some(settings)
}
