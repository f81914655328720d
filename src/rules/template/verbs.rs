//! `printf`: reads a format and its verbs.

use std::ops::ControlFlow;

use super::datum::Datum;
use super::format::{Flags, Formatter};
use super::quote::decode;

/// Above this a width or precision is no number (`tooLarge` in `fmt/print.go`).
const MAX_WIDTH: i64 = 1_000_000;

/// `fmt.Sprintf`.
pub(super) fn sprintf(format: &[u8], arguments: &[Datum<'_>]) -> Result<Vec<u8>, String> {
    let mut reader = Reader {
        format,
        arguments,
        next: 0,
        reordered: false,
        good_number: true,
        after_number: false,
    };
    let mut formatter = Formatter::default();
    while reader.verb(&mut formatter).is_continue() {}
    if !reader.reordered && reader.next < arguments.len() {
        formatter.flags = Flags::default();
        formatter.out.push(b"%!(EXTRA ");
        for (index, argument) in arguments[reader.next..].iter().enumerate() {
            if index > 0 {
                formatter.out.push(b", ");
            }
            if !matches!(argument, Datum::NoValue) {
                formatter.out.push(argument.type_name().as_bytes());
                formatter.out.push(b"=");
            }
            formatter.value(argument, 'v');
        }
        formatter.out.push(b")");
    }
    formatter.finish()
}

/// Reads a format.
struct Reader<'f, 'a> {
    /// What is left of it.
    format: &'f [u8],
    arguments: &'f [Datum<'a>],
    next: usize,
    /// An argument was asked for by number.
    reordered: bool,
    good_number: bool,
    /// The last thing read was `[n]`.
    after_number: bool,
}

impl Reader<'_, '_> {
    fn accept(&mut self, byte: u8) -> bool {
        let rest = self.format.strip_prefix(&[byte]);
        if let Some(rest) = rest {
            self.format = rest;
        }
        rest.is_some()
    }

    /// Text and the verb behind it.
    fn verb(&mut self, formatter: &mut Formatter) -> ControlFlow<()> {
        self.good_number = true;
        self.after_number = false;
        let text = self.format.iter().position(|&byte| byte == b'%').unwrap_or(self.format.len());
        formatter.out.push(&self.format[..text]);
        self.format = &self.format[text..];
        if !self.accept(b'%') {
            return ControlFlow::Break(());
        }
        let mut flags = Flags::default();
        loop {
            match self.format.first() {
                Some(b'#') => flags.sharp = true,
                Some(b'0') => flags.zero = true,
                Some(b'+') => flags.plus = true,
                Some(b'-') => flags.minus = true,
                Some(b' ') => flags.space = true,
                _ => break,
            }
            self.format = &self.format[1..];
        }
        self.argument_number();
        self.width(formatter, &mut flags);
        // A dot at the very end is a verb.
        if self.format.len() > 1 && self.accept(b'.') {
            self.precision(formatter, &mut flags);
        }
        if !self.after_number {
            self.argument_number();
        }
        if self.format.is_empty() {
            formatter.out.push(b"%!(NOVERB)");
            return ControlFlow::Break(());
        }
        let (verb, size) = decode(self.format);
        let verb = verb.unwrap_or(char::REPLACEMENT_CHARACTER);
        self.format = &self.format[size..];
        if verb == '%' {
            formatter.out.push(b"%");
            return ControlFlow::Continue(());
        }
        let missing = match self.arguments.get(self.next) {
            _ if !self.good_number => "(BADINDEX)",
            None => "(MISSING)",
            Some(argument) => {
                if matches!(verb, 'v' | 'w') {
                    flags.go_syntax = flags.sharp;
                    flags.sharp = false;
                    // `%+v` is about structs.
                    flags.plus = false;
                }
                formatter.flags = flags;
                formatter.value(argument, verb);
                self.next += 1;
                return ControlFlow::Continue(());
            }
        };
        formatter.out.push(b"%!");
        formatter.out.push_char(verb);
        formatter.out.push(missing.as_bytes());
        ControlFlow::Continue(())
    }

    fn width(&mut self, formatter: &mut Formatter, flags: &mut Flags) {
        if self.accept(b'*') {
            match self.star() {
                Some(width) => {
                    flags.width = usize::try_from(width.unsigned_abs()).ok();
                    if width < 0 {
                        flags.minus = true;
                        flags.zero = false;
                    }
                }
                None => formatter.out.push(b"%!(BADWIDTH)"),
            }
            self.after_number = false;
            return;
        }
        flags.width = self.number();
        if self.after_number && flags.width.is_some() {
            self.good_number = false;
        }
    }

    fn precision(&mut self, formatter: &mut Formatter, flags: &mut Flags) {
        if self.after_number {
            self.good_number = false;
        }
        self.argument_number();
        if self.accept(b'*') {
            flags.precision = self.star().and_then(|number| usize::try_from(number).ok());
            if flags.precision.is_none() {
                formatter.out.push(b"%!(BADPREC)");
            }
            self.after_number = false;
        } else {
            flags.precision = Some(self.number().unwrap_or(0));
        }
    }

    /// A number that is an argument.
    fn star(&mut self) -> Option<i64> {
        let argument = self.arguments.get(self.next)?;
        self.next += 1;
        let number = match argument {
            Datum::Int(int) => *int,
            Datum::Byte(byte) => i64::from(*byte),
            _ => return None,
        };
        (-MAX_WIDTH..=MAX_WIDTH).contains(&number).then_some(number)
    }

    /// A number in the format. One that is too large takes the rest of the format with it.
    fn number(&mut self) -> Option<usize> {
        let mut number = None;
        while let Some(digit) = self.format.first().filter(|byte| byte.is_ascii_digit()) {
            if number.is_some_and(|number| number > 1_000_000) {
                self.format = &[];
                return None;
            }
            number = Some(number.unwrap_or(0) * 10 + usize::from(digit - b'0'));
            self.format = &self.format[1..];
        }
        number
    }

    /// `[n]`, the argument to go on with.
    fn argument_number(&mut self) {
        self.after_number = false;
        if self.format.first() != Some(&b'[') {
            return;
        }
        self.reordered = true;
        let end = self.format.iter().position(|&byte| byte == b']');
        let Some(end) = end.filter(|_| self.format.len() >= 3) else {
            self.format = &self.format[1..];
            self.good_number = false;
            return;
        };
        let digits = &self.format[1..end];
        self.format = &self.format[end + 1..];
        let number = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse::<usize>().ok());
        match number {
            Some(number) if (1..=self.arguments.len()).contains(&number) => {
                self.next = number - 1;
                self.after_number = true;
            }
            found => {
                self.good_number = false;
                self.after_number = found.is_some();
            }
        }
    }
}
