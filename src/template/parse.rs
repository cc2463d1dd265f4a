//! Items into a tree, by the rules of Go's `text/template/parse`, with its error texts.
//!
//! Pure. Nesting is bounded, so that neither parsing nor dropping a tree uses up the stack.

use std::collections::BTreeMap;

use super::ast::{Branch, Command, Node, Number, NumberValue, Operand, Pipe, Term};
use super::functions::{Function, Functions};
use super::lex::{Item, Kind, items};
use super::text::{self, Unit, quote};

/// How deep control structures and parentheses may nest.
pub(super) const NESTING_MAX: usize = 100;

/// Templates by name: the one that was asked for and those that it defines.
pub(super) type Trees = BTreeMap<Vec<u8>, Vec<Node>>;

/// Parses a template called `name`.
///
/// # Errors
/// What Go says, from `template: NAME:LINE: ` on.
pub(super) fn parse(name: &str, input: &str, functions: Functions) -> Result<Trees, String> {
    let mut parser = Parser {
        name,
        items: items(input),
        next: 0,
        seen: 0,
        functions,
        variables: vec!["$".to_owned()],
        action_line: 0,
        range_depth: 0,
        nesting: 0,
        trees: Trees::new(),
    };
    parser.main()?;
    Ok(parser.trees)
}

/// How a list of nodes ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    End,
    /// `{{else}}`
    Else,
    /// `{{else if`: the item `if` is next.
    ElseIf,
}

enum Step {
    Node(Node),
    End(Close),
}

struct Parser<'a> {
    name: &'a str,
    items: Vec<Item>,
    next: usize,
    /// How many items have been looked at.
    seen: usize,
    functions: Functions,
    variables: Vec<String>,
    /// The line of the action that is being parsed; 0 outside.
    action_line: usize,
    range_depth: usize,
    nesting: usize,
    trees: Trees,
}

impl Parser<'_> {
    fn error<T>(&self, text: impl AsRef<str>) -> Result<T, String> {
        let line = self.items[self.seen.saturating_sub(1)].line;
        Err(format!("template: {}:{line}: {}", self.name, text.as_ref()))
    }

    /// The next item; the last one again and again.
    fn peek(&mut self) -> Item {
        let at = self.next.min(self.items.len() - 1);
        self.seen = self.seen.max(at + 1);
        self.items[at].clone()
    }

    fn take(&mut self) -> Item {
        let item = self.peek();
        self.next += 1;
        item
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
    }

    fn peek_non_space(&mut self) -> Item {
        self.skip_space();
        self.peek()
    }

    fn take_non_space(&mut self) -> Item {
        self.skip_space();
        self.take()
    }

    fn unexpected<T>(&self, item: &Item, context: &str) -> Result<T, String> {
        if item.kind != Kind::Error {
            return self.error(format!("unexpected {} in {context}", item.shown()));
        }
        if self.action_line == 0 || self.action_line == item.line {
            return self.error(&item.text);
        }
        let inside = if item.text.ends_with(" action") { "" } else { " in action" };
        let started = format!(" started at {}:{}", self.name, self.action_line);
        self.error(format!("{}{inside}{started}", item.text))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Item, String> {
        let item = self.take_non_space();
        if item.kind == kind { Ok(item) } else { self.unexpected(&item, context) }
    }

    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        if self.nesting == NESTING_MAX {
            return self.error(format!("nested too deeply: at most {NESTING_MAX} levels"));
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    fn main(&mut self) -> Result<(), String> {
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::Eof {
            let begin = self.next;
            if self.take().kind == Kind::LeftDelim && self.take_non_space().kind == Kind::Define {
                self.definition()?;
                continue;
            }
            self.next = begin;
            match self.text_or_action()? {
                Step::Node(node) => nodes.push(node),
                Step::End(end) => return self.error(format!("unexpected {}", end.shown())),
            }
        }
        self.add(self.name.as_bytes().to_vec(), nodes)
    }

    fn definition(&mut self) -> Result<(), String> {
        const CONTEXT: &str = "define clause";
        let item = self.take_non_space();
        let name = self.template_name(&item, CONTEXT)?;
        self.expect(Kind::RightDelim, CONTEXT)?;
        let nodes = self.tree(CONTEXT)?;
        self.add(name, nodes)
    }

    /// A tree of its own, with its own variables, up to its `{{end}}`.
    fn tree(&mut self, context: &str) -> Result<Vec<Node>, String> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.range_depth);
        let line = std::mem::take(&mut self.action_line);
        let (nodes, end) = self.deeper(Self::list)?;
        (self.variables, self.range_depth, self.action_line) = (outer, ranges, line);
        match end {
            Close::End => Ok(nodes),
            end => self.error(format!("unexpected {} in {context}", end.shown())),
        }
    }

    fn add(&mut self, name: Vec<u8>, nodes: Vec<Node>) -> Result<(), String> {
        match self.trees.get(&name) {
            Some(known) if !is_empty(known) => {
                if is_empty(&nodes) {
                    return Ok(());
                }
                let name = quote(&name, false);
                self.error(format!("template: multiple definition of template {name}"))
            }
            _ => {
                self.trees.insert(name, nodes);
                Ok(())
            }
        }
    }

    fn list(&mut self) -> Result<(Vec<Node>, Close), String> {
        let mut nodes = Vec::new();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                Step::Node(node) => nodes.push(node),
                Step::End(end) => return Ok((nodes, end)),
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Result<Step, String> {
        let item = self.take_non_space();
        match item.kind {
            Kind::Text => Ok(Step::Node(Node::Text(item.text))),
            Kind::LeftDelim => {
                self.action_line = item.line;
                let step = self.action();
                self.action_line = 0;
                step
            }
            _ => self.unexpected(&item, "input"),
        }
    }

    fn action(&mut self) -> Result<Step, String> {
        let item = self.take_non_space();
        let node = match item.kind {
            Kind::Block => self.block()?,
            Kind::Break => self.loop_control("{{break}}", Node::Break)?,
            Kind::Continue => self.loop_control("{{continue}}", Node::Continue)?,
            Kind::Else => return self.else_control(),
            Kind::End => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Step::End(Close::End));
            }
            Kind::If => Node::If(self.control("if")?),
            Kind::Range => Node::Range(self.control("range")?),
            Kind::Template => self.template()?,
            Kind::With => Node::With(self.control("with")?),
            _ => {
                self.next -= 1;
                Node::Action(self.pipeline("command", Kind::RightDelim)?)
            }
        };
        Ok(Step::Node(node))
    }

    fn loop_control(&mut self, context: &str, node: Node) -> Result<Node, String> {
        self.expect(Kind::RightDelim, context)?;
        match self.range_depth {
            0 => self.error(format!("{context} outside {{{{range}}}}")),
            _ => Ok(node),
        }
    }

    fn else_control(&mut self) -> Result<Step, String> {
        if self.peek_non_space().kind == Kind::If {
            return Ok(Step::End(Close::ElseIf));
        }
        self.expect(Kind::RightDelim, "else")?;
        Ok(Step::End(Close::Else))
    }

    fn control(&mut self, context: &str) -> Result<Branch, String> {
        self.deeper(|parser| {
            let variables = parser.variables.len();
            let branch = parser.branch(context)?;
            parser.variables.truncate(variables);
            Ok(branch)
        })
    }

    fn branch(&mut self, context: &str) -> Result<Branch, String> {
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let loops = usize::from(context == "range");
        self.range_depth += loops;
        let (then, end) = self.list()?;
        self.range_depth -= loops;
        let otherwise = match end {
            Close::End => None,
            Close::ElseIf if context == "if" => {
                self.take_non_space();
                // The `{{end}}` that the inner one takes ends both.
                Some(vec![Node::If(self.control("if")?)])
            }
            Close::Else | Close::ElseIf => {
                let (otherwise, end) = self.list()?;
                if end != Close::End {
                    return self.error(format!("expected end; found {}", end.shown()));
                }
                Some(otherwise)
            }
        };
        Ok(Branch { pipe, then, otherwise })
    }

    fn block(&mut self) -> Result<Node, String> {
        const CONTEXT: &str = "block clause";
        let item = self.take_non_space();
        let name = self.template_name(&item, CONTEXT)?;
        let pipe = self.pipeline(CONTEXT, Kind::RightDelim)?;
        let nodes = self.tree(CONTEXT)?;
        self.add(name.clone(), nodes)?;
        Ok(Node::Template { at: item.at, name, pipe: Some(pipe) })
    }

    fn template(&mut self) -> Result<Node, String> {
        const CONTEXT: &str = "template clause";
        let item = self.take_non_space();
        let name = self.template_name(&item, CONTEXT)?;
        let pipe = match self.take_non_space().kind {
            Kind::RightDelim => None,
            _ => {
                self.next -= 1;
                Some(self.pipeline(CONTEXT, Kind::RightDelim)?)
            }
        };
        Ok(Node::Template { at: item.at, name, pipe })
    }

    fn template_name(&mut self, item: &Item, context: &str) -> Result<Vec<u8>, String> {
        match item.kind {
            Kind::String | Kind::RawString => self.unquoted(&item.text),
            _ => self.unexpected(item, context),
        }
    }

    fn unquoted(&self, literal: &str) -> Result<Vec<u8>, String> {
        match text::unquote(literal) {
            Some(value) => Ok(value),
            None => self.error("invalid syntax"),
        }
    }

    /// The variables that a pipeline sets, and whether by `=`.
    fn declarations(&mut self, context: &str) -> Result<(Vec<String>, bool), String> {
        let mut variables = Vec::new();
        loop {
            let variable = self.peek_non_space();
            if variable.kind != Kind::Variable {
                return Ok((variables, false));
            }
            let begin = self.next;
            self.next += 1;
            let sign = self.peek_non_space();
            let assigns = sign.kind == Kind::Assign;
            let comma = sign.kind == Kind::Char && sign.text == ",";
            if !assigns && !comma && sign.kind != Kind::Declare {
                self.next = begin;
                return Ok((variables, false));
            }
            self.next += 1;
            self.variables.push(variable.text.clone());
            variables.push(variable.text);
            if !comma {
                return Ok((variables, assigns));
            }
            if context != "range" || variables.len() > 1 {
                return self.error(format!("too many declarations in {context}"));
            }
            let next = self.peek_non_space().kind;
            if !matches!(next, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                return self.error("range can only initialize variables");
            }
        }
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, String> {
        let at = self.peek_non_space().at;
        let (variables, assigns) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            let item = self.take_non_space();
            if item.kind == end {
                break;
            }
            if !begins_operand(item.kind) {
                return self.unexpected(&item, context);
            }
            self.next -= 1;
            commands.push(self.command()?);
        }
        if commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        let fixed = commands.iter().skip(1).position(|command| command.is_fixed());
        if let Some(stage) = fixed {
            return self.error(format!("non executable command in pipeline stage {}", stage + 2));
        }
        Ok(Pipe { at, variables, assigns, commands })
    }

    fn command(&mut self) -> Result<Command, String> {
        let at = self.peek_non_space().at;
        let mut words = Vec::new();
        loop {
            self.skip_space();
            words.extend(self.operand()?);
            let item = self.take();
            match item.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.next -= 1,
                Kind::Pipe => {}
                _ => return self.unexpected(&item, "operand"),
            }
            break;
        }
        match words.is_empty() {
            true => self.error("empty command"),
            false => Ok(Command { at, words }),
        }
    }

    /// A term and the fields behind it; `None` if there is none.
    fn operand(&mut self) -> Result<Option<Operand>, String> {
        let Some(operand) = self.term()? else { return Ok(None) };
        let chain = self.peek();
        if chain.kind != Kind::Field {
            return Ok(Some(operand));
        }
        let mut more = Vec::new();
        while self.peek().kind == Kind::Field {
            more.push(self.take().text[1..].to_owned());
        }
        // Go counts the column of such a chain from its second field.
        let at = chain.at;
        let term = match operand.term {
            Term::Field(mut fields) => {
                fields.extend(more);
                Term::Field(fields)
            }
            Term::Variable(name, mut fields) => {
                fields.extend(more);
                Term::Variable(name, fields)
            }
            Term::Bool(_) | Term::Text { .. } | Term::Number(_) | Term::Nil | Term::Dot => {
                let shown = quote(operand.to_string().as_bytes(), false);
                return self.error(format!("unexpected . after term {shown}"));
            }
            _ => Term::Chain(Box::new(operand), more),
        };
        Ok(Some(Operand { at, term }))
    }

    fn term(&mut self) -> Result<Option<Operand>, String> {
        let item = self.take_non_space();
        let term = match item.kind {
            Kind::Identifier => match Function::named(&item.text, self.functions) {
                Some(function) => Term::Function(function),
                None => {
                    let name = quote(item.text.as_bytes(), false);
                    return self.error(format!("function {name} not defined"));
                }
            },
            Kind::Dot => Term::Dot,
            Kind::Nil => Term::Nil,
            Kind::Variable if self.variables.contains(&item.text) => {
                Term::Variable(item.text, Vec::new())
            }
            Kind::Variable => {
                let name = quote(item.text.as_bytes(), false);
                return self.error(format!("undefined variable {name}"));
            }
            Kind::Field => Term::Field(vec![item.text[1..].to_owned()]),
            Kind::Bool => Term::Bool(item.text == "true"),
            Kind::CharConstant | Kind::Number => match number(&item) {
                Ok(number) => Term::Number(number),
                Err(error) => return self.error(error),
            },
            Kind::LeftParen => {
                let inside = |p: &mut Self| p.pipeline("parenthesized pipeline", Kind::RightParen);
                Term::Pipe(Box::new(self.deeper(inside)?))
            }
            Kind::String | Kind::RawString => {
                Term::Text { value: self.unquoted(&item.text)?, literal: item.text }
            }
            _ => {
                self.next -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Operand { at: item.at, term }))
    }
}

impl Close {
    fn shown(self) -> &'static str {
        match self {
            Close::End => "{{end}}",
            Close::Else | Close::ElseIf => "{{else}}",
        }
    }
}

impl Command {
    /// Whether it begins with what cannot take an argument.
    fn is_fixed(&self) -> bool {
        let term = self.words.first().map(|word| &word.term);
        matches!(
            term,
            Some(Term::Bool(_) | Term::Dot | Term::Nil | Term::Number(_) | Term::Text { .. })
        )
    }
}

fn begins_operand(kind: Kind) -> bool {
    use Kind::*;
    matches!(
        kind,
        Bool | CharConstant
            | Dot
            | Field
            | Identifier
            | Number
            | Nil
            | RawString
            | String
            | Variable
            | LeftParen
    )
}

/// Whether nodes are only white space: such a template may be defined again.
fn is_empty(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

/// A number or a character constant, by Go's rules for constants.
fn number(item: &Item) -> Result<Number, String> {
    let literal = item.text.clone();
    let bare = literal.trim_start_matches(['+', '-']);
    if let Some(inner) = literal.strip_prefix('\'') {
        let value = match text::unquote_char(inner, '\'') {
            None => return Err("invalid syntax".to_owned()),
            Some((_, rest)) if rest != "'" => {
                return Err(format!("malformed character constant: {literal}"));
            }
            Some((Unit::Char(c), _)) => i64::from(u32::from(c)),
            Some((Unit::Byte(byte), _)) => i64::from(byte),
        };
        return Ok(Number { literal, value: NumberValue::Int(value), integer: Some(value) });
    }
    let integer = parse_integer(&literal);
    let looks_float = !is_hex(bare) && literal.contains(['.', 'e', 'E'])
        || is_hex(bare) && literal.contains(['p', 'P']);
    if let Some(value) = integer {
        let small = i64::try_from(value).ok();
        let value = small.map_or(NumberValue::Overflow, NumberValue::Int);
        return Ok(Number { literal, value, integer: small });
    }
    let quoted = quote(literal.as_bytes(), false);
    match parse_float(&literal) {
        Some(value) if looks_float => {
            let whole = value as i64;
            let integer = (whole as f64 == value).then_some(whole);
            Ok(Number { literal, value: NumberValue::Float(value), integer })
        }
        Some(_) => Err(format!("integer overflow: {quoted}")),
        None => Err(format!("illegal number syntax: {quoted}")),
    }
}

fn is_hex(bare: &str) -> bool {
    bare.starts_with("0x") || bare.starts_with("0X")
}

/// An integer as Go writes them: `0x`, `0o`, `0b` or a leading zero set the base, underscores may
/// stand between digits. Up to the largest `uint64`.
fn parse_integer(literal: &str) -> Option<i128> {
    let (negative, bare) = match literal.strip_prefix('-') {
        Some(bare) => (true, bare),
        None => (false, literal.strip_prefix('+').unwrap_or(literal)),
    };
    let lower = bare.to_ascii_lowercase();
    let (radix, digits, prefixed) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..], true),
        Some("0o") => (8, &lower[2..], true),
        Some("0b") => (2, &lower[2..], true),
        Some(two) if two.starts_with('0') => (8, &lower[1..], true),
        _ => (10, &lower[..], false),
    };
    let digits = without_underscores(digits, prefixed)?;
    let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    let value = all.then(|| i128::from_str_radix(&digits, radix).ok()).flatten()?;
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// The digits without the underscores between them; `None` if one is elsewhere.
fn without_underscores(digits: &str, may_begin: bool) -> Option<String> {
    let bad =
        digits.contains("__") || digits.ends_with('_') || digits.starts_with('_') && !may_begin;
    (!bad).then(|| digits.replace('_', ""))
}

/// A decimal or hexadecimal floating-point number. Underscores are for integers with a base
/// prefix and are refused here, as by Go.
fn parse_float(literal: &str) -> Option<f64> {
    let bare = literal.trim_start_matches(['+', '-']);
    if is_hex(bare) {
        return parse_hex_float(literal.starts_with('-'), &bare[2..]);
    }
    let valid = bare.contains(|c: char| c.is_ascii_digit())
        && bare.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let value: f64 = valid.then(|| literal.parse().ok()).flatten()?;
    value.is_finite().then_some(value)
}

/// `1.8p3` of `0x1.8p3`; the exponent must be there.
fn parse_hex_float(negative: bool, text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    // 13 digits are 52 bits: exact in a float.
    if digits.is_empty() || digits.len() > 13 || fraction.len() > 13 {
        return None;
    }
    let mantissa = u64::from_str_radix(&digits, 16).ok()? as f64;
    let shift = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    let value = mantissa * f64::from(shift.clamp(-1100, 1100)).exp2();
    value.is_finite().then_some(if negative { -value } else { value })
}
