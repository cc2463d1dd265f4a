//! `webhook`: lines as JSON, or whatever a template makes of them, for any HTTP webhook.
//!
//! Pure but for the PEM files that TLS needs. How lines become messages is in [`super::message`];
//! when they are sent, and what an answer means, is as for Slack ([`crate::transport::webhook`]).

use std::sync::Arc;
use std::time::Duration;

use super::message::body::{Attachments, Discord, MATTERMOST, Teams};
use super::message::digest::{Body, MessageDigest};
use super::message::lines::{Containers, Filled, JsonLines, Lines};
use super::message::{Dialect, Family, Messages};
use super::options::Options;
use super::{Built, Need, SinkSpec, field, target};
use crate::config::{Settings, value};
use crate::route::RouteSpec;
use crate::template::{Functions, Template};
use crate::transport::webhook::{Desk, Manner, Webhook};
use crate::transport::{Delivery, http};

/// `webhook+https://HOST/PATH`, or `webhook+http://`; `webhook://` alone leads to `WEBHOOK_URL`.
/// Options named as the variables (`webhook.preset`) win over these.
pub const SPEC: SinkSpec = SinkSpec { scheme: "webhook", build };

const FAMILY: Family = Family { variable: "WEBHOOK_", option: "webhook." };

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    let options = Options { spec, given: &settings.webhook.given };
    let url = url(&options)?;
    let tls = options.tls(&url, settings)?;
    let webhook = Webhook::parse(&url, tls, manner(&options)?)
        .map_err(|error| options.bad("webhook.url", &error))?
        .through(&settings.proxy)?;
    let (sink, form) = shape(&options, settings)?;
    let desk = Desk::new(webhook, move || Box::new(MessageDigest::new(Arc::clone(&form))));
    let delivery = Delivery::Webhook(Arc::new(desk));
    Ok(match sink {
        Made::Messages(sink) => {
            // An empty line is no message that people could read.
            let something = Need { name: "empty lines", pattern: ".".to_owned() };
            Built { needs: vec![something], ..Built::new(sink, delivery) }
        }
        Made::Lines(sink) => Built::new(sink, delivery),
    })
}

/// The whole URL.
fn url(options: &Options<'_>) -> Result<String, String> {
    const FIX: &str = "write webhook+https://HOST/PATH, or set WEBHOOK_URL=https://HOST/PATH";
    let spec = options.spec;
    let scheme = match spec.transport.as_deref() {
        None | Some("https") => "https",
        Some("http") => "http",
        Some(other) => return Err(target::bad_transport(spec, other, FIX)),
    };
    options.url("webhook.url", scheme, FIX)
}

fn manner(options: &Options<'_>) -> Result<Manner, String> {
    let default = Manner { setting: "WEBHOOK_URL", talkative: true, ..Manner::slack() };
    let count = |text: &str| value::number_within(text, 1, 1000).map(|count| count as u32);
    Ok(Manner {
        method: options.read("webhook.method", default.method.clone(), http::method)?,
        content_type: options.read(
            "webhook.content_type",
            default.content_type.clone(),
            http::header_value,
        )?,
        headers: options.read("webhook.headers", default.headers.clone(), http::headers)?,
        every: options.read::<Duration>("webhook.rate", default.every, value::rate)?,
        burst: options.read("webhook.burst", default.burst, count)?,
        ..default
    })
}

/// What records are made of.
enum Made {
    Messages(Messages),
    Lines(Lines),
}

/// The preset or the template: the route's own, or else the settings'.
fn shape(options: &Options<'_>, settings: &Settings) -> Result<(Made, Arc<dyn Body>), String> {
    let (body, preset) = ("webhook.body", "webhook.preset");
    let given = match (options.own(body), options.own(preset)) {
        (None, None) => (options.shared(body), options.shared(preset)),
        own => own,
    };
    let shape = match given {
        (Some(_), Some(_)) => {
            Err(options.bad(body, "is given, and a preset too; leave out one of them"))
        }
        (Some(text), None) => filled(options, settings, text),
        (None, preset) => preset_of(preset.unwrap_or("json"), options, settings),
    }?;
    if let (Made::Lines(_), _) = shape {
        say_unused(options);
    }
    Ok(shape)
}

/// Options of messages for people on a route for programs: a slip of the pen, most likely.
fn say_unused(options: &Options<'_>) {
    for part in ["title", "message", "link", "color"] {
        let name = format!("webhook.{part}_template");
        if options.own(&name).is_some() {
            tracing::warn!(
                route = options.spec.id,
                "{name} has no effect: it is for the presets mattermost, discord and teams"
            );
        }
    }
}

fn preset_of(
    name: &str,
    options: &Options<'_>,
    settings: &Settings,
) -> Result<(Made, Arc<dyn Body>), String> {
    let (form, dialect): (Arc<dyn Body>, _) = match name.to_ascii_lowercase().as_str() {
        "json" => {
            let containers = Arc::new(Containers::default());
            let form = Arc::new(JsonLines(Arc::clone(&containers)));
            return Ok((Made::Lines(Lines(containers)), form));
        }
        "mattermost" => (Arc::new(Attachments(&MATTERMOST)), Dialect::Mattermost),
        "discord" => (Arc::new(Discord), Dialect::Discord),
        "teams" => (Arc::new(Teams), Dialect::Plain),
        _ => {
            let fix = format!("{name:?} is no preset; write json, mattermost, discord or teams");
            return Err(options.bad("webhook.preset", &fix));
        }
    };
    let (templates, environment) = (&settings.webhook.templates, &settings.slack.environment);
    let dialect = (dialect, form.limits());
    let sink = Messages::new(options.spec, FAMILY, templates, environment, dialect)?;
    Ok((Made::Messages(sink), form))
}

fn filled(
    options: &Options<'_>,
    settings: &Settings,
    text: &str,
) -> Result<(Made, Arc<dyn Body>), String> {
    let template = Template::compile("body", text, Functions::WithToJson).map_err(|error| {
        let error = format!("{error}; see Go's text/template");
        options.bad("webhook.body", &field::printable(&error))
    })?;
    let containers = Arc::new(Containers::default());
    let (environment, route) = (&settings.slack.environment, &options.spec.id);
    let form = Filled::new(template, environment, Arc::clone(&containers), route);
    let json = |text: &str| Ok(text.contains("json"));
    if options.read("webhook.content_type", true, json)? && !form.gives_json() {
        tracing::warn!(
            route = route,
            "WEBHOOK_BODY gives no JSON for a line with quotes in it; write {{{{toJSON .Text}}}} \
             rather than \"{{{{.Text}}}}\""
        );
    }
    Ok((Made::Lines(Lines(containers)), Arc::new(form)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{SlackSettings, WebhookSettings};
    use crate::docker::Source;
    use crate::docker::inspect::Container;
    use crate::sink::{self, testing};
    use crate::transport::webhook::Contents;

    fn settings(given: &[(&'static str, &str)]) -> Settings {
        let given = given.iter().map(|&(name, text)| (name, text.to_owned())).collect();
        let environment = [("TEAM".to_owned(), "blue".to_owned())].into();
        let webhook = WebhookSettings { given, ..WebhookSettings::default() };
        let slack = SlackSettings { environment, ..SlackSettings::default() };
        Settings { webhook, slack, ..Settings::default() }
    }

    /// A route without TLS, which needs no authorities.
    fn built(options: &[(&str, &str)]) -> Result<Built, String> {
        let spec = testing::route("webhook", Some("http"), "hooks.example.com", options);
        build(&spec, &settings(&[]))
    }

    fn container() -> Container {
        let labels = [
            ("com.docker.swarm.service.name".to_owned(), "shop_web".to_owned()),
            ("com.docker.stack.namespace".to_owned(), "shop".to_owned()),
        ];
        Container {
            id: "3eda".into(),
            name: "web".into(),
            image: "nginx".into(),
            labels: labels.into(),
            ..Container::default()
        }
    }

    /// The messages that lines become that came at once, and what these stand for.
    fn messages(built: &Built, lines: &[u8]) -> Vec<(Vec<u8>, Contents)> {
        messages_of(built, Source::Stderr, lines)
    }

    fn messages_of(built: &Built, source: Source, lines: &[u8]) -> Vec<(Vec<u8>, Contents)> {
        let prefix = built.sink.prefix(&container(), source);
        let records = testing::encode(&*built.sink, &prefix, lines);
        let Delivery::Webhook(desk) = &built.delivery else { panic!("no webhook") };
        let (mut digest, now) = (desk.digest(), Instant::now());
        records.iter().for_each(|record| digest.add(record, now));
        let mut messages = Vec::new();
        while digest.due(true).is_some() {
            let mut body = Vec::new();
            let contents = digest.compose(now, &mut body);
            messages.push((body, contents));
        }
        messages
    }

    /// The one message of some lines.
    fn message(options: &[(&str, &str)], lines: &[u8]) -> Value {
        let built = built(options).unwrap_or_else(|error| panic!("{error}"));
        let messages = messages(&built, lines);
        assert_eq!(messages.len(), 1, "{options:?}");
        serde_json::from_slice(&messages[0].0).unwrap()
    }

    #[test]
    fn json_is_one_object_with_the_lines_as_they_came() {
        let got = message(&[], b"a <b> \"c\" \xff\nd\nd\n\n");
        let common = json!({
            "container": "web", "source": "stderr", "id": "3eda", "image": "nginx",
            "service": "shop_web", "stack": "shop", "time": testing::TIME, "times": 1,
        });
        let line = |text: &str, times: u64| {
            let mut line = common.clone();
            (line["line"], line["times"]) = (text.into(), times.into());
            line
        };
        let lines = [line("a <b> \"c\" \u{fffd}", 1), line("d", 2), line("", 1)];
        assert_eq!(got, json!({"count": 4, "more": 0, "lines": lines}));
        let many: String = (0..250).map(|n| format!("line {n}\n")).collect();
        let got = message(&[], many.as_bytes());
        assert_eq!((&got["count"], &got["more"]), (&json!(250), &json!(150)));
        assert_eq!(got["lines"].as_array().unwrap().len(), 100);
    }

    #[test]
    fn stats_and_events_stay_objects() {
        let object = |options: &[(&str, &str)], source| {
            let built = built(options).unwrap_or_else(|error| panic!("{error}"));
            messages_of(&built, source, b"{\"pids\":5}\n").remove(0).0
        };
        for source in [Source::Stats, Source::Events] {
            let got: Value = serde_json::from_slice(&object(&[], source)).unwrap();
            assert_eq!(got["lines"][0]["line"], json!({"pids": 5}));
            assert_eq!(got["lines"][0]["source"], source.name());
            let body = object(&[("webhook.body", "{\"s\":\"{{.Message.Source}}\"}")], source);
            assert_eq!(body, format!("{{\"s\":\"{}\"}}", source.name()).into_bytes());
        }
        let line: Value = serde_json::from_slice(&object(&[], Source::Stdout)).unwrap();
        assert_eq!(line["lines"][0]["line"], "{\"pids\":5}");
    }

    #[test]
    fn presets_are_what_their_receivers_take() {
        let lines = b"`@here` ``` <x> & more\nsecond\nsecond\n";
        let link = ("webhook.link_template", "https://x/?a=1&b=%{.Message.Source}");
        let with = |preset| message(&[("webhook.preset", preset), link], lines);
        let mattermost = with("mattermost");
        assert_eq!(
            mattermost,
            json!({"attachments": [{
                "color": "danger", "title": "/web", "title_link": "https://x/?a=1&b=stderr",
                "text": "`@\u{200b}here` ``` &lt;x&gt; &amp; more\nsecond (2 times)",
            }]})
        );
        let discord = with("Discord");
        let content = "**`/web`** <https://x/?a=1&b=stderr>\n\
                       ```\n`@here` `\u{200b}`\u{200b}` <x> & \
                       more\nsecond (2 times)\n```";
        assert_eq!(discord, json!({"content": content, "allowed_mentions": {"parse": []}}));
        let teams = with("teams");
        let card = &teams["attachments"][0];
        assert_eq!(teams["type"], "message");
        assert_eq!(card["contentType"], "application/vnd.microsoft.card.adaptive");
        let runs: Vec<&Value> = card["content"]["body"].as_array().unwrap().iter().collect();
        let texts: Vec<&str> =
            runs.iter().map(|block| block["inlines"][0]["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["/web", "`@here` ``` <x> & more", "second (2 times)"]);
        let title = &runs[0]["inlines"][0];
        assert_eq!((&title["color"], &title["weight"]), (&json!("Attention"), &json!("Bolder")));
        assert_eq!(title["selectAction"]["url"], "https://x/?a=1&b=stderr");
    }

    #[test]
    fn a_body_is_filled_once_a_message() {
        let body = "{\"text\": %{toJSON .Text}, \"n\": %{.Count}, \"from\": \
                    %{toJSON .Message.Container.Name}, \"service\": \"%{.Message.Service}\", \
                    \"team\": \"%{.Env.TEAM}\", \"lines\": %{toJSON .Lines}}";
        let many: String = (0..30).map(|n| format!("\"{n}\"\n")).collect();
        let got = message(&[("webhook.body", body)], many.as_bytes());
        assert_eq!((&got["n"], &got["from"]), (&json!(30), &json!("/web")));
        assert_eq!((&got["service"], &got["team"]), (&json!("shop_web"), &json!("blue")));
        assert_eq!(got["lines"].as_array().unwrap().len(), 10);
        let text = got["text"].as_str().unwrap();
        assert!(text.starts_with("\"0\"\n\"1\"\n") && text.ends_with("\n20 more like this"));
        // Where it fails, the lines go out all the same, and that is counted.
        let fails = built(&[("webhook.body", "{{index .Lines 99}}")]).unwrap();
        let (body, contents) = messages(&fails, b"a\n").remove(0);
        let got: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&got["count"], &got["lines"][0]["line"]), (&json!(1), &json!("a")));
        assert_eq!((contents.lines, contents.failed), (1, 1));
    }

    /// A message of a template's is about one container and source, in turn.
    #[test]
    fn a_body_is_of_one_container() {
        let built = built(&[("webhook.body", "%{.Message.Container.Name} %{.Count}")]).unwrap();
        let Delivery::Webhook(desk) = &built.delivery else { panic!("no webhook") };
        let (mut digest, now) = (desk.digest(), Instant::now());
        for n in 0..60 {
            let container = Container { name: format!("c{n}"), ..Container::default() };
            let prefix = built.sink.prefix(&container, Source::Stdout);
            for record in testing::encode(&*built.sink, &prefix, b"x\ny\n") {
                digest.add(&record, now);
            }
        }
        let mut bodies = Vec::new();
        let mut lines = 0;
        while digest.due(false).is_some_and(|due| due <= now) {
            let mut body = Vec::new();
            lines += digest.compose(now, &mut body).lines;
            bodies.push(String::from_utf8(body).unwrap());
        }
        assert_eq!((bodies.len(), lines), (50, 120));
        // Those for which there was no room are counted with the first.
        assert_eq!((&*bodies[0], &*bodies[1]), ("/c0 22", "/c1 2"));
    }

    #[test]
    fn urls() {
        let at = |transport, address: &str, options: &[(&str, &str)], env: &str| {
            let spec = testing::route("webhook", transport, address, options);
            let settings = settings(&[("webhook.url", env)]);
            url(&Options { spec: &spec, given: &settings.webhook.given })
        };
        let (https, http) = (Some("https"), Some("http"));
        let own = [("webhook.url", "/own?a=b")];
        for (transport, address, options, env, expected) in [
            (https, "h", &[][..], "", "https://h/"),
            (http, "h:8080", &own[..], "/env", "http://h:8080/own?a=b"),
            (https, "h", &[], "/env", "https://h/env"),
            (https, "h", &[], "https://other/env", "https://h/"),
            (https, "h/from/json", &[], "", "https://h/from/json"),
            (None, "", &[], " http://other/env\n", "http://other/env"),
            (None, "", &[("webhook.url", "https://o/x")], "/env", "https://o/x"),
        ] {
            assert_eq!(at(transport, address, options, env).as_deref(), Ok(expected));
        }
        for (transport, address, env, why) in [
            (None, "", "", "is not whole"),
            (None, "", "/sEcReT", "is not whole"),
            (None, "", "ftp://h/sEcReT", "neither an https nor"),
            (https, "", "\"https://h/sEcReT\"", "in quotes"),
            (Some("tcp"), "h", "", "bad transport"),
        ] {
            let error = at(transport, address, &[], env).unwrap_err();
            assert!(error.contains(why) && !error.contains("sEcReT"), "{error}");
        }
    }

    #[test]
    fn mistakes_are_said_at_start_without_what_is_secret() {
        for (option, value, why) in [
            (
                "webhook.rate",
                "12 apples",
                "webhook.rate of route 0: \"12 apples\" is not a rate; write e.g.",
            ),
            (
                "webhook.burst",
                "0",
                "webhook.burst of route 0: \"0\" is not a number from 1 to 1000",
            ),
            ("webhook.method", "GET", "webhook.method of route 0: \"GET\" is no method that"),
            (
                "webhook.headers",
                "sEcReT",
                "webhook.headers of route 0: the value has no colon in line 1",
            ),
            ("webhook.headers", "A: b\nsEcR T: x", "has no name of a header in line 2"),
            ("webhook.headers", "A: sEcReT\u{1}", "has a bad value in line 1"),
            ("webhook.headers", "Content-Length: 1", "has content-length, which is not for it"),
            (
                "webhook.content_type",
                "a\nb",
                "webhook.content_type of route 0: \"a\\nb\" has a character",
            ),
            ("webhook.preset", "slak", "\"slak\" is no preset; write json, mattermost"),
            ("webhook.body", "{{", "webhook.body of route 0: template: body:1: "),
            ("webhook.url", "http://u:sEcReT@h/", "nothing may stand before"),
        ] {
            let error = built(&[(option, value)]).err().unwrap_or_default();
            assert!(error.contains(why) && !error.contains("sEcReT"), "{option}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let both = built(&[("webhook.body", "x"), ("webhook.preset", "json")]);
        assert!(both.err().unwrap().contains("leave out one of them"));
        // A route's own preset wins over the body of all.
        let spec = testing::route("webhook", Some("http"), "h", &[("webhook.preset", "discord")]);
        assert!(build(&spec, &settings(&[("webhook.body", "x")])).is_ok());
        let proxied = crate::config::ProxySettings {
            http: Some("socks5://u:sEcReT@p:1".into()),
            ..Default::default()
        };
        let error = build(&spec, &Settings { proxy: proxied, ..settings(&[]) }).err().unwrap();
        assert!(error.starts_with("HTTP_PROXY: is no proxy") && !error.contains("sEcReT"));
    }

    #[test]
    fn a_body_that_is_no_json_is_known_by_a_sample() {
        let gives_json = |text: &str| {
            let template = Template::compile("body", text, Functions::WithToJson).unwrap();
            Filled::new(template, &Default::default(), Arc::default(), "0").gives_json()
        };
        assert!(gives_json("{\"a\": {{toJSON .Text}}, \"n\": {{.Count}}}"));
        assert!(!gives_json("{\"a\": \"{{.Text}}\"}"));
        assert!(!gives_json("{{.Message.Data}}"));
        // What a real container would have is not known.
        assert!(gives_json("{{index .Message.Container.Config.Env 3}} \"{{.Text}}"));
    }

    /// The limits of each receiver, as its documentation has them.
    fn check(preset: &str, body: &[u8]) {
        let message: Value = serde_json::from_slice(body).unwrap_or_else(|e| panic!("{e}"));
        let chars = |value: &Value| value.as_str().unwrap().chars().count();
        let all = |value: &Value| value.as_array().unwrap().clone();
        match preset {
            "discord" => {
                assert!((1..=2000).contains(&chars(&message["content"])));
                assert_eq!(message["content"].as_str().unwrap().matches("```").count() % 2, 0);
                assert_eq!(message["allowed_mentions"], json!({"parse": []}));
            }
            "teams" => {
                assert!(body.len() <= 28 * 1024, "{}", body.len());
                for block in all(&message["attachments"][0]["content"]["body"]) {
                    assert_eq!(block["type"], "RichTextBlock");
                    assert!(chars(&block["inlines"][0]["text"]) > 0);
                }
            }
            "mattermost" => {
                let total: usize =
                    all(&message["attachments"]).iter().map(|a| chars(&a["text"])).sum();
                assert!(total <= 7_500, "{total}");
            }
            "blocks" => {
                let blocks = all(&message["blocks"]);
                assert!((1..=50).contains(&blocks.len()));
                let text = |text: &Value, kind: &str, max: usize| {
                    assert_eq!(text["type"], kind);
                    assert!((1..=max).contains(&chars(&text["text"])), "{text}");
                };
                for block in blocks {
                    match block["type"].as_str().unwrap() {
                        "header" => text(&block["text"], "plain_text", 150),
                        "section" => text(&block["text"], "mrkdwn", 3000),
                        "context" => {
                            let elements = all(&block["elements"]);
                            assert!((1..=10).contains(&elements.len()));
                            elements.iter().for_each(|element| text(element, "mrkdwn", 3000));
                        }
                        other => panic!("{other}"),
                    }
                }
            }
            _ => {
                let times = all(&message["lines"]).iter().map(|l| l["times"].as_u64()).sum();
                let more = message["more"].as_u64();
                let count = more.zip(times).map(|(more, times): (u64, u64)| more + times);
                assert_eq!(message["count"].as_u64(), count);
            }
        }
    }

    /// Each preset, by itself and with every part made of the line.
    fn presets() -> Vec<(&'static str, Built)> {
        let authority = testing::authority();
        let tls = testing::trusting(authority.path());
        let settings = Settings { tls, ..settings(&[]) };
        let data = "{{.Message.Data}}";
        let mut presets = Vec::new();
        for name in ["json", "mattermost", "discord", "teams", "blocks"] {
            for whole in [false, true] {
                let (adapter, transport, mut options) = match name {
                    "blocks" => ("slack", None, vec![("slack.blocks", "on")]),
                    _ => ("webhook", Some("http"), vec![("webhook.preset", name)]),
                };
                if whole {
                    let names = match name {
                        "blocks" => ["slack.title_template", "slack.link_template"],
                        _ => ["webhook.title_template", "webhook.link_template"],
                    };
                    options.extend(names.map(|name| (name, data)));
                }
                let spec = testing::route(adapter, transport, "h", &options);
                presets
                    .push((name, sink::build(&spec, &settings).unwrap_or_else(|e| panic!("{e}"))));
            }
        }
        presets
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        /// Whatever bytes come: every message is JSON within the limits, and no line is lost.
        #[test]
        fn messages_are_json_within_the_limits(
            lines in prop::collection::vec(
                (
                    prop_oneof![
                        prop::collection::vec(any::<u8>(), 0..40),
                        prop::sample::select(vec![
                            &b"`"[..], b"\x01", b"&amp;", b"<", "\u{1f600}".as_bytes(), b"a@all ",
                            b"\"", b"\\", b"https://x/?<|>&",
                        ]).prop_map(<[u8]>::to_vec),
                    ],
                    prop::sample::select(vec![1usize, 3, 30, 400, 2_700]),
                    1usize..4,
                ),
                1..40,
            ),
        ) {
            thread_local! { static PRESETS: Vec<(&'static str, Built)> = presets(); }
            let mut text = Vec::new();
            let mut count = 0;
            for (line, repeated, times) in &lines {
                let mut line = line.repeat(*repeated);
                line.retain(|byte| *byte != b'\n');
                for _ in 0..*times {
                    text.extend_from_slice(&line);
                    text.push(b'\n');
                    count += 1;
                }
            }
            PRESETS.with(|presets| for (name, built) in presets {
                let mut seen = 0;
                for (body, contents) in messages(built, &text) {
                    check(name, &body);
                    seen += contents.lines;
                }
                assert_eq!(seen, count, "{name}");
            });
        }
    }
}
