//! Makes messages of records: what came while nothing could be sent is one message, with the first
//! lines of each title and the count of the others.
//!
//! Pure. What is held is bounded by the [`Limits`] of the message's form, whatever comes. A line
//! that is the same as one that was sent a moment ago is not sent again at once: after [`WINDOW`]
//! it goes out with its count.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::transport::webhook::{Contents, Digest};

/// A line that was sent is not sent again for so long.
pub(in crate::sink) const WINDOW: Duration = Duration::from_secs(10);
/// So many lines are remembered for that.
const RECENT_MAX: usize = 32;
/// The longest colour: the longest that anybody knows is `warning`.
pub(in crate::sink) const COLOR_MAX: usize = 20;
/// What a message of one form may hold. Lengths are in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sink) struct Limits {
    /// The longest text of a line; a longer one is cut.
    pub text: usize,
    /// The longest title; a longer one is cut.
    pub title: usize,
    /// The longest link; a longer one is left out, since what is left of it would lead elsewhere.
    pub link: usize,
    /// All texts of a group.
    pub group: usize,
    /// All texts, titles and links.
    pub message: usize,
    /// Groups: lines of one colour, title and link.
    pub groups: usize,
    /// Lines that are shown of a group.
    pub lines: usize,
}

/// A form of messages: what they may hold, and how they are written.
pub(in crate::sink) trait Body: Send + Sync {
    /// What fits.
    fn limits(&self) -> &'static Limits;

    /// Whether a message is of one group alone; [`Limits::message`] holds for each then.
    fn alone(&self) -> bool {
        false
    }

    /// What is to be kept with a group of that head until it is written.
    fn keep(&self, _head: &[&str; 3]) -> Option<Arc<Json>> {
        None
    }

    /// Appends the message: these groups, and how many lines there were besides. `false` if a
    /// template failed, and something else was written.
    fn write(&self, groups: &[Group], beyond: u64, body: &mut Vec<u8>) -> bool;
}

/// A record, taken apart: what the templates made of a line. Colour and link may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sink) struct Parts<'a> {
    /// `good`, `warning`, `danger` or `#RRGGBB`.
    pub color: &'a str,
    /// The title, escaped as the receiver wants it.
    pub title: &'a str,
    /// Where the title leads.
    pub link: &'a str,
    /// The text, escaped as the receiver wants it.
    pub text: &'a str,
    /// When the line was read, in nanoseconds since 1970.
    pub time: u64,
    /// A template failed, and one of the parts is what stands for it.
    pub failed: bool,
}

/// Bytes before the parts: whether a template failed, the time, then the lengths of the first
/// three parts, two bytes each; all little endian.
const LENGTHS: usize = 15;

impl<'a> Parts<'a> {
    /// Most bytes that [`Parts::write`] appends.
    pub(in crate::sink) fn len_max(&self) -> usize {
        LENGTHS + self.color.len() + self.title.len() + self.link.len() + self.text.len()
    }

    /// Appends the record. The first three parts must be shorter than 64 KiB, which their limits
    /// see to.
    pub(in crate::sink) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.failed));
        out.extend_from_slice(&self.time.to_le_bytes());
        for part in [self.color, self.title, self.link] {
            out.extend_from_slice(&(part.len() as u16).to_le_bytes());
        }
        for part in [self.color, self.title, self.link, self.text] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// Reads what [`Parts::write`] wrote.
    fn read(record: &'a [u8]) -> Option<Parts<'a>> {
        let (lengths, mut rest) = record.split_at_checked(LENGTHS)?;
        let (failed, lengths) = lengths.split_first()?;
        let failed = *failed != 0;
        let (time, lengths) = lengths.split_first_chunk()?;
        let time = u64::from_le_bytes(*time);
        let mut lengths =
            lengths.chunks_exact(2).map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])));
        let mut part = || {
            let (part, after) = rest.split_at_checked(lengths.next()?)?;
            rest = after;
            std::str::from_utf8(part).ok()
        };
        let (color, title, link) = (part()?, part()?, part()?);
        Some(Parts { color, title, link, text: std::str::from_utf8(rest).ok()?, time, failed })
    }

    fn head(&self) -> [&'a str; 3] {
        [self.color, self.title, self.link]
    }
}

/// Lines that share colour, title and link.
#[derive(Debug)]
pub(in crate::sink) struct Group {
    /// Colour, title and link.
    pub head: [String; 3],
    /// What [`Body::keep`] gave.
    pub kept: Option<Arc<Json>>,
    /// The lines that are shown; one at least.
    pub shown: Vec<Shown>,
    /// Lines that are not shown.
    pub more: u64,
    /// Characters of the texts shown, and of the head.
    chars: usize,
    head_chars: usize,
}

/// A line that is shown.
#[derive(Debug)]
pub(in crate::sink) struct Shown {
    /// What its template made of it.
    pub text: String,
    /// How often it came.
    pub times: u64,
    /// When it came first, in nanoseconds since 1970.
    pub time: u64,
    /// It was sent before.
    pub again: bool,
}

/// A line that was sent.
#[derive(Debug)]
struct Recent {
    head: [String; 3],
    text: String,
    at: Instant,
    /// How often it came since, and when the last time.
    again: u64,
    time: u64,
}

/// What is held of a route's lines.
pub(in crate::sink) struct MessageDigest {
    form: Arc<dyn Body>,
    groups: Vec<Group>,
    /// Characters of all groups.
    chars: usize,
    /// Lines for whose title there was no room.
    beyond: u64,
    /// Lines that were cut, and lines for which a template failed, since the last message.
    cut: u64,
    failed: u64,
    /// Since when the groups hold something.
    since: Option<Instant>,
    /// Oldest first.
    recent: Vec<Recent>,
}

impl Digest for MessageDigest {
    fn add(&mut self, record: &[u8], now: Instant) {
        let Some(parts) = Parts::read(record) else {
            // Nobody writes such a record; it counts all the same.
            self.beyond += 1;
            self.since.get_or_insert(now);
            return;
        };
        let text = cut(parts.text, self.form.limits().text);
        self.cut += u64::from(matches!(text, Cow::Owned(_)));
        self.failed += u64::from(parts.failed);
        let known = |recent: &&mut Recent| {
            recent.text == text && recent.head == parts.head() && now < recent.at + WINDOW
        };
        match self.recent.iter_mut().find(known) {
            Some(recent) => (recent.again, recent.time) = (recent.again + 1, parts.time),
            None => {
                let text = text.into_owned();
                let shown = Shown { text, times: 1, time: parts.time, again: false };
                self.hold(parts.head(), shown, now);
            }
        }
    }

    fn due(&self, last: bool) -> Option<Instant> {
        let waits = if last { Duration::ZERO } else { WINDOW };
        let again = self.recent.iter().filter(|recent| recent.again > 0);
        let again = again.map(|recent| recent.at + waits).min();
        self.since.or(again)
    }

    fn compose(&mut self, now: Instant, body: &mut Vec<u8>) -> Contents {
        self.recall(|recent| recent.again > 0 && now >= recent.at + WINDOW, now);
        if self.since.is_none() {
            // Asked for before its time: these are the last.
            self.recall(|recent| recent.again > 0, now);
        }
        let count = if self.form.alone() { self.groups.len().min(1) } else { self.groups.len() };
        let groups: Vec<Group> = self.groups.drain(..count).collect();
        let beyond = std::mem::take(&mut self.beyond);
        body.clear();
        body.reserve_exact(self.form.limits().body_max());
        let filled = self.form.write(&groups, beyond, body);
        let failed = std::mem::take(&mut self.failed) + u64::from(!filled);
        let mut contents =
            Contents { cut: std::mem::take(&mut self.cut), failed, ..Contents::default() };
        (contents.lines, contents.summed_up) = (beyond, beyond);
        for group in &groups {
            let lines = group.lines();
            contents.lines += lines;
            contents.summed_up += lines - group.shown.len() as u64;
            self.chars -= group.chars;
        }
        self.remember(groups, now);
        if self.groups.is_empty() {
            self.since = None;
        }
        contents
    }

    fn discard(&mut self) -> u64 {
        let again: u64 = self.recent.iter_mut().map(|r| std::mem::take(&mut r.again)).sum();
        let held: u64 = self.groups.drain(..).map(|group| group.lines()).sum();
        let beyond = std::mem::take(&mut self.beyond);
        (self.chars, self.since) = (0, None);
        held + beyond + again
    }
}

impl MessageDigest {
    /// An empty one, for messages of that form.
    pub(in crate::sink) fn new(form: Arc<dyn Body>) -> MessageDigest {
        MessageDigest {
            form,
            groups: Vec::new(),
            chars: 0,
            beyond: 0,
            cut: 0,
            failed: 0,
            since: None,
            recent: Vec::new(),
        }
    }

    /// Holds equal lines: shown if there is room, else counted.
    fn hold(&mut self, head: [&str; 3], line: Shown, now: Instant) {
        self.since.get_or_insert(now);
        let limits = self.form.limits();
        let used = |chars| if self.form.alone() { chars } else { self.chars };
        let at = self.groups.iter().position(|group| group.head == head);
        let Some(at) = at else {
            let head_chars: usize = head.iter().map(|part| part.chars().count()).sum();
            let chars = head_chars + line.text.chars().count();
            if self.groups.len() == limits.groups || used(0) + chars > limits.message {
                self.beyond += line.times;
                return;
            }
            self.chars += chars;
            self.groups.push(Group::new(head, self.form.keep(&head), line));
            return;
        };
        let group = &mut self.groups[at];
        if let Some(shown) = group.shown.iter_mut().find(|shown| shown.text == line.text) {
            shown.times += line.times;
            return;
        }
        let chars = line.text.chars().count() + 1;
        let texts = group.chars - group.head_chars + chars;
        let all = used(group.chars) + chars;
        if group.shown.len() == limits.lines || texts > limits.group || all > limits.message {
            group.more += line.times;
            return;
        }
        group.chars += chars;
        self.chars += chars;
        group.shown.push(line);
    }

    /// Takes lines that came again out of what is remembered, to be sent.
    fn recall(&mut self, which: impl Fn(&Recent) -> bool, now: Instant) {
        let (recalled, kept) =
            std::mem::take(&mut self.recent).into_iter().partition::<Vec<_>, _>(which);
        self.recent = kept;
        for Recent { head, text, again, time, .. } in recalled {
            let line = Shown { text, times: again, time, again: true };
            self.hold(head.each_ref().map(String::as_str), line, now);
        }
    }

    /// Remembers what is sent, and forgets what is old. A line that came again is not forgotten
    /// before it was sent: rather is a new one not remembered.
    fn remember(&mut self, groups: Vec<Group>, now: Instant) {
        self.recent.retain(|recent| recent.again > 0 || now < recent.at + WINDOW);
        for group in groups {
            for shown in group.shown {
                if self.recent.len() == RECENT_MAX {
                    let idle = self.recent.iter().position(|recent| recent.again == 0);
                    let Some(idle) = idle else { continue };
                    self.recent.remove(idle);
                }
                let (head, text) = (group.head.clone(), shown.text);
                self.recent.push(Recent { head, text, at: now, time: shown.time, again: 0 });
            }
        }
    }
}

impl Limits {
    /// What a message of attachments takes at most, in bytes, and what others rarely exceed: a
    /// character takes six in JSON (`\u001b`), an attachment's own text and the counts the rest.
    pub(super) const fn body_max(&self) -> usize {
        self.message * 6 + 40 * 1024
    }
}

impl Group {
    /// One with this line.
    pub(in crate::sink) fn new(head: [&str; 3], kept: Option<Arc<Json>>, line: Shown) -> Group {
        let head_chars: usize = head.iter().map(|part| part.chars().count()).sum();
        let chars = head_chars + line.text.chars().count();
        let head = head.map(str::to_owned);
        Group { head, kept, shown: vec![line], more: 0, chars, head_chars }
    }

    /// Shown or not.
    pub(in crate::sink) fn lines(&self) -> u64 {
        self.more + self.shown.iter().map(|shown| shown.times).sum::<u64>()
    }

    /// The lines, and how many more there are.
    pub(in crate::sink) fn text(&self) -> String {
        let mut text = String::new();
        for (index, shown) in self.shown.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            shown.write(&mut text);
        }
        if self.more > 0 {
            let _ = write!(text, "\n{} more like this", self.more);
        }
        text
    }
}

impl Shown {
    /// Appends it, and how often it came.
    pub(in crate::sink) fn write(&self, text: &mut String) {
        let count = match (self.again, self.times) {
            (false, 1) => {
                text.push_str(&self.text);
                return;
            }
            (false, times) => format!("{times} times"),
            (true, 1) => "once more".to_owned(),
            (true, times) => format!("{times} more times"),
        };
        // A template may end with a newline.
        let _ = write!(text, "{} ({count})", self.text.trim_end());
    }
}

/// The first `max` characters of `text`, the last of them `…` if that is not all. An entity
/// (`&lt;`) is not cut in two.
pub(in crate::sink) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max || text.chars().nth(max).is_none() {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().nth(max.saturating_sub(1)).map_or(0, |(at, _)| at);
    let kept = &text[..end];
    // The longest entity is `&amp;`.
    let kept = match kept.rfind('&') {
        Some(at) if kept.len() - at < 5 && !kept[at..].contains(';') => &kept[..at],
        _ => kept,
    };
    Cow::Owned(format!("{kept}…"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::body::{Attachments, SLACK};
    use super::*;

    fn digest() -> MessageDigest {
        MessageDigest::new(Arc::new(Attachments(&SLACK)))
    }

    fn record(title: &str, text: &str) -> Vec<u8> {
        let mut record = Vec::new();
        let parts = Parts { color: "danger", title, link: "", text, time: 0, failed: false };
        parts.write(&mut record);
        assert_eq!(record.len(), parts.len_max());
        record
    }

    fn composed(digest: &mut MessageDigest, now: Instant) -> (Vec<Value>, Contents) {
        let mut body = Vec::new();
        let contents = digest.compose(now, &mut body);
        let most = SLACK.body_max();
        assert!(body.len() <= most && body.capacity() == most, "{}", body.len());
        let message: Value = serde_json::from_slice(&body).unwrap();
        (message["attachments"].as_array().unwrap().clone(), contents)
    }

    fn texts(attachments: &[Value]) -> Vec<&str> {
        attachments.iter().map(|a| a["text"].as_str().unwrap()).collect()
    }

    #[test]
    fn one_line_is_one_attachment_as_the_adapter_writes_it() {
        let now = Instant::now();
        let mut digest = digest();
        assert_eq!(digest.due(false), None);
        digest.add(&record("/web", "say \"hi\" \\ \u{1b}\0é\t"), now);
        assert_eq!(digest.due(false), Some(now));
        let mut body = Vec::new();
        let contents = digest.compose(now, &mut body);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            "{\"attachments\":[{\"color\":\"danger\",\"title\":\"/web\",\
             \"text\":\"say \\\"hi\\\" \\\\ \\u001b\\u0000é\\t\"}]}"
        );
        assert_eq!(contents, Contents { lines: 1, ..Contents::default() });
        assert_eq!((digest.due(false), digest.due(true)), (None, None));
    }

    #[test]
    fn what_waited_is_one_message_by_title() {
        let now = Instant::now();
        let mut digest = digest();
        for n in 0..47 {
            digest.add(&record("/web", &format!("line {n}")), now);
        }
        digest.add(&record("/db", "a"), now);
        digest.add(&record("/db", "b"), now);
        digest.add(&record("/db", "a"), now);
        let (attachments, contents) = composed(&mut digest, now);
        let first: String = (0..10).map(|n| format!("line {n}\n")).collect();
        let first = format!("{first}37 more like this");
        assert_eq!(texts(&attachments), [&*first, "a (2 times)\nb"]);
        assert_eq!((contents.lines, contents.summed_up), (50, 38));
    }

    #[test]
    fn a_line_that_was_just_sent_is_sent_again_with_its_count_only() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut digest = digest();
        digest.add(&record("/web", "down"), start);
        composed(&mut digest, start);
        for secs in 1..5 {
            digest.add(&record("/web", "down"), at(secs));
        }
        // The same text of another title is another line.
        digest.add(&record("/db", "down"), at(5));
        assert_eq!(digest.due(false), Some(at(5)));
        let (attachments, contents) = composed(&mut digest, at(5));
        assert_eq!(texts(&attachments), ["down"]);
        assert_eq!((contents.lines, contents.summed_up), (1, 0));
        assert_eq!(digest.due(false), Some(at(10)));
        let (attachments, contents) = composed(&mut digest, at(10));
        assert_eq!(texts(&attachments), ["down (4 more times)"]);
        assert_eq!((contents.lines, contents.summed_up), (4, 3));
        // And that counts as sent; after the window it is new.
        digest.add(&record("/web", "down"), at(11));
        assert_eq!(digest.due(false), Some(at(20)));
        // Those who end do not wait for the window.
        assert!(digest.due(true).is_some_and(|due| due <= at(11)));
        assert_eq!(texts(&composed(&mut digest, at(11)).0), ["down (once more)"]);
        digest.add(&record("/web", "down"), at(21));
        assert_eq!(digest.due(false), Some(at(21)));
        assert_eq!(texts(&composed(&mut digest, at(21)).0), ["down"]);
    }

    #[test]
    fn long_texts_are_cut_at_a_character_and_not_within_an_entity() {
        let long = "é".repeat(SLACK.text + 1);
        assert_eq!(cut(&long, SLACK.text).chars().count(), SLACK.text);
        assert_eq!(cut(&long[2..], SLACK.text), &long[2..]);
        for (text, max, expected) in [
            ("a&lt;b", 6, "a&lt;b"),
            ("a&lt;bc", 6, "a&lt;…"),
            ("a&lt;bc", 5, "a…"),
            ("a&amp;b", 3, "a…"),
            ("a&b cd ef", 7, "a&b cd…"),
            ("ab", 1, "…"),
        ] {
            assert_eq!(cut(text, max), expected, "{text} {max}");
        }
        let now = Instant::now();
        let mut digest = digest();
        digest.add(&record("/web", &long), now);
        digest.add(&record("/web", "short"), now);
        let (attachments, contents) = composed(&mut digest, now);
        assert!(texts(&attachments)[0].ends_with("é…\n1 more like this"));
        assert_eq!((contents.lines, contents.summed_up, contents.cut), (2, 1, 1));
    }

    #[test]
    fn many_titles_are_counted_too() {
        let now = Instant::now();
        let mut digest = digest();
        for n in 0..30 {
            digest.add(&record(&format!("/c{n}"), "x"), now);
        }
        digest.add(b"no record", now);
        let (attachments, contents) = composed(&mut digest, now);
        assert_eq!(attachments.len(), 20);
        assert_eq!(attachments[19], json!({"text": "12 more lines with other titles"}));
        assert_eq!((contents.lines, contents.summed_up), (31, 12));
    }

    proptest! {
        /// Whatever comes and whenever it is sent: every line is in one message or let go of, and
        /// no message is too long.
        #[test]
        fn no_line_is_lost_or_counted_twice(
            steps in prop::collection::vec(
                (0u8..6, 0u8..30, prop::sample::select(vec!["a", "b", "c&lt;", "\u{1}", "😀"]),
                 prop::sample::select(vec![1usize, 2, 5, 900, 9000]), 0u64..7000), 0..200)
        ) {
            let mut digest = digest();
            let mut now = Instant::now();
            let (mut added, mut gone) = (0, 0);
            for (what, title, text, times, wait) in steps {
                now += Duration::from_millis(wait);
                match what {
                    0..4 => {
                        let title = format!("/{}", title.to_string().repeat(20));
                        digest.add(&record(&title, &text.repeat(times)), now);
                        added += 1;
                    }
                    4 => {
                        if digest.due(false).is_some_and(|due| due <= now) {
                            let (attachments, contents) = composed(&mut digest, now);
                            prop_assert!(contents.lines > 0 && !attachments.is_empty());
                            prop_assert!(contents.summed_up < contents.lines);
                            let chars: usize =
                                texts(&attachments).iter().map(|t| t.chars().count()).sum();
                            prop_assert!(chars <= 24_000);
                            gone += contents.lines;
                        }
                    }
                    _ => {
                        if title == 0 {
                            gone += digest.discard();
                            prop_assert_eq!(digest.due(true), None);
                        }
                    }
                }
            }
            for _ in 0..2 {
                if digest.due(true).is_some() {
                    gone += composed(&mut digest, now).1.lines;
                }
            }
            prop_assert_eq!(digest.due(true), None);
            prop_assert_eq!(gone, added);
        }
    }
}
