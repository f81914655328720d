//! Executes a template, by the rules of `text/template`'s `exec.go`.

use super::datum::{Datum, Text};
use super::functions::Function;
use super::print::{self, MAX_OUTPUT};
use super::tree::{Command, Node, Operand, Pipe, Term, Tree};
use super::{ExecuteError, Fields, Value, position};

/// How deep lists and pipelines may nest while they are executed, calls of templates included. Go
/// allows 100 000 calls; this is what a thread's smallest stack holds with room to spare.
const MAX_DEPTH: usize = 200;

/// How much one execution may do: a unit is a node, a command or a byte of output. A query over
/// ten thousand objects takes less than a hundredth.
const MAX_WORK: usize = 8 << 20;

/// Executes a template on fields.
pub(super) fn execute(tree: &Tree, fields: &Fields) -> Result<String, ExecuteError> {
    let mut run = Run {
        tree,
        fields,
        out: Vec::new(),
        variables: vec![("$", Datum::Root)],
        work: 0,
        depth: 0,
    };
    let result = run.list(&Datum::Root, &tree.root).and_then(|_| {
        String::from_utf8(run.out)
            .map_err(|_| failure(0, "the output is not UTF-8: a character was cut in two"))
    });
    result.map_err(|Failure { at, message }| {
        let (line, column) = position(&tree.text, at);
        ExecuteError { line, column, message }
    })
}

type Outcome<T> = Result<T, Failure>;

struct Failure {
    at: usize,
    message: String,
}

fn failure(at: usize, message: impl Into<String>) -> Failure {
    Failure { at, message: message.into() }
}

/// How a list ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Done,
    Break,
    Continue,
}

struct Run<'a> {
    tree: &'a Tree,
    fields: &'a Fields,
    out: Vec<u8>,
    /// The innermost last.
    variables: Vec<(&'a str, Datum<'a>)>,
    work: usize,
    depth: usize,
}

impl<'a> Run<'a> {
    fn spend(&mut self, at: usize, units: usize) -> Outcome<()> {
        self.work = self.work.saturating_add(units);
        if self.work > MAX_WORK {
            return Err(failure(at, "the template does too much: it was stopped"));
        }
        Ok(())
    }

    fn deeper(&mut self, at: usize) -> Outcome<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(failure(at, format!("exceeded maximum template depth ({MAX_DEPTH})")));
        }
        Ok(())
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Outcome<()> {
        self.spend(at, bytes.len())?;
        if self.out.len() + bytes.len() > MAX_OUTPUT {
            return Err(failure(at, print::TOO_LONG));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn list(&mut self, dot: &Datum<'a>, nodes: &'a [Node]) -> Outcome<Flow> {
        for node in nodes {
            let flow = self.node(dot, node)?;
            if flow != Flow::Done {
                return Ok(flow);
            }
        }
        Ok(Flow::Done)
    }

    fn node(&mut self, dot: &Datum<'a>, node: &'a Node) -> Outcome<Flow> {
        match node {
            Node::Text(text) => self.write(0, text.as_bytes())?,
            Node::Action(pipe) => {
                let value = self.pipeline(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.print(pipe.at, &value)?;
                }
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Choice { sets_dot, branches, otherwise } => {
                return self.choice(dot, *sets_dot, branches, otherwise);
            }
            Node::Range { pipe, body, otherwise } => return self.range(dot, pipe, body, otherwise),
            Node::Template { at, name, pipe } => {
                self.call_template(dot, *at, name, pipe.as_ref())?;
            }
        }
        Ok(Flow::Done)
    }

    fn print(&mut self, at: usize, value: &Datum<'a>) -> Outcome<()> {
        match value {
            Datum::NoValue => self.write(at, b"<no value>"),
            Datum::Text(text) => self.write(at, text),
            value => {
                let printed =
                    print::sprint(std::slice::from_ref(value)).map_err(|e| failure(at, e))?;
                self.write(at, &printed)
            }
        }
    }

    fn choice(
        &mut self,
        dot: &Datum<'a>,
        sets_dot: bool,
        branches: &'a [(Pipe, Vec<Node>)],
        otherwise: &'a [Node],
    ) -> Outcome<Flow> {
        let scope = self.variables.len();
        let mut flow = None;
        for (pipe, nodes) in branches {
            self.deeper(pipe.at)?;
            let value = self.pipeline(dot, pipe)?;
            if value.is_true() {
                flow = Some(self.list(if sets_dot { &value } else { dot }, nodes)?);
            }
            self.depth -= 1;
            if flow.is_some() {
                break;
            }
        }
        let flow = match flow {
            Some(flow) => flow,
            None => self.list(dot, otherwise)?,
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(
        &mut self,
        dot: &Datum<'a>,
        pipe: &'a Pipe,
        body: &'a [Node],
        otherwise: &'a [Node],
    ) -> Outcome<Flow> {
        self.deeper(pipe.at)?;
        let scope = self.variables.len();
        let value = self.pipeline(dot, pipe)?;
        let mut elements: Box<dyn Iterator<Item = (Datum<'a>, Datum<'a>)>> = match value {
            Datum::NoValue => Box::new(std::iter::empty()),
            Datum::Int(_) | Datum::Byte(_) if pipe.variables.len() > 1 => {
                return Err(failure(
                    pipe.at,
                    "can't use a number to iterate over more than one variable",
                ));
            }
            Datum::Int(count) => Box::new((0..count).map(|i| (Datum::NoValue, Datum::Int(i)))),
            Datum::Byte(count) => Box::new((0..count).map(|i| (Datum::NoValue, Datum::Byte(i)))),
            Datum::List(list) => Box::new(
                (0..).zip(list).map(|(index, element)| (Datum::Int(index), Datum::text(element))),
            ),
            Datum::Map(map) => {
                Box::new(map.iter().map(|(key, value)| (Datum::text(key), Datum::text(value))))
            }
            value => {
                return Err(failure(
                    pipe.at,
                    format!("range can't iterate over a {}", value.type_name()),
                ));
            }
        };
        let inner = self.variables.len();
        let mut empty = true;
        for (index, element) in elements.by_ref() {
            empty = false;
            self.spend(pipe.at, 1)?;
            self.set_range_variables(pipe, inner, index, &element)?;
            let flow = self.list(&element, body)?;
            self.variables.truncate(inner);
            if flow == Flow::Break {
                break;
            }
        }
        // Jumps in the body are this range's. A `continue` in the `else` is that of the range around;
        // a `break` there ends, as in Go, just this one.
        let mut flow = if empty { self.list(dot, otherwise)? } else { Flow::Done };
        if flow == Flow::Break {
            flow = Flow::Done;
        }
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(flow)
    }

    /// With two variables the index comes first; one alone is the element. Declared variables are
    /// the innermost, assigned ones anywhere.
    fn set_range_variables(
        &mut self,
        pipe: &'a Pipe,
        inner: usize,
        index: Datum<'a>,
        element: &Datum<'a>,
    ) -> Outcome<()> {
        let (index_name, element_name) = match pipe.variables.as_slice() {
            [] => return Ok(()),
            [element] => (None, element),
            [index, element, ..] => (Some(index), element),
        };
        if pipe.assigns {
            if let Some(name) = index_name {
                self.assign(pipe.at, name, index)?;
            }
            return self.assign(pipe.at, element_name, element.clone());
        }
        self.variables[inner - 1].1 = element.clone();
        if index_name.is_some() {
            self.variables[inner - 2].1 = index;
        }
        Ok(())
    }

    fn assign(&mut self, at: usize, name: &str, value: Datum<'a>) -> Outcome<()> {
        match self.variables.iter_mut().rev().find(|(n, _)| *n == name) {
            Some((_, variable)) => {
                *variable = value;
                Ok(())
            }
            None => Err(failure(at, format!("undefined variable: {name}"))),
        }
    }

    fn call_template(
        &mut self,
        dot: &Datum<'a>,
        at: usize,
        name: &[u8],
        pipe: Option<&'a Pipe>,
    ) -> Outcome<()> {
        let tree = self.tree;
        let Some(nodes) = tree.defined.get(name) else {
            let name = String::from_utf8_lossy(name);
            return Err(failure(at, format!("template {name:?} not defined")));
        };
        let dot = match pipe {
            Some(pipe) => self.pipeline(dot, pipe)?,
            None => Datum::NoValue,
        };
        self.deeper(at)?;
        // A template sees no variables but its own.
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        self.list(&dot, nodes)?;
        self.variables = variables;
        self.depth -= 1;
        Ok(())
    }

    fn pipeline(&mut self, dot: &Datum<'a>, pipe: &'a Pipe) -> Outcome<Datum<'a>> {
        self.deeper(pipe.at)?;
        let mut value = None;
        for command in &pipe.commands {
            self.spend(command.word.at, 1)?;
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.expect("the parser refuses empty pipelines");
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(pipe.at, name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        self.depth -= 1;
        Ok(value)
    }

    /// The value of a command. `last` is that of the command before it in the pipeline.
    fn command(
        &mut self,
        dot: &Datum<'a>,
        command: &'a Command,
        last: Option<Datum<'a>>,
    ) -> Outcome<Datum<'a>> {
        let Operand { at, term } = &command.word;
        let given = !command.arguments.is_empty() || last.is_some();
        match term {
            Term::Function(function) => {
                return self.call(dot, *at, *function, &command.arguments, last);
            }
            Term::Field(names) => return self.fields(*at, dot.clone(), names, given),
            Term::Chain(operand, names) => {
                let receiver = self.argument(dot, operand)?;
                return self.fields(*at, receiver, names, given);
            }
            Term::Variable(name, names) if !names.is_empty() => {
                let receiver = self.variable(*at, name)?;
                return self.fields(*at, receiver, names, given);
            }
            Term::Nil => return Err(failure(*at, "nil is not a command")),
            _ => {}
        }
        if given {
            return Err(failure(*at, "can't give argument to non-function"));
        }
        self.argument(dot, &command.word)
    }

    /// The value of an operand.
    fn argument(&mut self, dot: &Datum<'a>, operand: &'a Operand) -> Outcome<Datum<'a>> {
        let Operand { at, term } = operand;
        Ok(match term {
            Term::Bool(bool) => Datum::Bool(*bool),
            Term::Int(int) => Datum::Int(*int),
            Term::IntOverflow(text) => {
                return Err(failure(*at, format!("{text} overflows int")));
            }
            Term::Float(float) => Datum::Float(*float),
            Term::Text(bytes) => Datum::Text(Text::Of(bytes)),
            Term::Nil => Datum::NoValue,
            Term::Dot => dot.clone(),
            Term::Field(names) => self.fields(*at, dot.clone(), names, false)?,
            Term::Variable(name, names) => {
                let receiver = self.variable(*at, name)?;
                self.fields(*at, receiver, names, false)?
            }
            Term::Function(function) => self.call(dot, *at, *function, &[], None)?,
            Term::Pipe(pipe) => self.pipeline(dot, pipe)?,
            Term::Chain(operand, names) => {
                let receiver = self.argument(dot, operand)?;
                self.fields(*at, receiver, names, false)?
            }
        })
    }

    fn variable(&self, at: usize, name: &str) -> Outcome<Datum<'a>> {
        match self.variables.iter().rev().find(|(n, _)| *n == name) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(failure(at, format!("undefined variable: {name}"))),
        }
    }

    /// The field of the field of a value. `given` is whether arguments stand behind the last.
    fn fields(
        &self,
        at: usize,
        mut receiver: Datum<'a>,
        names: &[Box<str>],
        given: bool,
    ) -> Outcome<Datum<'a>> {
        for (index, name) in names.iter().enumerate() {
            let given = given && index + 1 == names.len();
            receiver = match receiver {
                Datum::NoValue => Datum::NoValue,
                Datum::Root => match self.fields.get(name.as_ref()) {
                    Some(_) if given => {
                        return Err(failure(
                            at,
                            format!("{name} has arguments but cannot be invoked as function"),
                        ));
                    }
                    Some(Value::Nil) if index + 1 < names.len() => {
                        return Err(failure(
                            at,
                            format!("nil pointer evaluating {name}.{}", names[index + 1]),
                        ));
                    }
                    Some(value) => Datum::of(value),
                    None => {
                        let known: Vec<String> =
                            self.fields.keys().map(|key| format!(".{key}")).collect();
                        return Err(failure(
                            at,
                            format!("can't evaluate field {name}: there are {}", known.join(", ")),
                        ));
                    }
                },
                Datum::Map(_) if given => {
                    return Err(failure(at, format!("{name} is not a method but has arguments")));
                }
                Datum::Map(map) => {
                    map.get(name.as_ref()).map_or(Datum::NoValue, |value| Datum::text(value))
                }
                other => {
                    return Err(failure(
                        at,
                        format!("can't evaluate field {name} in type {}", other.type_name()),
                    ));
                }
            };
        }
        Ok(receiver)
    }

    fn call(
        &mut self,
        dot: &Datum<'a>,
        at: usize,
        function: Function,
        arguments: &'a [Operand],
        last: Option<Datum<'a>>,
    ) -> Outcome<Datum<'a>> {
        let given = arguments.len() + usize::from(last.is_some());
        function.check_count(given).map_err(|e| failure(at, e))?;
        if let Some(stop) = function.short_circuits_at() {
            let mut value = Datum::NoValue;
            for argument in arguments {
                value = self.argument(dot, argument)?;
                if value.is_true() == stop {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut values = Vec::with_capacity(given);
        for (index, argument) in arguments.iter().enumerate() {
            let value = self.argument(dot, argument)?;
            if index == 0 {
                function.check_first(&value).map_err(|e| failure(argument.at, e))?;
            }
            values.push(value);
        }
        if let Some(last) = last {
            if values.is_empty() {
                function.check_first(&last).map_err(|e| failure(at, e))?;
            }
            values.push(last);
        }
        for value in &values {
            if let Datum::Text(text) = value {
                // Strings are compared and copied far faster than nodes are walked.
                self.spend(at, text.len() / 16)?;
            }
        }
        let value = function
            .call(&values)
            .map_err(|e| failure(at, format!("error calling {}: {e}", function.name())))?;
        if let Datum::Text(Text::Made(text)) = &value {
            self.spend(at, text.len())?;
        }
        Ok(value)
    }
}
