//! The daemon's events: lines cut anywhere are the lines, and what is understood of one is what a
//! generic reader of JSON finds there.
//!
//! Input: a count, so many sizes of pieces (one byte each), and the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::docker::events::{Action, EventLines, parse_event, parse_happening};
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
    lines.iter().for_each(|line| happening(line));
});

/// What routes are told: of each line that the registry understands, the same, and as JSON.
fn happening(line: &[u8]) {
    let told = parse_happening(line);
    let event = parse_event(line);
    assert_eq!(told.is_err(), event.is_err());
    let Ok(told) = told else { return };
    let shown = told.line();
    assert!(!shown.contains('\n'));
    let shown: Value = serde_json::from_str(&shown).expect("a line is JSON");
    assert_eq!(shown["action"], told.action);
    assert_eq!(shown["type"] == "container", told.is_of_container());
    let attributes = shown["attributes"].as_object().map_or(0, |all| all.len());
    assert_eq!(attributes, told.attributes.len());
    let Ok(Some(event)) = event else { return assert!(!told.is_of_container()) };
    assert_eq!((&told.id, told.time_nanos), (&event.id, event.time_nanos));
    assert_eq!(told.name, event.name);
    assert_eq!(told.subject().labels, event.labels);
    match event.action {
        Action::Die { exit_code } => {
            assert_eq!((&*told.action, told.exit_code), ("die", exit_code))
        }
        Action::Destroy => assert_eq!(told.action, "destroy"),
        Action::Start => assert_eq!(told.action, "start"),
        Action::HealthStatus(_) => assert!(told.action.starts_with("health_status")),
        _ => assert_eq!(told.exit_code, None),
    }
}

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
