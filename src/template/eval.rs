//! Runs a parsed template; Go's `text/template` evaluator, with its error texts.
//!
//! Pure and bounded: work, depth and output have limits, so that a mistake in a template costs an
//! error and not the program. The same code folds a template when there is no line yet: text of
//! the line that is only passed through becomes a [`Part`] of the output, and whatever else would
//! need the line stops with [`Stop::NeedsLine`].

use std::borrow::Cow;
use std::fmt;

use super::ast::{Branch, Call, Command, Node, NumberValue, Operand, Pipe, Term};
use super::functions::{self, Arity, Failure, Function};
use super::json;
use super::methods::{self, Method, Parameter};
use super::moment::{TIME_JSON, TIME_RFC3339, TIME_STRING};
use super::print;
use super::text::quote;
use super::value::{Object, Value};
use super::{Context, DEPTH_MAX, Dot, Error, Inner, Line, OUTPUT_MAX, Part, WORK_MAX};

/// Why an evaluation went no further.
pub(super) enum Stop {
    /// A mistake in the template, or a limit.
    Error(Error),
    /// It depends on a line, and there is none.
    NeedsLine,
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
}

type Evaluated<T> = Result<T, Stop>;

/// Where output goes.
pub(super) struct Output<'o> {
    pub bytes: &'o mut Vec<u8>,
    /// How long it was before.
    begin: usize,
    /// Where in the bytes text of the line belongs, in order.
    pub parts: Vec<(usize, Part)>,
}

impl<'o> Output<'o> {
    pub(super) fn new(bytes: &'o mut Vec<u8>) -> Output<'o> {
        let begin = bytes.len();
        Output { bytes, begin, parts: Vec::new() }
    }
}

/// What was looked at last: errors name it.
#[derive(Clone, Copy)]
enum At<'a> {
    Begin,
    Pipe(&'a Pipe),
    Command(&'a Command),
    Operand(&'a Operand),
    Template { at: usize, name: &'a [u8], pipe: Option<&'a Pipe> },
}

impl At<'_> {
    fn position(&self) -> usize {
        match self {
            At::Begin => 0,
            At::Pipe(pipe) => pipe.at,
            At::Command(command) => command.at,
            At::Operand(operand) => operand.at,
            At::Template { at, .. } => *at,
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Begin => Ok(()),
            At::Pipe(pipe) => pipe.fmt(f),
            At::Command(command) => command.fmt(f),
            At::Operand(operand) => operand.fmt(f),
            At::Template { name, pipe, .. } => Call { name, pipe: *pipe }.fmt(f),
        }
    }
}

/// One run of a template.
pub(super) struct Eval<'a, 'o> {
    template: &'a Inner,
    context: &'a Context,
    line: Option<Line<'a>>,
    pub output: Output<'o>,
    /// The template that runs: the one asked for, or one that it calls.
    name: &'a [u8],
    variables: Vec<(&'a str, Value<'a>)>,
    /// That of the template's own tree.
    dot: Value<'a>,
    /// While folding: the layouts of [`Part::Time`].
    pub layouts: Vec<Vec<u8>>,
    at: At<'a>,
    work: usize,
    depth: usize,
}

impl<'a, 'o> Eval<'a, 'o> {
    /// An evaluation whose dot is what `context` says. Without a line it folds.
    pub(super) fn new(
        template: &'a Inner,
        context: &'a Context,
        line: Option<Line<'a>>,
        out: &'o mut Vec<u8>,
    ) -> Eval<'a, 'o> {
        let dot = match &context.dot {
            Dot::Raw => Value::Object(Object::Message),
            Dot::Syslog { .. } => Value::Object(Object::Syslog),
            Dot::Slack { .. } => Value::Object(Object::Slack),
            Dot::Webhook { .. } => Value::Object(Object::Webhook),
            Dot::Value => match Value::any(&context.document) {
                Value::Nil => Value::None,
                value => value,
            },
        };
        Eval {
            template,
            context,
            line,
            output: Output::new(out),
            name: template.name.as_bytes(),
            variables: vec![("$", dot.clone())],
            dot,
            layouts: Vec::new(),
            at: At::Begin,
            work: 0,
            depth: 0,
        }
    }

    /// Runs nodes of the template's own tree, on its dot.
    pub(super) fn run(&mut self, nodes: &'a [Node]) -> Evaluated<()> {
        let dot = self.dot.clone();
        self.list(nodes, &dot)
    }

    /// Forgets what an evaluation that was given up left behind.
    pub(super) fn reset(&mut self) {
        self.variables.truncate(1);
        self.depth = 0;
    }

    fn error<T>(&self, text: impl fmt::Display) -> Evaluated<T> {
        Err(Stop::Error(Error::new(self.located(text))))
    }

    fn limit<T>(&self, text: impl fmt::Display) -> Evaluated<T> {
        Err(Stop::Error(Error::limit(self.located(text))))
    }

    /// A text with the place where the evaluation is.
    fn located(&self, text: impl fmt::Display) -> String {
        let name = &self.template.name;
        let before = self.template.text.get(..self.at.position()).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = before.rfind('\n').map_or(before.len(), |at| before.len() - at - 1);
        let running = quote(self.name, false);
        let at = self.at;
        format!("template: {name}:{line}:{column}: executing {running} at <{at}>: {text}")
    }

    /// Counts steps, and bytes that are looked at.
    fn spend(&mut self, bytes: usize) -> Evaluated<()> {
        self.work += 1 + bytes / 64;
        if self.work > WORK_MAX {
            return self.limit(format!("too much work for one line (limit {WORK_MAX})"));
        }
        Ok(())
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Evaluated<T>) -> Evaluated<T> {
        if self.depth == DEPTH_MAX {
            return self.limit(format!("exceeded maximum template depth ({DEPTH_MAX})"));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn put(&mut self, text: &[u8]) -> Evaluated<()> {
        self.spend(text.len())?;
        if self.output.bytes.len() - self.output.begin + text.len() > OUTPUT_MAX {
            return self.too_long();
        }
        self.output.bytes.extend_from_slice(text);
        Ok(())
    }

    fn too_long<T>(&self) -> Evaluated<T> {
        self.limit(format!("more than {OUTPUT_MAX} bytes of output"))
    }

    fn list(&mut self, nodes: &'a [Node], dot: &Value<'a>) -> Evaluated<()> {
        self.deeper(|eval| nodes.iter().try_for_each(|node| eval.node(node, dot)))
    }

    fn node(&mut self, node: &'a Node, dot: &Value<'a>) -> Evaluated<()> {
        self.spend(0)?;
        match node {
            Node::Text(text) => self.put(text.as_bytes()),
            Node::Action(pipe) => {
                let value = self.pipeline(pipe, dot)?;
                if pipe.variables.is_empty() { self.print(pipe, &value) } else { Ok(()) }
            }
            Node::If(branch) => self.scoped(|eval| {
                let value = eval.pipeline(&branch.pipe, dot)?;
                let chosen = eval.choose(branch, &value)?;
                eval.list(chosen, dot)
            }),
            Node::With(branch) => self.scoped(|eval| {
                let value = eval.pipeline(&branch.pipe, dot)?;
                let chosen = eval.choose(branch, &value)?;
                let dot = if value.is_true() { &value } else { dot };
                eval.list(chosen, dot)
            }),
            Node::Range(branch) => self.scoped(|eval| eval.range(branch, dot)),
            Node::Template { at, name, pipe } => self.template(*at, name, pipe.as_ref(), dot),
            Node::Break => Err(Stop::Break),
            Node::Continue => Err(Stop::Continue),
        }
    }

    /// Variables that are declared inside end there.
    fn scoped<T>(&mut self, run: impl FnOnce(&mut Self) -> Evaluated<T>) -> Evaluated<T> {
        let mark = self.variables.len();
        let result = run(self);
        self.variables.truncate(mark);
        result
    }

    fn choose(&self, branch: &'a Branch, value: &Value<'a>) -> Evaluated<&'a [Node]> {
        let otherwise = || branch.otherwise.as_deref().unwrap_or_default();
        Ok(if known(value)?.is_true() { &branch.then } else { otherwise() })
    }

    fn print(&mut self, pipe: &'a Pipe, value: &Value<'a>) -> Evaluated<()> {
        match value {
            Value::Part(part) => {
                self.output.parts.push((self.output.bytes.len(), *part));
                self.spend(0)
            }
            Value::LineTime => {
                let part = self.time_part(TIME_STRING);
                self.output.parts.push((self.output.bytes.len(), part));
                self.spend(0)
            }
            Value::Text(text) => self.put(text),
            Value::Object(object) => {
                self.at = At::Pipe(pipe);
                self.error(format!("can't print {pipe} of type {}", object.type_name()))
            }
            value => {
                let mut text = Vec::new();
                match print::value(value, &mut text) {
                    Ok(()) => self.put(&text),
                    Err(_) => self.too_long(),
                }
            }
        }
    }

    /// The line's time in a layout, as a part of the output.
    fn time_part(&mut self, layout: &[u8]) -> Part {
        if layout == TIME_RFC3339 {
            return Part::Timestamp;
        }
        self.layouts.push(layout.to_vec());
        Part::Time(self.layouts.len() - 1)
    }

    fn range(&mut self, branch: &'a Branch, dot: &Value<'a>) -> Evaluated<()> {
        let value = self.pipeline(&branch.pipe, dot)?;
        let looped = match known(&value)? {
            Value::List(list) => {
                for (at, element) in list.iter().enumerate() {
                    if !self.round(branch, Value::int(at as i64), element)? {
                        break;
                    }
                }
                list.len() > 0
            }
            Value::Map(map) => {
                for (key, element) in map.iter() {
                    if !self.round(branch, map.key(key), element)? {
                        break;
                    }
                }
                map.len() > 0
            }
            Value::None | Value::Nil => false,
            other => {
                let shown = print::sprint(std::slice::from_ref(other)).unwrap_or_default();
                let shown = String::from_utf8_lossy(&shown).into_owned();
                return self.error(format!("range can't iterate over {shown}"));
            }
        };
        match &branch.otherwise {
            Some(nodes) if !looped => self.list(nodes, dot),
            _ => Ok(()),
        }
    }

    /// One turn of a range; whether there is to be another.
    fn round(&mut self, branch: &'a Branch, key: Value<'a>, element: Value<'a>) -> Evaluated<bool> {
        let pipe = &branch.pipe;
        let values = match pipe.variables.len() {
            2 => vec![key, element.clone()],
            len => vec![element.clone(); len],
        };
        for (name, value) in pipe.variables.iter().zip(values) {
            self.set(name, value)?;
        }
        match self.scoped(|eval| eval.list(&branch.then, &element)) {
            Ok(()) | Err(Stop::Continue) => Ok(true),
            Err(Stop::Break) => Ok(false),
            Err(stop) => Err(stop),
        }
    }

    fn template(
        &mut self,
        at: usize,
        name: &'a [u8],
        pipe: Option<&'a Pipe>,
        dot: &Value<'a>,
    ) -> Evaluated<()> {
        self.at = At::Template { at, name, pipe };
        let Some(nodes) = self.template.trees.get(name) else {
            return self.error(format!("template {} not defined", quote(name, false)));
        };
        let dot = match pipe {
            Some(pipe) => self.pipeline(pipe, dot)?,
            None => Value::None,
        };
        let outer = (self.name, std::mem::replace(&mut self.variables, vec![("$", dot.clone())]));
        self.name = name;
        let result = self.list(nodes, &dot);
        (self.name, self.variables) = outer;
        result
    }

    /// The value of a pipeline; its variables are set.
    fn pipeline(&mut self, pipe: &'a Pipe, dot: &Value<'a>) -> Evaluated<Value<'a>> {
        self.deeper(|eval| {
            eval.at = At::Pipe(pipe);
            let mut value = None;
            for command in &pipe.commands {
                let result = eval.command(command, dot, value)?;
                // An interface is opened: one that holds nothing leaves nothing.
                value = Some(if result.is_nothing() { Value::None } else { result });
            }
            let value = value.unwrap_or(Value::None);
            for name in &pipe.variables {
                match pipe.assigns {
                    true => eval.set(name, value.clone())?,
                    false => eval.variables.push((name, value.clone())),
                }
            }
            Ok(value)
        })
    }

    /// Sets the innermost variable of that name.
    fn set(&mut self, name: &str, value: Value<'a>) -> Evaluated<()> {
        match self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            Some((_, old)) => {
                *old = value;
                Ok(())
            }
            None => self.error(format!("undefined variable: {name}")),
        }
    }

    fn variable(&mut self, name: &str) -> Evaluated<Value<'a>> {
        match self.variables.iter().rev().find(|(known, _)| *known == name) {
            Some((_, value)) => {
                let value = value.clone();
                self.spend(value.bytes().map_or(0, <[u8]>::len))?;
                Ok(value)
            }
            None => self.error(format!("undefined variable: {name}")),
        }
    }

    /// `last` is the value of the command before in the pipeline.
    fn command(
        &mut self,
        command: &'a Command,
        dot: &Value<'a>,
        last: Option<Value<'a>>,
    ) -> Evaluated<Value<'a>> {
        self.spend(0)?;
        let Some((first, args)) = command.words.split_first() else { return Ok(Value::None) };
        match &first.term {
            Term::Field(fields) => {
                self.at = At::Operand(first);
                self.fields(dot.clone(), fields, first, args, last, dot)
            }
            Term::Chain(inner, fields) => self.chain(inner, fields, first, args, last, dot),
            Term::Function(function) => self.function(*function, first, command, args, last, dot),
            Term::Pipe(pipe) => {
                self.not_a_function(command, last.as_ref())?;
                self.pipeline(pipe, dot)
            }
            Term::Variable(name, fields) => {
                self.at = At::Operand(first);
                let value = self.variable(name)?;
                if fields.is_empty() {
                    self.not_a_function(command, last.as_ref())?;
                    return Ok(value);
                }
                self.fields(value, fields, first, args, last, dot)
            }
            _ => {
                self.at = At::Operand(first);
                self.not_a_function(command, last.as_ref())?;
                match &first.term {
                    Term::Dot => Ok(dot.clone()),
                    Term::Nil => self.error("nil is not a command"),
                    _ => self.constant(first),
                }
            }
        }
    }

    fn not_a_function(&self, command: &Command, last: Option<&Value<'a>>) -> Evaluated<()> {
        match command.words.first() {
            Some(first) if command.words.len() > 1 || last.is_some() => {
                self.error(format!("can't give argument to non-function {first}"))
            }
            _ => Ok(()),
        }
    }

    fn constant(&self, operand: &'a Operand) -> Evaluated<Value<'a>> {
        Ok(match &operand.term {
            Term::Bool(value) => Value::Bool(*value),
            Term::Text { value, .. } => Value::Text(Cow::Borrowed(value)),
            Term::Number(number) => match number.value {
                NumberValue::Int(value) => Value::int(value),
                NumberValue::Float(value) => Value::Float(value),
                NumberValue::Overflow => {
                    return self.error(format!("{} overflows int", number.literal));
                }
            },
            _ => return self.error(format!("can't evaluate command {operand}")),
        })
    }

    fn chain(
        &mut self,
        inner: &'a Operand,
        fields: &'a [String],
        whole: &'a Operand,
        args: &'a [Operand],
        last: Option<Value<'a>>,
        dot: &Value<'a>,
    ) -> Evaluated<Value<'a>> {
        self.at = At::Operand(whole);
        let value = self.argument(inner, dot, Parameter::Any)?;
        self.fields(value, fields, whole, args, last, dot)
    }

    /// Field after field; the last one gets the arguments.
    fn fields(
        &mut self,
        receiver: Value<'a>,
        fields: &'a [String],
        whole: &'a Operand,
        args: &'a [Operand],
        last: Option<Value<'a>>,
        dot: &Value<'a>,
    ) -> Evaluated<Value<'a>> {
        let Some((name, before)) = fields.split_last() else { return Ok(receiver) };
        let (mut value, mut any) = (receiver, false);
        for name in before {
            (value, any) = self.field(value, any, name, whole, &[], None, dot)?;
        }
        Ok(self.field(value, any, name, whole, args, last, dot)?.0)
    }

    /// A field, method or key of a value, and whether its type is an interface. `any`: whether
    /// that of the receiver is.
    #[allow(clippy::too_many_arguments)]
    fn field(
        &mut self,
        receiver: Value<'a>,
        any: bool,
        name: &'a str,
        whole: &'a Operand,
        args: &'a [Operand],
        last: Option<Value<'a>>,
        dot: &Value<'a>,
    ) -> Evaluated<(Value<'a>, bool)> {
        self.spend(0)?;
        let type_name = |value: &Value<'a>| match any {
            true => Cow::Borrowed("interface {}"),
            false => value.type_name(),
        };
        if let Value::None = receiver {
            return Ok((Value::None, false));
        }
        if let Value::Nil = receiver {
            return self.error(format!("nil pointer evaluating interface {{}}.{name}"));
        }
        if let Some(method) = Method::of(&receiver, name) {
            return Ok((self.method(method, receiver, name, whole, args, last, dot)?, false));
        }
        let has_args = !args.is_empty() || last.is_some();
        let found = match &receiver {
            Value::Object(object) => self.member(*object, name),
            Value::Struct(fields) => fields.get(name),
            Value::Map(map) if map.key_type() == "string" => {
                if has_args {
                    return self.error(format!("{name} is not a method but has arguments"));
                }
                return Ok((map.get(name).unwrap_or(Value::None), map.is_of_any()));
            }
            Value::NilPointer(super::schema::Type::Struct(ty)) => {
                if ty.fields.iter().any(|field| field.name == name) {
                    let of = type_name(&receiver);
                    return self.error(format!("nil pointer evaluating {of}.{name}"));
                }
                None
            }
            _ => None,
        };
        match found {
            Some(_) if has_args => {
                self.error(format!("{name} has arguments but cannot be invoked as function"))
            }
            Some(value) => Ok((value, false)),
            None => {
                let of = type_name(&receiver);
                self.error(format!("can't evaluate field {name} in type {of}"))
            }
        }
    }

    /// A field of what a sink's template is about.
    fn member(&self, object: Object, name: &str) -> Option<Value<'a>> {
        match (object, name) {
            (Object::Message, "Message") => None,
            (_, "Message") => Some(Value::Object(Object::Message)),
            (Object::Slack | Object::Webhook, "Env") => match &self.context.dot {
                Dot::Slack { env } | Dot::Webhook { env, .. } => Some(Value::env(env)),
                _ => None,
            },
            (Object::Slack, _) => None,
            (Object::Webhook, name) => match &self.context.dot {
                Dot::Webhook { summary, .. } => summary.member(name),
                _ => None,
            },
            (_, "Container") => Some(self.context.container()),
            (_, "Source") => Some(Value::text(self.context.source)),
            (_, "Data") => Some(match self.line {
                Some(line) => Value::Text(Cow::Borrowed(line.data)),
                None => Value::Part(Part::Data),
            }),
            (_, "Time") => Some(match self.line {
                Some(line) => Value::Time(line.time),
                None => Value::LineTime,
            }),
            _ => None,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn method(
        &mut self,
        method: Method,
        receiver: Value<'a>,
        name: &str,
        whole: &'a Operand,
        args: &'a [Operand],
        last: Option<Value<'a>>,
        dot: &Value<'a>,
    ) -> Evaluated<Value<'a>> {
        let parameters = method.parameters();
        let got = args.len() + usize::from(last.is_some());
        if got != parameters.len() {
            let want = parameters.len();
            return self.error(format!("wrong number of args for {name}: want {want} got {got}"));
        }
        let mut values = Vec::with_capacity(parameters.len());
        for (arg, parameter) in args.iter().zip(parameters) {
            values.push(self.argument(arg, dot, *parameter)?);
        }
        if let (Some(last), Some(parameter)) = (last, parameters.last()) {
            values.push(self.fitting(last, *parameter)?);
        }
        if let Value::LineTime = receiver {
            return match (method, &values[..]) {
                (Method::FORMAT, [Value::Text(layout)]) => Ok(Value::Part(self.time_part(layout))),
                _ => Err(Stop::NeedsLine),
            };
        }
        values.iter().try_for_each(|value| known(value).map(|_| ()))?;
        match methods::call(method, &receiver, &values, self.context, self.line) {
            Ok(value) => Ok(value),
            Err(text) => {
                self.at = At::Operand(whole);
                self.error(format!("error calling {name}: {text}"))
            }
        }
    }

    fn function(
        &mut self,
        function: Function,
        word: &'a Operand,
        command: &'a Command,
        args: &'a [Operand],
        last: Option<Value<'a>>,
        dot: &Value<'a>,
    ) -> Evaluated<Value<'a>> {
        self.at = At::Operand(word);
        let name = function.name();
        let got = args.len() + usize::from(last.is_some());
        match function.arity() {
            Arity::Exactly(want) if got != want => {
                return self
                    .error(format!("wrong number of args for {name}: want {want} got {got}"));
            }
            Arity::AtLeast(want) if got < want => {
                let got = args.len();
                return self.error(format!(
                    "wrong number of args for {name}: want at least {want} got {got}"
                ));
            }
            _ => {}
        }
        if let Function::And | Function::Or = function {
            return self.and_or(function, args, last, dot);
        }
        let mut values = Vec::with_capacity(got);
        let parameter = |at: usize| match function {
            Function::Printf if at == 0 => Parameter::Text,
            _ => Parameter::Any,
        };
        for (at, arg) in args.iter().enumerate() {
            values.push(self.argument(arg, dot, parameter(at))?);
        }
        if let Some(last) = last {
            values.push(self.fitting(last, parameter(args.len()))?);
        }
        if let [Value::Part(part)] = values[..]
            && let Some(passed) = part.through(function)
        {
            return Ok(Value::Part(passed));
        }
        if let (Function::ToJson, [Value::LineTime]) = (function, &values[..]) {
            return Ok(Value::Part(self.time_part(TIME_JSON)));
        }
        if let (Function::ToJson, [Value::Object(object)]) = (function, &values[..]) {
            return self.object_json(*object);
        }
        for value in &values {
            self.spend(functions::weight(known(value)?))?;
        }
        match functions::call(function, &values) {
            Ok(value) => {
                self.spend(functions::weight(&value))?;
                Ok(value)
            }
            Err(Failure::Overflow) => self.too_long(),
            Err(Failure::Error(text)) => {
                self.at = At::Command(command);
                self.error(format!("error calling {name}: {text}"))
            }
        }
    }

    /// Arguments from the left, until one decides.
    fn and_or(
        &mut self,
        function: Function,
        args: &'a [Operand],
        last: Option<Value<'a>>,
        dot: &Value<'a>,
    ) -> Evaluated<Value<'a>> {
        let decides = function == Function::Or;
        let mut value = Value::None;
        for arg in args {
            value = self.argument(arg, dot, Parameter::Any)?;
            if known(&value)?.is_true() == decides {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// The JSON of a whole message or context.
    fn object_json(&mut self, object: Object) -> Evaluated<Value<'a>> {
        if self.line.is_none() {
            return Err(Stop::NeedsLine);
        }
        let names: &[&'static str] = match object {
            Object::Message | Object::Syslog => &["Container", "Source", "Data", "Time"],
            Object::Slack => &["Env"],
            Object::Webhook => &["Env", "Count", "More", "Lines", "Text"],
        };
        let members = names.iter().filter_map(|name| Some((*name, self.member(object, name)?)));
        let mut out = Vec::new();
        match json::members(members, &mut out) {
            Ok(()) => {
                self.spend(out.len())?;
                Ok(Value::owned(out))
            }
            Err(_) => self.too_long(),
        }
    }

    /// An argument, as a parameter wants it.
    fn argument(
        &mut self,
        arg: &'a Operand,
        dot: &Value<'a>,
        parameter: Parameter,
    ) -> Evaluated<Value<'a>> {
        self.spend(0)?;
        self.at = At::Operand(arg);
        let value = match &arg.term {
            Term::Dot => dot.clone(),
            Term::Nil if parameter == Parameter::Any => return Ok(Value::None),
            Term::Nil => {
                return self.error(format!("cannot assign nil to {}", parameter.type_name()));
            }
            Term::Field(fields) => self.fields(dot.clone(), fields, arg, &[], None, dot)?,
            Term::Variable(name, fields) => {
                let value = self.variable(name)?;
                self.fields(value, fields, arg, &[], None, dot)?
            }
            Term::Pipe(pipe) => {
                self.at = At::Pipe(pipe);
                self.pipeline(pipe, dot)?
            }
            Term::Function(function) => self.bare_function(*function, arg)?,
            Term::Chain(inner, fields) => self.chain(inner, fields, arg, &[], None, dot)?,
            Term::Bool(_) | Term::Number(_) | Term::Text { .. } => {
                return self.literal(arg, parameter);
            }
        };
        self.fitting(value, parameter)
    }

    /// A function without arguments, as an argument.
    fn bare_function(&mut self, function: Function, arg: &'a Operand) -> Evaluated<Value<'a>> {
        let name = function.name();
        self.at = At::Operand(arg);
        match function.arity() {
            Arity::Exactly(want) => {
                self.error(format!("wrong number of args for {name}: want {want} got 0"))
            }
            Arity::AtLeast(want) if want > 0 => {
                self.error(format!("wrong number of args for {name}: want at least {want} got 0"))
            }
            Arity::AtLeast(_) => match functions::call(function, &[]) {
                Ok(value) => Ok(value),
                Err(_) => self.too_long(),
            },
        }
    }

    fn literal(&self, arg: &'a Operand, parameter: Parameter) -> Evaluated<Value<'a>> {
        match (parameter, &arg.term) {
            (Parameter::Int, Term::Number(number)) if number.integer.is_some() => {
                Ok(Value::int(number.integer.unwrap_or_default()))
            }
            (Parameter::Any, _) | (Parameter::Text, Term::Text { .. }) => self.constant(arg),
            (Parameter::Int, _) => self.error(format!("expected integer; found {arg}")),
            (Parameter::Text, _) => self.error(format!("expected string; found {arg}")),
            (Parameter::Time, _) => {
                self.error(format!("can't handle {arg} for arg of type time.Time"))
            }
        }
    }

    /// The value, if its type is the parameter's.
    fn fitting(&self, value: Value<'a>, parameter: Parameter) -> Evaluated<Value<'a>> {
        let fits = match parameter {
            Parameter::Any => true,
            Parameter::Text => matches!(value, Value::Text(_) | Value::Part(_)),
            Parameter::Int => matches!(value, Value::Int(_, "int")),
            Parameter::Time => matches!(value, Value::Time(_) | Value::LineTime),
        };
        if fits {
            return Ok(value);
        }
        let wanted = parameter.type_name();
        match value {
            Value::None => self.error(format!("invalid value; expected {wanted}")),
            Value::Nil => {
                self.error(format!("wrong type for value; expected {wanted}; got interface {{}}"))
            }
            value => self.error(format!(
                "wrong type for value; expected {wanted}; got {}",
                value.type_name()
            )),
        }
    }
}

/// The value, unless it will only be known with the line.
fn known<'v, 'a>(value: &'v Value<'a>) -> Evaluated<&'v Value<'a>> {
    match value {
        Value::Part(_) | Value::LineTime => Err(Stop::NeedsLine),
        value => Ok(value),
    }
}
