//! Made-up signals: the part of `spec` under `simulated`.

use std::path::Path;
use std::time::Duration;

use crate::definition::document::{SimulatedSpec, StepSpec};
use crate::definition::field::Field;
use crate::definition::recording;
use crate::definition::report::Report;
use crate::definition::scalar::{GoDuration, Number};
use crate::definition::{Author, Context};
use crate::model::{Decimal, SimulatedQuery};

const KEYS: [&str; 6] = ["constant", "ramp", "steps", "wave", "noise", "csv"];

/// Most steps of one signal.
pub(super) const MAX_STEPS: usize = 1000;

/// The signal of a spec.
pub(super) fn query(
    report: &mut Report<'_>,
    context: &Context<'_>,
    spec: &SimulatedSpec,
) -> Option<SimulatedQuery> {
    let base = Field::of("spec.simulated");
    let key = report.exactly_one(&base, &KEYS)?;
    let field = base.key(key);
    match key {
        "constant" => Some(SimulatedQuery::Constant(spec.constant.as_ref()?.0.clone())),
        "ramp" => {
            let ramp = spec.ramp.as_ref()?;
            let from = number(report, &field.key("from"), ramp.from.as_ref());
            let to = number(report, &field.key("to"), ramp.to.as_ref());
            let over = positive(report, &field.key("over"), ramp.over);
            Some(SimulatedQuery::Ramp { from: from?, to: to?, over: over? })
        }
        "wave" => {
            let wave = spec.wave.as_ref()?;
            let range = range(report, &field, wave.min.as_ref(), wave.max.as_ref());
            let period = positive(report, &field.key("period"), wave.period);
            let (min, max) = range?;
            Some(SimulatedQuery::Wave { min, max, period: period? })
        }
        "noise" => {
            let noise = spec.noise.as_ref()?;
            let (min, max) = range(report, &field, noise.min.as_ref(), noise.max.as_ref())?;
            Some(SimulatedQuery::Noise { seed: noise.seed, min, max })
        }
        "steps" => steps(report, &field, spec.steps.as_deref()?),
        _ => csv(report, context, &field, spec.csv.as_deref()?),
    }
}

fn steps(report: &mut Report<'_>, field: &Field, steps: &[StepSpec]) -> Option<SimulatedQuery> {
    if report.root().find(field).is_some_and(|node| node.child_count() != steps.len()) {
        // An item was left out: its problem is already known, and positions have moved.
        return None;
    }
    if steps.is_empty() || steps.len() > MAX_STEPS {
        report.add(field, format!("1 to {MAX_STEPS} steps are needed"));
        return None;
    }
    let read: Vec<Option<(Decimal, Duration)>> = steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let item = field.index(index);
            let value = number(report, &item.key("value"), step.value.as_ref());
            let hold = positive(report, &item.key("for"), step.r#for);
            Some((value?, hold?))
        })
        .collect();
    read.into_iter().collect::<Option<Vec<_>>>().map(SimulatedQuery::Steps)
}

fn csv(
    report: &mut Report<'_>,
    context: &Context<'_>,
    field: &Field,
    name: &str,
) -> Option<SimulatedQuery> {
    if context.author == Author::Tenant {
        report.add(field, "only definitions in files can name a recording");
        return None;
    }
    if name.trim().is_empty() {
        report.add(field, "the file's name is empty");
        return None;
    }
    let path = report.path().parent().unwrap_or(Path::new("")).join(name);
    let bytes = match (context.read_file)(&path, recording::MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.add(field, format!("{} cannot be read: {error}", path.display()));
            return None;
        }
    };
    match recording::parse(&path, &bytes) {
        Ok(rows) => Some(SimulatedQuery::Replay(rows.into())),
        Err(problems) => {
            for problem in problems {
                report.add_elsewhere(problem);
            }
            None
        }
    }
}

fn number(report: &mut Report<'_>, field: &Field, number: Option<&Number>) -> Option<Decimal> {
    report.require(field, number).map(|number| number.0.clone())
}

fn positive(
    report: &mut Report<'_>,
    field: &Field,
    duration: Option<GoDuration>,
) -> Option<Duration> {
    let duration = report.require(field, duration)?.0;
    if duration.is_zero() {
        report.add(field, "the duration must be above zero");
        return None;
    }
    Some(duration)
}

fn range(
    report: &mut Report<'_>,
    field: &Field,
    min: Option<&Number>,
    max: Option<&Number>,
) -> Option<(Decimal, Decimal)> {
    let low = number(report, &field.key("min"), min);
    let high = number(report, &field.key("max"), max);
    let (low, high) = (low?, high?);
    if low > high {
        report.add(&field.key("max"), format!("max {high} is below min {low}"));
        return None;
    }
    Some((low, high))
}
