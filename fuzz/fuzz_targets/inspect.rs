//! What the daemon says of its containers: arbitrary bytes never panic and are never shown, and
//! what is understood is what a generic reader of JSON finds there.
//!
//! Input: the daemon's answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::docker::inspect::{JsonError, parse_inspect, parse_list};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    // In members that nobody asked for, bad escapes are passed over by the one and not by the other.
    let value = serde_json::from_slice::<Value>(data).ok();
    match parse_inspect(data) {
        Ok(container) => {
            let Some(value) = &value else { return };
            let text = |member: &Value| member.as_str().unwrap_or_default().to_owned();
            let config = &value["Config"];
            assert_eq!(container.id, text(&value["Id"]));
            assert!(!container.id.is_empty() && container.id.starts_with(container.short_id()));
            let name = text(&value["Name"]);
            assert_eq!(container.name, name.strip_prefix('/').unwrap_or(&name));
            assert_eq!(container.image, text(&config["Image"]));
            assert_eq!(container.hostname, text(&config["Hostname"]));
            assert_eq!(container.tty, config["Tty"] == true);
            assert_eq!(container.log_driver, text(&value["HostConfig"]["LogConfig"]["Type"]));
            assert_eq!(container.pid, value["State"]["Pid"].as_u64().unwrap_or_default());
            let labels = config["Labels"].as_object().map_or(0, |labels| labels.len());
            assert_eq!(container.labels.len(), labels);
            assert!(container.labels.iter().all(|(k, v)| *v == text(&config["Labels"][k])));
        }
        Err(error) => check(&error),
    }
    match parse_list(data) {
        Ok(listed) => {
            let Some(value) = value else { return };
            let ids = value.as_array().into_iter().flatten().map(|one| one["Id"].as_str());
            assert!(listed.iter().map(|one| Some(one.id.as_str())).eq(ids));
        }
        Err(error) => check(&error),
    }
});

/// A fixed text and two numbers: nothing of the answer.
fn check(error: &JsonError) {
    let text = error.to_string().replace(|c: char| c.is_ascii_digit(), "");
    assert!(
        [
            "the daemon's answer is broken JSON (line , column )",
            "the daemon's answer has an unexpected JSON value (line , column )",
            "the daemon's answer names a container without an id",
        ]
        .contains(&&*text)
    );
}
