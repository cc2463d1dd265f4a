//! Route URIs: nothing panics, an error is one line, what is displayed means the same, and neither
//! shows a secret.
//!
//! Input: a mode and a text. Even: the text is the list of routes. Odd: the parts of the text,
//! between zero bytes, are put into URIs around secrets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::route::RouteSpec;
use logchute::route::uri::{display, parse_routes, unknown_options};
use logchute_fuzz::{SECRET, check_message, texts};

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    if mode % 2 == 1 {
        return secrets(mode / 2, rest);
    }
    let Ok(text) = str::from_utf8(rest) else { return };
    match parse_routes(text, &env) {
        Ok(specs) => specs.iter().for_each(round_trip),
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
});

fn env(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("logs.example.com:514".to_owned()),
        "LIST" => Some("a,b&c=d".to_owned()),
        "ODD" => Some("%2C#?\u{e9}".to_owned()),
        "TOKEN" => Some(SECRET.to_owned()),
        _ => None,
    }
}

/// What is displayed is a URI that means the same, but for what may be a secret.
fn round_trip(spec: &RouteSpec) {
    let shown = display(spec);
    assert!(!shown.contains(char::is_control), "{shown:?}");
    unknown_options(spec, &["append_tag"]);
    // The value of such an option is `***`; and no URI of a list has these in its address.
    let hidden = spec.options.iter().any(|(_, value)| shown.contains("***") && value != "***");
    if hidden || spec.address.contains(['$', ',']) {
        return;
    }
    let again = parse_routes(&shown, &|_| None).unwrap_or_else(|error| panic!("{error}"));
    let expected = RouteSpec { id: "0".to_owned(), ..spec.clone() };
    assert_eq!(again, [expected], "{shown}");
}

/// Secrets in each place that is known for them, whatever is around.
fn secrets(mode: u8, rest: &[u8]) {
    let parts: Vec<&str> = texts(rest).collect();
    let part = |n: usize| parts.get(n).copied().unwrap_or_default();
    // Without what would put the secret into another place than the one that is meant.
    let tame = |text: &str, without: &[char]| {
        let mut text = text.replace(without, "");
        while text.contains(SECRET) {
            text = text.replace(SECRET, "");
        }
        text
    };
    // Schemes are shown in lower case.
    let host =
        |n: usize| tame(&part(n).to_ascii_lowercase(), &['?', '#', '&', ';', '/', ',', '$', '@']);
    // Of pieces that a variable without a value parts, a word like the secret may become.
    let value = |n: usize| tame(part(n), &['&', ',', '$']);
    let scheme = ["raw+tcp".to_owned(), "https".to_owned(), "syslog+tls".to_owned(), host(0)];
    let scheme = &scheme[usize::from(mode % 4)];
    let option = ["token", "API_KEY", "my%5Fpassword", "structured_data", "x.webhook_url"]
        [usize::from(mode / 4) % 5];
    if scheme.to_ascii_lowercase().ends_with("unix") {
        // The path of a socket is no secret.
        return;
    }
    let (a, b, c, x, y, z) = (host(1), host(2), host(3), value(1), value(2), value(3));
    for uri in [
        format!("{scheme}://{a}:{SECRET}@{b}/{c}?x={z}"),
        format!("{scheme}://{SECRET}{a}@{b}/{c}?x={z}"),
        format!("{scheme}://{a}/{b}{SECRET}{c}?x={z}"),
        format!("{scheme}://{a}?{option}={y}{SECRET}{z}&x={x}"),
        format!("{scheme}://{a}?x={y}&{option}={x}{SECRET}#{z}"),
        format!("{scheme}://{a}?x={y}&my{option}=$TOKEN{z}&{x}"),
        format!("{scheme}:/h{a}:{SECRET}@{b}?{z}"),
        format!("{scheme}:{a}:{SECRET}@{b}?{z}"),
        format!("{scheme}:/h{a}/{b}{SECRET}?{z}"),
        format!("{a}:{SECRET}@{b}/{c}?{z}"),
        format!("{scheme}://{a}:x{SECRET}/{b}@{c}?{z}"),
    ] {
        match parse_routes(&uri, &env) {
            Ok(specs) => {
                for spec in &specs {
                    assert!(!display(spec).contains(SECRET), "{uri:?} {}", display(spec));
                }
            }
            Err(error) => check_message(&error.to_string()),
        }
    }
}
