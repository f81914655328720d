//! Metric math as text: what it says, without what it means. After "Metric math syntax and
//! functions" in the service's user guide.

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Number(f64),
    /// In single or double quotes.
    Text(String),
    /// The id of another query.
    Id(String),
    /// A bare word in capitals: `REPEAT`, `DESC`.
    Word(String),
    Array(Vec<Self>),
    Negate(Box<Self>),
    Binary(Op, Box<Self>, Box<Self>),
    Call(String, Vec<Self>),
}

/// An operator between two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Or,
    And,
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
}

impl Op {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::LessOrEqual => "<=",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::Greater => ">",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Power => "^",
        }
    }

    /// How tightly it binds.
    fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Equal
            | Self::NotEqual
            | Self::LessOrEqual
            | Self::GreaterOrEqual
            | Self::Less
            | Self::Greater => 3,
            Self::Add | Self::Subtract => 4,
            Self::Multiply | Self::Divide => 5,
            Self::Power => 7,
        }
    }

    /// A true or false as a number, or an arithmetic result.
    pub(super) fn apply(self, a: f64, b: f64) -> f64 {
        let truth = |is: bool| if is { 1.0 } else { 0.0 };
        // The service compares numbers as they are.
        #[expect(clippy::float_cmp, reason = "equality of what was stored")]
        let equal = a == b;
        match self {
            Self::Or => truth(a != 0.0 || b != 0.0),
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Equal => truth(equal),
            Self::NotEqual => truth(!equal),
            Self::LessOrEqual => truth(a <= b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::Less => truth(a < b),
            Self::Greater => truth(a > b),
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Power => a.powf(b),
        }
    }
}

/// Between multiplication and power.
const UNARY: u8 = 6;
/// Nested deeper, a text is no expression but an attack on the parser's stack.
const MAX_DEPTH: usize = 50;

impl Expr {
    /// Reads an expression.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
        let expr = parser.binary(0)?;
        match parser.peek() {
            None => Ok(expr),
            Some(token) => Err(format!("Unexpected {token:?}")),
        }
    }

    /// Calls a function with every part, itself included.
    pub(super) fn visit<'a>(&'a self, seen: &mut impl FnMut(&'a Self)) {
        seen(self);
        match self {
            Self::Array(parts) | Self::Call(_, parts) => {
                for part in parts {
                    part.visit(seen);
                }
            }
            Self::Negate(inner) => inner.visit(seen),
            Self::Binary(_, a, b) => {
                a.visit(seen);
                b.visit(seen);
            }
            Self::Number(_) | Self::Text(_) | Self::Id(_) | Self::Word(_) => {}
        }
    }

    /// The ids it refers to.
    pub(super) fn ids(&self) -> Vec<&str> {
        let mut ids = Vec::new();
        self.visit(&mut |part| {
            if let Self::Id(id) = part {
                ids.push(id.as_str());
            }
        });
        ids
    }

    /// The functions it calls.
    pub(super) fn functions(&self) -> Vec<&str> {
        let mut functions = Vec::new();
        self.visit(&mut |part| {
            if let Self::Call(name, _) = part {
                functions.push(name.as_str());
            }
        });
        functions
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(f64),
    Text(String),
    Name(String),
    Op(Op),
    Mark(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const OPS: [(&str, Op); 14] = [
        ("==", Op::Equal),
        ("!=", Op::NotEqual),
        ("<=", Op::LessOrEqual),
        (">=", Op::GreaterOrEqual),
        ("&&", Op::And),
        ("||", Op::Or),
        ("<", Op::Less),
        (">", Op::Greater),
        ("+", Op::Add),
        ("-", Op::Subtract),
        ("*", Op::Multiply),
        ("/", Op::Divide),
        ("^", Op::Power),
        ("\u{2212}", Op::Subtract),
    ];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = if let Some((symbol, op)) = OPS.iter().find(|(s, _)| rest.starts_with(s)) {
            tokens.push(Token::Op(*op));
            symbol.len()
        } else if first.is_ascii_digit() || first == '.' {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let number =
                rest[..end].parse().map_err(|_| format!("Invalid number {}", &rest[..end]))?;
            tokens.push(Token::Number(number));
            end
        } else if first.is_ascii_alphabetic() {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            tokens.push(match &rest[..end] {
                "AND" => Token::Op(Op::And),
                "OR" => Token::Op(Op::Or),
                name => Token::Name(name.to_owned()),
            });
            end
        } else if matches!(first, '\'' | '"') {
            let end = rest[1..].find(first).ok_or("Unterminated string")?;
            tokens.push(Token::Text(rest[1..=end].to_owned()));
            end + 2
        } else if "()[],".contains(first) {
            tokens.push(Token::Mark(first));
            1
        } else {
            return Err(format!("Invalid syntax: unexpected '{first}'"));
        };
        rest = rest[taken..].trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.at);
        self.at += 1;
        token
    }

    fn binary(&mut self, least: u8) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("The expression is too complex".to_owned());
        }
        let mut left = self.unary()?;
        while let Some(Token::Op(op)) = self.peek()
            && op.strength() >= least
        {
            self.at += 1;
            // Power is from the right, all others from the left.
            let right = self.binary(op.strength() + u8::from(*op != Op::Power))?;
            left = Expr::Binary(*op, Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, String> {
        if self.peek() == Some(&Token::Op(Op::Subtract)) {
            self.at += 1;
            return Ok(Expr::Negate(Box::new(self.binary(UNARY)?)));
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Expr, String> {
        match self.next() {
            Some(Token::Number(number)) => Ok(Expr::Number(*number)),
            Some(Token::Text(text)) => Ok(Expr::Text(text.clone())),
            Some(Token::Mark('(')) => {
                let inner = self.binary(0)?;
                self.close(')')?;
                Ok(inner)
            }
            Some(Token::Mark('[')) => Ok(Expr::Array(self.list(']')?)),
            Some(Token::Name(name)) if name.starts_with(|c: char| c.is_ascii_lowercase()) => {
                Ok(Expr::Id(name.clone()))
            }
            Some(Token::Name(name)) if self.peek() == Some(&Token::Mark('(')) => {
                self.at += 1;
                Ok(Expr::Call(name.clone(), self.list(')')?))
            }
            Some(Token::Name(name)) => Ok(Expr::Word(name.clone())),
            Some(token) => Err(format!("Unexpected {token:?}")),
            None => Err("Unexpected end of the expression".to_owned()),
        }
    }

    fn list(&mut self, end: char) -> Result<Vec<Expr>, String> {
        let mut parts = Vec::new();
        if self.peek() == Some(&Token::Mark(end)) {
            self.at += 1;
            return Ok(parts);
        }
        loop {
            parts.push(self.binary(0)?);
            match self.next() {
                Some(Token::Mark(',')) => {}
                Some(Token::Mark(mark)) if *mark == end => return Ok(parts),
                other => return Err(format!("Expected ',' or '{end}', got {other:?}")),
            }
        }
    }

    fn close(&mut self, end: char) -> Result<(), String> {
        match self.next() {
            Some(Token::Mark(mark)) if *mark == end => Ok(()),
            other => Err(format!("Expected '{end}', got {other:?}")),
        }
    }
}
