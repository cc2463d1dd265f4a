//! Elasticsearch's answer to a bulk request, which tells of each record what became of it.
//!
//! Pure. Source: Elasticsearch's bulk API (8.x; OpenSearch's is the same): the status is 200 even
//! where each item failed; `errors` says whether any did, and `items` has an object for each
//! action, in order, whose one member is named by the action and has a `status`, and an `error` if
//! it failed:
//!
//! ```json
//! {"errors": true, "items": [
//!   {"create": {"status": 201}},
//!   {"create": {"status": 400, "error": {"type": "…", "reason": "…"}}}]}
//! ```

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::ledger::Outcome;
use super::plan::{Meaning, meaning};

/// What became of each record of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    /// In the order of the records.
    pub outcomes: Vec<Outcome>,
    /// What the receiver says of the first one that it refused.
    pub refused_words: String,
    /// What it says of the first one that is to be sent again.
    pub again_words: String,
}

/// Reads the answer to a request of so many `records`; `None` if all were taken.
///
/// # Errors
/// The end of a sentence: why it is no such answer.
pub fn read(answer: &[u8], records: usize) -> Result<Option<Items>, String> {
    let no_answer = |_| "which is no answer of the bulk API; see the route's address".to_owned();
    let answer: Answer = serde_json::from_slice(answer).map_err(no_answer)?;
    if !answer.errors {
        return Ok(None);
    }
    let items = answer.items.unwrap_or_default().0;
    let told = items.outcomes.len();
    if told != records {
        return Err(format!("which tells of {told} records where {records} were sent"));
    }
    Ok(Some(items))
}

#[derive(Deserialize)]
struct Answer {
    errors: bool,
    items: Option<Told>,
}

#[derive(Default)]
struct Told(Items);

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Told, D::Error> {
        deserializer.deserialize_seq(TellItems)
    }
}

struct TellItems;

impl<'de> Visitor<'de> for TellItems {
    type Value = Told;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Told, A::Error> {
        let mut items = Items::default();
        while let Some(Item(told)) = seq.next_element::<Item<'de>>()? {
            let outcome = match meaning(told.status) {
                Meaning::Taken => Outcome::Delivered,
                Meaning::Later => Outcome::Again,
                Meaning::TooLarge | Meaning::Never => Outcome::Refused,
            };
            let words = match outcome {
                Outcome::Delivered => None,
                Outcome::Refused => Some(&mut items.refused_words),
                Outcome::Again => Some(&mut items.again_words),
            };
            if let Some(words) = words.filter(|words| words.is_empty()) {
                *words = told.words();
            }
            items.outcomes.push(outcome);
        }
        Ok(Told(items))
    }
}

/// An object with one member, whatever it is called.
struct Item<'a>(Report<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item<'a>, D::Error> {
        deserializer.deserialize_map(TellItem)
    }
}

struct TellItem;

impl<'de> Visitor<'de> for TellItem {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'de>, A::Error> {
        let none = || de::Error::custom("an item has one member");
        let (_, told) = map.next_entry::<IgnoredAny, Report<'de>>()?.ok_or_else(none)?;
        match map.next_key::<IgnoredAny>()? {
            None => Ok(Item(told)),
            Some(_) => Err(none()),
        }
    }
}

/// What an item says.
#[derive(Deserialize)]
struct Report<'a> {
    status: u16,
    #[serde(borrow)]
    error: Option<Trouble<'a>>,
}

/// An error: an object, or a text in answers of old versions.
#[derive(Deserialize)]
#[serde(untagged)]
enum Trouble<'a> {
    Told {
        #[serde(rename = "type", borrow)]
        kind: Option<Cow<'a, str>>,
        #[serde(borrow)]
        reason: Option<Cow<'a, str>>,
    },
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(IgnoredAny),
}

impl Report<'_> {
    fn words(&self) -> String {
        let status = self.status;
        match &self.error {
            Some(Trouble::Told { kind, reason }) => {
                let kind = kind.as_deref().unwrap_or_default();
                format!("{status} {kind}: {}", reason.as_deref().unwrap_or_default())
            }
            Some(Trouble::Text(text)) => format!("{status} {text}"),
            Some(Trouble::Other(_)) | None => status.to_string(),
        }
    }
}

/// The same, told naively. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use serde_json::Value;

    use super::super::ledger::Outcome;

    /// The outcomes that an answer tells; `None` where it tells of none, or is no answer.
    pub fn outcomes(answer: &[u8]) -> Option<Vec<Outcome>> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        if !answer["errors"].as_bool()? {
            return None;
        }
        let items = answer["items"].as_array()?;
        let outcome = |item: &Value| {
            let item = item.as_object().filter(|item| item.len() == 1)?;
            match item.values().next()?["status"].as_u64()? {
                200..=299 => Some(Outcome::Delivered),
                401..=408 | 410 | 415 | 421 | 423 | 425 | 429 => Some(Outcome::Again),
                400..=499 => Some(Outcome::Refused),
                _ => Some(Outcome::Again),
            }
        };
        items.iter().map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn told(answer: &Value, records: usize) -> Result<Option<Items>, String> {
        read(answer.to_string().as_bytes(), records)
    }

    #[test]
    fn items_have_outcomes() {
        assert_eq!(told(&json!({"took": 3, "errors": false, "items": []}), 5), Ok(None));
        assert_eq!(told(&json!({"errors": false}), 5), Ok(None));
        let items = json!([
            {"create": {"_index": "logs", "status": 201}},
            {"create": {"status": 400, "error": {"type": "document_parsing_exception",
                "reason": "[1:22] failed to parse \"x\"", "caused_by": {"type": "other"}}}},
            {"create": {"status": 429, "error": {"type": "es_rejected_execution_exception"}}},
            {"create": {"status": 400, "error": "another"}},
            {"index": {"status": 503}},
        ]);
        let got = told(&json!({"errors": true, "items": items}), 5).unwrap().unwrap();
        use Outcome::{Again, Delivered, Refused};
        assert_eq!(got.outcomes, [Delivered, Refused, Again, Refused, Again]);
        assert_eq!(
            got.refused_words,
            "400 document_parsing_exception: [1:22] failed to parse \"x\""
        );
        assert_eq!(got.again_words, "429 es_rejected_execution_exception: ");
    }

    #[test]
    fn what_is_no_answer_is_said() {
        for text in ["", "{}", "[]", "ok", "{\"errors\":1}", "<html>", "{\"errors\":true,"] {
            let error = read(text.as_bytes(), 1).unwrap_err();
            assert!(error.starts_with("which is no answer of the bulk API"), "{text}: {error}");
        }
        let error = told(&json!({"errors": true}), 2).unwrap_err();
        assert_eq!(error, "which tells of 0 records where 2 were sent");
        let two = json!({"errors": true, "items": [{"a": {"status": 200}, "b": {"status": 200}}]});
        assert!(told(&two, 1).is_err());
        assert!(told(&json!({"errors": true, "items": [{}]}), 1).is_err());
        assert!(told(&json!({"errors": true, "items": [{"a": {"status": -1}}]}), 1).is_err());
    }

    proptest! {
        /// Torn and damaged ones are errors, or mean what the naive reader makes of them.
        #[test]
        fn damage_is_noticed(
            statuses in prop::collection::vec(100_u16..600, 1..6),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            end in any::<prop::sample::Index>(),
            torn in any::<bool>(),
        ) {
            let error = json!({"type": "t", "reason": "é \n"});
            let item = |status: &u16| json!({"create": {"status": status, "error": error}});
            let items: Vec<Value> = statuses.iter().map(item).collect();
            let mut text = json!({"errors": true, "items": items}).to_string().into_bytes();
            for (at, byte) in damage {
                let at = at.index(text.len());
                text[at] = byte;
            }
            if torn {
                text.truncate(end.index(text.len()));
            }
            if let (Ok(Some(items)), Some(naive)) =
                (read(&text, statuses.len()), naive::outcomes(&text))
            {
                prop_assert_eq!(items.outcomes, naive);
            }
            prop_assert!(!torn || read(&text, statuses.len()).is_err());
        }

        #[test]
        fn as_the_naive_one_says(statuses in prop::collection::vec(100_u16..600, 0..50)) {
            let item = |status: &u16| json!({"create": {"status": status}});
            let items: Vec<Value> = statuses.iter().map(item).collect();
            let text = json!({"errors": true, "items": items}).to_string();
            let got = read(text.as_bytes(), statuses.len()).unwrap().unwrap().outcomes;
            prop_assert_eq!(Some(got), naive::outcomes(text.as_bytes()));
        }
    }
}
