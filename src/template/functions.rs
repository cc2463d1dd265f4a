//! The functions that templates may call: Go's predefined ones, and Logspout's `toJSON`.
//!
//! Pure: values in, a value out. Error texts are those of Go 1.19.

use std::borrow::Cow;

use super::json;
use super::print::{self, Overflow};
use super::text;
use super::value::{Items, Value};

/// Which functions a template may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Functions {
    /// Go's predefined ones, as in Logspout's `SYSLOG_*` and its Slack adapter.
    Predefined,
    /// These and `toJSON`, as in `RAW_FORMAT`.
    WithToJson,
    /// These and, beyond Logspout, `bytes` and `size`, as in `STATS_FORMAT`: a number of bytes for
    /// people, in units of 1024 (`61.2 MiB`) or of 1000 (`1.2 kB`).
    WithSizes,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Bytes,
    Call,
    Eq,
    Ge,
    Gt,
    Html,
    Index,
    Js,
    Le,
    Len,
    Lt,
    Ne,
    Not,
    Or,
    Print,
    Printf,
    Println,
    Size,
    Slice,
    ToJson,
    UrlQuery,
}

const NAMES: [(&str, Function); 22] = [
    ("and", Function::And),
    ("bytes", Function::Bytes),
    ("call", Function::Call),
    ("eq", Function::Eq),
    ("ge", Function::Ge),
    ("gt", Function::Gt),
    ("html", Function::Html),
    ("index", Function::Index),
    ("js", Function::Js),
    ("le", Function::Le),
    ("len", Function::Len),
    ("lt", Function::Lt),
    ("ne", Function::Ne),
    ("not", Function::Not),
    ("or", Function::Or),
    ("print", Function::Print),
    ("printf", Function::Printf),
    ("println", Function::Println),
    ("size", Function::Size),
    ("slice", Function::Slice),
    ("toJSON", Function::ToJson),
    ("urlquery", Function::UrlQuery),
];

/// How many arguments a function takes.
pub(super) enum Arity {
    /// Exactly so many.
    Exactly(usize),
    /// So many, or more.
    AtLeast(usize),
}

impl Function {
    pub(super) fn named(name: &str, functions: Functions) -> Option<Function> {
        let (_, function) = NAMES.into_iter().find(|(known, _)| *known == name)?;
        let hidden = match function {
            Function::ToJson => functions == Functions::Predefined,
            Function::Bytes | Function::Size => functions != Functions::WithSizes,
            _ => false,
        };
        (!hidden).then_some(function)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    pub(super) fn arity(self) -> Arity {
        use Function::*;
        match self {
            Ge | Gt | Le | Lt | Ne => Arity::Exactly(2),
            Bytes | Len | Not | Size | ToJson => Arity::Exactly(1),
            And | Or | Call | Eq | Index | Slice | Printf => Arity::AtLeast(1),
            Html | Js | Print | Println | UrlQuery => Arity::AtLeast(0),
        }
    }
}

/// Why a function gave no value.
pub(super) enum Failure {
    /// What Go says.
    Error(String),
    /// The result would be too large.
    Overflow,
}

impl From<Overflow> for Failure {
    fn from(Overflow: Overflow) -> Failure {
        Failure::Overflow
    }
}

fn error<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Error(text.into()))
}

/// Calls `function`, whose number of arguments has been checked. `and` and `or` are not for here:
/// they do not evaluate all of theirs.
pub(super) fn call<'a>(function: Function, args: &[Value<'a>]) -> Result<Value<'a>, Failure> {
    let first = args.first().unwrap_or(&Value::None);
    let text = |text: Vec<u8>| Ok(Value::owned(text));
    match function {
        Function::And | Function::Or => Ok(first.clone()),
        Function::Call if first.is_nothing() => error("call of nil"),
        Function::Call => error(format!("non-function of type {}", first.type_name())),
        Function::Eq => equal_to_any(first, args.get(1..).unwrap_or_default()).map(Value::Bool),
        Function::Ne => not_equal(first, &args[1]).map(Value::Bool),
        Function::Lt => less(first, &args[1]).map(Value::Bool),
        Function::Le => less_or_equal(first, &args[1]).map(Value::Bool),
        Function::Gt => less_or_equal(first, &args[1]).map(|le| Value::Bool(!le)),
        Function::Ge => less(first, &args[1]).map(|lt| Value::Bool(!lt)),
        Function::Html => text(html(&joined(args)?)),
        Function::Js => text(js(&joined(args)?)),
        Function::UrlQuery => text(url_query(&joined(args)?)),
        Function::Index => index(first, args.get(1..).unwrap_or_default()),
        Function::Slice => slice(first, args.get(1..).unwrap_or_default()),
        Function::Bytes => text(size(number(first)?, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])),
        Function::Size => text(size(number(first)?, 1000.0, &["B", "kB", "MB", "GB", "TB"])),
        Function::Len => length(first),
        Function::Not => Ok(Value::Bool(!first.is_true())),
        Function::Print => text(print::sprint(args)?),
        Function::Println => text(print::sprintln(args)?),
        Function::Printf => {
            let format = first.bytes().unwrap_or_default();
            text(print::sprintf(format, args.get(1..).unwrap_or_default())?)
        }
        Function::ToJson => {
            let mut out = Vec::new();
            json::write(first, &mut out)?;
            text(out)
        }
    }
}

fn number(value: &Value<'_>) -> Result<f64, Failure> {
    match value {
        Value::Int(number, _) => Ok(*number as f64),
        Value::Uint(number, _) => Ok(*number as f64),
        Value::Float(number) => Ok(*number),
        other => error(format!("a size of type {}", other.type_name())),
    }
}

/// With one digit behind the point, unless that is 0, in the largest unit of which there is one.
fn size(bytes: f64, thousand: f64, units: &[&str]) -> Vec<u8> {
    let (mut value, mut units) = (bytes, units.iter());
    let mut unit = units.next().copied().unwrap_or_default();
    // What would be shown as a thousand is one of the next.
    while (value.abs() * 10.0).round() >= thousand * 10.0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / thousand, next);
    }
    let number = format!("{value:.1}");
    format!("{} {unit}", number.strip_suffix(".0").unwrap_or(&number)).into_bytes()
}

fn index<'a>(item: &Value<'a>, indexes: &[Value<'a>]) -> Result<Value<'a>, Failure> {
    if item.is_nothing() {
        return error("index of untyped nil");
    }
    let mut item = item.clone();
    for index in indexes {
        item = match &item {
            Value::Nil | Value::None | Value::NilPointer(_) => {
                return error("index of nil pointer");
            }
            Value::List(list) => {
                let at = position(index, list.len())?;
                match list.get(at) {
                    Some(element) => element,
                    None => return error("reflect: slice index out of range"),
                }
            }
            Value::Text(text) => byte_at(text, index)?,
            Value::Port(text) => byte_at(text.as_bytes(), index)?,
            Value::Map(map) => {
                let key = match index {
                    Value::Text(key) if map.key_type() == "string" => key,
                    other if other.is_nothing() => {
                        let wanted = map.key_type();
                        return error(format!("value is nil; should be of type {wanted}"));
                    }
                    Value::Port(key) if map.key_type() != "string" => {
                        &Cow::Borrowed(key.as_bytes())
                    }
                    other => {
                        let (has, wanted) = (other.type_name(), map.key_type());
                        return error(format!("value has type {has}; should be {wanted}"));
                    }
                };
                let found = std::str::from_utf8(key).ok().and_then(|key| map.get(key));
                found.unwrap_or_else(|| map.zero())
            }
            other => return error(format!("can't index item of type {}", bare_type(other))),
        };
    }
    Ok(item)
}

/// The type of what a pointer points at.
fn bare_type(value: &Value<'_>) -> String {
    value.type_name().trim_start_matches('*').to_owned()
}

fn byte_at<'a>(text: &[u8], index: &Value<'a>) -> Result<Value<'a>, Failure> {
    match text.get(position(index, text.len())?) {
        Some(byte) => Ok(Value::Uint(u64::from(*byte), "uint8")),
        None => error("reflect: string index out of range"),
    }
}

/// An index into something so long; its end counts as inside.
fn position(index: &Value<'_>, len: usize) -> Result<usize, Failure> {
    let at = match index {
        Value::Int(at, _) => *at,
        Value::Uint(at, _) => *at as i64,
        other if other.is_nothing() => return error("cannot index slice/array with nil"),
        other => {
            return error(format!("cannot index slice/array with type {}", other.type_name()));
        }
    };
    match usize::try_from(at) {
        Ok(at) if at <= len => Ok(at),
        _ => error(format!("index out of range: {at}")),
    }
}

fn slice<'a>(item: &Value<'a>, indexes: &[Value<'a>]) -> Result<Value<'a>, Failure> {
    if item.is_nothing() {
        return error("slice of untyped nil");
    }
    if indexes.len() > 3 {
        return error(format!("too many slice indexes: {}", indexes.len()));
    }
    let len = match item {
        Value::Text(_) | Value::Port(_) if indexes.len() == 3 => {
            return error("cannot 3-index slice a string");
        }
        Value::Text(_) | Value::Port(_) | Value::List(_) => item.len().unwrap_or_default(),
        other => return error(format!("can't slice item of type {}", other.type_name())),
    };
    let mut bounds = [0, len, len];
    for (at, index) in indexes.iter().enumerate() {
        bounds[at] = position(index, len)?;
    }
    for pair in [[bounds[0], bounds[1]], [bounds[1], bounds[2]]] {
        if pair[0] > pair[1] {
            return error(format!("invalid slice index: {} > {}", pair[0], pair[1]));
        }
    }
    let range = bounds[0]..bounds[1];
    Ok(match item {
        Value::Text(Cow::Borrowed(text)) => Value::Text(Cow::Borrowed(&text[range])),
        Value::Text(text) => Value::owned(text[range].to_vec()),
        Value::Port(text) => Value::owned(text.as_bytes()[range].to_vec()),
        Value::List(list) => Value::List(list.slice(range)),
        _ => Value::None,
    })
}

fn length<'a>(item: &Value<'a>) -> Result<Value<'a>, Failure> {
    match item {
        Value::None => error("reflect: call of reflect.Value.Type on zero Value"),
        Value::Nil | Value::NilPointer(_) => error("len of nil pointer"),
        other => match other.len() {
            Some(len) => Ok(Value::int(len as i64)),
            None => error(format!("len of type {}", bare_type(other))),
        },
    }
}

/// What `eq` and the others can compare.
#[derive(PartialEq, Eq)]
enum Basic {
    Bool,
    Int,
    Uint,
    Float,
    Text,
    Other,
}

fn basic(value: &Value<'_>) -> Basic {
    match value {
        Value::Bool(_) => Basic::Bool,
        Value::Int(..) => Basic::Int,
        Value::Uint(..) => Basic::Uint,
        Value::Float(_) => Basic::Float,
        Value::Text(_) | Value::Port(_) => Basic::Text,
        _ => Basic::Other,
    }
}

const INCOMPATIBLE: &str = "incompatible types for comparison";
const INVALID: &str = "invalid type for comparison";

fn equal_to_any(first: &Value<'_>, others: &[Value<'_>]) -> Result<bool, Failure> {
    if others.is_empty() {
        return error("missing argument for comparison");
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn not_equal(first: &Value<'_>, other: &Value<'_>) -> Result<bool, Failure> {
    Ok(!equal_to_any(first, std::slice::from_ref(other))?)
}

fn equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Failure> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a, _), Value::Int(b, _)) => a == b,
        (Value::Uint(a, _), Value::Uint(b, _)) => a == b,
        (Value::Int(a, _), Value::Uint(b, _)) | (Value::Uint(b, _), Value::Int(a, _)) => {
            u64::try_from(*a).is_ok_and(|a| a == *b)
        }
        (Value::Float(a), Value::Float(b)) => a == b,
        _ if basic(a) == Basic::Text && basic(b) == Basic::Text => a.bytes() == b.bytes(),
        _ if basic(a) != basic(b) => {
            if !a.is_nothing() && !b.is_nothing() {
                return error(INCOMPATIBLE);
            }
            false
        }
        _ => return equal_others(a, b),
    })
}

fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::None | Value::Nil => "invalid",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        Value::Struct(inner) if !inner.pointer => "struct",
        Value::Struct(_) | Value::NilPointer(_) => "pointer",
        Value::Object(super::value::Object::Slack | super::value::Object::Webhook) => "struct",
        Value::Object(_) => "pointer",
        _ => "struct",
    }
}

fn is_nil(value: &Value<'_>) -> bool {
    match value {
        Value::None | Value::Nil | Value::NilPointer(_) => true,
        Value::List(list) => list.is_nil(),
        Value::Map(map) => map.is_nil(),
        _ => false,
    }
}

fn equal_others(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Failure> {
    let same_kind = kind(a) == kind(b) || a.is_nothing() || b.is_nothing();
    if !same_kind {
        let (a_type, b_type) = (a.type_name(), b.type_name());
        return error(format!(
            "non-comparable types {}: {a_type}, {b_type}: {}",
            shown_as_text(a)?,
            shown(b)?
        ));
    }
    if is_nil(a) || is_nil(b) {
        return Ok(is_nil(a) == is_nil(b));
    }
    match (a, b) {
        (Value::Time(a), Value::Time(b)) => Ok(a == b),
        (Value::Object(a), Value::Object(b)) => Ok(a == b),
        (Value::Struct(a), Value::Struct(b)) if a.pointer && b.pointer => {
            let (a, b) = (a.members, b.members);
            Ok(a.map(std::ptr::from_ref) == b.map(std::ptr::from_ref))
        }
        (Value::Struct(a), Value::Struct(b)) if a.ty.is_comparable() => {
            let same = |field| equal(&a.field(field), &b.field(field));
            let mut fields = a.ty.fields.iter();
            Ok(std::ptr::eq(a.ty, b.ty)
                && fields.try_fold(true, |all, field| Ok::<_, Failure>(all && same(field)?))?)
        }
        _ => error(format!("non-comparable type {}: {}", shown_as_text(a)?, b.type_name())),
    }
}

/// With `%v`.
fn shown(value: &Value<'_>) -> Result<String, Failure> {
    let text = print::sprintf(b"%v", std::slice::from_ref(value))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// With `%s`.
fn shown_as_text(value: &Value<'_>) -> Result<String, Failure> {
    let text = print::sprintf(b"%s", std::slice::from_ref(value))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn less(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Failure> {
    for value in [a, b] {
        if basic(value) == Basic::Other {
            return error(INVALID);
        }
    }
    Ok(match (a, b) {
        (Value::Int(a, _), Value::Int(b, _)) => a < b,
        (Value::Uint(a, _), Value::Uint(b, _)) => a < b,
        (Value::Int(a, _), Value::Uint(b, _)) => u64::try_from(*a).map_or(true, |a| a < *b),
        (Value::Uint(a, _), Value::Int(b, _)) => u64::try_from(*b).is_ok_and(|b| *a < b),
        (Value::Float(a), Value::Float(b)) => a < b,
        (Value::Bool(_), Value::Bool(_)) => return error(INVALID),
        _ if basic(a) == Basic::Text && basic(b) == Basic::Text => a.bytes() < b.bytes(),
        _ => return error(INCOMPATIBLE),
    })
}

fn less_or_equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Failure> {
    Ok(less(a, b)? || equal(a, b)?)
}

/// The text of the arguments of `html`, `js` and `urlquery`: one that is text is itself.
fn joined<'v>(args: &'v [Value<'_>]) -> Result<Cow<'v, [u8]>, Failure> {
    if let [Value::Text(text)] = args {
        return Ok(Cow::Borrowed(text));
    }
    let printable: Vec<Value<'_>> = args
        .iter()
        .map(|arg| if arg.is_nothing() { Value::text("<no value>") } else { arg.clone() })
        .collect();
    Ok(Cow::Owned(print::sprint(&printable)?))
}

fn html(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'\0' => out.extend_from_slice("\u{fffd}".as_bytes()),
            b'"' => out.extend_from_slice(b"&#34;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            byte => out.push(byte),
        }
    }
    out
}

fn js(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (_, c, raw) in text::chars(bytes) {
        match c {
            Some('\\') => out.extend_from_slice(b"\\\\"),
            Some('\'') => out.extend_from_slice(b"\\'"),
            Some('"') => out.extend_from_slice(b"\\\""),
            Some(c @ ('<' | '>' | '&' | '=')) => {
                out.extend_from_slice(format!("\\u{:04X}", u32::from(c)).as_bytes());
            }
            Some(c) if c < ' ' || !c.is_ascii() && !text::is_print(c) => {
                out.extend_from_slice(format!("\\u{:04X}", u32::from(c)).as_bytes());
            }
            // Of broken UTF-8 the bytes stay, as in Go.
            _ => out.extend_from_slice(raw),
        }
    }
    out
}

fn url_query(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' ' => out.push(b'+'),
            b'-' | b'_' | b'.' | b'~' => out.push(byte),
            byte if byte.is_ascii_alphanumeric() => out.push(byte),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

/// Roughly how many bytes a function will look at in a value.
pub(super) fn weight(value: &Value<'_>) -> usize {
    match value {
        Value::List(list) => match &list.items {
            Items::Texts(texts, range) => {
                texts.get(range.clone()).unwrap_or_default().iter().map(|text| text.len()).sum()
            }
            _ => list.len(),
        },
        other => other.len().unwrap_or_default(),
    }
}
