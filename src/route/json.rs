//! A route as JSON, to the letter as Logspout's `/routes` takes and gives it, and as it lies under
//! `ROUTESPATH`.
//!
//! Pure. Reading is lenient where Go's decoder is: names in any case, members that nobody knows,
//! `null` for "not given", whatever follows the first value. An error names the member, never a
//! value: what clients and files hold may be secret.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::uri::{is_of_http, is_secret, open_address, split_adapter};
use super::{RouteSpec, Selector};

/// What stands for a secret.
pub const MASK: &str = "***";

/// A route as clients define it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// Its name; empty for one that is to be made up.
    pub id: String,
    /// As `filter.id` of a URI.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_id: String,
    /// As `filter.name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_name: String,
    /// As `filter.sources`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter_sources: Vec<String>,
    /// As `filter.labels`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter_labels: Vec<String>,
    /// Adapter and transport: `syslog+tcp`.
    pub adapter: String,
    /// Where it leads.
    pub address: String,
    /// The other parameters of a URI.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// What became of its lines, for who asks for that; Logspout has no such member. Not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<Account>,
}

/// What became of a route's lines: `received` and `found` are the sum of the others, except while
/// lines flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Those whose container and source it takes.
    pub received: u64,
    /// Those that an earlier run of the program had left in its spool.
    pub found: u64,
    /// Those that its filters kept out, or of which a template made nothing.
    pub filtered: u64,
    /// Those that became part of the record of a line before them.
    pub joined: u64,
    /// Those that the receiver's side has taken.
    pub delivered: u64,
    /// Those that were lost, by the reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Those that wait.
    pub held: u64,
    /// Their bytes.
    pub held_bytes: u64,
}

impl Definition {
    /// Reads the first JSON value of `text`.
    ///
    /// # Errors
    /// What is wrong with it, in one line without any of its values.
    pub fn parse(text: &[u8]) -> Result<Definition, String> {
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
        let members = match values.next() {
            None => return Err("EOF: the body is empty; send a JSON object".to_owned()),
            Some(Err(error)) if error.is_eof() => {
                return Err("unexpected EOF: the JSON ends too early".to_owned());
            }
            Some(Err(error)) => {
                let (line, column) = (error.line(), error.column());
                return Err(format!("broken JSON (line {line}, column {column})"));
            }
            Some(Ok(Value::Null)) => return Ok(Definition::default()),
            Some(Ok(Value::Object(members))) => members,
            Some(Ok(other)) => return Err(format!("{} is no route; send an object", kind(&other))),
        };
        let mut route = Definition::default();
        for (name, value) in members {
            if !value.is_null() {
                route.set(&name.to_ascii_lowercase(), value)?;
            }
        }
        Ok(route)
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), String> {
        match name {
            "id" => self.id = text(name, value)?,
            "filter_id" => self.filter_id = text(name, value)?,
            "filter_name" => self.filter_name = text(name, value)?,
            "adapter" => self.adapter = text(name, value)?,
            "address" => self.address = text(name, value)?,
            "filter_sources" => self.filter_sources = list(name, value)?,
            "filter_labels" => self.filter_labels = list(name, value)?,
            "options" => {
                let Value::Object(options) = value else { return Err(wrong(name, &value)) };
                for (option, value) in options {
                    self.options.insert(option, text(name, value)?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// How `spec` would be defined, under the name `id`.
    pub fn of(spec: &RouteSpec, id: &str) -> Definition {
        let transport = spec.transport.iter().map(|transport| format!("+{transport}"));
        let Selector { id: filter_id, name, sources, labels } = spec.selector.clone();
        Definition {
            id: id.to_owned(),
            filter_id,
            filter_name: name,
            filter_sources: sources,
            filter_labels: labels,
            adapter: spec.adapter.clone() + &transport.collect::<String>(),
            address: spec.address.clone(),
            options: spec.options.iter().cloned().collect(),
            lines: None,
        }
    }

    /// The route that it defines, to be checked when it is built.
    ///
    /// # Errors
    /// What is wrong with the adapter, in one line.
    pub fn spec(&self) -> Result<RouteSpec, String> {
        let (adapter, transport) =
            split_adapter(&self.adapter).map_err(|what| format!("bad adapter: it {what}"))?;
        Ok(RouteSpec {
            id: self.id.clone(),
            adapter: adapter.to_owned(),
            transport: transport.map(str::to_owned),
            address: self.address.clone(),
            selector: Selector {
                id: self.filter_id.clone(),
                name: self.filter_name.clone(),
                sources: self.filter_sources.clone(),
                labels: self.filter_labels.clone(),
            },
            options: self.options.clone().into_iter().collect(),
        })
    }

    /// The same without what nobody may see, and, if not `trusted`, without whatever else may be
    /// secret by its name.
    pub fn shown(&self, trusted: bool) -> Definition {
        let mut shown = self.clone();
        shown.address = open_address(&self.adapter, &self.address).into_owned();
        for (name, value) in &mut shown.options {
            let name = name.to_ascii_lowercase();
            let closed = ["fluent.", "logentries."].iter().any(|adapter| name.starts_with(adapter));
            let is_closed = closed || name.contains("webhook") || is_of_http(&name);
            if is_secret(&name) && (is_closed || !trusted) {
                *value = MASK.to_owned();
            }
        }
        shown
    }

    /// Whether it is one that was shown, with a mask where a secret should be.
    pub fn is_masked(&self) -> bool {
        let mut options = self.options.iter();
        options.any(|(name, value)| value == MASK && is_secret(name))
            || self.address.split_once('/').is_some_and(|(_, path)| path == MASK)
    }

    /// As Logspout writes it, without a newline at the end.
    pub fn to_json(&self) -> String {
        go_json(self)
    }
}

/// Several of them, as [`Definition::to_json`] writes one.
pub fn list_to_json(routes: &[Definition]) -> String {
    go_json(routes)
}

/// What Go's `MarshalIndent` makes of it: the characters that mean something in HTML are escaped,
/// and these are in strings alone.
fn go_json<T: Serialize + ?Sized>(value: &T) -> String {
    // Strings, lists and maps of strings can always be written.
    let plain = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

fn text(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        other => Err(wrong(name, &other)),
    }
}

fn list(name: &str, value: Value) -> Result<Vec<String>, String> {
    let Value::Array(values) = value else { return Err(wrong(name, &value)) };
    values.into_iter().map(|value| text(name, value)).collect()
}

fn wrong(name: &str, value: &Value) -> String {
    let wanted = match name {
        "options" => "an object of strings",
        "filter_sources" | "filter_labels" => "a list of strings",
        _ => "a string",
    };
    format!("{name} holds {} where {wanted} belongs", kind(value))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_lenient_as_go() {
        let parsed = Definition::parse(
            br#" {"Adapter": "raw+udp", "ADDRESS": "a:1", "id": null, "extra": [1],
                 "options": {"a": null, "b": "<2>"}} trailing"#,
        );
        let parsed = parsed.unwrap();
        assert_eq!((&*parsed.adapter, &*parsed.address, &*parsed.id), ("raw+udp", "a:1", ""));
        assert_eq!(parsed.options["a"], "");
        let expected = "{\n  \"id\": \"\",\n  \"adapter\": \"raw+udp\",\n  \
                        \"address\": \"a:1\",\n  \
                        \"options\": {\n    \"a\": \"\",\n    \"b\": \"\\u003c2\\u003e\"\n  }\n}";
        assert_eq!(parsed.to_json(), expected);
        assert_eq!(Definition::parse(b"null"), Ok(Definition::default()));
        assert_eq!(list_to_json(&[]), "[]");
    }

    #[test]
    fn errors_name_the_member_and_no_value() {
        for (text, expected) in [
            ("", "EOF"),
            ("  \n", "EOF"),
            ("{\"adapter\": \"sEcReT", "unexpected EOF"),
            ("sEcReT", "broken JSON (line 1, column 1)"),
            ("[\"sEcReT\"]", "a list is no route"),
            ("{\"Options\": \"sEcReT\"}", "options holds a string where an object of strings"),
            ("{\"options\": {\"x\": [\"sEcReT\"]}}", "options holds a list where"),
            ("{\"adapter\": 5}", "adapter holds a number where a string belongs"),
            ("{\"filter_labels\": \"a:b\"}", "filter_labels holds a string where a list of"),
            ("{\"filter_sources\": [1]}", "filter_sources holds a number where"),
        ] {
            let error = Definition::parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(!error.contains("sEcReT") && !error.contains('\n'), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(Definition::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn secrets_are_masked() {
        let route = Definition {
            adapter: "multiline+webhook+https".into(),
            address: "hooks.example/services/sEcReT".into(),
            options: [
                ("slack.webhook_url", "https://h/sEcReT"),
                ("structured_data", "t@1"),
                ("logentries.token", "sEcReT"),
                ("fluent.shared_key", "sEcReT"),
                ("Logentries.LogsToken", "sEcReT"),
                ("loggly.token", "sEcReT"),
                ("plain", "x"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            ..Definition::default()
        };
        for trusted in [false, true] {
            let shown = route.shown(trusted);
            assert!(shown.is_masked() && !route.is_masked());
            assert!(!shown.to_json().contains("sEcReT"), "{shown:?}");
            assert_eq!(shown.address, "hooks.example/***");
            assert_eq!(shown.options["structured_data"], if trusted { "t@1" } else { MASK });
            assert_eq!(shown.options["plain"], "x");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            texts in prop::collection::vec("\\PC{0,12}|[<>&\"\\\\\u{2028}\n\u{1}]{0,4}", 6),
            sources in prop::collection::vec("\\PC{0,8}", 0..3),
            options in prop::collection::btree_map("\\PC{0,8}", "\\PC{0,8}", 0..4),
        ) {
            let [id, filter_id, filter_name, adapter, address, label] = &texts[..] else {
                panic!("six were asked for")
            };
            let route = Definition {
                id: id.clone(),
                filter_id: filter_id.clone(),
                filter_name: filter_name.clone(),
                filter_sources: sources,
                filter_labels: vec![label.clone()],
                adapter: adapter.clone(),
                address: address.clone(),
                options,
                lines: None,
            };
            prop_assert_eq!(Definition::parse(route.to_json().as_bytes()), Ok(route.clone()));
            if let Ok(spec) = route.spec() {
                // `udp` is short for `raw+udp`.
                let adapter = route.adapter.clone();
                prop_assert_eq!(Definition { adapter, ..Definition::of(&spec, id) }, route);
            }
        }

        #[test]
        fn anything_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Definition::parse(&bytes);
        }

        #[test]
        fn whatever_json_is_answered(
            text in "[{\\[]\"(id|adapter|options|filter_sources)\": ?[\\[{\"n0-9ul:,}\\]]{0,20}",
        ) {
            let _ = Definition::parse(text.as_bytes());
        }
    }
}
