//! Tokens into a tree, by the grammar of `text/template/parse`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lexer::{Kind, LEFT, RIGHT, Token, Tokens, lex};
use super::literal;
use super::tree::{Node, Pipe, Tree};
use super::{ParseError, position};

/// How deep actions and parentheses may nest, so that no text exhausts the stack. Go allows 10 000
/// parentheses; templates of rules nest less than ten.
const MAX_DEPTH: usize = 50;

pub(super) type Parsed<T> = Result<T, Broken>;

/// What is wrong, and at which byte.
pub(super) struct Broken {
    pub(super) at: usize,
    pub(super) message: String,
}

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Tree, ParseError> {
    let Tokens { tokens, error } = lex(text);
    let mut parser = Parser {
        tokens,
        lex_error: error,
        next: 0,
        variables: vec!["$"],
        ranges: 0,
        depth: 0,
        defined: BTreeMap::new(),
    };
    match parser.template() {
        Ok(root) => Ok(Tree { text: Arc::from(text), root, defined: parser.defined }),
        Err(Broken { at, message }) => {
            let (line, column) = position(text, at);
            Err(ParseError { line, column, message })
        }
    }
}

pub(super) struct Parser<'t> {
    /// Never empty: the last is the end or an error, and stays the next for ever.
    tokens: Vec<Token<'t>>,
    lex_error: String,
    pub(super) next: usize,
    /// Variables in scope, with their `$`.
    pub(super) variables: Vec<&'t str>,
    /// Ranges around this place.
    ranges: usize,
    pub(super) depth: usize,
    defined: BTreeMap<Vec<u8>, Vec<Node>>,
}

/// What ends a list or stands in it.
enum Item {
    Node(Node),
    End,
    /// Followed by `if` or `with` if that stands in the same action.
    Else,
}

/// What a list of `if`, `with` or `range` ends with.
#[derive(PartialEq, Eq)]
enum Stop {
    End,
    Else,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    If,
    With,
    Range,
}

impl Control {
    fn name(self) -> &'static str {
        match self {
            Self::If => "if",
            Self::With => "with",
            Self::Range => "range",
        }
    }
}

impl<'t> Parser<'t> {
    pub(super) fn peek(&self) -> Token<'t> {
        self.tokens[self.next]
    }

    pub(super) fn take(&mut self) -> Token<'t> {
        let token = self.tokens[self.next];
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    pub(super) fn skip_spaces(&mut self) {
        while self.peek().kind == Kind::Space {
            self.take();
        }
    }

    pub(super) fn peek_solid(&mut self) -> Token<'t> {
        self.skip_spaces();
        self.peek()
    }

    pub(super) fn take_solid(&mut self) -> Token<'t> {
        self.skip_spaces();
        self.take()
    }

    pub(super) fn broken<T>(&self, token: Token<'t>, message: impl Into<String>) -> Parsed<T> {
        // What breaks the text is worse than what its effect is.
        let message =
            if token.kind == Kind::Error { self.lex_error.clone() } else { message.into() };
        Err(Broken { at: token.at, message })
    }

    pub(super) fn unexpected<T>(&self, token: Token<'t>, context: &str) -> Parsed<T> {
        let what = match token.kind {
            Kind::Eof => "end of the template".to_owned(),
            Kind::LeftDelim | Kind::RightDelim => token.text.trim().to_owned(),
            _ => format!("{:?}", shortened(token.text)),
        };
        self.broken(token, format!("unexpected {what} in {context}"))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token<'t>> {
        let token = self.take_solid();
        if token.kind == kind { Ok(token) } else { self.unexpected(token, context) }
    }

    /// Goes one level down, if there is one.
    pub(super) fn deeper(&mut self, token: Token<'t>) -> Parsed<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.broken(token, format!("nests deeper than {MAX_DEPTH} levels"));
        }
        Ok(())
    }

    /// The whole text.
    fn template(&mut self) -> Parsed<Vec<Node>> {
        let mut nodes = Vec::new();
        loop {
            let start = self.next;
            let first = self.peek();
            if first.kind == Kind::Eof {
                return Ok(nodes);
            }
            if first.kind == Kind::LeftDelim {
                self.take();
                if self.take_solid().kind == Kind::Define {
                    self.define()?;
                    continue;
                }
                self.next = start;
            }
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::End => return self.broken(first, format!("unexpected {LEFT}end{RIGHT}")),
                Item::Else => return self.broken(first, format!("unexpected {LEFT}else{RIGHT}")),
            }
        }
    }

    /// `define`, of which the word has been read.
    fn define(&mut self) -> Parsed<()> {
        let token = self.take_solid();
        let name = self.template_name(token, "define clause")?;
        self.expect(Kind::RightDelim, "define clause")?;
        self.body(token, name, "define clause")
    }

    /// A template of its own, up to its `end`: with variables of its own.
    fn body(&mut self, token: Token<'t>, name: Vec<u8>, context: &str) -> Parsed<()> {
        let variables = std::mem::replace(&mut self.variables, vec!["$"]);
        let ranges = std::mem::take(&mut self.ranges);
        self.deeper(token)?;
        let (nodes, stop) = self.list()?;
        self.depth -= 1;
        self.variables = variables;
        self.ranges = ranges;
        if stop == Stop::Else {
            return self.broken(token, format!("unexpected {LEFT}else{RIGHT} in {context}"));
        }
        match self.defined.get(&name) {
            Some(old) if !is_blank(old) => {
                if is_blank(&nodes) {
                    return Ok(());
                }
                let name = String::from_utf8_lossy(&name).into_owned();
                self.broken(token, format!("multiple definition of template {name:?}"))
            }
            _ => {
                self.defined.insert(name, nodes);
                Ok(())
            }
        }
    }

    fn template_name(&self, token: Token<'t>, context: &str) -> Parsed<Vec<u8>> {
        match token.kind {
            Kind::String | Kind::RawString => self.read(token, literal::string(token.text)),
            _ => self.unexpected(token, context),
        }
    }

    pub(super) fn read<T>(&self, token: Token<'t>, result: Result<T, String>) -> Parsed<T> {
        result.or_else(|message| self.broken(token, message))
    }

    /// Nodes up to an `end` or an `else`.
    fn list(&mut self) -> Parsed<(Vec<Node>, Stop)> {
        let mut nodes = Vec::new();
        loop {
            let token = self.peek_solid();
            if token.kind == Kind::Eof {
                return self.broken(token, format!("unexpected EOF: {LEFT}end{RIGHT} is missing"));
            }
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::End => return Ok((nodes, Stop::End)),
                Item::Else => return Ok((nodes, Stop::Else)),
            }
        }
    }

    /// Text or an action.
    fn item(&mut self) -> Parsed<Item> {
        let token = self.take_solid();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text.into()))),
            Kind::LeftDelim => self.action(),
            _ => self.unexpected(token, "input"),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        let token = self.peek_solid();
        if !matches!(
            token.kind,
            Kind::Block
                | Kind::Break
                | Kind::Continue
                | Kind::Else
                | Kind::End
                | Kind::If
                | Kind::Range
                | Kind::Template
                | Kind::With
        ) {
            let pipe = self.pipeline("command", Kind::RightDelim)?;
            return Ok(Item::Node(Node::Action(pipe)));
        }
        self.take();
        Ok(Item::Node(match token.kind {
            Kind::Block => self.block()?,
            Kind::Template => self.call()?,
            Kind::If => self.choice(token, Control::If)?,
            Kind::With => self.choice(token, Control::With)?,
            Kind::Range => {
                let (mut branches, otherwise) = self.control(token, Control::Range)?;
                let (pipe, body) = branches.pop().expect("a control structure has a first branch");
                Node::Range { pipe, body, otherwise }
            }
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Item::End);
            }
            Kind::Else => {
                if !matches!(self.peek_solid().kind, Kind::If | Kind::With) {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Item::Else);
            }
            jump => {
                let word = format!("{LEFT}{}{RIGHT}", token.text);
                self.expect(Kind::RightDelim, &word)?;
                if self.ranges == 0 {
                    return self.broken(token, format!("{word} outside {LEFT}range{RIGHT}"));
                }
                if jump == Kind::Break { Node::Break } else { Node::Continue }
            }
        }))
    }

    fn choice(&mut self, token: Token<'t>, control: Control) -> Parsed<Node> {
        let (branches, otherwise) = self.control(token, control)?;
        Ok(Node::Choice { sets_dot: control == Control::With, branches, otherwise })
    }

    /// The branches of a control structure, and its `else`. An `else if` of an `if` and an
    /// `else with` of a `with` are branches: their `end` is the whole's.
    #[expect(clippy::type_complexity, reason = "branches and the rest; a name would hide it")]
    fn control(
        &mut self,
        token: Token<'t>,
        control: Control,
    ) -> Parsed<(Vec<(Pipe, Vec<Node>)>, Vec<Node>)> {
        let scope = self.variables.len();
        self.deeper(token)?;
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let pipe = self.pipeline(control.name(), Kind::RightDelim)?;
            let in_range = usize::from(control == Control::Range);
            self.ranges += in_range;
            let (nodes, stop) = self.list()?;
            self.ranges -= in_range;
            branches.push((pipe, nodes));
            if stop == Stop::End {
                break;
            }
            let next = self.peek();
            if matches!((control, next.kind), (Control::If, Kind::If) | (Control::With, Kind::With))
            {
                self.take();
                continue;
            }
            let (nodes, stop) = self.list()?;
            if stop == Stop::Else {
                return self
                    .broken(next, format!("expected {LEFT}end{RIGHT}, found {LEFT}else{RIGHT}"));
            }
            otherwise = nodes;
            break;
        }
        self.depth -= 1;
        self.variables.truncate(scope);
        Ok((branches, otherwise))
    }

    /// `block`: a `define` and a call of it.
    fn block(&mut self) -> Parsed<Node> {
        let token = self.take_solid();
        let name = self.template_name(token, "block clause")?;
        let pipe = self.pipeline("block clause", Kind::RightDelim)?;
        self.body(token, name.clone(), "block clause")?;
        Ok(Node::Template { at: token.at, name, pipe: Some(pipe) })
    }

    fn call(&mut self) -> Parsed<Node> {
        let token = self.take_solid();
        let name = self.template_name(token, "template clause")?;
        let pipe = if self.peek_solid().kind == Kind::RightDelim {
            self.take();
            None
        } else {
            Some(self.pipeline("template clause", Kind::RightDelim)?)
        };
        Ok(Node::Template { at: token.at, name, pipe })
    }
}

/// Nothing but white space: such a definition does not count.
fn is_blank(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

/// The start of a token that may be long.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(20).map_or(text, |(end, _)| &text[..end])
}
