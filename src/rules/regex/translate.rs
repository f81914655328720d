//! From Go's syntax to Rust's, by the grammar of `regexp/syntax` with its Perl flags.
//!
//! What is written depends on no flag around it: every part says itself what it means.

use super::class::{self, Items};

/// The largest count of a repetition, also of nested ones together.
const MAX_REPEAT: u32 = 1000;

/// How deep groups may nest. Rust allows 250 levels of its own, of which a group takes some.
const MAX_DEPTH: usize = 60;

pub(super) type Parsed<T> = Result<T, String>;

/// An expression in Rust's syntax.
pub(super) struct Translated {
    pub(super) pattern: String,
    /// The names of the groups, which in Go may be equal or begin with a digit: the pattern has
    /// none.
    pub(super) names: Vec<Option<String>>,
}

/// Reads the text of an expression.
pub(super) struct Scanner<'t> {
    rest: &'t str,
}

impl<'t> Scanner<'t> {
    pub(super) fn rest(&self) -> &'t str {
        self.rest
    }

    /// Goes on by so many bytes, up to the end.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    pub(super) fn accept(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        if let Some(rest) = rest {
            self.rest = rest;
        }
        rest.is_some()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.skip(c.len_utf8());
        Some(c)
    }

    fn digit(&mut self, radix: u32) -> Option<u32> {
        let digit = self.rest.chars().next()?.to_digit(radix)?;
        self.skip(1);
        Some(digit)
    }

    /// The character of an escape, which may be a surrogate.
    pub(super) fn escaped_char(&mut self) -> Parsed<u32> {
        let start = self.rest;
        self.skip(1);
        let Some(c) = self.take() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let found = match c {
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            '0'..='7' => self.octal(c),
            'x' => self.hexadecimal(),
            _ => (c.is_ascii() && !c.is_ascii_alphanumeric()).then_some(u32::from(c)),
        };
        found.ok_or_else(|| {
            let sequence = &start[..start.len() - self.rest.len()];
            format!("invalid escape sequence: `{sequence}`")
        })
    }

    /// `\123`. A single digit but zero would be a reference to a group, which there is not.
    fn octal(&mut self, first: char) -> Option<u32> {
        let mut number = first.to_digit(8)?;
        if first != '0' && !self.rest.starts_with(|c: char| c.is_digit(8)) {
            return None;
        }
        for _ in 0..2 {
            let Some(digit) = self.digit(8) else { break };
            number = number * 8 + digit;
        }
        Some(number)
    }

    /// `\x41` or `\x{41}`.
    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.take()?;
        if first != '{' {
            let second = self.take()?;
            return Some(first.to_digit(16)? * 16 + second.to_digit(16)?);
        }
        let mut number = None;
        loop {
            let c = self.take()?;
            if c == '}' {
                return number;
            }
            let longer = number.unwrap_or(0) * 16 + c.to_digit(16)?;
            number = Some(longer).filter(|&number| number <= u32::from(char::MAX));
            number?;
        }
    }
}

/// The flags in force.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "these are the syntax's flags")]
struct Flags {
    /// `i`
    fold: bool,
    /// `m`
    lines: bool,
    /// `s`
    dot_all: bool,
    /// `U`
    lazy: bool,
}

/// What a repetition applies to.
struct Part {
    pattern: String,
    /// The product of the counts of nested repetitions.
    repeats: u32,
}

/// A group that is open, or the whole.
#[derive(Default)]
struct Group {
    /// How it begins.
    open: &'static str,
    /// The flags outside it.
    flags: Flags,
    /// Alternatives that are complete.
    alternatives: String,
    /// The largest `repeats` in them.
    repeats: u32,
    parts: Vec<Part>,
}

impl Group {
    /// Closes an alternative.
    fn alternate(&mut self) {
        for part in self.parts.drain(..) {
            self.alternatives.push_str(&part.pattern);
            self.repeats = self.repeats.max(part.repeats);
        }
    }
}

struct Translator<'t> {
    whole: &'t str,
    scanner: Scanner<'t>,
    flags: Flags,
    /// Never empty: the whole, and the groups that are open.
    groups: Vec<Group>,
    names: Vec<Option<String>>,
}

/// Translates an expression.
pub(super) fn translate(text: &str) -> Parsed<Translated> {
    let mut translator = Translator {
        whole: text,
        scanner: Scanner { rest: text },
        flags: Flags::default(),
        groups: vec![Group::default()],
        names: Vec::new(),
    };
    // The text from the repetition that was read last, if it was.
    let mut repetition = None;
    while !translator.scanner.rest.is_empty() {
        repetition = translator.step(repetition)?;
    }
    let Some(mut whole) = translator.groups.pop().filter(|_| translator.groups.is_empty()) else {
        return Err(format!("missing closing ): `{text}`"));
    };
    whole.alternate();
    Ok(Translated { pattern: whole.alternatives, names: translator.names })
}

impl<'t> Translator<'t> {
    fn group(&mut self) -> &mut Group {
        self.groups.last_mut().expect("the whole expression is a group that no parenthesis closes")
    }

    fn push(&mut self, pattern: impl Into<String>) {
        let pattern = pattern.into();
        self.group().parts.push(Part { pattern, repeats: 1 });
    }

    fn literal(&mut self, c: u32) {
        let fold = self.flags.fold;
        let mut items = Items::default();
        match char::from_u32(c) {
            Some(c) if !fold && (c == '_' || c.is_ascii_alphanumeric()) => {
                self.push(c.to_string());
            }
            _ => {
                items.range(c, c);
                self.push(items.set(false, fold));
            }
        }
    }

    /// Reads one thing. `before` is the text from the repetition just before it, if one is; so is
    /// what is returned.
    fn step(&mut self, before: Option<&'t str>) -> Parsed<Option<&'t str>> {
        let start = self.scanner.rest;
        let Some(c) = start.chars().next() else {
            return Ok(None);
        };
        match c {
            '(' if start.starts_with("(?") => self.perl_group()?,
            '(' => {
                self.scanner.skip(1);
                self.names.push(None);
                self.open("(")?;
            }
            ')' => self.close()?,
            '|' => {
                self.scanner.skip(1);
                let group = self.group();
                group.alternate();
                group.alternatives.push('|');
            }
            '^' => {
                self.scanner.skip(1);
                self.push(if self.flags.lines { "(?m:^)" } else { r"\A" });
            }
            '$' => {
                self.scanner.skip(1);
                self.push(if self.flags.lines { "(?m:$)" } else { r"\z" });
            }
            '.' => {
                self.scanner.skip(1);
                self.push(if self.flags.dot_all { "(?s:.)" } else { r"[^\n]" });
            }
            '[' => {
                let set = class::bracketed(&mut self.scanner, self.flags.fold)?;
                self.push(set);
            }
            '*' | '+' | '?' => {
                self.scanner.skip(1);
                self.repeat(&start[..1], None, start, before)?;
                return Ok(Some(start));
            }
            '{' => {
                if let Some(count) = self.count()? {
                    let operator = &start[..start.len() - self.scanner.rest.len()];
                    self.repeat(operator, Some(count), start, before)?;
                    return Ok(Some(start));
                }
                // What is no count is text.
                self.scanner.skip(1);
                self.literal(u32::from(c));
            }
            '\\' => self.escape()?,
            _ => {
                self.scanner.skip(c.len_utf8());
                self.literal(u32::from(c));
            }
        }
        Ok(None)
    }

    fn open(&mut self, open: &'static str) -> Parsed<()> {
        if self.groups.len() > MAX_DEPTH {
            return Err(format!(
                "expression nests too deeply: more than {MAX_DEPTH} groups in each other"
            ));
        }
        self.groups.push(Group { open, flags: self.flags, ..Group::default() });
        Ok(())
    }

    fn close(&mut self) -> Parsed<()> {
        self.scanner.skip(1);
        if self.groups.len() == 1 {
            return Err(format!("unexpected ): `{}`", self.whole));
        }
        let Some(mut group) = self.groups.pop() else {
            return Ok(());
        };
        group.alternate();
        self.flags = group.flags;
        let pattern = format!("{}{})", group.open, group.alternatives);
        let repeats = group.repeats.max(1);
        self.group().parts.push(Part { pattern, repeats });
        Ok(())
    }

    /// `(?P<name>`, `(?<name>`, `(?flags)` and `(?flags:`.
    fn perl_group(&mut self) -> Parsed<()> {
        let start = self.scanner.rest;
        let name = if start.len() > 4 { start.strip_prefix("(?P<") } else { None };
        let name = name.or_else(|| start.strip_prefix("(?<").filter(|_| start.len() > 3));
        if let Some(name) = name {
            let Some(end) = name.find('>') else {
                return Err(format!("invalid named capture: `{start}`"));
            };
            let after = start.len() - name.len() + end + 1;
            let name = &name[..end];
            if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
                return Err(format!("invalid named capture: `{}`", &start[..after]));
            }
            self.scanner.skip(after);
            self.names.push(Some(name.to_owned()));
            return self.open("(");
        }
        self.scanner.skip(2);
        let mut flags = self.flags;
        let mut on = true;
        let mut seen = false;
        while let Some(c) = self.scanner.take() {
            match c {
                'i' => flags.fold = on,
                'm' => flags.lines = on,
                's' => flags.dot_all = on,
                'U' => flags.lazy = on,
                '-' if on => {
                    on = false;
                    seen = false;
                    continue;
                }
                ':' | ')' if on || seen => {
                    if c == ':' {
                        self.open("(?:")?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            seen = true;
        }
        let read = &start[..start.len() - self.scanner.rest.len()];
        Err(format!("invalid or unsupported Perl syntax: `{read}`"))
    }

    /// `{2}`, `{2,}` or `{2,3}`; nothing is read of what is none of these.
    fn count(&mut self) -> Parsed<Option<(u32, Option<u32>)>> {
        let start = self.scanner.rest;
        let Some((inner, _)) = start[1..].split_once('}') else {
            return Ok(None);
        };
        let (least, most) = match inner.split_once(',') {
            None => (inner, Some(inner)),
            Some((least, "")) => (least, None),
            Some((least, most)) => (least, Some(most)),
        };
        let is_number = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'))
        };
        if !is_number(least) || !most.is_none_or(is_number) {
            return Ok(None);
        }
        self.scanner.skip(inner.len() + 2);
        // What does not fit is above the bound.
        let number = |text: &str| text.parse().unwrap_or(u32::MAX);
        let (least, most) = (number(least), most.map(number));
        let largest = most.unwrap_or(least);
        if least > MAX_REPEAT || largest > MAX_REPEAT || least > largest {
            return Err(format!("invalid repeat count: `{{{inner}}}`"));
        }
        Ok(Some((least, most)))
    }

    /// Repeats the last part. The operator has been read, the `?` behind it has not.
    fn repeat(
        &mut self,
        operator: &str,
        count: Option<(u32, Option<u32>)>,
        start: &str,
        before: Option<&str>,
    ) -> Parsed<()> {
        let lazy = self.scanner.accept("?") != self.flags.lazy;
        let left = self.scanner.rest.len();
        if let Some(before) = before {
            let both = &before[..before.len() - left];
            return Err(format!("invalid nested repetition operator: `{both}`"));
        }
        let whole_operator = &start[..start.len() - left];
        let Some(part) = self.group().parts.last_mut() else {
            return Err(format!("missing argument to repetition operator: `{whole_operator}`"));
        };
        if let Some((least, most)) = count {
            part.repeats = match most.unwrap_or(least) {
                0 if most.is_some() => 1,
                0 => part.repeats,
                times => part.repeats.saturating_mul(times),
            };
            if part.repeats > MAX_REPEAT && (least >= 2 || most.is_some_and(|most| most >= 2)) {
                return Err(format!("invalid repeat count: `{whole_operator}`"));
            }
        }
        let mark = if lazy { "?" } else { "" };
        part.pattern = format!("(?:{}){operator}{mark}", part.pattern);
        Ok(())
    }

    fn escape(&mut self) -> Parsed<()> {
        let start = self.scanner.rest;
        let simple = match start[1..].chars().next() {
            Some('A') => r"\A",
            // ASCII words, as in Go.
            Some('b') => r"(?-u:\b)",
            Some('B') => r"(?-u:\B)",
            Some('z') => r"\z",
            Some('C') => return Err(r"invalid escape sequence: `\C`".to_owned()),
            Some('Q') => {
                self.scanner.skip(2);
                let text = self.scanner.rest;
                let (text, rest) = text.split_once(r"\E").unwrap_or((text, ""));
                for c in text.chars() {
                    self.literal(u32::from(c));
                }
                self.scanner.rest = rest;
                return Ok(());
            }
            _ => {
                if let Some(item) = class::escape(&mut self.scanner)? {
                    let flag = if self.flags.fold { "(?i:" } else { "(?:" };
                    self.push(format!("{flag}{item})"));
                    return Ok(());
                }
                let c = self.scanner.escaped_char()?;
                self.literal(c);
                return Ok(());
            }
        };
        self.scanner.skip(2);
        self.push(simple);
        Ok(())
    }
}
