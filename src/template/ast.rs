//! A parsed template, and how Go shows its parts in errors.
//!
//! Pure data. Positions are bytes from the beginning of the template's text.

use std::fmt;

use super::functions::Function;
use super::text::quote;

/// What stands between two delimiters, or the text between actions.
#[derive(Debug)]
pub(super) enum Node {
    /// Copied as it is.
    Text(String),
    /// `{{pipeline}}`: its value is printed, unless it declares or assigns.
    Action(Pipe),
    /// `{{if}}`.
    If(Branch),
    /// `{{with}}`.
    With(Branch),
    /// `{{range}}`.
    Range(Branch),
    /// `{{template}}`, and what is left of a `{{block}}`.
    Template {
        /// Where its name is.
        at: usize,
        /// Which template runs.
        name: Vec<u8>,
        /// What its dot will be.
        pipe: Option<Pipe>,
    },
    /// `{{break}}`.
    Break,
    /// `{{continue}}`.
    Continue,
}

/// A control structure.
#[derive(Debug)]
pub(super) struct Branch {
    /// What decides.
    pub pipe: Pipe,
    /// What runs if so.
    pub then: Vec<Node>,
    /// What runs if not.
    pub otherwise: Option<Vec<Node>>,
}

/// Commands, each of which gives the next its last argument.
#[derive(Debug)]
pub(super) struct Pipe {
    pub at: usize,
    /// The variables it sets, with their `$`: at most two.
    pub variables: Vec<String>,
    /// `=` rather than `:=`.
    pub assigns: bool,
    /// At least one.
    pub commands: Vec<Command>,
}

/// An operand with its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub at: usize,
    /// At least one.
    pub words: Vec<Operand>,
}

/// A value as it is written.
#[derive(Debug)]
pub(super) struct Operand {
    pub at: usize,
    pub term: Term,
}

#[derive(Debug)]
pub(super) enum Term {
    Bool(bool),
    Dot,
    Nil,
    Number(Number),
    /// A string literal: what it stands for, and how it is written.
    Text {
        value: Vec<u8>,
        literal: String,
    },
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a`: the name with its `$`, and fields.
    Variable(String, Vec<String>),
    Function(Function),
    /// In parentheses.
    Pipe(Box<Pipe>),
    /// Fields of what is not a field or variable: `(f x).a`.
    Chain(Box<Operand>, Vec<String>),
}

/// A numeric constant: what it is by itself, and as an integer parameter.
#[derive(Debug)]
pub(super) struct Number {
    pub literal: String,
    pub value: NumberValue,
    /// Its value where an integer is wanted: 2.0 will do.
    pub integer: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum NumberValue {
    Int(i64),
    Float(f64),
    /// Larger than an `int`: an error when it is evaluated.
    Overflow,
}

/// Fields as they are written.
struct Fields<'a>(&'a [String]);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|field| write!(f, ".{field}"))
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.term {
            Term::Bool(value) => write!(f, "{value}"),
            Term::Dot => f.write_str("."),
            Term::Nil => f.write_str("nil"),
            Term::Number(number) => f.write_str(&number.literal),
            Term::Text { literal, .. } => f.write_str(literal),
            Term::Field(fields) => write!(f, "{}", Fields(fields)),
            Term::Variable(name, fields) => write!(f, "{name}{}", Fields(fields)),
            Term::Function(function) => f.write_str(function.name()),
            Term::Pipe(pipe) => write!(f, "({pipe})"),
            Term::Chain(inner, fields) => write!(f, "{inner}{}", Fields(fields)),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.words.iter().enumerate() {
            write!(f, "{}{word}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            let sign = if self.assigns { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.variables.join(", "))?;
        }
        for (at, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if at == 0 { "" } else { " | " })?;
        }
        Ok(())
    }
}

/// A `{{template}}` action, as it is shown.
pub(super) struct Call<'a> {
    pub name: &'a [u8],
    pub pipe: Option<&'a Pipe>,
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", quote(self.name, false))?;
        if let Some(pipe) = self.pipe {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}

impl Node {
    /// Whether those behind it see what it does to variables: it declares or sets one, or sets
    /// `$` somewhere inside.
    pub(super) fn sets_variables(&self) -> bool {
        matches!(self, Node::Action(pipe) if !pipe.variables.is_empty()) || self.sets_root()
    }

    fn sets_root(&self) -> bool {
        let sets = |pipe: &Pipe| pipe.assigns && pipe.variables.iter().any(|name| name == "$");
        match self {
            Node::Text(_) | Node::Break | Node::Continue => false,
            Node::Action(pipe) => sets(pipe),
            Node::Template { pipe, .. } => pipe.as_ref().is_some_and(sets),
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                let otherwise = branch.otherwise.iter().flatten();
                sets(&branch.pipe) || branch.then.iter().chain(otherwise).any(Node::sets_root)
            }
        }
    }
}
