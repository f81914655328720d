//! `eq` and `lt`, by Go's rules of what can be compared.

use super::datum::Datum;

/// Go's kinds that can be compared; those of no kind have rules of their own.
#[derive(Clone, Copy, PartialEq)]
enum Basic<'d> {
    Bool(bool),
    Int(i64),
    Uint(u8),
    Float(f64),
    Text(&'d [u8]),
}

fn basic<'d>(value: &'d Datum<'_>) -> Option<Basic<'d>> {
    Some(match value {
        Datum::Bool(bool) => Basic::Bool(*bool),
        Datum::Int(int) => Basic::Int(*int),
        Datum::Byte(byte) => Basic::Uint(*byte),
        Datum::Float(float) => Basic::Float(*float),
        Datum::Text(text) => Basic::Text(text),
        Datum::NoValue | Datum::Root | Datum::List(_) | Datum::Map(_) => return None,
    })
}

fn incompatible(left: &Datum<'_>, right: &Datum<'_>) -> String {
    format!("incompatible types for comparison: {} and {}", left.type_name(), right.type_name())
}

/// Whether the first equals one of the others.
pub(super) fn eq(first: &Datum<'_>, others: &[Datum<'_>]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(left: &Datum<'_>, right: &Datum<'_>) -> Result<bool, String> {
    Ok(match (basic(left), basic(right)) {
        (Some(Basic::Int(int)), Some(Basic::Uint(byte)))
        | (Some(Basic::Uint(byte)), Some(Basic::Int(int))) => int == i64::from(byte),
        (Some(l), Some(r)) if std::mem::discriminant(&l) == std::mem::discriminant(&r) => l == r,
        (None, None) => match (left, right) {
            (Datum::NoValue, Datum::NoValue) => true,
            // A list or a map that is there is not nil.
            (Datum::NoValue, _) | (_, Datum::NoValue) => false,
            _ => {
                return Err(format!("non-comparable type {}", right.type_name()));
            }
        },
        _ if matches!(left, Datum::NoValue) || matches!(right, Datum::NoValue) => false,
        _ => return Err(incompatible(left, right)),
    })
}

/// Whether the first is less.
pub(super) fn lt(left: &Datum<'_>, right: &Datum<'_>) -> Result<bool, String> {
    let invalid = || "invalid type for comparison".to_owned();
    let (l, r) = (basic(left).ok_or_else(invalid)?, basic(right).ok_or_else(invalid)?);
    Ok(match (l, r) {
        (Basic::Bool(_), Basic::Bool(_)) => return Err(invalid()),
        (Basic::Int(l), Basic::Int(r)) => l < r,
        (Basic::Int(l), Basic::Uint(r)) => l < i64::from(r),
        (Basic::Uint(l), Basic::Int(r)) => i64::from(l) < r,
        (Basic::Uint(l), Basic::Uint(r)) => l < r,
        (Basic::Float(l), Basic::Float(r)) => l < r,
        (Basic::Text(l), Basic::Text(r)) => l < r,
        _ => return Err(incompatible(left, right)),
    })
}

/// Whether the first is less or equal.
pub(super) fn le(left: &Datum<'_>, right: &Datum<'_>) -> Result<bool, String> {
    Ok(lt(left, right)? || equal(left, right)?)
}
