//! What an expression of a template gives: Go's values, borrowed from the container's JSON, the
//! line and the template itself.
//!
//! Pure. Nothing is copied out of a container's JSON: a struct, list or map is a view into it,
//! with the Go type that tells what is missing from what is empty.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use serde_json::{Map as JsonMap, Value as Json};

use super::Part;
use super::moment::Moment;
use super::schema::{self, PORT, Type};

/// A value, with the Go type it has.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// No value at all: a key that a map does not have.
    None,
    /// `interface{}(nil)`
    Nil,
    Bool(bool),
    /// A signed integer, with the name of its type.
    Int(i64, &'static str),
    /// An unsigned one.
    Uint(u64, &'static str),
    /// A `float64`.
    Float(f64),
    /// A `string`: bytes that need not be UTF-8.
    Text(Cow<'a, [u8]>),
    /// A `docker.Port`.
    Port(&'a str),
    Time(Moment),
    List(List<'a>),
    Map(Map<'a>),
    Struct(Struct<'a>),
    /// A nil pointer to that type.
    NilPointer(&'static Type),
    /// What the dot of a sink's template is.
    Object(Object),
    /// While a template is folded: text that is only known with the line.
    Part(Part),
    /// While a template is folded: the line's time.
    LineTime,
}

/// The structs that Logspout and its Slack adapter pass to templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// `*router.Message`
    Message,
    /// `*syslog.Message`, which embeds the former.
    Syslog,
    /// `slack.Context`
    Slack,
    /// What Logspout does not have: lines put together for a webhook.
    Webhook,
}

impl Object {
    pub(super) fn type_name(self) -> &'static str {
        match self {
            Object::Message => "*router.Message",
            Object::Syslog => "*syslog.Message",
            Object::Slack => "slack.Context",
            Object::Webhook => "webhook.Context",
        }
    }
}

/// A slice or array.
#[derive(Clone, Debug)]
pub(super) struct List<'a> {
    pub items: Items<'a>,
    /// The length is part of its type.
    array: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Items<'a> {
    /// A nil slice.
    Nil(&'static Type),
    /// Of JSON.
    Json(&'static Type, &'a [Json]),
    /// That many zero values.
    Zeros(&'static Type, usize),
    /// Strings, a part of them.
    Texts(Rc<[Cow<'a, [u8]>]>, Range<usize>),
}

/// A map with keys of text.
#[derive(Clone, Debug)]
pub(super) struct Map<'a> {
    /// The type of the keys.
    key: &'static str,
    value: &'static Type,
    pub entries: Entries<'a>,
}

#[derive(Clone, Debug)]
pub(super) enum Entries<'a> {
    /// A nil map.
    Nil,
    Json(&'a JsonMap<String, Json>),
    Env(&'a BTreeMap<String, String>),
}

/// A struct, or what a pointer that is not nil points at.
#[derive(Clone, Debug)]
pub(super) struct Struct<'a> {
    pub ty: &'static schema::Struct,
    /// Its members; `None` if it is zero.
    pub members: Option<&'a JsonMap<String, Json>>,
    pub pointer: bool,
}

impl<'a> Value<'a> {
    pub(super) fn text(text: &'a str) -> Value<'a> {
        Value::Text(Cow::Borrowed(text.as_bytes()))
    }

    pub(super) fn owned(text: Vec<u8>) -> Value<'a> {
        Value::Text(Cow::Owned(text))
    }

    pub(super) fn int(value: i64) -> Value<'a> {
        Value::Int(value, "int")
    }

    /// A JSON value as `encoding/json` would put it into a variable of that type. What has
    /// another shape is zero.
    pub(super) fn of(ty: &'static Type, json: Option<&'a Json>) -> Value<'a> {
        let text = || json.and_then(Json::as_str).unwrap_or_default();
        match ty {
            Type::Any => json.map_or(Value::Nil, Value::any),
            Type::Bool => Value::Bool(json.and_then(Json::as_bool).unwrap_or_default()),
            Type::Text => Value::text(text()),
            Type::Int(name) => Value::Int(json.and_then(Json::as_i64).unwrap_or_default(), name),
            Type::Time => Value::Time(Moment::parse(text()).unwrap_or(Moment::ZERO)),
            Type::List(element) => Value::List(List::of(element, json)),
            Type::Array(element, len) => {
                let items = json.and_then(Json::as_array).filter(|items| items.len() == *len);
                let zeros = Items::Zeros(element, *len);
                let items = items.map_or(zeros, |items| Items::Json(element, items));
                Value::List(List { items, array: true })
            }
            Type::Map(key, value) => {
                let entries = json.and_then(Json::as_object).map_or(Entries::Nil, Entries::Json);
                Value::Map(Map { key, value, entries })
            }
            Type::Struct(ty) => {
                let members = json.and_then(Json::as_object);
                Value::Struct(Struct { ty, members, pointer: false })
            }
            Type::Pointer(to) => match (to, json) {
                (_, None | Some(Json::Null)) => Value::NilPointer(to),
                (Type::Struct(ty), Some(json)) => {
                    Value::Struct(Struct { ty, members: json.as_object(), pointer: true })
                }
                (_, json) => Value::of(to, json),
            },
        }
    }

    /// A JSON value as `encoding/json` puts it into an `interface{}`, integers kept.
    pub(super) fn any(json: &'a Json) -> Value<'a> {
        match json {
            Json::Null => Value::Nil,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Value::int(value),
                None => Value::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Value::text(text),
            Json::Array(_) => Value::of(&Type::List(&Type::Any), Some(json)),
            Json::Object(_) => Value::of(&Type::Map("string", &Type::Any), Some(json)),
        }
    }

    /// Words, as `strings.Split` gives them.
    pub(super) fn texts(texts: Vec<Cow<'a, [u8]>>) -> Value<'a> {
        let len = texts.len();
        Value::List(List { items: Items::Texts(texts.into(), 0..len), array: false })
    }

    /// A `map[string]string`.
    pub(super) fn env(env: &'a BTreeMap<String, String>) -> Value<'a> {
        Value::Map(Map { key: "string", value: &Type::Text, entries: Entries::Env(env) })
    }

    /// The name of its type; `<nil>` if it has none.
    pub(super) fn type_name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Value::None | Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_, name) | Value::Uint(_, name) => name,
            Value::Float(_) => "float64",
            Value::Text(_) | Value::Part(_) => "string",
            Value::Port(_) => PORT,
            Value::Time(_) | Value::LineTime => "time.Time",
            Value::List(list) => return Cow::Owned(list.type_name()),
            Value::Map(map) => return Cow::Owned(format!("map[{}]{}", map.key, map.value.name())),
            Value::Struct(Struct { ty, pointer: false, .. }) => ty.name,
            Value::Struct(Struct { ty, pointer: true, .. }) => {
                return Cow::Owned(format!("*{}", ty.name));
            }
            Value::NilPointer(to) => return Cow::Owned(format!("*{}", to.name())),
            Value::Object(object) => object.type_name(),
        })
    }

    /// Whether it is no value, or an interface that holds none.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Value::None | Value::Nil)
    }

    /// Go's truth: not the zero value of its kind; structs always.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::None | Value::Nil | Value::NilPointer(_) => false,
            Value::Bool(value) => *value,
            Value::Int(value, _) => *value != 0,
            Value::Uint(value, _) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Struct(_) | Value::Time(_) | Value::Object(_) => true,
            Value::Part(_) | Value::LineTime => true,
            other => other.len().is_some_and(|len| len > 0),
        }
    }

    /// Of text, in bytes, of lists and maps.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Value::Text(text) => Some(text.len()),
            Value::Port(text) => Some(text.len()),
            Value::List(list) => Some(list.len()),
            Value::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    /// The bytes of a value of a string type.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Text(text) => Some(text),
            Value::Port(text) => Some(text.as_bytes()),
            _ => None,
        }
    }
}

impl super::Summary {
    /// Its member of that name.
    pub(super) fn member(&self, name: &str) -> Option<Value<'_>> {
        let count = |count| Value::int(i64::try_from(count).unwrap_or(i64::MAX));
        Some(match name {
            "Count" => count(self.count),
            "More" => count(self.more),
            "Text" => Value::text(&self.text),
            "Lines" => {
                let lines = self.lines.iter().map(|line| Cow::Borrowed(line.as_bytes()));
                Value::texts(lines.collect())
            }
            _ => return None,
        })
    }
}

impl<'a> List<'a> {
    fn of(element: &'static Type, json: Option<&'a Json>) -> List<'a> {
        let items = match json.and_then(Json::as_array) {
            Some(items) => Items::Json(element, items),
            None => Items::Nil(element),
        };
        List { items, array: false }
    }

    fn type_name(&self) -> String {
        let element = match &self.items {
            Items::Nil(ty) | Items::Json(ty, _) | Items::Zeros(ty, _) => ty.name(),
            Items::Texts(..) => "string".to_owned(),
        };
        match self.array {
            true => format!("[{}]{element}", self.len()),
            false => format!("[]{element}"),
        }
    }

    pub(super) fn is_nil(&self) -> bool {
        matches!(self.items, Items::Nil(_))
    }

    pub(super) fn len(&self) -> usize {
        match &self.items {
            Items::Nil(_) => 0,
            Items::Json(_, items) => items.len(),
            Items::Zeros(_, len) => *len,
            Items::Texts(_, range) => range.len(),
        }
    }

    /// `None` beyond its end.
    pub(super) fn get(&self, at: usize) -> Option<Value<'a>> {
        match &self.items {
            _ if at >= self.len() => None,
            Items::Nil(_) => None,
            Items::Json(ty, items) => Some(Value::of(ty, items.get(at))),
            Items::Zeros(ty, _) => Some(Value::of(ty, None)),
            Items::Texts(texts, range) => texts.get(range.start + at).cloned().map(Value::Text),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// A part of it, as a slice; the range lies within.
    pub(super) fn slice(&self, range: Range<usize>) -> List<'a> {
        let items = match &self.items {
            Items::Nil(ty) => Items::Nil(ty),
            Items::Json(ty, items) => Items::Json(ty, items.get(range).unwrap_or_default()),
            Items::Zeros(ty, _) => Items::Zeros(ty, range.len()),
            Items::Texts(texts, old) => {
                Items::Texts(Rc::clone(texts), old.start + range.start..old.start + range.end)
            }
        };
        List { items, array: false }
    }
}

impl<'a> Map<'a> {
    pub(super) fn is_nil(&self) -> bool {
        matches!(self.entries, Entries::Nil)
    }

    /// Whether its values are interfaces.
    pub(super) fn is_of_any(&self) -> bool {
        matches!(self.value, Type::Any)
    }

    /// The type of its keys.
    pub(super) fn key_type(&self) -> &'static str {
        self.key
    }

    pub(super) fn len(&self) -> usize {
        match self.entries {
            Entries::Nil => 0,
            Entries::Json(map) => map.len(),
            Entries::Env(map) => map.len(),
        }
    }

    /// The value of a key; `None` if it is not there.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        match self.entries {
            Entries::Nil => None,
            Entries::Json(map) => map.get(key).map(|json| Value::of(self.value, Some(json))),
            Entries::Env(map) => map.get(key).map(|text| Value::text(text)),
        }
    }

    /// What a key that is not there has.
    pub(super) fn zero(&self) -> Value<'a> {
        Value::of(self.value, None)
    }

    /// A key as a value.
    pub(super) fn key(&self, key: &'a str) -> Value<'a> {
        if self.key == PORT { Value::Port(key) } else { Value::text(key) }
    }

    /// Its keys in order, and their values.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = (&'a str, Value<'a>)> + 'a> {
        let ty = self.value;
        match self.entries {
            Entries::Nil => Box::new(std::iter::empty()),
            Entries::Json(map) => {
                // Sorted here: whether JSON objects keep their order is another's setting.
                let sorted: BTreeMap<&'a str, &'a Json> =
                    map.iter().map(|(key, json)| (&**key, json)).collect();
                Box::new(sorted.into_iter().map(|(key, json)| (key, Value::of(ty, Some(json)))))
            }
            Entries::Env(map) => {
                Box::new(map.iter().map(|(key, text)| (&**key, Value::text(text))))
            }
        }
    }
}

impl<'a> Struct<'a> {
    /// The value of a field; `None` if its type has no such field.
    pub(super) fn get(&self, name: &str) -> Option<Value<'a>> {
        let field = self.ty.fields.iter().find(|field| field.name == name)?;
        Some(self.field(field))
    }

    pub(super) fn field(&self, field: &schema::Field) -> Value<'a> {
        Value::of(field.ty, self.members.and_then(|members| members.get(field.json)))
    }
}
