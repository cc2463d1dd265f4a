//! The forms of messages that people read: Slack's attachments and Block Kit, Mattermost, Discord,
//! Microsoft Teams.
//!
//! Pure. The limits of each are the receiver's own, and chosen so that what [`super::digest`] holds
//! fits whatever the counts are: nothing is cut here but titles.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::digest::{Body, Group, Limits, cut};

/// Slack's attachments: what its adapter for Logspout writes, in the order of slack-go.
pub(in crate::sink) struct Attachments(pub &'static Limits);

/// Slack cuts texts beyond 8,000 characters (seen, and said by users; its documentation says
/// nothing), allows 40,000 in a message, and asks for 20 attachments at most.
pub(in crate::sink) const SLACK: Limits = Limits {
    text: 8_000,
    title: 500,
    link: 2_000,
    group: 8_000,
    message: 20_000,
    groups: 19,
    lines: 10,
};

/// Mattermost takes 16,383 characters in a post, and some 8,000 of attachments on older servers.
pub(in crate::sink) const MATTERMOST: Limits = Limits {
    text: 4_000,
    title: 300,
    link: 1_000,
    group: 4_000,
    message: 6_000,
    groups: 9,
    lines: 10,
};

impl Body for Attachments {
    fn limits(&self) -> &'static Limits {
        self.0
    }

    fn write(&self, groups: &[Group], beyond: u64, body: &mut Vec<u8>) -> bool {
        body.extend_from_slice(b"{\"attachments\":[");
        for (index, group) in groups.iter().enumerate() {
            body.extend_from_slice(if index > 0 { b",{" } else { b"{" });
            let [color, title, link] = &group.head;
            for (name, value) in [("color", color), ("title", title), ("title_link", link)] {
                // What is empty is left out.
                if !value.is_empty() {
                    put_member(body, name, value);
                    body.push(b',');
                }
            }
            put_member(body, "text", &group.text());
            body.push(b'}');
        }
        if let Some(text) = besides(beyond) {
            body.extend_from_slice(if groups.is_empty() { b"{" } else { b",{" });
            put_member(body, "text", &text);
            body.push(b'}');
        }
        body.extend_from_slice(b"]}");
        true
    }
}

/// Appends `"name":"value"`.
fn put_member(body: &mut Vec<u8>, name: &str, value: &str) {
    body.push(b'"');
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(b"\":");
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(body, value);
}

/// What is said of lines for whose title there was no room.
fn besides(beyond: u64) -> Option<String> {
    let lines = if beyond == 1 { "line" } else { "lines" };
    (beyond > 0).then(|| format!("{beyond} more {lines} with other titles"))
}

fn put(message: &Value, body: &mut Vec<u8>) -> bool {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(body, message);
    true
}

/// Slack's Block Kit: for each title a header, a section with the lines, and a context with what
/// is only counted and the link. There is no colour in it.
pub(in crate::sink) struct Blocks;

/// 50 blocks, 3 of each group; 150 characters in a header, 3,000 in any other text.
const BLOCKS: Limits = Limits {
    text: 2_600,
    title: 150,
    link: 500,
    group: 2_600,
    message: 20_000,
    groups: 16,
    lines: 10,
};
/// What shows where there are no blocks: in notifications.
const SUMMARY_MAX: usize = 150;

impl Body for Blocks {
    fn limits(&self) -> &'static Limits {
        &BLOCKS
    }

    fn write(&self, groups: &[Group], beyond: u64, body: &mut Vec<u8>) -> bool {
        let mut blocks = Vec::new();
        for group in groups {
            let [_, title, link] = &group.head;
            if !title.trim().is_empty() {
                let text = json!({"type": "plain_text", "text": title, "emoji": false});
                blocks.push(json!({"type": "header", "text": text}));
            }
            let text = filled(shown(group));
            let text = json!({"type": "mrkdwn", "text": text});
            blocks.push(json!({"type": "section", "text": text}));
            let more = (group.more > 0).then(|| format!("{} more like this", group.more));
            let link = (!link.trim().is_empty())
                .then(|| format!("<{}|open>", url(link).replace('&', "&amp;")));
            let notes: Vec<String> = more.into_iter().chain(link).collect();
            blocks.extend(context(&notes));
        }
        blocks.extend(context(besides(beyond).as_slice()));
        let first = groups.first().map(|group| (&group.head[1], group.shown.first()));
        let summary = match first {
            Some((title, Some(line))) => format!("{title}: {}", line.text),
            _ => besides(beyond).unwrap_or_default(),
        };
        put(&json!({"text": cut(&summary, SUMMARY_MAX), "blocks": blocks}), body)
    }
}

fn context(notes: &[String]) -> Option<Value> {
    let elements = notes.iter().map(|note| json!({"type": "mrkdwn", "text": note}));
    let elements: Vec<Value> = elements.collect();
    (!elements.is_empty()).then(|| json!({"type": "context", "elements": elements}))
}

/// The lines that are shown, one below the other.
fn shown(group: &Group) -> String {
    let mut text = String::new();
    for (index, shown) in group.shown.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        shown.write(&mut text);
    }
    text
}

/// Receivers refuse a text of nothing.
fn filled(text: String) -> String {
    if text.trim().is_empty() { "(empty)".to_owned() } else { text }
}

/// A link between angle brackets, which it must not end itself.
fn url(link: &str) -> String {
    let mut out = String::with_capacity(link.len());
    for c in link.chars() {
        match c {
            '<' | '>' | '|' | '`' | '"' | '\\' => {
                let _ = write!(out, "%{:02X}", c as u32);
            }
            c if c.is_whitespace() || c.is_control() => out.push_str("%20"),
            c => out.push(c),
        }
    }
    out
}

/// Discord, and what takes its `content`: the lines of each title between fences, so that nothing
/// in them is markup. Nobody is mentioned.
pub(in crate::sink) struct Discord;

/// 2,000 characters altogether: these, twice 34 for each line's count and its newline, and what
/// stands around a group.
const DISCORD: Limits = Limits {
    text: 1_000,
    title: 100,
    link: 100,
    group: 1_000,
    message: 1_100,
    groups: 3,
    lines: 4,
};

impl Body for Discord {
    fn limits(&self) -> &'static Limits {
        &DISCORD
    }

    fn write(&self, groups: &[Group], beyond: u64, body: &mut Vec<u8>) -> bool {
        let mut content = String::new();
        for group in groups {
            let [_, title, link] = &group.head;
            if !title.trim().is_empty() {
                let _ = write!(content, "**`{title}`**");
            }
            // A link between angle brackets is not looked up; its escapes take three characters.
            let link = url(link);
            if !link.is_empty() && link.chars().count() <= DISCORD.link {
                let _ = write!(content, " <{link}>");
            }
            let _ = write!(content, "\n```\n{}\n```\n", filled(group.text()));
        }
        content.push_str(&besides(beyond).unwrap_or_default());
        let content = content.trim();
        put(&json!({"content": content, "allowed_mentions": {"parse": []}}), body)
    }
}

/// Microsoft Teams: an Adaptive Card, as its workflows take it. Every line is a `RichTextBlock`, in
/// which nothing is markup.
pub(in crate::sink) struct Teams;

/// 28 KiB of JSON altogether: six bytes for each character, and some 130 around each line.
const TEAMS: Limits = Limits {
    text: 2_000,
    title: 150,
    link: 500,
    group: 2_000,
    message: 3_000,
    groups: 5,
    lines: 8,
};

impl Body for Teams {
    fn limits(&self) -> &'static Limits {
        &TEAMS
    }

    fn write(&self, groups: &[Group], beyond: u64, body: &mut Vec<u8>) -> bool {
        let block = |run: Value| json!({"type": "RichTextBlock", "inlines": [run]});
        let mut blocks = Vec::new();
        for group in groups {
            let [color, title, link] = &group.head;
            if !title.trim().is_empty() {
                let color = match color.as_str() {
                    "danger" => "Attention",
                    "warning" => "Warning",
                    "good" => "Good",
                    _ => "Default",
                };
                let mut run = json!({
                    "type": "TextRun", "text": title, "weight": "Bolder", "color": color,
                });
                if link.starts_with("https://") || link.starts_with("http://") {
                    run["selectAction"] = json!({"type": "Action.OpenUrl", "url": link});
                }
                blocks.push(block(run));
            }
            for line in &group.shown {
                let mut text = String::new();
                line.write(&mut text);
                let mono = "Monospace";
                let run = json!({"type": "TextRun", "text": filled(text), "fontType": mono});
                blocks.push(block(run));
            }
            if group.more > 0 {
                let text = format!("{} more like this", group.more);
                blocks.push(block(json!({"type": "TextRun", "text": text, "isSubtle": true})));
            }
        }
        if let Some(text) = besides(beyond) {
            blocks.push(block(json!({"type": "TextRun", "text": text, "isSubtle": true})));
        }
        let card = json!({
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "msteams": {"width": "Full"},
            "body": blocks,
        });
        let kind = "application/vnd.microsoft.card.adaptive";
        let attachment = json!({"contentType": kind, "contentUrl": null, "content": card});
        put(&json!({"type": "message", "attachments": [attachment]}), body)
    }
}
