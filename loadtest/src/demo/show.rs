//! The screen: every line with who shows it, in colour on a terminal.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// Who shows a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    /// The demo itself.
    Demo,
    /// logchute's console route.
    Console,
    /// The syslog receiver.
    Syslog,
    /// The webhook.
    Slack,
    /// logchute's own log.
    Log,
}

impl Pane {
    fn name(self) -> &'static str {
        match self {
            Pane::Demo => "demo",
            Pane::Console => "console",
            Pane::Syslog => "syslog",
            Pane::Slack => "slack",
            Pane::Log => "logchute",
        }
    }

    /// An SGR parameter (ECMA-48).
    fn colour(self) -> &'static str {
        match self {
            Pane::Demo => "1",
            Pane::Console => "36",
            Pane::Syslog => "33",
            Pane::Slack => "35",
            Pane::Log => "2",
        }
    }
}

/// Writes to standard output, from any thread, line by line.
#[derive(Clone)]
pub(super) struct Show {
    is_coloured: bool,
    /// Set where nobody looks any more.
    stop: Arc<AtomicBool>,
    /// Lines of one message stay together.
    turn: Arc<Mutex<()>>,
}

impl Show {
    /// Sets `stop` once standard output is closed.
    pub(super) fn start(is_coloured: bool, stop: Arc<AtomicBool>) -> Show {
        Show { is_coloured, stop, turn: Arc::default() }
    }

    /// Shows a line.
    pub(super) fn line(&self, pane: Pane, text: &str) {
        self.lines(pane, &[text.to_owned()]);
    }

    /// Shows lines that belong together.
    pub(super) fn lines(&self, pane: Pane, lines: &[String]) {
        let shown: String =
            lines.iter().map(|line| rendered(pane, line, self.is_coloured)).collect();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stdout = std::io::stdout();
        if stdout.write_all(shown.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
}

fn rendered(pane: Pane, text: &str, is_coloured: bool) -> String {
    let (name, text) = (pane.name(), printable(text));
    if is_coloured {
        format!("\x1b[{}m{name:>8} │\x1b[0m {text}\n", pane.colour())
    } else {
        format!("{name:>8} │ {text}\n")
    }
}

/// With control characters as they would be written in Rust: they would move the cursor.
fn printable(text: &str) -> String {
    let escape = |c: char| c.is_control() && c != '\t';
    let shown =
        text.chars().map(|c| if escape(c) { c.escape_debug().to_string() } else { c.into() });
    shown.collect()
}

/// The attachments of a message to a Slack webhook, each as a card.
pub(super) fn cards(body: &[u8]) -> Vec<String> {
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(attachments) = message["attachments"].as_array() else {
        return vec![format!("not a message: {}", String::from_utf8_lossy(body))];
    };
    let mut lines = Vec::new();
    for attachment in attachments {
        let field = |name: &str| unescaped(attachment[name].as_str().unwrap_or_default());
        let link = match &*field("title_link") {
            "" => String::new(),
            link => format!(" ({link})"),
        };
        lines.push(format!("┌─ {}{link}", field("title")));
        lines.extend(field("text").lines().map(|line| format!("│  {line}")));
        lines.push(format!("└─ {}", field("color")));
    }
    lines
}

/// As Slack shows it: a message writes `&`, `<` and `>` as entities.
fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_who_shows_them_and_cannot_move_the_cursor() {
        assert_eq!(rendered(Pane::Syslog, "<14>1 a\tb", false), "  syslog │ <14>1 a\tb\n");
        assert_eq!(
            rendered(Pane::Slack, "\x1b[2Jx", true),
            "\x1b[35m   slack │\x1b[0m \\u{1b}[2Jx\n"
        );
    }

    #[test]
    fn messages_are_cards() {
        let body = br#"{"attachments": [
            {"color": "danger", "title": "/web", "title_link": "http://x",
             "text": "a &lt;b&gt;\nc"},
            {"color": "good", "title": "two", "text": ""}]}"#;
        let card = ["┌─ /web (http://x)", "│  a <b>", "│  c", "└─ danger", "┌─ two", "└─ good"];
        assert_eq!(cards(body), card);
        assert_eq!(cards(b"nonsense"), ["not a message: nonsense"]);
    }
}
