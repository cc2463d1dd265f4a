//! Replays what Go's `path.Match` and `regexp` were seen to answer, pattern by pattern: the
//! meaning that users of Logspout rely on. The data and how it was recorded:
//! `tests/conformance/README.md`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use logchute::route::glob::Glob;
use logchute::route::pattern::Pattern;

/// What a line of the corpus expects, and what we made of it.
fn replay(corpus: &str, count: usize, answer: impl Fn(&Value) -> Value) {
    let cases: Vec<Value> =
        corpus.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert_eq!(cases.len(), count);
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| answer(case) != case["expect"])
        .map(|case| format!("{case}: we say {}", answer(case)))
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn text(case: &Value) -> Vec<u8> {
    match case["text_base64"].as_str() {
        Some(text) => STANDARD.decode(text).expect("base64"),
        None => case["text"].as_str().expect("a text").as_bytes().to_vec(),
    }
}

#[test]
fn path_match() {
    replay(include_str!("conformance/path-match.jsonl"), 178, |case| {
        match Glob::new(case["pattern"].as_str().expect("a pattern")) {
            Ok(glob) => glob.matches(case["name"].as_str().expect("a name")).into(),
            Err(_) => "error".into(),
        }
    });
}

#[test]
fn regex() {
    replay(include_str!("conformance/regex.jsonl"), 229, |case| {
        match Pattern::new(case["pattern"].as_str().expect("a pattern")) {
            Ok(pattern) => pattern.is_match(&text(case)).into(),
            Err(_) => "error".into(),
        }
    });
}
