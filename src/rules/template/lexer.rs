//! Text into tokens, as `text/template/parse` does it with the delimiters `<<` and `>>`.

use crate::rules::letters::is_name_char;

/// What opens an action.
pub(super) const LEFT: &str = "<<";
/// What closes it.
pub(super) const RIGHT: &str = ">>";

/// White space in Go's sense; trim markers take these and no others.
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

/// What a token is. Spaces are tokens: `.a .b` are two operands, `.a.b` is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Assign,
    Block,
    Bool,
    Break,
    Char,
    CharConstant,
    Complex,
    Continue,
    Declare,
    Define,
    Dot,
    Else,
    End,
    Eof,
    Error,
    Field,
    Identifier,
    If,
    LeftDelim,
    LeftParen,
    Nil,
    Number,
    Pipe,
    Range,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Template,
    Text,
    Variable,
    With,
}

/// One token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    /// Its first byte in the text.
    pub(super) at: usize,
    pub(super) text: &'t str,
}

/// All tokens of a text. The last is [`Kind::Eof`], or [`Kind::Error`] when the text is broken.
pub(super) struct Tokens<'t> {
    pub(super) tokens: Vec<Token<'t>>,
    /// What [`Kind::Error`] complains about.
    pub(super) error: String,
}

/// Splits a text.
pub(super) fn lex(text: &str) -> Tokens<'_> {
    let mut lexer = Lexer { text, at: 0, parens: 0, tokens: Vec::new() };
    let (kind, error) = match lexer.outside() {
        Ok(()) => (Kind::Eof, String::new()),
        Err(error) => (Kind::Error, error),
    };
    lexer.tokens.push(Token { kind, at: lexer.at, text: "" });
    Tokens { tokens: lexer.tokens, error }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// Open parentheses in this action.
    parens: usize,
    tokens: Vec<Token<'t>>,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn push(&mut self, kind: Kind, start: usize) {
        self.tokens.push(Token { kind, at: start, text: &self.text[start..self.at] });
    }

    /// Text and the actions in it, to the end.
    fn outside(&mut self) -> Result<(), String> {
        while let Some(found) = self.rest().find(LEFT) {
            let start = self.at;
            let left = start + found;
            let inside = &self.text[left + LEFT.len()..];
            let trimmed = trims_left(inside);
            let text = &self.text[start..left];
            let kept = if trimmed { text.trim_end_matches(SPACES) } else { text };
            if !kept.is_empty() {
                self.at = start + kept.len();
                self.push(Kind::Text, start);
            }
            // The marker and its space are two bytes, as in `trimMarkerLen`.
            let marker = if trimmed { 2 } else { 0 };
            if inside[marker..].starts_with("/*") {
                self.at = left;
                self.comment(left + LEFT.len() + marker)?;
                continue;
            }
            self.at = left + LEFT.len();
            self.push(Kind::LeftDelim, left);
            self.at += marker;
            self.parens = 0;
            self.inside()?;
        }
        let start = self.at;
        self.at = self.text.len();
        if start < self.at {
            self.push(Kind::Text, start);
        }
        Ok(())
    }

    /// A comment whose `/*` stands at `open`. `self.at` stays at the action until it is closed.
    fn comment(&mut self, open: usize) -> Result<(), String> {
        let body = open + "/*".len();
        let Some(end) = self.text[body..].find("*/") else {
            return Err("unclosed comment".to_owned());
        };
        let after = body + end + "*/".len();
        let Some(trims) = right_delim(&self.text[after..]) else {
            return Err("comment ends before closing delimiter".to_owned());
        };
        self.at = after;
        self.skip_right_delim(trims);
        self.skip_trimmed(trims);
        Ok(())
    }

    fn skip_right_delim(&mut self, trims: bool) {
        self.at += RIGHT.len() + if trims { 2 } else { 0 };
    }

    fn skip_trimmed(&mut self, trims: bool) {
        if trims {
            self.at = self.text.len() - self.rest().trim_start_matches(SPACES).len();
        }
    }

    /// What stands in an action, with its closing delimiter.
    fn inside(&mut self) -> Result<(), String> {
        loop {
            if let Some(trims) = right_delim(self.rest()) {
                if self.parens > 0 {
                    return Err("unclosed left paren".to_owned());
                }
                let start = self.at;
                self.skip_right_delim(trims);
                self.push(Kind::RightDelim, start);
                self.skip_trimmed(trims);
                return Ok(());
            }
            self.token()?;
        }
    }

    fn token(&mut self) -> Result<(), String> {
        let start = self.at;
        let Some(c) = self.bump() else {
            return Err("unclosed action".to_owned());
        };
        let kind = match c {
            _ if SPACES.contains(&c) => {
                // The space of a closing ` ->>` belongs to the delimiter.
                while right_delim(self.rest()).is_none()
                    && self.peek().is_some_and(|c| SPACES.contains(&c))
                {
                    self.bump();
                }
                Kind::Space
            }
            '=' => Kind::Assign,
            ':' => {
                if self.bump() != Some('=') {
                    self.at = start;
                    return Err("expected :=".to_owned());
                }
                Kind::Declare
            }
            '|' => Kind::Pipe,
            '"' => {
                self.quoted('"', start, "unterminated quoted string")?;
                Kind::String
            }
            '\'' => {
                self.quoted('\'', start, "unterminated character constant")?;
                Kind::CharConstant
            }
            '`' => {
                let Some(end) = self.rest().find('`') else {
                    self.at = start;
                    return Err("unterminated raw quoted string".to_owned());
                };
                self.at += end + 1;
                Kind::RawString
            }
            '$' => {
                self.name()?;
                Kind::Variable
            }
            '.' if !self.rest().starts_with(|c: char| c.is_ascii_digit()) => {
                if self.name()? {
                    Kind::Field
                } else {
                    Kind::Dot
                }
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.at = start;
                self.number()?
            }
            _ if is_name_char(c) => {
                self.at = start;
                self.name()?;
                keyword(&self.text[start..self.at])
            }
            '(' => {
                self.parens += 1;
                Kind::LeftParen
            }
            ')' => {
                let Some(parens) = self.parens.checked_sub(1) else {
                    self.at = start;
                    return Err("unexpected right paren".to_owned());
                };
                self.parens = parens;
                Kind::RightParen
            }
            '!'..='~' => Kind::Char,
            _ => {
                self.at = start;
                return Err(format!("unrecognized character in action: {}", code_point(c)));
            }
        };
        self.push(kind, start);
        Ok(())
    }

    /// The rest of a name; whether there is any.
    fn name(&mut self) -> Result<bool, String> {
        let start = self.at;
        while self.peek().is_some_and(is_name_char) {
            self.bump();
        }
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => {}
            Some(_) if self.rest().starts_with(RIGHT) => {}
            Some(c) => return Err(format!("bad character {}", code_point(c))),
        }
        Ok(self.at > start)
    }

    fn quoted(&mut self, quote: char, start: usize, unterminated: &str) -> Result<(), String> {
        loop {
            let c = match self.bump() {
                Some('\\') => self.bump().filter(|&c| c != '\n').map(|_| '\\'),
                c => c.filter(|&c| c != '\n'),
            };
            match c {
                Some(c) if c == quote => return Ok(()),
                Some(_) => {}
                None => {
                    self.at = start;
                    return Err(unterminated.to_owned());
                }
            }
        }
    }

    /// A number, roughly: what is wrong with it is found when it is read.
    fn number(&mut self) -> Result<Kind, String> {
        let start = self.at;
        let mut good = self.scan_number();
        let mut kind = Kind::Number;
        if good && matches!(self.peek(), Some('+' | '-')) {
            kind = Kind::Complex;
            good = self.scan_number() && self.text[..self.at].ends_with('i');
        }
        if good {
            return Ok(kind);
        }
        let error = format!("bad number syntax: {:?}", &self.text[start..self.at]);
        self.at = start;
        Err(error)
    }

    fn scan_number(&mut self) -> bool {
        self.accept(|c| matches!(c, '+' | '-'));
        let mut digits: fn(char) -> bool = |c| c.is_ascii_digit() || c == '_';
        let mut exponent: fn(char) -> bool = |c| matches!(c, 'e' | 'E');
        if self.accept(|c| c == '0') {
            if self.accept(|c| matches!(c, 'x' | 'X')) {
                digits = |c| c.is_ascii_hexdigit() || c == '_';
                exponent = |c| matches!(c, 'p' | 'P');
            } else if self.accept(|c| matches!(c, 'o' | 'O')) {
                digits = |c| matches!(c, '0'..='7' | '_');
                exponent = |_| false;
            } else if self.accept(|c| matches!(c, 'b' | 'B')) {
                digits = |c| matches!(c, '0' | '1' | '_');
                exponent = |_| false;
            }
        }
        while self.accept(digits) {}
        if self.accept(|c| c == '.') {
            while self.accept(digits) {}
        }
        if self.accept(exponent) {
            self.accept(|c| matches!(c, '+' | '-'));
            while self.accept(|c| c.is_ascii_digit() || c == '_') {}
        }
        self.accept(|c| c == 'i');
        !self.accept(is_name_char)
    }

    fn accept(&mut self, wanted: fn(char) -> bool) -> bool {
        let found = self.peek().is_some_and(wanted);
        if found {
            self.bump();
        }
        found
    }
}

/// Whether a left trim marker follows: a minus and a space, as `<<-3>>` is a number.
fn trims_left(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.starts_with(SPACES))
}

/// Whether a closing delimiter follows, and whether it has a trim marker.
fn right_delim(text: &str) -> Option<bool> {
    if text.starts_with(RIGHT) {
        return Some(false);
    }
    let rest = text.strip_prefix(SPACES)?.strip_prefix('-')?;
    rest.starts_with(RIGHT).then_some(true)
}

fn keyword(word: &str) -> Kind {
    match word {
        "block" => Kind::Block,
        "break" => Kind::Break,
        "continue" => Kind::Continue,
        "define" => Kind::Define,
        "else" => Kind::Else,
        "end" => Kind::End,
        "if" => Kind::If,
        "nil" => Kind::Nil,
        "range" => Kind::Range,
        "template" => Kind::Template,
        "with" => Kind::With,
        "true" | "false" => Kind::Bool,
        _ => Kind::Identifier,
    }
}

/// Go's `%#U`.
fn code_point(c: char) -> String {
    let number = format!("U+{:04X}", u32::from(c));
    if crate::rules::letters::is_printable(c) { format!("{number} '{c}'") } else { number }
}
