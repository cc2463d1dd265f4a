//! Templates are configuration, but a mistake in one must not cost the program: whatever is
//! written, parsing and evaluating end soon, and a folded template gives what plain evaluation
//! does. Input: which context, the template, a NUL, the line.

#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use logchute::template::{Context, Functions, Line, Moment, Template};

const CONTAINER: &str = r#"{
    "Id": "5de3274a3848aea1f6ba28cada5d07a3", "Name": "/proj_web_1",
    "Created": "2024-05-06T07:08:09.123456789Z", "Args": ["-c", "run"],
    "Config": {
        "Hostname": "host", "Env": ["ROLE=front", "LEVEL=7"], "Tty": false,
        "Labels": {"team": "blue", "a.b": "<\"&'>"}, "ExposedPorts": {"80/tcp": {}}
    },
    "State": {"Running": true, "Pid": 555, "StartedAt": "2024-05-06T07:08:10.5+05:30"},
    "HostConfig": {"Memory": 268435456, "Binds": ["/data:/data"]},
    "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}}
}"#;

static CONTEXTS: LazyLock<[(Context, Functions); 4]> = LazyLock::new(|| {
    let container = Arc::new(CONTAINER.parse().expect("JSON"));
    let value = r#"{"s": "str", "n": 3, "f": 2.5, "l": [1, "two", null, [3]], "m": {"k": {}}}"#;
    let env = BTreeMap::from([("SUBDOMAIN".to_owned(), "example".to_owned())]);
    [
        (Context::raw(Arc::clone(&container), "stdout"), Functions::WithToJson),
        (Context::syslog(Arc::clone(&container), "stderr", "node"), Functions::Predefined),
        (Context::slack(container, "stdout", Arc::new(env)), Functions::Predefined),
        (Context::value(Arc::new(value.parse().expect("JSON"))), Functions::WithToJson),
    ]
});

fuzz_target!(|input: &[u8]| {
    let Some((which, rest)) = input.split_first() else { return };
    let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
    let Ok(text) = std::str::from_utf8(&rest[..end]) else { return };
    let data = rest.get(end + 1..).unwrap_or_default();
    let (context, functions) = &CONTEXTS[usize::from(which % 4)];
    let Ok(template) = Template::compile("t", text, *functions) else { return };
    let time = Moment::from_nanos(1_714_979_289_123_456_789);
    let line = Line { data, time, timestamp: b"2024-05-06T07:08:09Z" };
    let (mut plain, mut folded) = (Vec::new(), Vec::new());
    let evaluated = template.evaluate(context, &line, &mut plain);
    let bound = template.bind(context);
    let rendered = bound.render(&line, &mut folded);
    // Where a limit is met depends on what is counted.
    let limit = [&evaluated, &rendered].iter().any(|r| r.as_ref().is_err_and(|e| e.is_limit()));
    if !limit {
        assert_eq!(rendered, evaluated);
        assert!(folded == plain);
        assert!(bound.len_max(data.len()).is_none_or(|len_max| folded.len() <= len_max));
    }
});
