//! Rules about quantities and durations that are compared.

use crate::definition::crd::forms::{DURATION, NO_DURATION, QUANTITY, matches};
use crate::definition::crd::rules::{Reason, Rules};
use crate::model::DefinitionKind;

/// That a value is a quantity. The API server has let whole numbers and text pass.
const NO_QUANTITY: &str = "not a number; write it like 42, \"0.5\", 500m, 2k or 1Gi";

/// A quantity of a resource as CEL's, and the condition under which it is one.
fn quantity(path: &str) -> (String, String) {
    let value = format!("(type({path}) == int ? quantity('0').add({path}) : quantity({path}))");
    (value, format!("(type({path}) == int || isQuantity({path}))"))
}

/// That a path of optional fields is there: `self.a.b`.
fn has(path: &str) -> String {
    let steps: Vec<&str> = path.split('.').collect();
    let all = (2..=steps.len()).map(|end| format!("has({})", steps[..end].join(".")));
    all.collect::<Vec<_>>().join(" && ")
}

/// That a duration has its form.
pub(super) fn is_duration(path: &str) -> String {
    matches(path, DURATION)
}

/// A text that must be a duration, and one above zero where that matters.
pub(super) fn duration(rules: &mut Rules, at: &str, is_positive: bool) {
    rules.value(at, is_duration("self"), NO_DURATION);
    if is_positive {
        let rule = format!("!{} || duration(self) > duration('0s')", is_duration("self"));
        rules.value(at, rule, "the duration must be above zero");
    }
}

/// What every kind says in numbers.
pub(super) fn all(rules: &mut Rules, kind: DefinitionKind) {
    for field in ["scale", "offset", "min", "max"] {
        let at = format!("spec.{field}");
        rules.value(
            &at,
            format!("type(self) == int || {}", matches("self", QUANTITY)),
            NO_QUANTITY,
        );
    }
    rules.value(
        "spec.onNoData",
        format!("type(self) == int || self in ['error', 'hold'] || {}", matches("self", QUANTITY)),
        "expected error, hold or a number",
    );
    for field in ["min", "onNoData"] {
        let path = format!("self.{field}");
        let (value, known) = quantity(&path);
        rules.field(
            "spec",
            (field, Reason::Invalid),
            format!(
                "!has({path}) || self.allowNegative || !{known} || !{value}.isLessThan(quantity('0'))"
            ),
            format!("{field} is below 0; set allowNegative: true if that is meant"),
        );
    }
    let (max, max_known) = quantity("self.max");
    let (min, min_known) = quantity("self.min");
    rules.field(
        "spec",
        ("max", Reason::Invalid),
        format!(
            "!has(self.max) || !{max_known} || (has(self.min) ? !{min_known} || !{max}.isLessThan({min}) : self.allowNegative || !{max}.isLessThan(quantity('0')))"
        ),
        "max is below min (0 when it is not set, unless allowNegative is true)",
    );
    ages(rules, kind);
}

/// `refresh` and `maxAge`. What they are when they are not written depends on the server config.
fn ages(rules: &mut Rules, kind: DefinitionKind) {
    for (field, floor, message) in [
        ("refresh", "1s", "refresh is below the floor of 1s"),
        ("maxAge", "1s", "maxAge is below 1s, the shortest refresh"),
    ] {
        let at = format!("spec.{field}");
        rules.value(&at, is_duration("self"), NO_DURATION);
        let rule = format!("!{} || duration(self) >= duration('{floor}')", is_duration("self"));
        rules.value(&at, rule, message);
    }
    let (refresh, age) = ("self.refresh", "self.maxAge");
    rules.field(
        "spec",
        ("maxAge", Reason::Invalid),
        format!(
            "!has({age}) || !has({refresh}) || !{} || !{} || duration({age}) >= duration({refresh})",
            is_duration(age),
            is_duration(refresh)
        ),
        "maxAge is below refresh: every sample would be too old before the next is read",
    );
    if kind.is_custom() {
        return;
    }
    // The period of a question of one part; that of several is the longest of theirs.
    let (own, whole) = ("self.cloudwatch.metric.period", "self.cloudwatch.period");
    let least = |floor: &str, times: usize, path: &str| {
        let of = |period: &str| vec![format!("duration({period})"); times].join(" + ");
        format!(
            "({} ? !{} || duration({path}) >= {} : !({}) || has(self.cloudwatch.queries) || !{} || duration({path}) >= {}){floor}",
            has(own),
            is_duration(own),
            of(own),
            has(whole),
            is_duration(whole),
            of(whole)
        )
    };
    rules.field(
        "spec",
        ("refresh", Reason::Invalid),
        format!(
            "!has({refresh}) || !has(self.cloudwatch) || !{} || {}",
            is_duration(refresh),
            least(" && duration(self.refresh) >= duration('10s')", 1, refresh)
        ),
        "refresh is below the floor for cloudwatch, the period and at least 10s: there is one new datapoint a period, and every read is billed",
    );
    rules.field(
        "spec",
        ("maxAge", Reason::Invalid),
        format!(
            "!has({age}) || !has(self.cloudwatch) || !{} || {}",
            is_duration(age),
            least("", 3, age)
        ),
        "maxAge is below delay, two periods and refresh: a sample is as old as the start of its bucket, so this one would be too old before the next is read",
    );
}

/// Made-up signals.
pub(super) fn simulated(rules: &mut Rules) {
    let base = "spec.simulated";
    rules.exactly_one(
        base,
        &["constant", "ramp", "steps", "wave", "noise"],
        " (csv, a recording, is for definitions in files alone)",
    );
    for (field, key) in [("ramp", "over"), ("steps[]", "for"), ("wave", "period")] {
        duration(rules, &format!("{base}.{field}.{key}"), true);
    }
    for field in ["wave", "noise"] {
        let (min, min_known) = quantity("self.min");
        let (max, max_known) = quantity("self.max");
        rules.field(
            &format!("{base}.{field}"),
            ("max", Reason::Invalid),
            format!("!{min_known} || !{max_known} || !{max}.isLessThan({min})"),
            "max is below min",
        );
    }
}
