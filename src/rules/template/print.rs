//! `print` and `println`, and the bound of every text that is made.

use super::datum::Datum;
use super::format::Formatter;

/// The largest output of a template, and the largest string on its way there: far above what
/// Prometheus takes as a query.
pub(super) const MAX_OUTPUT: usize = 1 << 20;

/// What is said above that.
pub(super) const TOO_LONG: &str = "the output is larger than 1 MiB";

/// Bytes that stop growing at the bound.
#[derive(Default)]
pub(super) struct Bounded {
    bytes: Vec<u8>,
    over: bool,
}

impl Bounded {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.bytes.len().saturating_add(bytes.len()) > MAX_OUTPUT {
            self.over = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    pub(super) fn push_char(&mut self, c: char) {
        self.push(c.encode_utf8(&mut [0; 4]).as_bytes());
    }

    pub(super) fn fill(&mut self, byte: u8, count: usize) {
        if self.bytes.len().saturating_add(count) > MAX_OUTPUT {
            self.over = true;
        } else {
            self.bytes.resize(self.bytes.len() + count, byte);
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, String> {
        if self.over { Err(TOO_LONG.to_owned()) } else { Ok(self.bytes) }
    }
}

/// `fmt.Sprint`: spaces between operands when neither is a string.
pub(super) fn sprint(arguments: &[Datum<'_>]) -> Result<Vec<u8>, String> {
    let mut formatter = Formatter::default();
    let mut after_text = true;
    for argument in arguments {
        let text = matches!(argument, Datum::Text(_));
        if !text && !after_text {
            formatter.out.push(b" ");
        }
        formatter.value(argument, 'v');
        after_text = text;
    }
    formatter.finish()
}

/// `fmt.Sprintln`: spaces between all operands, and a newline.
pub(super) fn sprintln(arguments: &[Datum<'_>]) -> Result<Vec<u8>, String> {
    let mut formatter = Formatter::default();
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            formatter.out.push(b" ");
        }
        formatter.value(argument, 'v');
    }
    formatter.out.push(b"\n");
    formatter.finish()
}
