//! What a client of `/logs` is shown: lines as they are, behind the names of their containers, or
//! as JSON, to the byte as Logspout writes them.
//!
//! Pure. No route URI leads here: the HTTP side makes such a route for each of its clients. What
//! the lines of a container have in common is rendered when the client comes, or the container.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use serde_json::json;

use super::palette::Palette;
use super::raw::Raw;
use super::{Prefix, Sink, field, records};
use crate::buffer::Outbox;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::stamp::Stamp;
use crate::template::{Context, Functions, Line, Template};

/// What lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Raw,
    /// Behind the name of the container, aligned; `colors`: in one colour a container.
    Named {
        /// Whether there are colours.
        colors: bool,
    },
    /// An object each, over several lines: `Container`, `Source`, `Data`, `Time`.
    ///
    /// What tells of the container is longer than most lines by far, so it is not written for each:
    /// see [`Objects`] for what a record is.
    Json,
}

/// Names are aligned right to so many characters, or as many as the longest so far has.
const WIDTH_LEAST: usize = 16;
/// Enough for any name that Docker allows; a longer one is not aligned with.
const WIDTH_MAX: usize = 256;
const SPACES: [u8; WIDTH_MAX] = [b' '; WIDTH_MAX];

/// Logspout's colours, in its order: seven bright ones, then the same plain.
const COLORS: [&str; 14] = [
    "\x1b[1;37m",
    "\x1b[1;36m",
    "\x1b[1;35m",
    "\x1b[1;34m",
    "\x1b[1;33m",
    "\x1b[1;32m",
    "\x1b[1;31m",
    "\x1b[37m",
    "\x1b[36m",
    "\x1b[35m",
    "\x1b[34m",
    "\x1b[33m",
    "\x1b[32m",
    "\x1b[31m",
];
const RESET: &[u8] = b"\x1b[0m";

/// The container in one line, as Go's `json.Marshal` has it.
const CONTAINER: &str = "{{toJSON .Container}}";
/// What follows the container in an object.
const REST: &str = ",\n  \"Source\": {{toJSON .Source}},\n  \"Data\": {{toJSON .Data}},\n  \
                    \"Time\": {{toJSON .Time}}\n}\n";
/// What a record of [`Form::Json`] begins with: the container follows, behind its length...
const HEADED: u8 = 1;
/// ... or it is that of the record before.
const HEADLESS: u8 = 0;
/// Before a container's part of an object: the mark and the length.
const MARK: usize = 5;
/// The source of what logchute itself says.
const OURSELVES: &str = "logchute";

/// The encoder for one client.
pub fn sink(form: Form) -> Arc<dyn Sink> {
    match form {
        Form::Raw => Arc::new(Raw),
        Form::Named { colors } => Arc::new(Named::new(colors)),
        Form::Json => Arc::new(Objects::new()),
    }
}

/// What a client is told of `lines` that it was too slow for, at the time of `stamp`. In JSON it
/// is an object like any other, of source `logchute`, whose container has this name and no id.
pub fn notice(form: Form, lines: u64, stamp: &Stamp) -> Vec<u8> {
    let text = format!("{lines} lines left out, this client is too slow");
    if form != Form::Json {
        return format!("{OURSELVES}: {text}\n").into();
    }
    let objects = Objects::new();
    let document = json!({"Name": format!("/{OURSELVES}")});
    let context = Context::raw(Arc::new(document), OURSELVES);
    let mut object = objects.begin(&context);
    match objects.rest.bind(&context).render(&Line::new(text.as_bytes(), stamp), &mut object) {
        Ok(()) => object,
        // Only a text of many megabytes is refused.
        Err(_) => Vec::new(),
    }
}

/// Names before lines. The colour goes by the order in which containers first write, and the width
/// by the names of those that wrote, as from Logspout.
struct Named {
    palette: Option<Mutex<Palette>>,
    width: AtomicUsize,
}

impl Named {
    fn new(colors: bool) -> Named {
        Named { palette: colors.then(Mutex::default), width: AtomicUsize::new(WIDTH_LEAST) }
    }

    /// The spaces before a name of so many characters.
    fn padding(&self, characters: usize) -> &'static [u8] {
        let mut width = self.width.load(Relaxed);
        if characters > width {
            width = self.width.fetch_max(characters, Relaxed).max(characters);
        }
        SPACES.get(..width - characters).unwrap_or(&SPACES)
    }

    fn color(&self, palette: &Mutex<Palette>, prefix: &Prefix) -> &'static str {
        let number = prefix.number.get_or_init(|| {
            let name = String::from_utf8_lossy(&prefix.before_time);
            palette.lock().unwrap_or_else(PoisonError::into_inner).number(&name)
        });
        COLORS[number % COLORS.len()]
    }
}

impl Sink for Named {
    fn prefix(&self, container: &Container, _source: Source) -> Prefix {
        let name = field::printable(&container.name);
        Prefix { before_time: format!("{name}|").into_bytes().into(), ..Prefix::default() }
    }

    fn reader(&self) -> super::Reader {
        super::Reader::People
    }

    fn encode(&self, prefix: &Prefix, _stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        let name = &prefix.before_time;
        let starts = name.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        let padding = self.padding(starts.saturating_sub(1));
        match &self.palette {
            None => records::plain([padding, name, b""], lines, out),
            Some(palette) => {
                let color = self.color(palette, prefix).as_bytes();
                records::tailed([color, padding, name], RESET, lines, out)
            }
        }
    }
}

/// Puts records of [`Form::Json`] together again.
#[derive(Debug, Default)]
pub struct Reader {
    head: Bytes,
}

impl Reader {
    /// Appends the object of a record; they have to come as they lie in a chunk, from its start.
    pub fn object(&mut self, mut record: Bytes, out: &mut Vec<u8>) {
        match record.split_first_chunk::<MARK>() {
            Some(([HEADED, len @ ..], behind)) => {
                let len = u32::from_le_bytes(*len) as usize;
                let end = MARK + len.min(behind.len());
                self.head = record.slice(MARK..end);
                record.advance(end);
            }
            _ => record.advance(record.len().min(1)),
        }
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&record);
    }
}

/// An object a line. A record is a mark, the beginning of the object with the container unless the
/// record before had the same, and the rest of the object.
struct Objects {
    container: Template,
    rest: Template,
}

impl Objects {
    fn new() -> Objects {
        let compile = |text| {
            let template = Template::compile("logs", text, Functions::WithToJson);
            template.unwrap_or_else(|error| unreachable!("{text}: {error}"))
        };
        Objects { container: compile(CONTAINER), rest: compile(REST) }
    }

    /// What each object of a container begins with.
    fn begin(&self, context: &Context) -> Vec<u8> {
        let mut begin = b"{\n  \"Container\": ".to_vec();
        let container = self.container.bind(context);
        indent(container.constant().unwrap_or(b"null"), 1, &mut begin);
        begin
    }
}

impl Sink for Objects {
    fn prefix(&self, container: &Container, source: Source) -> Prefix {
        let context = Context::raw(Arc::new(container.document()), source.name());
        Prefix {
            before_time: self.begin(&context).into(),
            templates: [self.rest.bind(&context)].into(),
            ..Prefix::default()
        }
    }

    fn reads_answers(&self) -> bool {
        true
    }

    fn encode(&self, prefix: &Prefix, stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        let (Some(rest), head) = (prefix.templates.first(), &prefix.before_time) else { return 0 };
        let (mut count, mut headed) = (0, false);
        for line in lines.lines() {
            // Of parts whose length is known: the line as JSON, and its time.
            let most = rest.len_max(line.len()).unwrap_or_default();
            let record = out.begin(MARK + head.len() + most);
            let begin = record.len();
            // Each chunk can be read by itself.
            if headed && begin > 0 {
                record.push(HEADLESS);
            } else {
                record.push(HEADED);
                record.extend_from_slice(&(head.len() as u32).to_le_bytes());
                record.extend_from_slice(head);
            }
            match rest.render(&Line::new(line, stamp), record) {
                Ok(()) => {
                    headed = true;
                    out.finish();
                }
                Err(error) => {
                    record.truncate(begin);
                    out.note_failure(&error, true);
                }
            }
            count += 1;
        }
        count
    }
}

/// Appends compact JSON as Go's `json.Indent` writes it, by two spaces; `depth` is how deep it
/// stands itself.
fn indent(compact: &[u8], mut depth: usize, out: &mut Vec<u8>) {
    let new_line = |depth: usize, out: &mut Vec<u8>| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * depth));
    };
    let mut bytes = compact.iter().copied().peekable();
    let mut in_text = false;
    while let Some(byte) = bytes.next() {
        let empty = matches!((byte, bytes.peek()), (b'{', Some(b'}')) | (b'[', Some(b']')));
        match byte {
            b'\\' if in_text => {
                out.push(byte);
                out.extend(bytes.next());
            }
            b'"' => {
                in_text = !in_text;
                out.push(byte);
            }
            _ if in_text => out.push(byte),
            b'{' | b'[' if empty => {
                out.push(byte);
                out.extend(bytes.next());
            }
            b'{' | b'[' => {
                depth += 1;
                out.push(byte);
                new_line(depth, out);
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(depth, out);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(depth, out);
            }
            b':' => out.extend_from_slice(b": "),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::inspect::parse_inspect;
    use crate::sink::testing::{self, TIME};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use proptest::prelude::*;
    use serde_json::Value;
    use std::time::UNIX_EPOCH;

    /// Which container it is of, from which source, and what it brings.
    type Frame = (usize, Source, Vec<u8>);

    /// A case of the corpus: its containers, its frames, its body.
    fn case(name: &str) -> (Vec<Container>, Vec<Frame>, Vec<u8>) {
        let corpus = include_str!("../../tests/conformance/http.jsonl");
        let mut cases = corpus.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let case = cases.find(|case| case["name"] == name).unwrap();
        let containers = case["containers"].as_array().unwrap().iter().map(|inspect| {
            let answer = inspect.to_string().into_bytes();
            Container { answer: Some(answer.clone().into()), ..parse_inspect(&answer).unwrap() }
        });
        let containers: Vec<Container> = containers.collect();
        let bytes = |value: &Value| BASE64.decode(value.as_str().unwrap()).unwrap();
        let step = &case["steps"][0];
        let frames = step["frames"].as_array().unwrap().iter().map(|frame| {
            let of = containers.iter().position(|c| frame["container"] == c.id).unwrap();
            let source = Source::OUTPUTS[usize::from(frame["stream"] == "stderr")];
            (of, source, bytes(&frame["data"]))
        });
        let frames = frames.collect();
        (containers, frames, bytes(&step["response"]["body_base64"]))
    }

    /// What a client of this form is shown of a case's lines, in their order.
    fn shown(form: Form, name: &str) -> (String, String) {
        let (containers, frames, body) = case(name);
        let sink = sink(form);
        let prefixes: Vec<[Prefix; 2]> = containers
            .iter()
            .map(|c| Source::OUTPUTS.map(|source| sink.prefix(c, source)))
            .collect();
        let mut text = Vec::new();
        for (of, source, line) in frames {
            let records = testing::encode(&*sink, &prefixes[of][source as usize], &line);
            let mut reader = Reader::default();
            for record in &records {
                match form {
                    Form::Json => reader.object(record.clone().into(), &mut text),
                    Form::Raw | Form::Named { .. } => text.extend_from_slice(record),
                }
            }
        }
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
        (show(&text), show(&body).replace("@TIME@", TIME))
    }

    #[test]
    fn text_is_as_recorded() {
        for (name, form) in [
            ("logs-colors-default", Form::Named { colors: true }),
            ("logs-colors-off", Form::Named { colors: false }),
            ("logs-colors-cycle", Form::Named { colors: true }),
            ("logs-name-width-grows-colors", Form::Named { colors: true }),
            ("logs-single-raw-bytes", Form::Raw),
        ] {
            let (shown, recorded) = shown(form, name);
            assert_eq!(shown, recorded, "{name}");
        }
    }

    #[test]
    fn objects_are_as_recorded() {
        let (shown, recorded) = shown(Form::Json, "logs-json-escapes");
        assert_eq!(shown, recorded);
    }

    #[test]
    fn a_container_is_told_of_once_a_batch_and_chunk() {
        let sink = sink(Form::Json);
        let container = Container { name: "web".to_owned(), ..Container::default() };
        let prefix = sink.prefix(&container, Source::Stderr);
        // Enough for several chunks of 128 KiB.
        let text: String = (0..2000).map(|n| format!("line {n} {}\n", "x".repeat(200))).collect();
        let records = testing::encode(&*sink, &prefix, text.as_bytes());
        let headed = records.iter().filter(|record| record[0] == HEADED).count();
        assert!((2..20).contains(&headed), "{headed}");
        let (mut reader, mut objects) = (Reader::default(), Vec::new());
        records.into_iter().for_each(|record| reader.object(record.into(), &mut objects));
        let objects = serde_json::Deserializer::from_slice(&objects).into_iter::<Value>();
        let lines = objects.map(|object| {
            let object = object.unwrap();
            assert_eq!(
                (&object["Container"]["Name"], &object["Source"]),
                (&"/web".into(), &"stderr".into())
            );
            format!("{}\n", object["Data"].as_str().unwrap())
        });
        assert_eq!(lines.collect::<String>(), text);
    }

    #[test]
    fn the_width_grows_with_the_names_that_wrote() {
        let sink = sink(Form::Named { colors: false });
        let of = |name: &str| {
            let container = Container { name: name.to_owned(), ..Container::default() };
            sink.prefix(&container, Source::Stdout)
        };
        let line = |prefix: &Prefix| {
            String::from_utf8(testing::encode(&*sink, prefix, b"x").concat()).unwrap()
        };
        let (short, long, endless) = (of("d\u{e9}"), of(&"n".repeat(20)), of(&"e".repeat(300)));
        assert_eq!(line(&short), format!("{:14}d\u{e9}|x\n", ""));
        assert_eq!(line(&long), format!("{}|x\n", "n".repeat(20)));
        assert_eq!(line(&short), format!("{:18}d\u{e9}|x\n", ""));
        assert_eq!(line(&endless), format!("{}|x\n", "e".repeat(300)));
        assert_eq!(line(&short), format!("{:256}d\u{e9}|x\n", ""));
    }

    #[test]
    fn a_notice_is_a_line_or_an_object() {
        let stamp = Stamp::new(UNIX_EPOCH);
        let said = "12 lines left out, this client is too slow";
        for form in [Form::Raw, Form::Named { colors: true }] {
            assert_eq!(notice(form, 12, &stamp), format!("logchute: {said}\n").as_bytes());
        }
        let object = notice(Form::Json, 12, &stamp);
        assert!(object.starts_with(b"{\n  \"Container\": {\n    \"Id\": \"\",\n"));
        assert!(object.ends_with(b"\n}\n"));
        let object: Value = serde_json::from_slice(&object).unwrap();
        assert_eq!(object["Container"]["Name"], "/logchute");
        assert_eq!((&object["Source"], &object["Data"]), (&"logchute".into(), &said.into()));
        assert_eq!(object["Time"], TIME);
    }

    proptest! {
        /// As serde_json indents it.
        #[test]
        fn indented_as_by_another(
            texts in prop::collection::vec("[a{}\\[\\]:,\"\\\\ \n]{0,6}", 0..4),
            shape in 0..4_usize,
        ) {
            let value = match shape {
                0 => json!(texts),
                1 => json!({"a": texts, "b": {}, "c": [], "d": [[], {}, 1.5, null, true]}),
                2 => texts.iter().fold(json!(1), |inner, text| json!({text: inner})),
                _ => texts.iter().fold(json!({}), |inner, text| json!([inner, text])),
            };
            let mut out = Vec::new();
            indent(value.to_string().as_bytes(), 0, &mut out);
            let expected = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
