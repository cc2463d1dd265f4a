//! `slack`: a line as a message in a Slack channel, through an incoming webhook.
//!
//! Pure but for the PEM files that TLS needs. How a line becomes a message is in
//! [`super::message`].

use std::sync::Arc;

use super::message::body::{self, Attachments, Blocks};
use super::message::digest::{Body, MessageDigest};
use super::message::{Dialect, Family, Messages};
use super::{Built, Need, SinkSpec, target};
use crate::config::{Settings, SlackSettings, value};
use crate::route::RouteSpec;
use crate::transport::webhook::{Desk, Manner, Webhook};
use crate::transport::{Delivery, tls};

/// `slack://HOST`: the webhook is `SLACK_WEBHOOK_URL`, whole, or its path on that host. Options
/// named as the variables, in lower case (`slack.title_template`), win over these.
pub const SPEC: SinkSpec = SinkSpec { scheme: "slack", build };

const FAMILY: Family = Family { variable: "SLACK_", option: "slack." };

fn build(spec: &RouteSpec, settings: &Settings) -> Result<Built, String> {
    if let Some(transport) = &spec.transport {
        return Err(target::bad_transport(spec, transport, "write slack:// alone"));
    }
    let slack = &settings.slack;
    let tls = tls::client_config(&settings.tls)
        .map_err(|error| format!("no TLS for route {}: {error}", spec.id))?;
    let url = webhook_url(spec, slack)?;
    let webhook = Webhook::parse(&url, Some(tls), Manner::slack())
        .map_err(|error| format!("SLACK_WEBHOOK_URL of route {}: {error}", spec.id))?
        .through(&settings.proxy)?;
    let form: Arc<dyn Body> = match blocks(spec, slack)? {
        true => Arc::new(Blocks),
        false => Arc::new(Attachments(&body::SLACK)),
    };
    let dialect = (Dialect::Slack, form.limits());
    let sink = Messages::new(spec, FAMILY, &slack.templates, &slack.environment, dialect)?;
    let desk = Desk::new(webhook, move || Box::new(MessageDigest::new(Arc::clone(&form))));
    let delivery = Delivery::Webhook(Arc::new(desk));
    Ok(Built { needs: needs(spec, slack), ..Built::new(sink, delivery) })
}

/// Whether messages are in Block Kit.
fn blocks(spec: &RouteSpec, slack: &SlackSettings) -> Result<bool, String> {
    let Some(text) = spec.given("slack.blocks") else { return Ok(slack.blocks) };
    value::boolean(text).map_err(|fix| format!("slack.blocks of route {}: {text:?} {fix}", spec.id))
}

/// What a line must match: the filter, and something at all, since an empty line is no message.
fn needs(spec: &RouteSpec, slack: &SlackSettings) -> Vec<Need> {
    let filter = spec.given("slack.message_filter").or(slack.message_filter.as_deref());
    let filter =
        filter.map(|pattern| Need { name: "SLACK_MESSAGE_FILTER", pattern: pattern.to_owned() });
    let something = Need { name: "empty lines", pattern: ".".to_owned() };
    filter.into_iter().chain([something]).collect()
}

/// The whole URL: a path alone is one on the route's host.
fn webhook_url(spec: &RouteSpec, slack: &SlackSettings) -> Result<String, String> {
    let given = spec.given("slack.webhook_url").or(slack.webhook_url.as_deref());
    let given = given.unwrap_or_default().trim();
    let bad = |what: &str| {
        let fix = "write https://HOST/PATH, or the path alone behind slack://HOST";
        Err(format!("SLACK_WEBHOOK_URL of route {}: {what}; {fix}", spec.id))
    };
    if given.starts_with(['"', '\'']) {
        return bad("is in quotes, which are part of the value here");
    }
    if given.starts_with("https://") {
        return Ok(given.to_owned());
    }
    if given.contains("://") {
        return bad("is no https URL");
    }
    if spec.address.is_empty() {
        return bad("is not whole, and the route names no host");
    }
    Ok(format!("https://{}/{}", spec.address, given.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::docker::Source;
    use crate::docker::inspect::Container;
    use crate::sink::message::body::SLACK;
    use crate::sink::testing;

    fn built(options: &[(&str, &str)]) -> Result<Built, String> {
        let authority = testing::authority();
        let tls = testing::trusting(authority.path());
        let environment = [("SUBDOMAIN".to_owned(), "a=b=c".to_owned())].into();
        let slack = SlackSettings { environment, ..SlackSettings::default() };
        let settings = Settings { tls, slack, ..Settings::default() };
        build(&testing::route("slack", None, "hooks.example.com", options), &settings)
    }

    /// The attachment that a line becomes, alone.
    fn attachment(options: &[(&str, &str)], line: &[u8]) -> Value {
        message(options, line)["attachments"][0].clone()
    }

    fn message(options: &[(&str, &str)], line: &[u8]) -> Value {
        let built = built(options).unwrap_or_else(|error| panic!("{error}"));
        let labels = [("team".to_owned(), "<blue>".to_owned())].into();
        let container = Container { name: "web".into(), labels, ..Container::default() };
        let prefix = built.sink.prefix(&container, Source::Stderr);
        let records = testing::encode(&*built.sink, &prefix, line);
        let Delivery::Webhook(desk) = built.delivery else { panic!("no webhook") };
        let (mut digest, mut body) = (desk.digest(), Vec::new());
        let now = std::time::Instant::now();
        records.iter().for_each(|record| digest.add(record, now));
        digest.compose(now, &mut body);
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn blocks_say_the_same() {
        let link = ("slack.link_template", "https://x/?a=1&b=<c>");
        let mut lines = b"<first> & *bold*\n".to_vec();
        (0..12).for_each(|n| lines.extend_from_slice(format!("line {n}\n").as_bytes()));
        let got = message(&[("slack.blocks", "on"), link], &lines);
        let shown: String = (0..9).map(|n| format!("\nline {n}")).collect();
        let (first, mrkdwn) = ("&lt;first&gt; &amp; *bold*", "mrkdwn");
        let header = json!({"type": "plain_text", "text": "/web", "emoji": false});
        let notes = ["3 more like this", "<https://x/?a=1&amp;b=%3Cc%3E|open>"];
        let notes = notes.map(|text| json!({"type": mrkdwn, "text": text}));
        let expected = json!({"text": format!("/web: {first}"), "blocks": [
            {"type": "header", "text": header},
            {"type": "section", "text": {"type": mrkdwn, "text": format!("{first}{shown}")}},
            {"type": "context", "elements": notes},
        ]});
        assert_eq!(got, expected);
        let refused = built(&[("slack.blocks", "maybe")]).err().unwrap();
        assert!(refused.starts_with("slack.blocks of route 0: \"maybe\" is neither true"));
    }

    #[test]
    fn a_lines_markup_is_escaped_and_a_templates_is_not() {
        let line = b"<!channel> & &lt;\n";
        let escaped = "&lt;!channel&gt; &amp; &amp;lt;";
        let text = |template| attachment(&[("slack.message_template", template)], line);
        assert_eq!(text("{{.Message.Data}}")["text"], escaped);
        assert_eq!(text("<!here> {{.Message.Data}}")["text"], format!("<!here> {escaped}"));
        let label = "{{index .Message.Container.Config.Labels \"team\"}}";
        assert_eq!(text(label)["text"], "<blue>");
        // A function has been at work: what it escaped is not escaped again.
        assert_eq!(text("{{html .Message.Data}}")["text"], escaped);
        assert_eq!(text("{{printf \"%s\" .Message.Data}}")["text"], "&lt;!channel&gt; &amp; &lt;");
        let title = attachment(&[("slack.title_template", "{{.Message.Data}}")], line);
        assert_eq!(title["title"], escaped);
        // A link is no text.
        let link = [("slack.link_template", "https://x/?a=1&s={{.Message.Source}}")];
        assert_eq!(attachment(&link, line)["title_link"], "https://x/?a=1&s=stderr");
    }

    #[test]
    fn what_fails_is_replaced_and_what_is_too_long_is_cut() {
        let fails = "x{{index .Message.Container.Config.Env 99}}";
        let options = ["title", "message", "link", "color"].map(|n| format!("slack.{n}_template"));
        let options: Vec<(&str, &str)> = options.iter().map(|n| (n.as_str(), fails)).collect();
        let expected = json!({"color": "danger", "title": "[ALERT] Logspout", "text": "a &lt; b"});
        assert_eq!(attachment(&options, b"a < b\n"), expected);
        let title = "é".repeat(600);
        let link = format!("https://x/{}", "a".repeat(3000));
        let long = [("slack.title_template", &*title), ("slack.link_template", &*link)];
        let attachment = attachment(&long, &[b'x'; 100_000]);
        let chars = |name: &str| attachment[name].as_str().map(|text| text.chars().count());
        assert_eq!(chars("title"), Some(SLACK.title));
        assert_eq!(chars("text"), Some(SLACK.text));
        assert_eq!(chars("title_link"), None);
    }

    #[test]
    fn invalid_utf_8_and_the_environment() {
        assert_eq!(attachment(&[], b"a\xffb\n")["text"], "a\u{fffd}b");
        let env = [("slack.link_template", "https://app.{{ index .Env \"SUBDOMAIN\" }}")];
        assert_eq!(attachment(&env, b"x\n")["title_link"], "https://app.a=b=c");
        // The brace-free spelling, for Compose and Swarm.
        let plain = [("slack.title_template", "%{.Message.Container.Name}!")];
        assert_eq!(attachment(&plain, b"x\n")["title"], "/web!");
    }

    #[test]
    fn webhooks_are_whole_urls_or_paths() {
        let place = |url| match built(&[("slack.webhook_url", url)]).map(|built| built.delivery) {
            Ok(Delivery::Webhook(desk)) => Ok(desk.webhook().to_string()),
            Ok(_) => panic!("no webhook"),
            Err(error) => Err(error),
        };
        for url in ["", "/", "/services/T/B/S", "services/T/B/S", "https://hooks.example.com/S"] {
            assert_eq!(place(url).as_deref(), Ok("hooks.example.com:443"), "{url}");
        }
        assert_eq!(place("https://h:8443/x").as_deref(), Ok("h:8443"));
        assert_eq!(place("https://[::1]/x").as_deref(), Ok("[::1]:443"));
        for (url, why) in [
            ("http://h/sEcReT", "is no https URL"),
            ("\"https://h/sEcReT\"", "is in quotes"),
            ("https:///sEcReT", "names no host"),
            ("https://h:x/sEcReT", "must be a number"),
            ("https://h/sEcReT\u{1}", "no URL has"),
            ("https://u:sEcReT@h/", "nothing may stand before"),
        ] {
            let error = place(url).unwrap_err();
            assert!(error.contains(why) && error.contains("SLACK_WEBHOOK_URL"), "{url}: {error}");
            assert!(!error.contains("sEcReT") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn mistakes_are_said_at_start() {
        let refused = |options: &[(&str, &str)]| built(options).err().unwrap_or_default();
        let error = refused(&[("slack.title_template", "{{")]);
        assert!(error.contains("SLACK_TITLE_TEMPLATE of route 0: template: title:1: "), "{error}");
        let route = testing::route("slack", Some("tcp"), "h", &[]);
        let error = build(&route, &Settings::default()).err().unwrap_or_default();
        assert!(error.contains("write slack:// alone"), "{error}");
    }
}
