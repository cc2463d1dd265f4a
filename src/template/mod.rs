//! Go's `text/template`, as far as users of Logspout and its Slack adapter write templates.
//!
//! Pure: a base module that knows no stage. A template is compiled once, when settings are read
//! ([`Template::compile`]). Per container and source it is folded ([`Template::bind`]): whatever
//! does not depend on the line is evaluated there and then, so that per line most templates are a
//! copy of constant text around the line ([`Bound::render`]). What remains is evaluated per line.
//!
//! Syntax, values and error texts are those of Go 1.19, recorded in `tests/conformance/`. Where a
//! template has no `{{` at all, `%{.Data}` means `{{.Data}}`: Compose and Swarm expand `{{ }}`
//! themselves.
//!
//! Work, depth and output of one evaluation are bounded; exceeding a bound is an error like any
//! other.

mod ast;
mod eval;
mod functions;
mod json;
mod lex;
mod methods;
mod moment;
mod parse;
mod print;
mod schema;
mod text;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::stamp::Stamp;
use ast::Node;
use eval::{Eval, Stop};
use functions::Function;
pub use functions::Functions;
pub use json::escape as escape_json;
pub use methods::Place;
pub use moment::Moment;
use parse::Trees;
use value::Value;

/// The most that one evaluation may write, in bytes.
pub const OUTPUT_MAX: usize = 16 << 20;
/// The most that one evaluation may do: steps, and blocks of 64 bytes looked at or written.
pub const WORK_MAX: usize = 500_000;
/// The longest `.Timestamp`: RFC 3339 with an offset.
const TIMESTAMP_MAX: usize = "2006-01-02T15:04:05+07:00".len();
/// How deep templates, control structures and parentheses may nest while a template runs.
pub const DEPTH_MAX: usize = 150;

/// A template, parsed. Cheap to clone.
#[derive(Clone)]
pub struct Template {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    text: String,
    trees: Trees,
}

impl Inner {
    fn nodes(&self) -> &[Node] {
        self.trees.get(self.name.as_bytes()).map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.inner.text).finish()
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.inner.name == other.inner.name && self.inner.text == other.inner.text
    }
}

impl Eq for Template {}

/// What is wrong with a template, in Go's words: `template: NAME:LINE:COLUMN: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    text: Box<str>,
    limit: bool,
}

impl Error {
    fn new(text: String) -> Error {
        Error { text: text.into(), limit: false }
    }

    fn limit(text: String) -> Error {
        Error { text: text.into(), limit: true }
    }

    fn too_long() -> Error {
        Error::limit(format!("template: more than {OUTPUT_MAX} bytes of output"))
    }

    /// The same without what it quotes of the template: for one that may hold a secret.
    pub fn unquoted(self) -> Error {
        let Some((place, _)) =
            self.text.strip_prefix("template: ").and_then(|t| t.split_once(": "))
        else {
            return self;
        };
        let text = format!("template: {place}: a mistake (not shown: it may hold a secret)");
        Error { text: text.into(), limit: self.limit }
    }

    /// Whether it is a limit that was met ([`OUTPUT_MAX`], [`WORK_MAX`], [`DEPTH_MAX`]).
    pub fn is_limit(&self) -> bool {
        self.limit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// What a template sees besides the line: a container, the source of the line, and what its sink
/// adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    dot: Dot,
    /// The answer to `GET /containers/{id}/json`; for [`Context::value`] the dot.
    document: Arc<Json>,
    /// `stdout`, `stderr`, `stats` or `events`.
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Dot {
    Raw,
    Syslog { hostname: Arc<str> },
    Slack { env: Arc<BTreeMap<String, String>> },
    Webhook { env: Arc<BTreeMap<String, String>>, summary: Summary },
    Value,
}

/// The lines that a message of a webhook stands for, all of one container and source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// `.Count`: how many there are.
    pub count: u64,
    /// `.More`: how many of them are in none of `lines`.
    pub more: u64,
    /// `.Lines`: the first ones, equal ones once.
    pub lines: Vec<String>,
    /// `.Text`: these as one text, with what is only counted.
    pub text: String,
}

impl Context {
    /// For `RAW_FORMAT`: `.Container`, `.Source`, `.Data` and `.Time`, and, beyond Logspout, where
    /// the container belongs: `.Service`, `.Task`, `.Node` and `.Stack`, of Swarm's labels or
    /// Compose's, empty where there are none.
    ///
    /// `container` is the answer to `GET /containers/{id}/json`, `source` the name of a source.
    pub fn raw(container: Arc<Json>, source: &'static str) -> Context {
        Context { dot: Dot::Raw, document: container, source }
    }

    /// For `SYSLOG_*`: as [`Context::raw`], the same again under `.Message`, and the methods
    /// `.Priority`, `.Timestamp`, `.Hostname` (which gives `hostname`), `.ContainerName` and
    /// `.ContainerNameSplitN SEPARATOR COUNT`.
    pub fn syslog(container: Arc<Json>, source: &'static str, hostname: &str) -> Context {
        Context { dot: Dot::Syslog { hostname: hostname.into() }, document: container, source }
    }

    /// For `SLACK_*`: what [`Context::raw`] has under `.Message`, and `.Env`.
    pub fn slack(
        container: Arc<Json>,
        source: &'static str,
        env: Arc<BTreeMap<String, String>>,
    ) -> Context {
        Context { dot: Dot::Slack { env }, document: container, source }
    }

    /// For `WEBHOOK_BODY`, which is filled in once a message: as [`Context::slack`], its `.Message`
    /// being of the first line, and `.Count`, `.More`, `.Lines` and `.Text` of all.
    pub fn webhook(
        container: Arc<Json>,
        source: &'static str,
        env: Arc<BTreeMap<String, String>>,
        summary: Summary,
    ) -> Context {
        Context { dot: Dot::Webhook { env, summary }, document: container, source }
    }

    /// Any JSON: whole numbers without a point are `int`, others `float64`.
    pub fn value(value: Arc<Json>) -> Context {
        Context { dot: Dot::Value, document: value, source: "" }
    }

    fn container(&self) -> Value<'_> {
        Value::of(&schema::CONTAINER, Some(&self.document))
    }

    /// Without the slash at its beginning, as Logspout's `.ContainerName`.
    fn container_name(&self) -> &str {
        let name = self.document["Name"].as_str().unwrap_or_default();
        name.strip_prefix('/').unwrap_or(name)
    }

    /// RFC 5424, section 6.2.1: facility user, severity informational, error or notice. Logspout
    /// has 30 (daemon, informational) for anything else.
    fn priority(&self) -> i64 {
        match self.source {
            "stdout" | "stats" => 14,
            "stderr" => 11,
            "events" => 13,
            _ => 30,
        }
    }

    /// In a word, as go-dockerclient's `State.StateString`.
    fn state(&self) -> &'static str {
        let state = &self.document["State"];
        let is = |name: &str| state[name].as_bool().unwrap_or_default();
        let started = state["StartedAt"].as_str().and_then(Moment::parse);
        match () {
            () if is("Running") && is("Paused") => "paused",
            () if is("Running") && is("Restarting") => "restarting",
            () if is("Running") => "running",
            () if is("Dead") => "dead",
            () if started.is_none_or(Moment::is_zero) => "created",
            () => "exited",
        }
    }
}

/// What changes from line to line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The line, without its newline: any bytes.
    pub data: &'a [u8],
    /// When it was read.
    pub time: Moment,
    /// That time as `.Timestamp` gives it.
    pub timestamp: &'a [u8],
}

impl<'a> Line<'a> {
    /// A line read at the time of a stamp.
    pub fn new(data: &'a [u8], stamp: &'a Stamp) -> Line<'a> {
        Line { data, time: Moment::from_nanos(stamp.nanos()), timestamp: stamp.rfc3339() }
    }

    /// Another line of the same time.
    #[inline]
    pub fn with(&self, data: &'a [u8]) -> Line<'a> {
        Line { data, ..*self }
    }
}

/// Where a piece of a template's output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From what is the same for every line: the template's text, the container.
    Constant,
    /// It is the line, as it came.
    Line,
    /// From evaluating a part of the template for this line.
    Computed,
}

/// Text of the line in the output of a folded template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The line.
    Data,
    /// The line as a JSON string.
    JsonData,
    /// Its time, as `.Timestamp`.
    Timestamp,
    /// Its time in the layout with this number.
    Time(usize),
    /// What the node of the template's tree with this number gives.
    Node(usize),
    /// What the whole template gives: some of its variables depend on the line.
    Whole,
    /// The output ends here, with an error.
    Fail,
}

impl Part {
    /// What a function makes of it, if that is another part.
    fn through(self, function: Function) -> Option<Part> {
        match (self, function) {
            (Part::Data, Function::ToJson) => Some(Part::JsonData),
            (part, Function::Print) => Some(part),
            _ => None,
        }
    }
}

impl Template {
    /// Parses a template; `name` is what errors call it.
    ///
    /// # Errors
    /// What Go says: `template: NAME:LINE: …`.
    pub fn compile(name: &str, text: &str, functions: Functions) -> Result<Template, Error> {
        let trees = parse::parse(name, text, functions).map_err(Error::new)?;
        let inner = Inner { name: name.to_owned(), text: text.to_owned(), trees };
        Ok(Template { inner: Arc::new(inner) })
    }

    /// Evaluates the template for one line, all of it: what [`Bound::render`] has to equal.
    ///
    /// # Errors
    /// As [`Bound::render`].
    pub fn evaluate(
        &self,
        context: &Context,
        line: &Line<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.evaluate_nodes(self.inner.nodes(), context, line, out)
    }

    fn evaluate_nodes(
        &self,
        nodes: &[Node],
        context: &Context,
        line: &Line<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        match Eval::new(&self.inner, context, Some(*line), out).run(nodes) {
            Err(Stop::Error(error)) => Err(error),
            // With a line nothing is missing, and loops end where they begin.
            Ok(()) | Err(Stop::NeedsLine | Stop::Break | Stop::Continue) => Ok(()),
        }
    }

    /// Folds the template: evaluates whatever does not depend on the line.
    pub fn bind(&self, context: &Context) -> Bound {
        let mut constant = Vec::new();
        let mut eval = Eval::new(&self.inner, context, None, &mut constant);
        let nodes = self.inner.nodes();
        let mut failure = None;
        for (at, node) in nodes.iter().enumerate() {
            let before = (eval.output.bytes.len(), eval.output.parts.len());
            match eval.run(std::slice::from_ref(node)) {
                Ok(()) | Err(Stop::Break | Stop::Continue) => {}
                Err(Stop::NeedsLine) if nodes.iter().any(Node::sets_variables) => {
                    return self.unfolded(context);
                }
                Err(Stop::NeedsLine) => {
                    eval.output.bytes.truncate(before.0);
                    eval.output.parts.truncate(before.1);
                    eval.output.parts.push((before.0, Part::Node(at)));
                    eval.reset();
                }
                Err(Stop::Error(error)) => {
                    eval.output.parts.push((eval.output.bytes.len(), Part::Fail));
                    failure = Some(error);
                    break;
                }
            }
        }
        let parts = std::mem::take(&mut eval.output.parts);
        let layouts = std::mem::take(&mut eval.layouts);
        let open = parts.iter().any(|(_, part)| matches!(part, Part::Node(_)));
        let rest = open.then(|| Arc::new((self.clone(), context.clone())));
        let (parts, layouts) = (parts.into(), layouts.into());
        Bound { constant: constant.into(), parts, layouts, rest, failure }
    }

    fn unfolded(&self, context: &Context) -> Bound {
        Bound {
            constant: Arc::default(),
            parts: [(0, Part::Whole)].into(),
            layouts: Arc::default(),
            rest: Some(Arc::new((self.clone(), context.clone()))),
            failure: None,
        }
    }
}

/// A template for one container and source, folded. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    constant: Arc<[u8]>,
    /// What of the line belongs where in the constant text, in order.
    parts: Arc<[(usize, Part)]>,
    /// The layouts of its [`Part::Time`].
    layouts: Arc<[Vec<u8>]>,
    /// What is needed to evaluate what could not be folded.
    rest: Option<Arc<(Template, Context)>>,
    failure: Option<Error>,
}

impl Bound {
    /// The output, if it is the same for every line.
    pub fn constant(&self) -> Option<&[u8]> {
        self.parts.is_empty().then_some(&*self.constant)
    }

    /// The most that it gives for a line of `line` bytes; `None` if that is not known before.
    pub fn len_max(&self, line: usize) -> Option<usize> {
        let part = |part: Part| match part {
            Part::Data => Some(line),
            // Each byte as `\u00ff` at most, and the quotes.
            Part::JsonData => Some(6 * line + 2),
            Part::Timestamp => Some(TIMESTAMP_MAX),
            // Of a layout's elements, the day of the month grows most: `2` may be 31.
            Part::Time(at) => self.layouts.get(at).map(|layout| 2 * layout.len()),
            Part::Node(_) | Part::Whole => None,
            Part::Fail => Some(0),
        };
        let parts = self.parts.iter().map(|(_, each)| part(*each));
        parts.sum::<Option<usize>>().map(|len| len + self.constant.len())
    }

    /// Appends what the template gives for a line. Constant text, `{{.Data}}`, `{{toJSON .Data}}`,
    /// `{{.Timestamp}}` and `{{.Time.Format "…"}}` allocate nothing but what `out` needs to grow.
    ///
    /// # Errors
    /// What Go says: `template: NAME:LINE:COLUMN: executing …`. The output before the mistake has
    /// been appended, as by Go; or a limit ([`OUTPUT_MAX`], [`WORK_MAX`], [`DEPTH_MAX`]).
    pub fn render(&self, line: &Line<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let begin = out.len();
        let mut done = 0;
        for &(at, part) in &*self.parts {
            out.extend_from_slice(&self.constant[done..at]);
            done = at;
            self.render_part(part, line, out)?;
            if out.len() - begin > OUTPUT_MAX {
                return Err(Error::too_long());
            }
        }
        out.extend_from_slice(&self.constant[done..]);
        Ok(())
    }

    /// As [`Bound::render`], the output piece by piece: `put` gets each with where it comes from,
    /// for who has to treat what the line says differently from what the template's author wrote.
    ///
    /// # Errors
    /// As [`Bound::render`].
    pub fn render_pieces(
        &self,
        line: &Line<'_>,
        put: &mut dyn FnMut(Origin, &[u8]),
    ) -> Result<(), Error> {
        let (mut done, mut length) = (0, 0);
        let mut computed = Vec::new();
        for &(at, part) in &*self.parts {
            put(Origin::Constant, &self.constant[done..at]);
            done = at;
            if let Part::Data = part {
                length += line.data.len();
                put(Origin::Line, line.data);
            } else {
                computed.clear();
                let rendered = self.render_part(part, line, &mut computed);
                length += computed.len();
                put(Origin::Computed, &computed);
                rendered?;
            }
            if length > OUTPUT_MAX {
                return Err(Error::too_long());
            }
        }
        put(Origin::Constant, &self.constant[done..]);
        Ok(())
    }

    fn render_part(&self, part: Part, line: &Line<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        match part {
            Part::Data => out.extend_from_slice(line.data),
            Part::JsonData => json::quoted(line.data, out),
            Part::Timestamp => out.extend_from_slice(line.timestamp),
            Part::Time(layout) => {
                let layout = self.layouts.get(layout).map_or(&[][..], Vec::as_slice);
                line.time.format(layout, out);
            }
            Part::Node(_) | Part::Whole => self.render_rest(part, line, out)?,
            Part::Fail => return Err(self.failure.clone().unwrap_or_else(Error::too_long)),
        }
        Ok(())
    }

    fn render_rest(&self, part: Part, line: &Line<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let Some((template, context)) = self.rest.as_deref() else { return Ok(()) };
        let nodes = template.inner.nodes();
        let nodes = match part {
            Part::Node(at) => nodes.get(at..=at).unwrap_or_default(),
            _ => nodes,
        };
        template.evaluate_nodes(nodes, context, line, out)
    }
}
