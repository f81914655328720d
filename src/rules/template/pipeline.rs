//! Pipelines into trees: what stands in an action that is no control structure.

use super::functions::Function;
use super::lexer::Kind;
use super::literal::{self, Number};
use super::parser::{Broken, Parsed, Parser};
use super::tree::{Command, Operand, Pipe, Term};

impl Parser<'_> {
    /// Declarations and commands, up to `end`.
    pub(super) fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let start = self.peek_solid();
        let mut pipe =
            Pipe { at: start.at, assigns: false, variables: Vec::new(), commands: Vec::new() };
        self.declarations(context, &mut pipe)?;
        loop {
            let token = self.peek_solid();
            match token.kind {
                kind if kind == end => {
                    self.take();
                    break;
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(token, context),
            }
        }
        if pipe.commands.is_empty() {
            return self.broken(start, format!("missing value for {context}"));
        }
        for (index, command) in pipe.commands.iter().enumerate().skip(1) {
            if matches!(
                command.word.term,
                Term::Bool(_)
                    | Term::Dot
                    | Term::Nil
                    | Term::Int(_)
                    | Term::IntOverflow(_)
                    | Term::Float(_)
                    | Term::Text(_)
            ) {
                return Err(Broken {
                    at: command.word.at,
                    message: format!("non executable command in pipeline stage {}", index + 1),
                });
            }
        }
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, and `$k, $v :=` in a range.
    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Parsed<()> {
        while self.peek_solid().kind == Kind::Variable {
            let start = self.next;
            let variable = self.take();
            let after = self.peek_solid();
            let declares = matches!(after.kind, Kind::Assign | Kind::Declare);
            let separates = after.kind == Kind::Char && after.text == ",";
            if !declares && !separates {
                // An operand, not a declaration.
                self.next = start;
                return Ok(());
            }
            self.take();
            pipe.variables.push(variable.text.into());
            self.variables.push(variable.text);
            if declares {
                pipe.assigns = after.kind == Kind::Assign;
                return Ok(());
            }
            if context != "range" || pipe.variables.len() > 1 {
                return self.broken(after, format!("too many declarations in {context}"));
            }
            let next = self.peek_solid();
            if !matches!(next.kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                return self.broken(next, "range can only initialize variables");
            }
        }
        Ok(())
    }

    /// Operands with spaces between them, and the pipe symbol after them.
    fn command(&mut self) -> Parsed<Command> {
        let start = self.peek_solid();
        let mut operands = Vec::new();
        loop {
            self.skip_spaces();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            let token = self.peek();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelim | Kind::RightParen => break,
                Kind::Pipe => {
                    self.take();
                    break;
                }
                _ => return self.unexpected(token, "operand"),
            }
        }
        if operands.is_empty() {
            return self.broken(start, "empty command");
        }
        let word = operands.remove(0);
        Ok(Command { word, arguments: operands })
    }

    /// A term and the fields asked of it.
    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let Some(Operand { at, term }) = self.term()? else {
            return Ok(None);
        };
        let first = self.peek();
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(Box::from(&self.take().text[1..]));
        }
        if fields.is_empty() {
            return Ok(Some(Operand { at, term }));
        }
        let term = match term {
            Term::Field(mut names) => {
                names.append(&mut fields);
                Term::Field(names)
            }
            Term::Variable(name, _) => Term::Variable(name, fields),
            Term::Function(_) | Term::Pipe(_) => {
                Term::Chain(Box::new(Operand { at, term }), fields)
            }
            _ => return self.broken(first, "unexpected . after a term that has no fields"),
        };
        Ok(Some(Operand { at, term }))
    }

    fn term(&mut self) -> Parsed<Option<Operand>> {
        let token = self.peek_solid();
        let at = token.at;
        let term = match token.kind {
            Kind::Identifier => match Function::named(token.text) {
                Some(function) => Term::Function(function),
                None => {
                    return self.broken(token, format!("function {:?} not defined", token.text));
                }
            },
            Kind::Dot => Term::Dot,
            Kind::Nil => Term::Nil,
            Kind::Variable => {
                if !self.variables.contains(&token.text) {
                    return self.broken(token, format!("undefined variable {:?}", token.text));
                }
                Term::Variable(token.text.into(), Vec::new())
            }
            Kind::Field => Term::Field(vec![token.text[1..].into()]),
            Kind::Bool => Term::Bool(token.text == "true"),
            Kind::CharConstant => Term::Int(self.read(token, literal::char_constant(token.text))?),
            Kind::Complex | Kind::Number => match self.read(token, literal::number(token.text))? {
                Number::Int(int) => Term::Int(int),
                Number::Float(float) => Term::Float(float),
                Number::TooLarge => Term::IntOverflow(token.text.into()),
            },
            Kind::String | Kind::RawString => {
                Term::Text(self.read(token, literal::string(token.text))?)
            }
            Kind::LeftParen => {
                self.take();
                self.deeper(token)?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.depth -= 1;
                let term = Term::Pipe(Box::new(pipe));
                return Ok(Some(Operand { at, term }));
            }
            _ => return Ok(None),
        };
        self.take();
        Ok(Some(Operand { at, term }))
    }
}
