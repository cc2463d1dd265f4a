//! JSON as MessagePack: lines that are objects already (stats and events) become records.
//!
//! Pure. Written while it is parsed: nothing is allocated but for strings with escapes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::msgpack::{
    put_array32, put_bool, put_float, put_int, put_map32, put_nil, put_str, put_uint, set_count,
};

/// At most so many bytes of MessagePack come of a byte of JSON, but for [`AROUND`].
pub(super) const GROWTH: usize = 3;
/// The head of what has no byte around it.
pub(super) const AROUND: usize = 16;

/// Appends the members of the object `json` whose names are not `taken`, names and values in turn.
/// Returns how many these are; `None`, and nothing appended, if it is no object.
pub(super) fn members(json: &[u8], taken: &[&str], out: &mut Vec<u8>) -> Option<u32> {
    let begin = out.len();
    let mut parser = serde_json::Deserializer::from_slice(json);
    let count = parser.deserialize_map(Members { taken, out });
    let count = count.and_then(|count| parser.end().map(|()| count));
    if count.is_err() {
        out.truncate(begin);
    }
    count.ok()
}

struct Members<'a> {
    taken: &'a [&'a str],
    out: &'a mut Vec<u8>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<u32, A::Error> {
        let mut count = 0;
        loop {
            let begin = self.out.len();
            if pairs.next_key_seed(Writer(self.out))?.is_none() {
                return Ok(count);
            }
            let key = &self.out[begin..];
            let is_taken = |name: &&str| key.ends_with(name.as_bytes());
            // A name's head is one byte as long as the name is short, as those that are taken are.
            let taken = self.taken.iter().any(|name| key.len() == 1 + name.len() && is_taken(name));
            pairs.next_value_seed(Writer(self.out))?;
            match taken {
                true => self.out.truncate(begin),
                false => count += 1,
            }
        }
    }
}

/// Appends the value that it is given.
struct Writer<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        put_nil(self.0);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        put_bool(value, self.0);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        put_uint(value, self.0);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        put_int(value, self.0);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        put_float(value, self.0);
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        put_str(text.as_bytes(), self.0);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let (at, mut count) = (self.0.len(), 0);
        put_array32(0, self.0);
        while values.next_element_seed(Writer(self.0))?.is_some() {
            count += 1;
        }
        set_count(self.0, at, count);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, pairs: A) -> Result<(), A::Error> {
        let at = self.0.len();
        put_map32(0, self.0);
        let count = Members { taken: &[], out: self.0 }.visit_map(pairs)?;
        set_count(self.0, at, count);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rmpv::Value;
    use serde_json::Value as Json;

    /// Through another library, the naive way.
    fn same(value: &Json) -> Value {
        match value {
            Json::Null => Value::Nil,
            Json::Bool(value) => Value::Boolean(*value),
            Json::Number(number) => number
                .as_u64()
                .map(Value::from)
                .or_else(|| number.as_i64().map(Value::from))
                .or_else(|| number.as_f64().map(Value::F64))
                .unwrap(),
            Json::String(text) => Value::from(&**text),
            Json::Array(values) => Value::Array(values.iter().map(same).collect()),
            Json::Object(pairs) => {
                let pair = |(name, value): (&String, &Json)| (Value::from(&**name), same(value));
                Value::Map(pairs.iter().map(pair).collect())
            }
        }
    }

    fn decoded(json: &str, taken: &[&str]) -> Option<Value> {
        let mut out = Vec::new();
        put_map32(0, &mut out);
        let count = members(json.as_bytes(), taken, &mut out);
        assert!(out.len() <= GROWTH * json.len() + AROUND, "{json}: {}", out.len());
        if count.is_none() {
            assert_eq!(out.len(), 5);
        }
        set_count(&mut out, 0, count?);
        let mut rest = &out[..];
        let value = rmpv::decode::read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        Some(value)
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            any::<String>().prop_map(Json::from),
            Just(Json::from(1.5)),
        ];
        leaf.prop_recursive(4, 40, 10, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..10).prop_map(Json::from),
                prop::collection::btree_map(any::<String>(), inner, 0..10)
                    .prop_map(|pairs| Json::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn as_the_naive_way(json in json()) {
            let text = json.to_string();
            // How a number is read that is written is the parser's affair.
            let json: Json = serde_json::from_str(&text).unwrap();
            let expected = json.is_object().then(|| same(&json));
            prop_assert_eq!(decoded(&text, &[]), expected);
        }
    }

    #[test]
    fn small_values_do_not_outgrow_their_bounds() {
        for value in ["[]", "{}", "1.1", "1e1", "70000", "-200", "null", "\"\"", "{\"\":{}}"] {
            let text = format!("{{\"\":[{}]}}", vec![value; 1000].join(","));
            assert!(decoded(&text, &[]).is_some(), "{value}");
        }
    }

    #[test]
    fn names_that_are_taken_are_left_out_and_what_is_no_object_is_nothing() {
        let text = r#"{"a":1,"source":{"b":[2]},"c":"d","sourc":1,"xource":2}"#;
        let left = decoded(text, &["source", "x"]).unwrap();
        let expected: Json =
            serde_json::from_str(r#"{"a":1,"c":"d","sourc":1,"xource":2}"#).unwrap();
        assert_eq!(left, same(&expected));
        for text in ["", "x", "[]", "{", "{} {}", "{\"a\":1e999}", "\"{}\"", "{\"a\":\"\\ud800\"}"]
        {
            assert_eq!(decoded(text, &[]), None, "{text}");
        }
    }
}
