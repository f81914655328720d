//! Values in the forms that Go's package `fmt` has for them.

use super::datum::Datum;
use super::float::{exponential, fixed, general};
use super::print::Bounded;
use super::quote::{can_backquote, chars, quoted, quoted_char};

/// The flags of one verb.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "these are fmt's flags")]
pub(super) struct Flags {
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
    pub(super) minus: bool,
    pub(super) plus: bool,
    pub(super) sharp: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    /// `%#v`
    pub(super) go_syntax: bool,
}

/// Writes values in Go's form.
#[derive(Default)]
pub(super) struct Formatter {
    pub(super) out: Bounded,
    pub(super) flags: Flags,
    /// What Go would print and this does not.
    unsupported: Option<String>,
}

impl Formatter {
    pub(super) fn finish(self) -> Result<Vec<u8>, String> {
        match self.unsupported {
            Some(message) => Err(message),
            None => self.out.finish(),
        }
    }

    fn unsupported(&mut self, what: impl Into<String>) {
        self.unsupported.get_or_insert(what.into());
    }

    /// Writes a value for a verb.
    pub(super) fn value(&mut self, value: &Datum<'_>, verb: char) {
        match (value, verb) {
            (Datum::Root, _) => {
                self.unsupported("the whole of what a template is executed on cannot be printed");
            }
            (Datum::NoValue, 'T' | 'v') => self.pad(b"<nil>"),
            (_, 'T') => self.text(value.type_name().as_bytes()),
            (Datum::List(_) | Datum::Map(_), 'p') => {
                self.unsupported("%p is not supported here");
            }
            (Datum::NoValue, _) | (_, 'w' | 'p') => self.bad_verb(value, verb),
            (Datum::Bool(bool), 't' | 'v') => {
                self.pad(if *bool { b"true" } else { b"false" });
            }
            (Datum::Int(int), _) => {
                self.integer(int.unsigned_abs(), *int < 0, value, verb);
            }
            (Datum::Byte(byte), 'v') if self.flags.go_syntax => {
                self.flags.sharp = true;
                self.digits(u64::from(*byte), false, 16, 'x');
                self.flags.sharp = false;
            }
            (Datum::Byte(byte), _) => self.integer(u64::from(*byte), false, value, verb),
            (Datum::Float(float), _) => self.float(*float, value, verb),
            (Datum::Text(text), _) => self.string(text, value, verb),
            (Datum::List(list), _) => {
                let (open, between, close): (&[u8], &[u8], &[u8]) = if self.flags.go_syntax {
                    (b"[]string{", b", ", b"}")
                } else {
                    (b"[", b" ", b"]")
                };
                self.out.push(open);
                for (index, element) in list.iter().enumerate() {
                    if index > 0 {
                        self.out.push(between);
                    }
                    self.value(&Datum::text(element), verb);
                }
                self.out.push(close);
            }
            (Datum::Map(map), _) => {
                let (open, between, close): (&[u8], &[u8], &[u8]) = if self.flags.go_syntax {
                    (b"map[string]string{", b", ", b"}")
                } else {
                    (b"map[", b" ", b"]")
                };
                self.out.push(open);
                for (index, (key, value)) in map.iter().enumerate() {
                    if index > 0 {
                        self.out.push(between);
                    }
                    self.value(&Datum::text(key), verb);
                    self.out.push(b":");
                    self.value(&Datum::text(value), verb);
                }
                self.out.push(close);
            }
            (Datum::Bool(_), _) => self.bad_verb(value, verb),
        }
    }

    fn bad_verb(&mut self, value: &Datum<'_>, verb: char) {
        self.out.push(b"%!");
        self.out.push_char(verb);
        self.out.push(b"(");
        if matches!(value, Datum::NoValue) {
            self.out.push(b"<nil>");
        } else {
            self.out.push(value.type_name().as_bytes());
            self.out.push(b"=");
            self.value(value, 'v');
        }
        self.out.push(b")");
    }

    /// Writes bytes, padded to the width in characters.
    fn pad(&mut self, bytes: &[u8]) {
        let missing =
            self.flags.width.map_or(0, |width| width.saturating_sub(chars(bytes).count()));
        if self.flags.minus {
            self.out.push(bytes);
            self.out.fill(b' ', missing);
        } else {
            self.out.fill(if self.flags.zero { b'0' } else { b' ' }, missing);
            self.out.push(bytes);
        }
    }

    /// Pads with spaces, whatever the flags say.
    fn pad_with_spaces(&mut self, bytes: &[u8]) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(bytes);
        self.flags.zero = zero;
    }

    /// The bytes up to the precision in characters.
    fn truncated<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(precision) = self.flags.precision else {
            return bytes;
        };
        let kept: usize = chars(bytes).take(precision).map(|(_, raw)| raw.len()).sum();
        &bytes[..kept]
    }

    fn text(&mut self, bytes: &[u8]) {
        let kept = self.truncated(bytes);
        self.pad(kept);
    }

    fn string(&mut self, bytes: &[u8], value: &Datum<'_>, verb: char) {
        match verb {
            'v' if self.flags.go_syntax => self.quoted(bytes),
            'v' | 's' => self.text(bytes),
            'q' => self.quoted(bytes),
            'x' | 'X' => self.hex(bytes, verb),
            _ => self.bad_verb(value, verb),
        }
    }

    fn quoted(&mut self, bytes: &[u8]) {
        let bytes = self.truncated(bytes);
        if self.flags.sharp && can_backquote(bytes) {
            self.pad(&[b"`", bytes, b"`"].concat());
        } else {
            self.pad(quoted(bytes, self.flags.plus).as_bytes());
        }
    }

    /// The bytes in hexadecimal; spaces and prefixes by the flags.
    fn hex(&mut self, bytes: &[u8], verb: char) {
        let kept = &bytes[..bytes.len().min(self.flags.precision.unwrap_or(bytes.len()))];
        let mut out = String::with_capacity(2 * kept.len());
        for (index, byte) in kept.iter().enumerate() {
            if self.flags.space && index > 0 {
                out.push(' ');
            }
            if self.flags.sharp && (index == 0 || self.flags.space) {
                out.push('0');
                out.push(verb);
            }
            let digits = if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") };
            out.push_str(&digits);
        }
        self.pad(out.as_bytes());
    }

    fn integer(&mut self, magnitude: u64, negative: bool, value: &Datum<'_>, verb: char) {
        let radix = match verb {
            'v' | 'd' => 10,
            'b' => 2,
            'o' | 'O' => 8,
            'x' | 'X' => 16,
            'c' | 'q' | 'U' => return self.code_point(magnitude, negative, verb),
            _ => return self.bad_verb(value, verb),
        };
        self.digits(magnitude, negative, radix, verb);
    }

    fn digits(&mut self, magnitude: u64, negative: bool, radix: u32, verb: char) {
        let flags = self.flags;
        let signed = negative || flags.plus || flags.space;
        let least = match (flags.precision, flags.width) {
            (Some(0), _) if magnitude == 0 => return self.pad_with_spaces(b""),
            (Some(precision), _) => precision,
            (None, Some(width)) if flags.zero && !flags.minus => {
                width.saturating_sub(usize::from(signed))
            }
            _ => 0,
        };
        let digits = match (radix, verb) {
            (2, _) => format!("{magnitude:b}"),
            (8, _) => format!("{magnitude:o}"),
            (16, 'X') => format!("{magnitude:X}"),
            (16, _) => format!("{magnitude:x}"),
            _ => magnitude.to_string(),
        };
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        let octal_zero = flags.sharp && zeros.is_empty() && !digits.starts_with('0');
        let prefix = match (radix, verb) {
            (8, 'O') if octal_zero => "0o0",
            (8, 'O') => "0o",
            (8, _) if octal_zero => "0",
            (2, _) if flags.sharp => "0b",
            (16, 'X') if flags.sharp => "0X",
            (16, _) if flags.sharp => "0x",
            _ => "",
        };
        let sign = match () {
            () if negative => "-",
            () if flags.plus => "+",
            () if flags.space => " ",
            () => "",
        };
        self.pad_with_spaces(format!("{sign}{prefix}{zeros}{digits}").as_bytes());
    }

    /// `%c`, `%q` and `%U` of a number.
    fn code_point(&mut self, magnitude: u64, negative: bool, verb: char) {
        let number = if negative { magnitude.wrapping_neg() } else { magnitude };
        let c = u32::try_from(number).ok().and_then(char::from_u32);
        let shown = c.unwrap_or(char::REPLACEMENT_CHARACTER);
        match verb {
            'c' => self.pad(shown.encode_utf8(&mut [0; 4]).as_bytes()),
            'q' => self.pad(quoted_char(shown, self.flags.plus).as_bytes()),
            _ => {
                let digits = format!("{number:X}");
                let least = self.flags.precision.unwrap_or(4).max(4);
                let zeros = "0".repeat(least.saturating_sub(digits.len()));
                let shown = match c {
                    Some(c) if self.flags.sharp && crate::rules::letters::is_printable(c) => {
                        format!(" '{c}'")
                    }
                    _ => String::new(),
                };
                self.pad_with_spaces(format!("U+{zeros}{digits}{shown}").as_bytes());
            }
        }
    }

    fn float(&mut self, float: f64, value: &Datum<'_>, verb: char) {
        let flags = self.flags;
        match verb {
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'v' => {}
            'b' | 'x' | 'X' => {
                return self.unsupported(format!("%{verb} of a float is not supported here"));
            }
            _ => return self.bad_verb(value, verb),
        }
        if flags.sharp {
            return self.unsupported("the flag # is not supported here for floats");
        }
        let sign = match () {
            () if float.is_sign_negative() && !float.is_nan() => "-",
            () if flags.plus => "+",
            () if flags.space => " ",
            () if float.is_infinite() => "+",
            () => "",
        };
        if float.is_nan() || float.is_infinite() {
            let name = if float.is_nan() { "NaN" } else { "Inf" };
            return self.pad_with_spaces(format!("{sign}{name}").as_bytes());
        }
        let magnitude = float.abs();
        let digits = match verb {
            'e' | 'E' => exponential(magnitude, flags.precision.unwrap_or(6)),
            'f' | 'F' => fixed(magnitude, flags.precision.unwrap_or(6)),
            _ => general(magnitude, flags.precision),
        };
        let digits = if verb.is_ascii_uppercase() { digits.to_ascii_uppercase() } else { digits };
        let length = sign.len() + digits.len();
        match flags.width {
            Some(width) if flags.zero && !flags.minus && !sign.is_empty() && width > length => {
                self.out.push(sign.as_bytes());
                self.out.fill(b'0', width - length);
                self.out.push(digits.as_bytes());
            }
            _ => self.pad(format!("{sign}{digits}").as_bytes()),
        }
    }
}
