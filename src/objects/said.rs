//! What an error says, its causes included.

use std::error::Error;
use std::fmt::Write as _;

/// The text of an error and of its causes that it does not contain already: of a failed call, kube
/// says `ServiceError`, and only the innermost cause says "connection refused".
pub(super) fn said(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}
