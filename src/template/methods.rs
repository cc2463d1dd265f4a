//! The methods that templates may call on values: those of `time.Time`, of Logspout's syslog
//! message and of go-dockerclient's types.
//!
//! Pure.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::moment::Moment;
use super::print;
use super::schema::STATE_FIELDS;
use super::value::{Object, Value};
use super::{Context, Dot, Line};

/// A method; which type has it is said by [`Method::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Time(TimeMethod),
    /// Of `docker.State`.
    StateString,
    /// Of `docker.Port`.
    PortNumber,
    PortProtocol,
    ContainerName,
    ContainerNameSplitN,
    Priority,
    Timestamp,
    Hostname,
    /// Of a message, which Logspout's does not have: where its container belongs.
    Place(Place),
    /// `String`, of whatever has it.
    Text,
}

/// What a container is a part of, as Swarm or Compose say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A service, by its name.
    Service,
    /// A task of a Swarm service, by its name.
    Task,
    /// A node of a Swarm, by its id.
    Node,
    /// A stack, or a project of Compose.
    Stack,
}

impl Place {
    fn named(name: &str) -> Option<Place> {
        Some(match name {
            "Service" => Place::Service,
            "Task" => Place::Task,
            "Node" => Place::Node,
            "Stack" => Place::Stack,
            _ => return None,
        })
    }

    /// The labels that tell, the best first: Swarm's, then Compose's.
    fn labels(self) -> &'static [&'static str] {
        match self {
            Place::Service => &["com.docker.swarm.service.name", "com.docker.compose.service"],
            Place::Task => &["com.docker.swarm.task.name", "com.docker.swarm.task.id"],
            Place::Node => &["com.docker.swarm.node.id"],
            Place::Stack => &["com.docker.stack.namespace", "com.docker.compose.project"],
        }
    }

    /// Its name, of a container's labels (`document` as in [`Context::raw`]); empty if none tells.
    pub fn of(self, document: &Json) -> &str {
        let labels = &document["Config"]["Labels"];
        let values = self.labels().iter().filter_map(|name| labels[name].as_str());
        values.into_iter().find(|value| !value.is_empty()).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeMethod {
    Format,
    Unix,
    UnixMilli,
    UnixMicro,
    UnixNano,
    Year,
    Month,
    Day,
    Weekday,
    Hour,
    Minute,
    Second,
    Nanosecond,
    YearDay,
    Utc,
    IsZero,
    Equal,
    Before,
    After,
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Any,
    Text,
    Int,
    Time,
}

impl Parameter {
    pub(super) fn type_name(self) -> &'static str {
        match self {
            Parameter::Any => "interface {}",
            Parameter::Text => "string",
            Parameter::Int => "int",
            Parameter::Time => "time.Time",
        }
    }
}

impl Method {
    /// `Time.Format`
    pub(super) const FORMAT: Method = Method::Time(TimeMethod::Format);

    /// The method of that name that a value has.
    pub(super) fn of(value: &Value<'_>, name: &str) -> Option<Method> {
        match value {
            Value::Time(_) | Value::LineTime => time_method(name),
            Value::Port(_) if name == "Port" => Some(Method::PortNumber),
            Value::Port(_) if name == "Proto" => Some(Method::PortProtocol),
            Value::Int(_, "time.Month" | "time.Weekday" | "time.Duration") if name == "String" => {
                Some(Method::Text)
            }
            Value::Struct(fields) if std::ptr::eq(fields.ty, &STATE_FIELDS) => {
                matches!(name, "StateString" | "String").then_some(Method::StateString)
            }
            Value::Object(Object::Message) => Place::named(name).map(Method::Place),
            Value::Object(Object::Syslog) => Some(match name {
                "ContainerName" => Method::ContainerName,
                "ContainerNameSplitN" => Method::ContainerNameSplitN,
                "Priority" => Method::Priority,
                "Timestamp" => Method::Timestamp,
                "Hostname" => Method::Hostname,
                _ => return Place::named(name).map(Method::Place),
            }),
            _ => None,
        }
    }

    pub(super) fn parameters(self) -> &'static [Parameter] {
        match self {
            Method::ContainerNameSplitN => &[Parameter::Text, Parameter::Int],
            Method::FORMAT => &[Parameter::Text],
            Method::Time(TimeMethod::Equal | TimeMethod::Before | TimeMethod::After) => {
                &[Parameter::Time]
            }
            _ => &[],
        }
    }
}

fn time_method(name: &str) -> Option<Method> {
    use TimeMethod::*;
    Some(Method::Time(match name {
        "Format" => Format,
        "Unix" => Unix,
        "UnixMilli" => UnixMilli,
        "UnixMicro" => UnixMicro,
        "UnixNano" => UnixNano,
        "Year" => Year,
        "Month" => Month,
        "Day" => Day,
        "Weekday" => Weekday,
        "Hour" => Hour,
        "Minute" => Minute,
        "Second" => Second,
        "Nanosecond" => Nanosecond,
        "YearDay" => YearDay,
        // The program's own zone is UTC.
        "UTC" | "Local" => Utc,
        "IsZero" => IsZero,
        "Equal" => Equal,
        "Before" => Before,
        "After" => After,
        "String" => return Some(Method::Text),
        _ => return None,
    }))
}

/// Calls a method; the arguments are of its parameters' types. The receiver is known, but where
/// there is no line, what belongs to one comes out as a part.
pub(super) fn call<'a>(
    method: Method,
    receiver: &Value<'a>,
    args: &[Value<'a>],
    context: &'a Context,
    line: Option<Line<'a>>,
) -> Result<Value<'a>, String> {
    Ok(match (method, receiver) {
        (Method::Time(method), Value::Time(time)) => on_time(method, *time, args),
        (Method::Text, value) => {
            let text = print::sprint(std::slice::from_ref(value));
            Value::owned(text.map_err(|_| "too long".to_owned())?)
        }
        (Method::StateString, _) => Value::text(context.state()),
        (Method::PortNumber, Value::Port(port)) => {
            Value::text(port.split('/').next().unwrap_or_default())
        }
        (Method::PortProtocol, Value::Port(port)) => {
            Value::text(port.split('/').nth(1).unwrap_or("tcp"))
        }
        (Method::ContainerName, _) => Value::text(context.container_name()),
        (Method::ContainerNameSplitN, _) => {
            let separator = args.first().and_then(Value::bytes).unwrap_or_default();
            let count = match args.get(1) {
                Some(Value::Int(count, _)) => *count,
                _ => 0,
            };
            split(context.container_name(), &String::from_utf8_lossy(separator), count)
        }
        (Method::Place(place), _) => Value::text(place.of(&context.document)),
        (Method::Priority, _) => Value::Int(context.priority(), "syslog.Priority"),
        (Method::Timestamp, _) => match line {
            Some(line) => Value::Text(Cow::Borrowed(line.timestamp)),
            None => Value::Part(super::Part::Timestamp),
        },
        (Method::Hostname, _) => match &context.dot {
            Dot::Syslog { hostname } => Value::text(hostname),
            _ => Value::None,
        },
        _ => Value::None,
    })
}

fn on_time<'a>(method: TimeMethod, time: Moment, args: &[Value<'a>]) -> Value<'a> {
    use TimeMethod::*;
    let parts = time.parts();
    let other = match args.first() {
        Some(Value::Time(other)) => *other,
        _ => Moment::ZERO,
    };
    match method {
        Format => {
            let mut out = Vec::new();
            time.format(args.first().and_then(Value::bytes).unwrap_or_default(), &mut out);
            Value::owned(out)
        }
        Unix => Value::Int(time.since_epoch(1), "int64"),
        UnixMilli => Value::Int(time.since_epoch(1_000), "int64"),
        UnixMicro => Value::Int(time.since_epoch(1_000_000), "int64"),
        UnixNano => Value::Int(time.since_epoch(1_000_000_000), "int64"),
        Year => Value::int(parts.year),
        Month => Value::Int(parts.month, "time.Month"),
        Day => Value::int(parts.day),
        Weekday => Value::Int(parts.weekday, "time.Weekday"),
        Hour => Value::int(parts.hour),
        Minute => Value::int(parts.minute),
        Second => Value::int(parts.second),
        Nanosecond => Value::int(parts.nanosecond),
        YearDay => Value::int(parts.year_day),
        Utc => Value::Time(time.utc()),
        IsZero => Value::Bool(time.is_zero()),
        Equal => Value::Bool(time.instant() == other.instant()),
        Before => Value::Bool(time.instant() < other.instant()),
        After => Value::Bool(time.instant() > other.instant()),
    }
}

/// Go's `strings.SplitN`: at most `count` parts, all of them if it is negative.
fn split<'a>(text: &'a str, separator: &str, count: i64) -> Value<'a> {
    if count == 0 {
        return Value::of(&super::schema::Type::List(&super::schema::Type::Text), None);
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let word = |word: &'a str| Cow::Borrowed(word.as_bytes());
    if !separator.is_empty() {
        return Value::texts(text.splitn(count, separator).map(word).collect());
    }
    // No separator: character by character, and the rest.
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next().filter(|_| words.len() + 1 < count) {
        let (first, after) = rest.split_at(c.len_utf8());
        words.push(word(first));
        rest = after;
    }
    words.extend((!rest.is_empty()).then(|| word(rest)));
    Value::texts(words)
}
