//! What readers would get, without reading.
//!
//! It goes the way of a read, through the same code, with the eyes of an onlooker
//! ([`Eyes::Onlooker`](super::cells::Eyes)): no cell is made, noted as read or wanted.

use crate::lookup::Lookup;
use crate::lookup::waiting::Waiting;
use crate::model::{
    ApiError, DefinitionKey, Foresee, MetricReference, MetricsProvider, Miss, Outlook, Quantity,
    ReferenceKind, Tick,
};

/// What a read of a known metric would get.
pub(super) struct Foreseen {
    pub(super) definitions: Vec<DefinitionKey>,
    pub(super) answer: Result<String, Miss>,
}

impl Foresee for Lookup {
    fn foresee(&self, reference: &MetricReference) -> Outlook {
        let mut outlook = self.glance(reference);
        if let Err(Miss::Unknown { near, .. }) = &mut outlook.answer {
            *near = match (&reference.kind, &self.custom) {
                (ReferenceKind::External, _) => {
                    self.near_external(&reference.namespace, &reference.metric)
                }
                (_, Some(custom)) => custom.near_reference(reference, &self.near),
                (_, None) => Vec::new(),
            };
        }
        outlook
    }

    fn glance(&self, reference: &MetricReference) -> Outlook {
        let onlooker = &self.onlooker;
        let unknown = |message, elsewhere| Outlook {
            definitions: Vec::new(),
            answer: Err(Miss::Unknown { message, near: Vec::new(), elsewhere }),
        };
        let MetricReference { namespace, metric, kind, .. } = reference;
        match kind {
            ReferenceKind::External => match onlooker.external.foresee(reference) {
                Ok(Foreseen { definitions, answer }) => Outlook { definitions, answer },
                Err(message) => match onlooker.rules.foresee(reference) {
                    Some(answer) => Outlook { definitions: Vec::new(), answer },
                    None => unknown(message, onlooker.external.elsewhere(namespace, metric)),
                },
            },
            ReferenceKind::Pods { .. } | ReferenceKind::Object { .. } => match &onlooker.custom {
                Some(custom) => {
                    let Foreseen { definitions, answer } = custom.foresee(reference);
                    Outlook { definitions, answer }
                }
                None => unknown(format!("{reference}: there is no cluster"), Vec::new()),
            },
        }
    }
}

/// The sum of values, as an HPA makes it.
pub(super) fn number_of(values: impl Iterator<Item = Quantity>) -> String {
    let sum = values.fold(0_i64, |sum, value| sum.saturating_add(value.milli()));
    Quantity::from_milli(sum).to_string()
}

/// What a refusal of a metric that may be known means for its reader.
pub(super) fn of_error(error: &ApiError) -> Miss {
    let message = error.to_string();
    match error {
        ApiError::MetricUnknown(_) => {
            Miss::Unknown { message, near: Vec::new(), elsewhere: Vec::new() }
        }
        ApiError::MetricNotFound(_) => Miss::NoMatch { message },
        _ => Miss::NoValue { message },
    }
}

/// What it means that a reader would wait: nobody has asked yet, or it takes longer than readers
/// wait.
pub(super) fn of_wait(waiting: &Waiting, now: Tick) -> Miss {
    if now >= waiting.until { of_error(&waiting.late) } else { Miss::Untried }
}
