//! The daemon's stats: what is understood of a sample is what a generic reader of JSON finds there,
//! and whatever samples come, lines are JSON and add up to what was counted.
//!
//! Input: the interval in seconds, and samples, a line each.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use logchute::docker::inspect::Container;
use logchute::docker::stats::{Meter, Sample, parse_sample};
use logchute::docker::time::rfc3339;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((&interval, stream)) = data.split_first() else { return };
    let mut meter = Meter::new(Duration::from_secs(interval.into()));
    let container = Container { name: "a\"b".into(), ..Container::default() };
    let (mut begun, mut last, mut seconds) = (None, 0, 0.0);
    let mut tell = |usage: Option<logchute::docker::stats::Usage>| {
        let Some(usage) = usage else { return };
        let line = usage.line(&container);
        let line: Value = serde_json::from_str(&line).expect("a line is JSON");
        let told = line["time"].as_str().and_then(|time| rfc3339(time.as_bytes()));
        // The year 9999 is the last that has such a time; the daemon's end in 2554.
        assert_eq!(told, Some(usage.at()));
        assert!(line["cpu_percent"].as_f64().is_some_and(|percent| percent >= 0.0));
        seconds += line["seconds"].as_f64().unwrap();
    };
    for line in stream.split(|&byte| byte == b'\n') {
        let Ok(sample) = parse_sample(line) else { continue };
        compare(line, sample.as_ref());
        let Some(sample) = sample else { continue };
        if sample.at > last || begun.is_none() {
            last = sample.at;
        }
        begun.get_or_insert(sample.at);
        tell(meter.add(sample));
    }
    tell(meter.finish());
    let Some(begun) = begun else { return };
    // Each is rounded to a hundredth.
    let whole = (last - begun) as f64 / 1e9;
    let rounding = 0.005 * (stream.len() as f64 + 1.0) + whole * 1e-9;
    assert!((seconds - whole).abs() <= rounding, "{seconds} of {whole}");
});

fn compare(line: &[u8], sample: Option<&Sample>) {
    // In members that nobody asked for, bad escapes are passed over by the one and not by the other.
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return };
    let read = value["read"].as_str().and_then(|read| rfc3339(read.as_bytes()));
    assert_eq!(sample.map(|sample| sample.at), read);
    let Some(sample) = sample else { return };
    let number = |member: &Value| match member.as_u64() {
        Some(number) => number,
        None => member.as_f64().unwrap_or_default() as u64,
    };
    assert_eq!(sample.cpu_nanos, number(&value["cpu_stats"]["cpu_usage"]["total_usage"]));
    assert_eq!(sample.host_nanos, number(&value["cpu_stats"]["system_cpu_usage"]));
    let memory = &value["memory_stats"];
    assert_eq!(sample.memory_limit, number(&memory["limit"]));
    assert!(sample.memory <= number(&memory["usage"]));
    assert_eq!(sample.pids, number(&value["pids_stats"]["current"]));
    let networks = value["networks"].as_object().into_iter().flatten();
    let received = networks.fold(0_u64, |sum, (_, n)| sum.saturating_add(number(&n["rx_bytes"])));
    assert_eq!(sample.received.bytes, received);
}
