//! The daemon's events: lines cut anywhere are the lines, and what is understood of one is what a
//! generic reader of JSON finds there.
//!
//! Input: a count, so many sizes of pieces (one byte each), and the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::docker::events::{Action, EventLines, parse_event};
use logchute::docker::frame::naive::cut;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((&count, rest)) = data.split_first() else { return };
    let (sizes, stream) = rest.split_at(rest.len().min(usize::from(count)));
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut split = EventLines::default();
    for piece in cut(stream, sizes) {
        split.push(piece, |line| lines.push(line.to_vec())).expect("no line is that long");
    }
    let whole = stream.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let expected: Vec<&[u8]> = stream[..whole]
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(lines, expected);
    lines.iter().for_each(|line| event(line));
});

fn event(line: &[u8]) {
    let Ok(event) = parse_event(line) else { return };
    // In members that nobody asked for, bad escapes are passed over by the one and not by the other.
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return };
    let text = |member: &Value| member.as_str().unwrap_or_default().to_owned();
    let kind = value["Type"].as_str();
    let Some(event) = event else {
        return assert!(kind.is_some_and(|kind| kind != "container"));
    };
    assert!(kind.is_none_or(|kind| kind == "container"));
    let (actor, old) = (text(&value["Actor"]["ID"]), text(&value["id"]));
    assert_eq!(event.id, if actor.is_empty() { old } else { actor });
    assert!(!event.id.is_empty());
    let verb = value["Action"].as_str().or(value["status"].as_str()).unwrap_or_default();
    let is_known = event.action != Action::Other;
    assert!(
        !is_known || verb.bytes().all(|b| b.is_ascii_lowercase() || b"_:".contains(&b)) || {
            verb.starts_with("health_status:")
        }
    );
    assert_eq!(matches!(event.action, Action::Start), verb == "start");
    assert_eq!(matches!(event.action, Action::Die { .. }), ["die", "died"].contains(&verb));
    let attributes = &value["Actor"]["Attributes"];
    let name = text(&attributes["name"]);
    assert_eq!(event.name, name.strip_prefix('/').unwrap_or(&name));
    assert!(event.labels.iter().all(|(key, label)| *label == text(&attributes[key])));
    if let Some(nanos) = value["timeNano"].as_i64() {
        assert_eq!(event.time_nanos, u64::try_from(nanos).unwrap_or_default());
    }
}
